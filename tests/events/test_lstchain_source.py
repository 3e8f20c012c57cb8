"""lstchain's DL1 files as an event source of ctapipe."""

import astropy.units as u
import numpy as np
import pytest
import tables
from astropy.time import Time
from ctapipe.containers import EventType
from ctapipe.coordinates import TelescopeFrame
from ctapipe.core import ToolConfigurationError, run_tool
from ctapipe.image import hillas_parameters, leakage_parameters, timing_parameters
from ctapipe.instrument import FocalLengthKind
from ctapipe.io import EventSource, read_table
from ctapipe.tools.process import ProcessorTool
from lstchain_file import START, change, draw_images, lst_subarray, write_lstchain
from official_files import DATA, needs

from ctapipe_gammaphysnet.events.lstchain import LSTChainDL1EventSource
from ctapipe_gammaphysnet.files.input_file import DL1FileError

IMAGES = "/dl1/event/telescope/image/LST_LSTCam"
PARAMETERS = "/dl1/event/telescope/parameters/LST_LSTCam"
#: Observation, event, telescope, event type, altitude and azimuth.
ROWS = [
    (3, 1, 1, 32, 70, 180),
    (3, 1, 2, 32, 70, 180),
    (3, 2, 2, 32, 70.5, 181),
    (3, 4, 1, 0, 71, 182),
    (5, 1, 1, 2, 60, 359.9),
    (5, 7, 1, 32, 60, 0.1),
]


@pytest.fixture(scope="module")
def subarray():
    return lst_subarray()


@pytest.fixture(scope="module")
def images(subarray):
    image, time, mask = draw_images(subarray, len(ROWS))
    mask[4] = False  # a pedestal
    return image, time, mask


@pytest.fixture(scope="module")
def simulation(tmp_path_factory, subarray, images):
    path = tmp_path_factory.mktemp("lstchain") / "simulation.h5"
    return write_lstchain(path, subarray, images, ROWS)


@pytest.fixture
def observation(tmp_path, subarray, images):
    path = tmp_path / "observation.h5"
    return write_lstchain(path, subarray, images, ROWS, is_simulation=False)


def read(path, **options):
    with LSTChainDL1EventSource(input_url=path, **options) as source:
        return list(source)


def assert_close(found, expected, unit, **tolerance):
    np.testing.assert_allclose(
        found.to_value(unit), expected.to_value(unit), **tolerance
    )


@pytest.mark.parametrize("choice", FocalLengthKind)
def test_parameters_are_those_that_ctapipe_calculates(simulation, images, choice):
    """Drawn images of all orientations: positions, angles and signs."""
    with LSTChainDL1EventSource(
        input_url=simulation, focal_length_choice=choice
    ) as source:
        camera = source.subarray.tel[1].camera.geometry
        geometry = camera.transform_to(TelescopeFrame())
        found = [dl1 for event in source for dl1 in event.dl1.tel.values()]
    for dl1, image, time, mask in zip(found, *images, strict=True):
        np.testing.assert_array_equal(dl1.image, image)
        np.testing.assert_array_equal(dl1.peak_time, time)
        np.testing.assert_array_equal(dl1.image_mask, mask)
        parameters = dl1.parameters
        if not mask.any():
            assert np.isnan(parameters.hillas.intensity)
            assert parameters.morphology.n_pixels == -1
            continue
        hillas = hillas_parameters(geometry[mask], image[mask])
        timing = timing_parameters(geometry[mask], image[mask], time[mask], hillas)
        leakage = leakage_parameters(geometry, image, mask)
        assert_close(parameters.hillas.fov_lon, hillas.fov_lon, "deg", atol=1e-3)
        assert_close(parameters.hillas.fov_lat, hillas.fov_lat, "deg", atol=1e-3)
        assert_close(parameters.hillas.r, hillas.r, "deg", atol=1e-3)
        assert_close(parameters.hillas.phi, hillas.phi, "deg", atol=0.1)
        assert_close(parameters.hillas.length, hillas.length, "deg", rtol=1e-3)
        assert_close(parameters.hillas.width, hillas.width, "deg", rtol=1e-3)
        assert_close(parameters.hillas.psi, hillas.psi, "deg", atol=0.05)
        assert_close(parameters.timing.slope, timing.slope, "deg-1", rtol=0.01)
        for name in ("intensity", "skewness", "kurtosis"):
            assert parameters.hillas[name] == pytest.approx(hillas[name], rel=1e-3)
        assert parameters.timing.intercept == pytest.approx(timing.intercept, rel=0.01)
        for name in leakage.fields:
            assert parameters.leakage[name] == pytest.approx(leakage[name])
        assert parameters.morphology.n_pixels == mask.sum()
        assert parameters.concentration.core == 0.3


