"""The table of telescope events: what it says of each is what ctapipe's events say."""

import shutil

import astropy.units as u
import numpy as np
import pytest
import tables
from astropy.table import vstack
from ctapipe.io import EventSource
from spoil import change_rows, remove

from ctapipe_gammaphysnet.events.opening import open_events
from ctapipe_gammaphysnet.events.quality import ImageQualityQuery
from ctapipe_gammaphysnet.events.telescope_events import (
    check_pointing,
    telescope_events,
)
from ctapipe_gammaphysnet.files.input_file import DL1FileError

IN_PIXELS = ("cog_x", "cog_y", "length")


@pytest.fixture
def copy(toy_file, tmp_path):
    """A copy of the file, to be changed."""
    return shutil.copy(toy_file, tmp_path / "copy.dl1.h5")


def read(path, size=5, tel_ids=(1, 2, 3, 4), needed=(), **options):
    query = ImageQualityQuery(quality_criteria=[])
    with open_events(path, needed=needed) as reader:
        events = telescope_events(reader, tel_ids, query, size, **options)
        return vstack(list(events))


def test_all_is_that_of_the_event(toy_file, toy_subarray):
    parameters = "intensity", "leakage", *IN_PIXELS
    found = read(toy_file, number=7, parameters=parameters, truth=["true_x_max"])
    rows = dict.fromkeys(toy_subarray.tel_ids, 0)
    n_events = 0
    with EventSource(toy_file) as source:
        for event in source:
            for tel_id in event.trigger.tels_with_trigger:
                (row,) = found[
                    (found["event_id"] == event.index.event_id)
                    & (found["tel_id"] == tel_id)
                ]
                n_events += 1
                assert row["file"] == 7
                assert row["row"] == rows[tel_id]
                rows[tel_id] += 1
                shower = event.simulation.shower
                assert row["label"] == (shower.shower_primary_id != 0)
                for name in ("energy", "alt", "az", "core_x", "core_y", "x_max"):
                    assert u.isclose(row[f"true_{name}"], shower[name]), name
                pointing = event.monitoring.tel[tel_id].pointing
                assert u.isclose(row["pointing_alt"], pointing.altitude)
                assert u.isclose(row["pointing_az"], pointing.azimuth)
                assert u.allclose(row["position"], toy_subarray.positions[tel_id])
                hillas = event.dl1.tel[tel_id].parameters.hillas
                leakage = event.dl1.tel[tel_id].parameters.leakage
                for name, value in {
                    "intensity": hillas.intensity,
                    "leakage": leakage.intensity_width_2,
                    "cog_x": hillas.fov_lon,
                    "cog_y": hillas.fov_lat,
                    "length": hillas.length,
                }.items():
                    assert u.isclose(row[name], value, equal_nan=True), name
    assert n_events == len(found) > 30


def rename(path, node, names):
    """Give columns of a table other names."""

    def change(rows):
        rows.dtype.names = [names.get(name, name) for name in rows.dtype.names]
        return rows

    change_rows(path, node, change)


def test_files_may_lack_the_depth_of_the_maximum(copy):
    rename(copy, "/simulation/event/subarray/shower", {"true_x_max": "other"})
    events = read(copy, truth=["true_x_max"])
    assert "true_x_max" not in events.colnames
    assert (events["true_energy"] > 0).all()


def test_of_observations_no_truth_is_known(copy):
    remove(copy, "/simulation")
    events = read(copy)
    assert (events["label"] == -1).all()
    for name in ("true_energy", "true_alt", "true_az", "true_core_x", "true_core_y"):
        assert np.isnan(events[name]).all()


def test_parameters_of_old_files_are_in_the_camera(copy):
    """In m; the light is the light."""
    new = read(copy, tel_ids=[1], parameters=("intensity", *IN_PIXELS))
    spellings = {
        "hillas_intensity": "camera_frame_hillas_intensity",
        "hillas_fov_lon": "camera_frame_hillas_x",
        "hillas_fov_lat": "camera_frame_hillas_y",
        "hillas_length": "camera_frame_hillas_length",
    }
    node = "/dl1/event/telescope/parameters/tel_001"
    rename(copy, node, spellings)
    with tables.open_file(copy, "r+") as file:
        table = file.root[node]
        for name in spellings.values():
            unit = f"CTAFIELD_{table.colnames.index(name)}_UNIT"
            if unit in table.attrs and table.attrs[unit] == "deg":
                table.attrs[unit] = "m"
    old = read(copy, tel_ids=[1], parameters=("intensity", *IN_PIXELS))
    np.testing.assert_array_equal(old["intensity"], new["intensity"])
    for name in IN_PIXELS:
        assert (new[name].unit, old[name].unit) == (u.deg, u.m)
        np.testing.assert_array_equal(old[name].value, new[name].value)


def test_without_parameters_all_are_selected(copy):
    n_events = len(read(copy))
    remove(copy, "/dl1/event/telescope/parameters")
    events = read(copy, parameters=["intensity"])
    assert len(events) == n_events
    assert np.isnan(events["intensity"]).all()


def test_an_unknown_pointing_is_named(copy):
    check_pointing(copy, read(copy))
    remove(copy, "/configuration/telescope/pointing/tel_003")
    events = read(copy)
    is_known = events["tel_id"] != 3
    check_pointing(copy, events[is_known])
    with pytest.raises(DL1FileError, match="pointing of telescope 3 is not known"):
        check_pointing(copy, events)
