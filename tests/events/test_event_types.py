"""Events that are not showers are left out, if ctapipe's filter says so."""

import numpy as np
import pytest
import toy_sample
from ctapipe.containers import EventType
from ctapipe.utils import EventTypeFilter

from ctapipe_gammaphysnet.announce import warn_once
from ctapipe_gammaphysnet.events.event_types import (
    are_allowed,
    count_types,
    name_allowed,
    warn_if_none_is_allowed,
    warn_of_others,
)
from ctapipe_gammaphysnet.events.opening import open_events
from ctapipe_gammaphysnet.events.quality import TrainingQualityQuery
from ctapipe_gammaphysnet.events.telescope_events import telescope_events

TYPES = np.array([32, 0, 0, 16, 2, 32, 33, 7])


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [
        (None, [1] * 8),
        (["SUBARRAY"], [1, 0, 0, 0, 0, 1, 0, 0]),
        ([32, EventType.MUON], [1, 0, 0, 1, 0, 1, 0, 0]),
        ([], [0] * 8),
    ],
)
def test_the_filter_is_that_of_ctapipe(allowed, expected):
    event_types = EventTypeFilter(allowed_types=allowed)
    assert are_allowed(TYPES, event_types).tolist() == expected


def test_types_are_named():
    assert count_types(TYPES[1:5]) == "2 FLATFIELD, 1 PEDESTAL, 1 MUON"
    assert count_types(TYPES[-1:]) == "1 7"
    assert name_allowed(EventTypeFilter()) is None
    chosen = EventTypeFilter(allowed_types=["SUBARRAY", "FLATFIELD"])
    assert name_allowed(chosen) == ["FLATFIELD", "SUBARRAY"]


def test_a_warning_names_events_that_nobody_chose(tmp_path, caplog):
    warn_once.cache_clear()
    warn_of_others("a.h5", TYPES, EventTypeFilter(allowed_types=["MUON"]))
    warn_of_others("a.h5", TYPES[[0, 5, 6]], EventTypeFilter())
    assert caplog.text == ""
    warn_of_others("a.h5", TYPES, EventTypeFilter())
    assert (
        "a.h5 has events that are not showers (2 FLATFIELD, 1 PEDESTAL" in caplog.text
    )


def test_a_warning_says_that_the_filter_leaves_nothing(planted, caplog):
    warn_once.cache_clear()
    warn_if_none_is_allowed("a.h5", TYPES, EventTypeFilter())
    warn_if_none_is_allowed("a.h5", TYPES[:0], EventTypeFilter(allowed_types=["MUON"]))
    warn_if_none_is_allowed("a.h5", TYPES, EventTypeFilter(allowed_types=["MUON"]))
    assert caplog.text == ""
    path, is_shower = planted
    query = TrainingQualityQuery()
    query.event_types.allowed_types = {EventType.OTHER_CALIBRATION, EventType.DAQ}
    with open_events(path) as reader:
        # Training and evaluation find their events so.
        assert not list(telescope_events(reader, [1], query, 9, label=0))
        found = count_types(reader.event_type)
    assert f"{is_shower.sum()} SUBARRAY" in found
    assert f"{path}: EventTypeFilter.allowed_types leaves out all events" in caplog.text
    assert f"{found}, but OTHER_CALIBRATION or DAQ is allowed" in caplog.text
    caplog.clear()
    warn_if_none_is_allowed("a.h5", TYPES, EventTypeFilter(allowed_types=[]))
    assert "but no type is allowed" in caplog.text


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A file, and which of its events are showers."""
    path = tmp_path_factory.mktemp("types") / "a.dl1.h5"
    toy_sample.write_toy_file(path, "gamma", 40, 5, array=toy_sample.small_array(3))
    return path, toy_sample.plant_event_types(path)


@pytest.mark.parametrize("size", [1, 7, 100])
def test_selected_events_keep_their_rows(planted, size):
    path, is_shower = planted
    with open_events(path) as reader:
        assert (reader.event_type == 32).tolist() == is_shower.tolist()
        (whole,) = reader.chunks(1000)
        every = reader.read_showers(whole)
        chunks = [
            chunk.select(is_shower[chunk.number]) for chunk in reader.chunks(size)
        ]
        number = np.concatenate([chunk.number for chunk in chunks])
        assert number.tolist() == np.flatnonzero(is_shower).tolist()
        for chunk in chunks:
            showers = reader.read_showers(chunk)
            expected = every["true_energy"][chunk.number]
            np.testing.assert_array_equal(showers["true_energy"], expected)
            for tel_id, events in chunk.event.items():
                ids = chunk.obs_id[events], chunk.event_id[events]
                parameters = chunk.parameters[tel_id]
                np.testing.assert_array_equal(parameters["event_id"], ids[1])
                assert len(parameters) == len(chunk.pointing[tel_id][0]) == len(events)
                if len(events) > 0:
                    # The reader compares the ids.
                    reader.read_images(tel_id, chunk.row[tel_id], *ids)


def test_telescope_events_are_left_out_and_counted(planted):
    path, is_shower = planted
    found = {}
    for name, allowed in (("all", None), ("showers", {EventType.SUBARRAY})):
        query = TrainingQualityQuery(quality_criteria=[])
        query.event_types.allowed_types = allowed
        with open_events(path) as reader:
            (chunk,) = reader.chunks(1000)
            parts = list(telescope_events(reader, [1], query, 9, label=0))
        found[name] = np.concatenate([part["row"] for part in parts])
        counts = {row["criteria"]: row["counts"] for row in query.to_table()}
    events = chunk.event[1]
    assert found["all"].tolist() == chunk.row[1].tolist()
    assert found["showers"].tolist() == chunk.row[1][is_shower[events]].tolist()
    assert counts["left out by event type"] == (~is_shower[events]).sum() > 0
    assert query.describe() == ["event type SUBARRAY"]