def test_events_of_a_simulation_have_their_truth(simulation):
    events = read(simulation)
    ids = [(event.index.obs_id, event.index.event_id) for event in events]
    assert ids == [(3, 1), (3, 2), (3, 4), (5, 1), (5, 7)]
    assert [event.count for event in events] == list(range(5))
    triggered = [event.trigger.tels_with_trigger.tolist() for event in events]
    assert triggered == [[1, 2], [2], [1], [1], [1]]
    second = events[1]
    shower = second.simulation.shower
    assert shower.energy == 2.1 * u.TeV
    assert shower.shower_primary_id == 101
    assert_close(shower.alt, 71 * u.deg, "deg")
    assert_close(shower.az, 180.5 * u.deg, "deg")
    assert (shower.core_x, shower.core_y) == (20 * u.m, -40 * u.m)
    assert (shower.h_first_int, shower.x_max) == (21 * u.km, 300 * u.g / u.cm**2)
    # From (20, -40) to telescope 2 at (70, -40), across the axis.
    distance = second.simulation.tel[2].impact.distance.to_value(u.m)
    assert 45 < distance < 51
    with LSTChainDL1EventSource(input_url=simulation) as source:
        assert source.is_simulation
        config = source.simulation_config
        assert {obs_id: run.n_showers for obs_id, run in config.items()} == {
            3: 1003,
            5: 1005,
        }
        assert config[3].energy_range_min == 0.005 * u.TeV
        assert {*source.observation_blocks} == {*source.scheduling_blocks} == {3, 5}


def test_observations_have_times_pointings_and_event_types(observation):
    events = read(observation)
    assert [event.trigger.event_type for event in events] == [
        EventType.SUBARRAY,
        EventType.SUBARRAY,
        EventType.FLATFIELD,
        EventType(2),
        EventType.SUBARRAY,
    ]
    for event in events:
        assert event.simulation is None
        expected = Time(START + event.index.event_id + 0.25, format="unix", scale="utc")
        assert abs((event.trigger.time - expected).to_value(u.us)) < 1
        (tel_id, *_) = event.dl1.tel
        assert event.trigger.tel[tel_id].event_type == event.trigger.event_type
    pointing = events[1].monitoring.tel[2].pointing
    assert_close(pointing.altitude, 70.5 * u.deg, "deg")
    assert_close(pointing.azimuth, 181 * u.deg, "deg")
    assert_close(events[1].monitoring.pointing.array_altitude, 70.5 * u.deg, "deg")
    with LSTChainDL1EventSource(input_url=observation) as source:
        assert source.simulation_config is None
        assert not source.is_simulation
        block = source.observation_blocks[5]
        assert_close(block.subarray_pointing_lat, 60 * u.deg, "deg")


def test_telescopes_can_be_chosen(simulation):
    events = read(simulation, allowed_tels={2})
    assert [[*event.dl1.tel] for event in events] == [[2], [2]]
    assert len(read(simulation, max_events=2)) == 2
    with pytest.raises(ToolConfigurationError, match="has no telescope 9"):
        read(simulation, allowed_tels={9})


def test_ctapipe_finds_the_source_by_the_file(simulation, toy_file, tmp_path):
    assert LSTChainDL1EventSource.is_compatible(simulation)
    assert not LSTChainDL1EventSource.is_compatible(toy_file)
    assert not LSTChainDL1EventSource.is_compatible(tmp_path / "none.h5")
    with EventSource(simulation) as source:
        assert isinstance(source, LSTChainDL1EventSource)


