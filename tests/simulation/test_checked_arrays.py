"""Compiled code reads whatever is at an index: what it gets is checked before."""

import numpy as np
import pytest
from ctapipe.core import ToolConfigurationError

from ctapipe_gammaphysnet.simulation import hadrons, instruments
from ctapipe_gammaphysnet.simulation.atmosphere import ATMOSPHERES
from ctapipe_gammaphysnet.simulation.camera import (
    densest_time,
    make_camera,
    pixel_hits,
    waveforms,
)
from ctapipe_gammaphysnet.simulation.cherenkov import Targets
from ctapipe_gammaphysnet.simulation.optics import MIRRORS, reflect
from ctapipe_gammaphysnet.simulation.particles import Particle
from ctapipe_gammaphysnet.simulation.shower import simulate
from ctapipe_gammaphysnet.simulation.state import Air
from ctapipe_gammaphysnet.simulation.trigger import (
    may_trigger,
    sum_regions,
    trigger_time,
)

RNG = np.random.default_rng(1)


@pytest.fixture(scope="module")
def geometry():
    return instruments.make_subarray("lst1", "la_palma").tel[1].camera.geometry


@pytest.fixture(scope="module")
def camera(geometry):
    return make_camera(geometry, 40, 0.24)


@pytest.fixture(scope="module")
def regions(geometry, camera):
    return sum_regions(geometry, camera.pulse)


@pytest.mark.parametrize("pixel", [-1, 1855, 2**40])
def test_pixels_that_the_camera_does_not_have(camera, regions, pixel):
    pixels = np.array([pixel])
    with pytest.raises(ValueError, match="no such pixel"):
        waveforms(RNG, pixels, np.zeros(1), camera)
    with pytest.raises(ValueError, match="no such pixel"):
        may_trigger(pixels, regions)


def test_arrays_of_another_shape(camera, regions):
    with pytest.raises(ValueError, match="as many pixels as times"):
        waveforms(RNG, np.zeros(3, int), np.zeros(2), camera)
    with pytest.raises(ValueError, match="3 columns"):
        pixel_hits(np.zeros((5, 2)), camera)
    with pytest.raises(ValueError, match="4 columns"):
        reflect(RNG, np.zeros((5, 3), np.float32), np.eye(3), MIRRORS["LST"])
    with pytest.raises(ValueError, match="of another camera"):
        trigger_time(np.zeros((1854, 40), np.float32), regions)
    with pytest.raises(ValueError, match="no times"):
        densest_time(np.zeros(0))


@pytest.mark.parametrize("time", [np.nan, np.inf, -np.inf, 1e300, -1e300])
def test_times_that_are_none(camera, time):
    """They count nowhere, and nothing is written beside the camera."""
    assert densest_time(np.array([0.0, time, 1.0])) is not None
    dark = camera._replace(night_sky_per_ns=0.0)
    one = waveforms(np.random.default_rng(1), np.array([7]), np.array([time]), dark)
    far = waveforms(np.random.default_rng(1), np.array([7]), np.array([1e9]), dark)
    np.testing.assert_array_equal(one, far)


def make_targets(**values):
    targets = Targets(
        position_m=np.zeros((2, 3)),
        overburden=np.zeros(2),
        kind=np.zeros(2, int),
        radius_m=np.full(2, 10.0),
        focus_m=np.full(2, 1e4),
        yield_per_m=np.ones((1, 501)),
        photoelectrons_per_point=30.0,
    )
    return targets._replace(**values)


