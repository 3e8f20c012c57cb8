"""Events, and predictions of DL2, whatever the algorithm."""

from types import SimpleNamespace

import astropy.units as u
import numpy as np
import pytest
import tables
import toy_sample
from astropy.coordinates import SkyCoord
from astropy.table import Table
from ctapipe.io import read_table, write_table
from predictions import make_algorithm, make_events, make_sample, plant

from ctapipe_gammaphysnet.compat import PARTICLE_TYPE
from ctapipe_gammaphysnet.evaluation import dl2_tables
from ctapipe_gammaphysnet.evaluation.events import (
    EvaluationError,
    find_rows,
    merge_telescopes,
    read_events,
)
from ctapipe_gammaphysnet.evaluation.predictions import (
    combine_telescopes,
    compare_to_truth,
)
from ctapipe_gammaphysnet.evaluation.sample import common_sample
from ctapipe_gammaphysnet.events.opening import open_events
from ctapipe_gammaphysnet.events.quality import ImageQualityQuery
from ctapipe_gammaphysnet.files.input_file import DL1FileError
from ctapipe_gammaphysnet.tasks import TASKS

ARRAY = toy_sample.small_array(3, positions=[(0.0, 0.0, 0.0), (60.0, 40.0, 10.0)])


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Toy gammas, with planted DL2 of two telescopes and of the array."""
    path = tmp_path_factory.mktemp("events") / "gamma.dl2.h5"
    toy_sample.write_toy_file(path, "gamma", 12, array=ARRAY)
    showers = read_table(path, "/simulation/event/subarray/shower")
    keys = {name: showers[name] for name in ("obs_id", "event_id")}
    # The forests know the energy in the wrong unit and the wrong order, not of all.
    forest = Table(keys)
    energy = showers["true_energy"].quantity.to(u.GeV)
    forest["forest_tel_energy"] = 1.5 * energy
    forest["forest_tel_is_valid"] = np.arange(12) != 3
    forest = forest[::-1]
    disp = Table(keys)
    disp["disp_tel_alt"] = showers["true_alt"].quantity + 0.2 * u.deg
    disp["disp_tel_az"] = showers["true_az"].quantity
    disp["disp_tel_is_valid"] = True
    separate = Table(keys)
    separate["separate_tel_prediction"] = np.linspace(-0.1, 1, 12)
    separate["separate_tel_is_valid"] = True
    array = Table(keys)
    array["Hillas_alt"] = showers["true_alt"]
    array["Hillas_az"] = showers["true_az"]
    array["Hillas_core_x"] = showers["true_core_x"].quantity + 30 * u.m
    array["Hillas_core_y"] = showers["true_core_y"].quantity - 40 * u.m
    array["Hillas_is_valid"] = True
    for node, table in (
        ("telescope/energy/forest/tel_001", forest),
        ("telescope/energy/forest/tel_002", forest[:4]),
        ("telescope/geometry/disp/tel_001", disp),
        ("telescope/geometry/disp/tel_002", disp),
        (f"telescope/{PARTICLE_TYPE}/separate/tel_001", separate),
        ("subarray/geometry/Hillas", array),
    ):
        write_table(table, path, f"/dl2/event/{node}")
    return path


def everything():
    return ImageQualityQuery(quality_criteria=[])


def read_dl2(path, level, groups, events):
    with open_events(path, needed=()) as reader:
        return dl2_tables.read_dl2(reader, level, groups, events)


def test_events_have_their_truth(path):
    query = ImageQualityQuery(quality_criteria=[("bright", "hillas_intensity > 100")])
    events = read_events(path, 0, query, [1, 2])
    assert (events["intensity"] > 100).all()
    assert 0 < len(events) < len(read_events(path, 0, everything(), [1, 2]))
    showers = read_table(path, "/simulation/event/subarray/shower")
    for event in events:
        (row,) = showers[showers["event_id"] == event["event_id"]]
        assert event["true_energy"] == pytest.approx(row["true_energy"])
        assert event["true_core_x"] == pytest.approx(row["true_core_x"])
    assert events["true_energy"].unit == u.TeV
    (number,) = {n for c, n, *_ in query.to_table() if c == "TOTAL"}
    assert number == len(read_events(path, 0, everything(), [1, 2]))


def test_a_task_may_need_more_truth_in_a_unit_of_its_own(path, monkeypatch):
    truth = {"true_x_max": ("kg / m2", "depth of the maximum")}
    monkeypatch.setitem(TASKS, "depth", SimpleNamespace(truth=truth, advice=""))
    events = read_events(path, 0, everything(), [1, 2], ["depth"])
    assert len(events) > 12
    assert events["true_x_max"].description == "depth of the maximum"
    showers = read_table(path, "/simulation/event/subarray/shower")
    for event in events:
        (row,) = showers[showers["event_id"] == event["event_id"]]
        assert event["true_x_max"] == pytest.approx(10 * row["true_x_max"])


def test_telescopes_that_are_not_asked_for_are_left_out(path):
    assert set(read_events(path, 0, everything(), [2])["tel_id"]) == {2}
    assert len(read_events(path, 0, everything(), [])) == 0


def test_the_array_has_the_light_of_its_telescopes(path):
    events = read_events(path, 0, everything(), [1, 2])
    merged, number = merge_telescopes(events)
    assert len(merged) == 12
    assert set(merged["tel_id"]) == {0}
    for row, event in enumerate(merged):
        same = events["event_id"] == event["event_id"]
        np.testing.assert_array_equal(number[same], row)
        assert np.nan_to_num(event["intensity"]) == pytest.approx(
            np.nansum(events["intensity"][same])
        )
    assert np.isfinite(merged["intensity"]).any()


def test_particles_must_be_what_they_are_given_as(path):
    with pytest.raises(DL1FileError, match="given as background"):
        read_events(path, 1, everything(), [1])


def test_dl2_of_telescopes_is_found_by_its_groups(path):
    events = read_events(path, 0, everything(), [1, 2])
    groups = ["forest", "disp", "separate"]
    found = compare_to_truth(read_dl2(path, "telescope", groups, events), events)
    is_first = np.asarray(events["tel_id"] == 1)
    ratio = found["energy"][0] / events["true_energy"]
    known = np.isfinite(ratio)
    np.testing.assert_allclose(ratio[known], 1.5)
    # One event is not valid, and of the second telescope there are four at most.
    assert known[is_first].sum() == is_first.sum() - 1
    assert known[~is_first].sum() <= 4
    np.testing.assert_allclose(found["separation"], 0.2, rtol=1e-5)
    assert np.isnan(found["impact"]).all()
    # A gammaness below 0 is none.
    lowest = events["event_id"] == events["event_id"].min()
    assert np.isnan(found["gammaness"][0, is_first & lowest]).all()
    assert np.isfinite(found["gammaness"][0, is_first & ~lowest]).all()
    assert np.isnan(found["gammaness"][0, ~is_first]).all()


def test_dl2_of_the_array(path):
    merged, _ = merge_telescopes(read_events(path, 0, everything(), [1, 2]))
    found = compare_to_truth(read_dl2(path, "array", ["Hillas"], merged), merged)
    np.testing.assert_allclose(found["separation"], 0, atol=1e-5)
    np.testing.assert_allclose(found["impact"], 50)
    assert np.isnan(found["energy"]).all()


def test_groups_that_are_not_there_are_an_error(path):
    events = read_events(path, 0, everything(), [1, 2])
    with pytest.raises(
        EvaluationError, match="of the telescopes in Hillas, only disp, forest, sep"
    ):
        read_dl2(path, "telescope", ["Hillas"], events)


def test_events_that_are_there_twice_are_an_error(path, tmp_path):
    twice = tmp_path / "twice.h5"
    twice.write_bytes(path.read_bytes())
    with tables.open_file(twice, "a") as file:
        table = file.root.dl2.event.subarray.geometry.Hillas
        table.append(table[:1])
    merged, _ = merge_telescopes(read_events(path, 0, everything(), [1, 2]))
    with pytest.raises(EvaluationError, match="Hillas has the same event twice"):
        read_dl2(twice, "array", ["Hillas"], merged)


def test_rows_are_found_by_all_of_their_keys():
    table = np.array([[1, 5], [2, 5], [1, 6]])
    keys = np.array([[1, 6], [2, 6], [2, 5], [2, 5]])
    assert find_rows(keys, table, "it").tolist() == [2, -1, 1, 1]
    assert find_rows(keys[:0], table, "it").tolist() == []
    assert find_rows(keys, table[:0], "it").tolist() == [-1] * 4


def test_without_parameters_all_triggers_are_events(tmp_path):
    path = toy_sample.write_toy_file(
        tmp_path / "gamma.h5", "gamma", 3, array=ARRAY, images=False, parameters=False
    )
    events = read_events(path, 0, everything(), [1, 2])
    trigger = read_table(path, "/dl1/event/telescope/trigger")
    assert len(events) == len(trigger)
    assert np.isnan(events["intensity"]).all()


def test_telescopes_are_combined_without_those_that_know_nothing():
    nan = np.nan
    predictions = {
        "energy": np.array([[1.0, 3.0, 5.0, nan]]),
        "alt": np.array([[70.0, 70.0, 60.0, nan]]),
        "az": np.array([[359.0, 1.0, 90.0, nan]]),
        "core_x": np.array([[0.0, 40.0, nan, nan]]),
        "core_y": np.array([[0.0, 0.0, nan, nan]]),
        "gammaness": np.array([[0.2, 0.4, 0.9, nan]]),
    }
    intensity, event = np.array([300.0, 100.0, 50.0, 50.0]), np.array([0, 0, 1, 2])
    tel_id = np.array([1, 2, 2, 1])
    array = combine_telescopes(
        predictions, intensity, tel_id, event, 3, "StereoMeanCombiner"
    )
    np.testing.assert_allclose(array["energy"], [[2, 5, nan]])
    np.testing.assert_allclose(array["gammaness"], [[0.3, 0.9, nan]])
    np.testing.assert_allclose(array["core_x"], [[10, nan, nan]])
    np.testing.assert_allclose((array["az"] + 1) % 360 - 1, [[0, 90, nan]], atol=1e-9)
    assert array["alt"][0, 0] == pytest.approx(70, abs=0.01)


def test_only_events_that_all_know_are_compared():
    events = make_events(6, 4)
    first, second = plant(events), plant(events, 2)
    first["energy"][0] = np.nan
    second["gammaness"][[1, 7]] = np.nan
    # The second does not predict impact points at all: that excludes no event.
    second["impact"][:] = np.nan
    sample, counts = common_sample(
        [
            make_sample(
                events, make_algorithm("one", [first]), make_algorithm("two", [second])
            )
        ]
    )
    np.testing.assert_array_equal(
        sample.events["true_energy"],
        np.delete(np.asarray(events["true_energy"]), [0, 1, 7]),
    )
    assert all(a.predictions["energy"].shape == (1, 7) for a in sample.algorithms)
    rows = {(row["algorithm"], row["class"]): row for row in counts}
    assert rows["one", "gamma"]["energy"] == 5
    assert rows["two", "gamma"]["impact"] == 0
    assert rows["two", "background"]["valid"] == 3
    assert rows["all of them", "gamma"]["valid"] == 4
    assert rows["all of them", "background"]["valid"] == 3
    assert rows["all of them", "gamma"]["impact"] == 6


def test_an_event_is_valid_if_it_is_for_all_members():
    events = make_events(5, 0)
    members = [plant(events, seed) for seed in range(3)]
    members[2]["energy"][4] = np.inf
    sample, _ = common_sample([make_sample(events, make_algorithm("three", members))])
    assert len(sample.events) == 4


def test_nothing_in_common_is_an_error():
    events = make_events(2, 0)
    first, second = plant(events), plant(events)
    first["energy"][0] = np.nan
    second["energy"][1] = np.nan
    algorithms = make_algorithm("one", [first]), make_algorithm("two", [second])
    with pytest.raises(EvaluationError, match="no event for which all"):
        common_sample([make_sample(events, *algorithms)])


@pytest.mark.parametrize("value", [0, np.nan, np.inf])
def test_a_true_energy_that_is_none_is_an_error(path, tmp_path, value):
    spoilt = tmp_path / "spoilt.h5"
    spoilt.write_bytes(path.read_bytes())
    (event_id, *_) = read_events(path, 0, everything(), [1, 2])["event_id"]
    with tables.open_file(spoilt, "a") as file:
        table = file.root.simulation.event.subarray.shower
        rows = table.read()
        rows["true_energy"][rows["event_id"] == event_id] = value
        table.modify_rows(start=0, rows=rows)
    with pytest.raises(DL1FileError, match=f"spoilt.h5: event {event_id} of obs"):
        read_events(spoilt, 0, everything(), [1, 2])


@pytest.mark.parametrize("name", ["energy", "alt", "az", "core_x", "gammaness"])
def test_predictions_that_are_not_finite_do_not_count(name):
    """They are not valid, and all others say what they said."""
    events = Table(
        {
            "true_alt": np.linspace(69, 71, 6),
            "true_az": np.linspace(170, 190, 6),
            "true_core_x": np.linspace(-100, 100, 6),
            "true_core_y": np.zeros(6),
        }
    )
    predictions = {
        "energy": np.ones((1, 6)),
        "alt": np.asarray(events["true_alt"])[np.newaxis] + 0.5,
        "az": np.asarray(events["true_az"])[np.newaxis].copy(),
        "core_x": np.asarray(events["true_core_x"])[np.newaxis] + 3.0,
        "core_y": np.asarray(events["true_core_y"])[np.newaxis] + 4.0,
        "gammaness": np.full((1, 6), 0.5),
    }
    before = compare_to_truth(predictions, events)
    predictions[name][0, :3] = np.nan, np.inf, -np.inf
    found = compare_to_truth(predictions, events)
    kind = {"alt": "separation", "az": "separation", "core_x": "impact"}.get(name, name)
    assert np.isnan(found[kind][0, :3]).all()
    for other, values in before.items():
        first = 3 if other == kind else 0
        np.testing.assert_array_equal(found[other][:, first:], values[:, first:])
        assert np.isfinite(values).all()


def test_events_know_zenith_and_offset_of_their_showers(path):
    events = read_events(path, 0, everything(), [1, 2])
    pointing, true = (
        SkyCoord(events[f"{name}_az"].quantity, events[f"{name}_alt"].quantity)
        for name in ("pointing", "true")
    )
    np.testing.assert_allclose(events["zenith"], 90 - events["pointing_alt"])
    np.testing.assert_allclose(
        events["offset"].quantity, pointing.separation(true).to(u.deg), atol=1e-9
    )
    assert events["offset"].max() > 0.1
    assert np.isnan(events["noise"]).all()


def test_the_noise_of_an_array_event_is_the_mean_of_its_telescopes(path):
    events = read_events(path, 0, everything(), [1, 2])
    events["noise"] = np.where(events["tel_id"] == 1, 1.0, 2.0)
    events["noise"][(events["tel_id"] == 2) & (events["event_id"] % 2 == 0)] = np.nan
    merged, _ = merge_telescopes(events)
    seen = {
        key: set(events["tel_id"][events["event_id"] == key])
        for key in merged["event_id"]
    }
    assert {1, 2} in seen.values()
    for row in merged:
        known = [
            tel for tel in seen[row["event_id"]] if tel == 1 or row["event_id"] % 2
        ]
        expected = np.mean(known) if known else np.nan
        np.testing.assert_equal(row["noise"], expected)