def test_ctapipe_process_keeps_masks_and_parameters(simulation, tmp_path):
    output = tmp_path / "simulation.dl1.h5"
    run_tool(
        ProcessorTool(),
        [f"--input={simulation}", f"--output={output}", "--write-images"],
        raises=True,
    )
    expected = [event.dl1.tel[1] for event in read(simulation) if 1 in event.dl1.tel]
    found = read_table(output, "/dl1/event/telescope/images/tel_001")
    for row, dl1 in zip(found, expected, strict=True):
        np.testing.assert_array_equal(row["image"], dl1.image)
        np.testing.assert_array_equal(row["image_mask"], dl1.image_mask)
    table = read_table(output, "/dl1/event/telescope/parameters/tel_001")
    lengths = [dl1.parameters.hillas.length.to_value(u.deg) for dl1 in expected]
    np.testing.assert_array_equal(table["hillas_length"], lengths)
    assert np.isfinite(lengths).tolist() == [True, True, False, True]
    showers = read_table(output, "/simulation/event/subarray/shower")
    np.testing.assert_allclose(showers["true_energy"], [1.1, 2.1, 4.1, 1.1, 7.1])


def test_files_that_cannot_be_used_say_why(observation):
    def fails(message):
        with pytest.raises(DL1FileError, match=message) as error:
            read(observation)
        assert str(observation) in str(error.value)

    types = np.array([row[3] for row in ROWS])
    change(observation, PARAMETERS, event_type=np.where(types == 0, 77, types))
    fails("event type 77")
    change(observation, PARAMETERS, event_type=types)
    change(observation, IMAGES, event_id=np.arange(len(ROWS)))
    fails("different event_id")
    again = [1, 1, 2, 4, 1, 1]
    for node in (IMAGES, PARAMETERS):
        change(observation, node, event_id=again, tel_id=[1, 2, 2, 1, 1, 1])
    fails("event 1 of observation 5 twice for telescope 1")
    for node in (IMAGES, PARAMETERS):
        change(observation, node, tel_id=[1, 2, 2, 1, 1, 9])
    fails("telescope 9")
    with tables.open_file(observation, "r+") as h5file:
        h5file.remove_node("/dl1/event/telescope/image", recursive=True)
    fails("--no-image")


@needs("lstchain_dl1_gamma.h5")
def test_official_simulation_against_ctapipe():
    with LSTChainDL1EventSource(input_url=DATA / "lstchain_dl1_gamma.h5") as source:
        assert source.is_simulation
        height = source.subarray.reference_location.height.to_value("m")
        assert height == pytest.approx(2199)
        camera = source.subarray.tel[1].camera.geometry
        geometry = camera.transform_to(TelescopeFrame())
        events = list(source)
    assert len(events) == 25
    for event in events:
        dl1 = event.dl1.tel[1]
        mask, found = dl1.image_mask, dl1.parameters.hillas
        assert dl1.parameters.morphology.n_pixels in (mask.sum(), -1)
        if mask.sum() < 3:
            continue
        hillas = hillas_parameters(geometry[mask], dl1.image[mask])
        assert found.intensity == pytest.approx(hillas.intensity)
        assert_close(found.fov_lon, hillas.fov_lon, "deg", atol=2e-3)
        assert_close(found.psi, hillas.psi, "deg", atol=0.1)
        assert_close(found.length, hillas.length, "deg", rtol=2e-3)
        assert found.skewness == pytest.approx(hillas.skewness, rel=1e-3, abs=1e-3)


@needs("lstchain_dl1_lst1_observation.h5")
def test_official_observation():
    events = read(DATA / "lstchain_dl1_lst1_observation.h5")
    assert len(events) == 25
    times = Time([event.trigger.time for event in events])
    assert (np.diff(times.unix_tai) > 0).all()
    assert times[0].utc.isot.startswith("2020-02-18T21:02:32")
    empty = [e for e in events if not e.dl1.tel[1].image_mask.any()]
    assert len(empty) == 11
    assert all(np.isnan(e.dl1.tel[1].parameters.hillas.intensity) for e in empty)
