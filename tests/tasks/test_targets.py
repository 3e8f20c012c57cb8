"""Targets mean what they say at any pointing, and lead back to where they came from."""

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import AltAz, SkyCoord
from ctapipe.coordinates import GroundFrame, TiltedGroundFrame, project_to_ground
from with_units import direction_from_target, energy_from_target, impact_from_target

from ctapipe_gammaphysnet.tasks.direction import direction_to_target
from ctapipe_gammaphysnet.tasks.energy import energy_to_target
from ctapipe_gammaphysnet.tasks.impact import impact_to_target

N = 200
TURN_DEG = 123.0


@pytest.fixture
def showers():
    """Pointings all over the sky, many near zenith or north, and showers nearby."""
    rng = np.random.default_rng(0)
    alt = np.concatenate([rng.uniform(20, 89, N // 2), rng.uniform(89, 90, N // 2)])
    az = np.concatenate([rng.uniform(0, 360, N - 50), rng.uniform(-1, 1, 50) % 360])
    pointing = alt * u.deg, az * u.deg
    offset = rng.uniform(-4, 4, (N, 2))
    core = rng.uniform(-800, 800, (N, 2)) * u.m
    position = rng.uniform(-300, 300, (N, 3)) * u.m
    return pointing, offset, core, position


def unit_vector(alt, az):
    """Direction on the sky in the ground frame: x to the north, y to the west."""
    return np.stack(
        [np.cos(alt) * np.cos(az), -np.cos(alt) * np.sin(az), np.sin(alt)], axis=-1
    ).value


def turn(vectors):
    """Turn vectors in the ground frame from north to east, as azimuth increases."""
    angle = np.deg2rad(TURN_DEG)
    turned = vectors.copy()
    turned[..., 0] = np.cos(angle) * vectors[..., 0] + np.sin(angle) * vectors[..., 1]
    turned[..., 1] = np.cos(angle) * vectors[..., 1] - np.sin(angle) * vectors[..., 0]
    return turned


def turn_azimuth(pointing):
    alt, az = pointing
    return alt, (az + TURN_DEG * u.deg) % (360 * u.deg)


def test_energies_become_their_logarithm_and_back():
    energy = [10, 1000, 2e5] * u.GeV
    target = energy_to_target(energy)
    np.testing.assert_allclose(target, [[-2], [0], [np.log10(200)]], atol=1e-15)
    back = energy_from_target(target)
    assert back.unit == u.TeV
    np.testing.assert_allclose(back.to_value(u.GeV), energy.value, rtol=1e-12)


def test_energies_of_several_members_keep_their_shape():
    assert energy_from_target(np.zeros((3, 5, 1))).shape == (3, 5)


def test_offsets_lead_to_a_direction_and_back(showers):
    pointing, offset, _, _ = showers
    alt, az = direction_from_target(offset, *pointing)
    assert alt.unit == az.unit == u.deg
    np.testing.assert_allclose(
        direction_to_target(alt, az, *pointing), offset, rtol=0, atol=1e-6
    )


def test_directions_lead_to_an_offset_and_back(showers):
    pointing, offset, _, _ = showers
    alt, az = direction_from_target(offset, *pointing)
    back = direction_from_target(direction_to_target(alt, az, *pointing), *pointing)
    np.testing.assert_allclose(
        unit_vector(*back), unit_vector(alt, az), rtol=0, atol=1e-9
    )


def test_directions_off_the_zenith_return_to_a_billionth_of_a_degree(showers):
    pointing, offset, _, _ = showers
    low = pointing[0] < 80 * u.deg
    pointing, offset = [angle[low] for angle in pointing], offset[low]
    alt, az = direction_from_target(offset, *pointing)
    target = direction_to_target(alt, az, *pointing)
    np.testing.assert_allclose(target, offset, rtol=0, atol=1e-9)
    back_alt, back_az = direction_from_target(target, *pointing)
    np.testing.assert_allclose(back_alt.value, alt.value, rtol=0, atol=1e-9)
    np.testing.assert_allclose(back_az.value, az.value, rtol=0, atol=1e-9)


def test_offsets_are_those_of_the_sky(showers):
    """Astropy's own offsets, from the sphere alone, as longitude and latitude."""
    pointing, offset, _, _ = showers
    alt, az = direction_from_target(offset, *pointing)
    center = SkyCoord(alt=pointing[0], az=pointing[1], frame=AltAz())
    shower = SkyCoord(alt=alt, az=az, frame=AltAz())
    lon, lat = center.spherical_offsets_to(shower)
    target = direction_to_target(alt, az, *pointing)
    np.testing.assert_allclose(target[:, 0], lon.to_value(u.deg), atol=1e-6)
    np.testing.assert_allclose(target[:, 1], lat.to_value(u.deg), atol=1e-6)


def test_the_length_of_an_offset_is_the_separation(showers):
    pointing, offset, _, _ = showers
    alt, az = direction_from_target(offset, *pointing)
    cosine = np.sum(unit_vector(alt, az) * unit_vector(*pointing), axis=1)
    lon, lat = np.deg2rad(direction_to_target(alt, az, *pointing).T)
    np.testing.assert_allclose(np.cos(lon) * np.cos(lat), cosine, rtol=0, atol=1e-12)


def test_offsets_point_along_azimuth_and_up():
    alt, az = [40, 41, 40, 40] * u.deg, [0, 0, 0.5, 359.5] * u.deg
    lon, lat = direction_to_target(alt, az, 40 * u.deg, 0 * u.deg).T
    scale = np.cos(np.deg2rad(40)) * 0.5
    np.testing.assert_allclose(lon, [0, 0, scale, -scale], atol=1e-4)
    np.testing.assert_allclose(lat, [0, 1, 0, 0], atol=2e-3)


def test_one_pointing_serves_many_directions(showers):
    _, offset, _, _ = showers
    one = direction_from_target(offset, 70 * u.deg, 359 * u.deg)
    each = direction_from_target(
        offset, np.full(N, 70) * u.deg, np.full(N, 359) * u.deg
    )
    np.testing.assert_array_equal(one, each)


def test_impact_targets_lead_to_a_core_and_back(showers):
    pointing, _, core, position = showers
    target = impact_to_target(*core.T, position, *pointing)
    assert target.shape == (N, 2)
    back, tilted = impact_from_target(target, position, *pointing)
    assert back.unit == tilted.unit == u.m
    np.testing.assert_allclose(back.value, core.value, rtol=0, atol=1e-8)
    np.testing.assert_allclose(
        impact_to_target(*back.T, position, *pointing), target, rtol=0, atol=1e-11
    )


def test_impact_targets_are_differences_in_the_tilted_frame(showers):
    """Core and telescope, both taken to the tilted frame, that of ctapipe."""
    pointing, _, core, position = showers
    frame = TiltedGroundFrame(
        pointing_direction=SkyCoord(alt=pointing[0], az=pointing[1], frame=AltAz())
    )
    tilted_core, tilted_telescope = (
        SkyCoord(x=xyz[0], y=xyz[1], z=xyz[2], frame=GroundFrame()).transform_to(frame)
        for xyz in ((*core.T, np.zeros(N) * u.m), position.T)
    )
    expected = [
        (tilted_core.x - tilted_telescope.x).to_value(u.km),
        (tilted_core.y - tilted_telescope.y).to_value(u.km),
    ]
    target = impact_to_target(*core.T, position, *pointing)
    np.testing.assert_allclose(target, np.transpose(expected), rtol=0, atol=1e-11)

    _, tilted = impact_from_target(target, position, *pointing)
    np.testing.assert_allclose(tilted[:, 0], tilted_core.x, atol=1e-8 * u.m)
    np.testing.assert_allclose(tilted[:, 1], tilted_core.y, atol=1e-8 * u.m)


def test_the_tilted_core_projects_to_the_core(showers):
    pointing, offset, _, position = showers
    core, tilted = impact_from_target(offset / 10, position, *pointing)
    frame = TiltedGroundFrame(pointing_direction=AltAz(alt=pointing[0], az=pointing[1]))
    ground = project_to_ground(
        SkyCoord(x=tilted[:, 0], y=tilted[:, 1], z=np.zeros(N) * u.m, frame=frame)
    )
    np.testing.assert_allclose(core[:, 0], ground.x, atol=1e-8 * u.m)
    np.testing.assert_allclose(core[:, 1], ground.y, atol=1e-8 * u.m)


def test_zero_is_a_shower_whose_axis_goes_through_the_telescope(showers):
    """For telescopes at any height, and showers from where the telescope points."""
    pointing, _, _, position = showers
    axis = unit_vector(*pointing)
    core = position - position[:, 2:] / axis[:, 2:] * axis
    assert np.abs(core[:, :2] - position[:, :2]).max() > 100 * u.m
    target = impact_to_target(core[:, 0], core[:, 1], position, *pointing)
    np.testing.assert_allclose(target, 0, atol=1e-12)
    back, _ = impact_from_target(np.zeros((N, 2)), position, *pointing)
    np.testing.assert_allclose(back, core[:, :2], rtol=0, atol=1e-8 * u.m)


def test_the_length_of_an_impact_target_is_the_distance_to_the_axis(showers):
    """That of a shower from where the telescope points."""
    pointing, _, core, position = showers
    from_core = position.value - np.pad(core.value, ((0, 0), (0, 1)))
    distance = np.linalg.norm(np.cross(from_core, unit_vector(*pointing)), axis=1)
    target = impact_to_target(*core.T, position, *pointing)
    np.testing.assert_allclose(1000 * np.linalg.norm(target, axis=1), distance)


def test_impact_targets_are_the_same_for_an_array_elsewhere(showers):
    pointing, _, core, position = showers
    target = impact_to_target(*core.T, position, *pointing)
    moved = impact_to_target(
        *(core + [500, -70] * u.m).T, position + [500, -70, 0] * u.m, *pointing
    )
    np.testing.assert_allclose(moved, target, rtol=0, atol=1e-12)


def test_targets_do_not_change_when_everything_turns(showers):
    """Pointing, shower, telescope and core, all turned, many of them across north."""
    pointing, offset, core, position = showers
    alt, az = direction_from_target(offset, *pointing)
    turned = turn_azimuth(pointing)
    assert np.count_nonzero(turned[1] < pointing[1]) > 30
    np.testing.assert_allclose(
        direction_to_target(*turn_azimuth((alt, az)), *turned),
        direction_to_target(alt, az, *pointing),
        rtol=0,
        atol=1e-6,
    )
    np.testing.assert_allclose(
        impact_to_target(*turn(core).T, turn(position), *turned),
        impact_to_target(*core.T, position, *pointing),
        rtol=0,
        atol=1e-11,
    )


def test_the_same_targets_turn_with_the_pointing(showers):
    """Directions on the sky by 123° in azimuth, cores about the origin."""
    pointing, offset, _, position = showers
    turned = turn_azimuth(pointing)
    direction = unit_vector(*direction_from_target(offset, *pointing))
    np.testing.assert_allclose(
        unit_vector(*direction_from_target(offset, *turned)),
        turn(direction),
        rtol=0,
        atol=1e-12,
    )
    core, tilted = impact_from_target(offset / 10, position, *pointing)
    turned_core, turned_tilted = impact_from_target(
        offset / 10, turn(position), *turned
    )
    np.testing.assert_allclose(turned_core, turn(core), rtol=0, atol=1e-7 * u.m)
    np.testing.assert_allclose(turned_tilted, tilted, rtol=0, atol=1e-7 * u.m)


def test_azimuths_are_between_0_and_360_degrees():
    offset = np.array([[-1.0, 0], [1, 0]])
    _, az = direction_from_target(offset, 60 * u.deg, 0 * u.deg)
    np.testing.assert_allclose(az.value, [358, 2], atol=0.01)


def test_unknown_pointings_give_nan():
    pointing = [np.nan, 70] * u.deg, [np.nan, 10] * u.deg
    alt, az = direction_from_target(np.zeros((2, 2)), *pointing)
    assert np.isnan([alt[0].value, az[0].value]).all()
    np.testing.assert_allclose([alt[1].value, az[1].value], [70, 10])
    core, tilted = impact_from_target(
        np.zeros((2, 2)), np.ones((2, 3)) * u.m, *pointing
    )
    assert np.isfinite(core.value).all(axis=1).tolist() == [False, True]
    assert np.isfinite(tilted.value).all(axis=1).tolist() == [False, True]
