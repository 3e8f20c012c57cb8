"""Sites and telescopes are those of official simulations."""

import astropy.units as u
import numpy as np
import pytest
from ctapipe.coordinates import TelescopeFrame
from ctapipe.image.extractor import LocalPeakWindowSum

from ctapipe_gammaphysnet.simulation.instruments import ARRAYS, SITES, make_subarray


def test_field_points_north_and_down_in_the_north_and_up_in_the_south():
    for name, down in (("la_palma", True), ("paranal", False)):
        site = SITES[name]
        north, west, up = site.magnetic_field_ut
        assert np.linalg.norm([north, west, up]) == pytest.approx(
            site.field.to_value(u.uT)
        )
        assert north > 0
        assert (up < 0) == down
        # Both declinations are to the west, by a few degrees.
        assert 0 < west < 0.1 * north
    # CORSIKA's BX and BZ for La Palma, of CTAO's productions, are 30.6 and 23.2.
    north, west, up = SITES["la_palma"].magnetic_field_ut
    assert np.hypot(north, west) == pytest.approx(30.6, abs=0.5)
    assert up == pytest.approx(-23.2, abs=0.5)


def test_sites_are_where_they_are():
    north, south = SITES["la_palma"].location, SITES["paranal"].location
    assert north.lat.deg == pytest.approx(28.76, abs=0.01)
    assert north.lon.deg == pytest.approx(-17.89, abs=0.01)
    assert north.height.to_value(u.m) == pytest.approx(2158)
    assert south.lat.deg == pytest.approx(-24.68, abs=0.01)
    assert south.lon.deg == pytest.approx(-70.32, abs=0.01)
    assert south.height.to_value(u.m) == pytest.approx(2147)


def test_arrays():
    lst1, lst4 = make_subarray("lst1", "la_palma"), make_subarray("lst4", "paranal")
    assert list(lst1.tel) == [1]
    assert list(lst4.tel) == [1, 2, 3, 4]
    assert u.allclose(lst1.positions[1], lst4.positions[1])
    assert list(make_subarray("nectarcam1", "la_palma").tel) == [19]
    assert lst1.reference_location == SITES["la_palma"].location
    assert lst4.reference_location == SITES["paranal"].location
    assert len(lst4.telescope_types) == 1


def test_array_of_two_types():
    both = make_subarray("lst4_mst9", "la_palma")
    lst4 = make_subarray("lst4", "la_palma")
    types = [str(telescope) for telescope in both.tel.values()]
    assert types == ["LST_LST_LSTCam"] * 4 + ["MST_MST_NectarCam"] * 9
    for tel_id, telescope in lst4.tel.items():
        assert both.tel[tel_id] == telescope
        assert u.allclose(both.positions[tel_id], lst4.positions[tel_id])
    alone = make_subarray("nectarcam1", "la_palma")
    assert both.tel[19] == alone.tel[19]
    assert u.allclose(both.positions[19], alone.positions[19])
    # The MSTs stand around the LSTs, 100 m and more from each other.
    x, y, _ = both.tel_coords.cartesian.xyz.to_value(u.m)[:, 4:]
    distances = np.hypot(x - x[:, np.newaxis], y - y[:, np.newaxis])
    assert np.sort(distances, axis=1)[:, 1].min() > 100
    assert 300 < np.hypot(x, y).max() < 400


@pytest.mark.parametrize(
    ("array", "name", "shape", "n_samples"),
    [
        ("lst1", "LST_LST_LSTCam", "PARABOLIC", 40),
        ("nectarcam1", "MST_MST_NectarCam", "HYBRID", 60),
    ],
)
def test_telescopes(array, name, shape, n_samples):
    (telescope,) = make_subarray(array, "la_palma").telescope_types
    assert str(telescope) == name
    assert telescope.optics.reflector_shape.value == shape
    geometry, readout = telescope.camera.geometry, telescope.camera.readout
    assert geometry.n_pixels == readout.n_pixels == 1855
    assert geometry.frame.focal_length == telescope.optics.effective_focal_length
    assert geometry.cam_rotation == 0 * u.deg
    assert np.all(np.count_nonzero(geometry.neighbor_matrix, axis=0) <= 6)
    assert readout.n_samples == n_samples
    assert readout.sampling_rate == 1 * u.GHz
    assert readout.reference_pulse_shape.shape == (1, 320)
    assert readout.reference_pulse_shape.max() == pytest.approx(1)
    # The field of view of both is some 4.5° and 8° across.
    on_sky = geometry.transform_to(TelescopeFrame())
    radius = np.hypot(on_sky.pix_x, on_sky.pix_y).max().to_value(u.deg)
    assert radius == pytest.approx({"lst1": 2.3, "nectarcam1": 4.0}[array], abs=0.2)


@pytest.mark.parametrize("array", list(ARRAYS))
def test_charge_correction_finds_nearly_all_of_the_pulse_in_the_window(array):
    subarray = make_subarray(array, "la_palma")
    extractor = LocalPeakWindowSum(subarray)
    for tel_id in subarray.tel:
        correction = extractor._calculate_correction(tel_id)
        assert correction.shape == (1,)
        assert 1 <= correction[0] < 1.02
