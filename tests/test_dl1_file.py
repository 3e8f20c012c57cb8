"""DL1 files in chunks: every event once, with its own pointing."""

import shutil

import astropy.units as u
import numpy as np
import pytest
import tables
from astropy.table import QTable
from ctapipe.io import EventSource, read_table, write_table

from ctapipe_gammaphysnet.dl1 import InputPreparation
from ctapipe_gammaphysnet.dl1_file import DL1File, DL1FileError
from ctapipe_gammaphysnet.model_card import InputCard
from ctapipe_gammaphysnet.network import CameraLattice


def raw_of(file, tel_id):
    """What leaves the images of a telescope as they are."""
    geometry = file.subarray.tel[tel_id].camera.geometry
    return InputPreparation(InputCard(), CameraLattice.from_geometry(geometry))


@pytest.fixture
def dl1(toy_file, tmp_path):
    """A copy of the file, to be spoilt."""
    return shutil.copy(toy_file, tmp_path / "copy.dl1.h5")


@pytest.mark.parametrize("size", [1, 5, 16, 100])
def test_every_event_is_in_one_chunk(toy_file, size):
    """And every telescope's rows and images are with their event."""
    found = []
    with DL1File(toy_file) as file:
        assert file.n_events == 16
        for chunk in file.chunks(size):
            assert len(chunk) <= size
            images = {
                tel_id: file.read_images(
                    chunk, tel_id, np.arange(len(events)), raw_of(file, tel_id)
                )
                for tel_id, events in chunk.event.items()
            }
            for event, event_id in enumerate(chunk.event_id):
                telescopes = {
                    tel_id: (
                        images[tel_id][0][events == event][0],
                        chunk.parameters[tel_id]["hillas_intensity"][events == event],
                        [a[events == event] for a in chunk.pointing[tel_id]],
                    )
                    for tel_id, events in chunk.event.items()
                    if event in events
                }
                found.append((event_id, telescopes, chunk.array_alt[event]))
    with EventSource(toy_file) as source:
        for event, (event_id, telescopes, array_alt) in zip(source, found, strict=True):
            assert event.index.event_id == event_id
            assert u.isclose(event.monitoring.pointing.array_altitude, array_alt)
            assert set(telescopes) == set(event.trigger.tels_with_trigger)
            for tel_id, (inputs, intensity, (alt, az)) in telescopes.items():
                camera = event.dl1.tel[tel_id]
                np.testing.assert_array_equal(inputs, [camera.image, camera.peak_time])
                np.testing.assert_array_equal(
                    intensity, camera.parameters.hillas.intensity
                )
                pointing = event.monitoring.tel[tel_id].pointing
                assert u.isclose(alt, pointing.altitude).all()
                assert u.isclose(az, pointing.azimuth).all()


def read_all(path):
    with DL1File(path) as file:
        for chunk in file.chunks(5):
            for tel_id, events in chunk.event.items():
                prepare = raw_of(file, tel_id)
                file.read_images(chunk, tel_id, np.arange(len(events)), prepare)


def test_a_spoilt_copy_is_read_as_long_as_nothing_is_spoilt(dl1):
    read_all(dl1)


@pytest.mark.parametrize("kind", ["images", "parameters"])
def test_rows_of_other_events_are_an_error(dl1, kind):
    node = f"/dl1/event/telescope/{kind}/tel_002"
    with tables.open_file(dl1, "r+") as file:
        rows = file.root[node].read()
        rows[[3, 4]] = rows[[4, 3]]
        file.root[node].modify_rows(start=0, rows=rows)
    with pytest.raises(DL1FileError, match=f"{node} does not hold the events"):
        read_all(dl1)


@pytest.mark.parametrize("kind", ["images", "parameters"])
def test_rows_that_are_missing_are_an_error(dl1, kind):
    node = f"/dl1/event/telescope/{kind}/tel_002"
    with tables.open_file(dl1, "r+") as file:
        file.root[node].truncate(file.root[node].nrows - 1)
    with pytest.raises(DL1FileError, match=f"{node} has 1. rows, but telescope 2 has"):
        read_all(dl1)


@pytest.mark.parametrize("kind", ["images", "parameters"])
def test_rows_without_trigger_are_an_error(dl1, kind):
    node = f"/dl1/event/telescope/{kind}/tel_002"
    with tables.open_file(dl1, "r+") as file:
        file.root[node].append(file.root[node][-1:])
        n_rows = file.root[node].nrows
    with pytest.raises(DL1FileError, match=f"{node} has {n_rows} rows, but"):
        read_all(dl1)


def test_a_table_that_is_missing_is_an_error(dl1):
    with tables.open_file(dl1, "r+") as file:
        file.remove_node("/dl1/event/telescope/images/tel_003")
    with pytest.raises(DL1FileError, match="has no table .*images/tel_003"):
        read_all(dl1)


def test_an_unknown_observation_is_an_error(dl1):
    node = "/configuration/observation/observation_block"
    with tables.open_file(dl1, "r+") as file:
        rows = file.root[node].read()
        rows["obs_id"] = 77
        file.root[node].modify_rows(start=0, rows=rows)
    with pytest.raises(DL1FileError, match=f"observation 1, which is not in {node}"):
        read_all(dl1)


def test_files_that_are_no_dl1_files_are_an_error(toy_model, tmp_path):
    with pytest.raises(DL1FileError, match="not a ctapipe DL1 file"):
        DL1File(toy_model)
    empty = tmp_path / "empty.h5"
    tables.open_file(empty, "w").close()
    with pytest.raises(DL1FileError, match="this version of ctapipe can read"):
        DL1File(empty)


def test_an_unknown_pointing_is_not_a_number(dl1):
    """As in ctapipe-process; energy and gammaness do not need it."""
    with tables.open_file(dl1, "r+") as file:
        file.remove_node("/configuration/telescope", recursive=True)
    with DL1File(dl1) as file:
        chunk = next(file.chunks(16))
    for alt, az in chunk.pointing.values():
        assert np.isnan(alt).all()
        assert np.isnan(az).all()


def test_pointings_of_old_files_are_the_nearest_in_time(dl1):
    """Before ctapipe 0.21, files had a table of pointings over time."""
    times = read_table(dl1, "/dl1/event/subarray/trigger")["time"]
    with tables.open_file(dl1, "r+") as file:
        file.remove_node("/configuration/telescope", recursive=True)
    for tel_id in range(1, 5):
        table = QTable(
            {
                "time": times[[0, 5, 10, 15]],
                "azimuth": [1.0, 2.0, 3.0, 4.0] * u.rad,
                "altitude": [1.1, 1.2, 1.3, 1.4] * u.rad,
            }
        )
        write_table(table, dl1, f"/dl1/monitoring/telescope/pointing/tel_{tel_id:03d}")
    with EventSource(dl1) as source, DL1File(dl1) as file:
        (chunk,) = file.chunks(16)
        rows = dict.fromkeys(chunk.event, 0)
        for event in source:
            for tel_id in event.trigger.tels_with_trigger:
                pointing = event.monitoring.tel[tel_id].pointing
                alt, az = (angle[rows[tel_id]] for angle in chunk.pointing[tel_id])
                assert u.isclose(alt, pointing.altitude)
                assert u.isclose(az, pointing.azimuth)
                rows[tel_id] += 1
    assert len({*chunk.pointing[1][1].value}) == 4