@pytest.mark.parametrize(
    ("energy_gev", "direction", "targets"),
    [
        (1.0, (0.0, 0.0, -1.0), make_targets(overburden=np.zeros(1))),
        (1.0, (0.0, 0.0, -1.0), make_targets(position_m=np.zeros((2, 2)))),
        (1.0, (0.0, 0.0, -1.0), make_targets(yield_per_m=np.ones((1, 3)))),
        (1.0, (0.0, 0.0, -1.0), make_targets(kind=np.array([0, 1]))),
        (1.0, (0.0, 0.0, -1.0), make_targets(kind=np.zeros(1, int))),
        (1.0, (0.0, 0.0, -1.0), make_targets(radius_m=np.ones(1))),
        (1.0, (0.0, 0.0, -1.0), make_targets(focus_m=np.ones(3))),
        (1.0, (0.0, 0.0, -1.0), make_targets(overburden=np.full(2, np.nan))),
        (np.nan, (0.0, 0.0, -1.0), make_targets()),
        (0.0, (0.0, 0.0, -1.0), make_targets()),
        (1.0, (0.0, 0.0, 1.0), make_targets()),
        (1.0, (0.0, np.nan, -1.0), make_targets()),
    ],
)
def test_showers_that_cannot_be(energy_gev, direction, targets):
    air = Air(
        2158.0,
        (30.0, 0.0, -20.0),
        hadrons.load_hadron_table(),
        ATMOSPHERES["la_palma"],
    )
    with pytest.raises(ValueError, match="targets need|no energy|no unit vector"):
        simulate(RNG, air, targets, Particle.GAMMA, energy_gev, direction)


@pytest.fixture
def write_table(tmp_path):
    """Function that writes the table of hadronic collisions with other arrays."""

    def write(**changes):
        with np.load(hadrons.TABLE) as file:
            arrays = dict(file)
        for name, change in changes.items():
            arrays[name] = change(arrays[name])
        path = tmp_path / "hadrons.npz"
        np.savez(path, **arrays)
        return path

    return write


def put(value):
    """Change the last value of an array."""

    def change(array):
        array = array.copy()
        array.flat[-1] = value
        return array

    return change


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"particle": put(18)}, "codes of particles"),
        ({"particle": lambda codes: codes[:-1]}, "shapes of arrays"),
        ({"count": put(30_000)}, "missing or damaged"),
        ({"count": lambda count: count[:2]}, "missing or damaged"),
        ({"momentum": put(np.nan)}, "momenta"),
        ({"cross_section_mb": put(0)}, "cross sections"),
        ({"energy_gev": put(np.inf)}, "momenta"),
        ({"energy_gev": put(1)}, "energies"),
        ({"energy_gev": lambda energies: energies[:1]}, "missing or damaged"),
    ],
)
def test_a_table_that_does_not_fit_together(write_table, changes, says):
    assert len(hadrons._read(write_table()).particle) > 1000
    with pytest.raises(hadrons.HadronTableError, match=says):
        hadrons._read(write_table(**changes))


@pytest.mark.parametrize("length", [0, 100, 1_000_000])
def test_a_table_that_is_cut(tmp_path, length):
    path = tmp_path / "hadrons.npz"
    path.write_bytes(hadrons.TABLE.read_bytes()[:length])
    with pytest.raises(ToolConfigurationError, match="hadrons.npz: .* install"):
        hadrons._read(path)


def test_a_table_with_other_bytes(tmp_path):
    path = tmp_path / "hadrons.npz"
    content = bytearray(hadrons.TABLE.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 100] = bytes(100)
    path.write_bytes(content)
    with pytest.raises(ToolConfigurationError, match="hadrons.npz: .* install"):
        hadrons._read(path)
    with pytest.raises(ToolConfigurationError, match="none.npz: .* install"):
        hadrons._read(tmp_path / "none.npz")


@pytest.mark.parametrize("length", [0, 100, 10_000])
def test_a_camera_that_is_cut(tmp_path, length):
    path = tmp_path / "LSTCam.camgeom.fits.gz"
    path.write_bytes((instruments.DATA / path.name).read_bytes()[:length])
    with pytest.raises(ToolConfigurationError, match="LSTCam.camgeom.fits.gz: .* inst"):
        instruments._read_geometry(path)
