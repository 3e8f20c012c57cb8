"""The quality query selects images and counts what became of them."""

import astropy.units as u
import numpy as np
import pytest
from astropy.table import QTable, Table
from ctapipe.containers import (
    CameraHillasParametersContainer,
    HillasParametersContainer,
    ImageParametersContainer,
    LeakageContainer,
    MorphologyContainer,
)
from ctapipe.core import Component, ToolConfigurationError
from ctapipe.io import read_table, write_table
from traitlets.config import Config

from ctapipe_gammaphysnet.events.quality import ImageQualityQuery, TrainingQualityQuery

BRIGHT = ("bright", "hillas_intensity > 50")


class Parent(Component):
    """A component that has a quality query."""


def select(query, n_pixels=-1, intensity=np.nan):
    """Query as it is done in the event loop."""
    parameters = ImageParametersContainer(
        morphology=MorphologyContainer(n_pixels=n_pixels),
        hillas=HillasParametersContainer(intensity=intensity),
    )
    return query.passes(parameters)


def as_dict(table):
    return {name: table[name].tolist() for name in table.colnames}


def test_images_with_signal_after_cleaning_are_selected_by_default():
    query = ImageQualityQuery()
    assert [select(query, n_pixels) for n_pixels in (-1, 0, 1, 100)] == [
        False,
        False,
        True,
        True,
    ]
    table = Table({"morphology_n_pixels": [0, 5, -1, 1]})
    assert query.get_table_mask(table).tolist() == [False, True, False, True]


def test_criteria_of_an_event_may_use_any_parameters():
    """All groups of parameters, several in one criterion, and names of its own."""
    criteria = [
        ("round", "hillas_width / hillas_length > 0.2 * u.one"),
        ("whole", "all(x < 0.2 for x in [leakage_intensity_width_2])"),
        ("signal", "log10(hillas_intensity) * morphology_n_pixels > 10"),
    ]
    query = ImageQualityQuery(quality_criteria=criteria)
    parameters = ImageParametersContainer(
        hillas=HillasParametersContainer(
            intensity=1000.0, width=0.1 * u.deg, length=0.3 * u.deg
        ),
        morphology=MorphologyContainer(n_pixels=5),
        leakage=LeakageContainer(intensity_width_2=0.1),
    )
    assert query.passes(parameters)
    parameters.leakage.intensity_width_2 = 0.3
    assert not query.passes(parameters)
    assert query.to_table()["counts"].tolist() == [2, 2, 1, 2]


def test_criteria_are_configured_through_the_parent():
    config = Config(
        {"Parent": {"ImageQualityQuery": {"quality_criteria": [list(BRIGHT)]}}}
    )
    query = ImageQualityQuery(parent=Parent(config=config))
    assert query.quality_criteria == [BRIGHT]
    assert not select(query, n_pixels=5, intensity=40)
    assert select(query, n_pixels=0, intensity=60)


def test_criteria_are_configured_for_this_query_alone():
    config = Config({"OtherParent": {"ImageQualityQuery": {"quality_criteria": []}}})
    query = ImageQualityQuery(parent=Parent(config=config))
    assert not select(query, n_pixels=0)


@pytest.fixture
def counted():
    """Query that has seen five images and two outcomes."""
    query = ImageQualityQuery(
        quality_criteria=[("signal", "morphology_n_pixels > 0"), BRIGHT]
    )
    for n_pixels, intensity in ((0, 60), (3, 60), (3, 20), (0, 20), (4, 70)):
        select(query, n_pixels, intensity)
    query.record("network for telescope type", True)
    query.record("valid energy", 0)
    query.record("network for telescope type", False)
    query.record("valid energy", np.int64(2))
    query.record("network for telescope type", np.bool_(True))
    return query


def test_criteria_and_recorded_outcomes_are_counted(counted):
    assert as_dict(counted.to_table()) == {
        "criteria": [
            "TOTAL",
            "signal",
            "bright",
            "network for telescope type",
            "valid energy",
        ],
        "counts": [5, 3, 3, 2, 2],
        "cumulative_counts": [5, 3, 2, 2, 2],
    }
    # Looking does not change the counts.
    assert as_dict(counted.to_table()) == as_dict(counted.to_table())


def test_the_table_gives_the_functions_if_asked_for(counted):
    table = counted.to_table(functions=True)
    assert table["func"].tolist() == [
        "True",
        "morphology_n_pixels > 0",
        "hillas_intensity > 50",
        "",
        "",
    ]
    del table["func"]
    assert as_dict(table) == as_dict(counted.to_table())


@pytest.mark.parametrize("functions", [False, True])
def test_without_outcomes_the_table_has_the_criteria(functions):
    query = ImageQualityQuery(quality_criteria=[BRIGHT])
    select(query, intensity=60)
    table = query.to_table(functions)
    assert table["criteria"].tolist() == ["TOTAL", "bright"]
    assert table["counts"].tolist() == [1, 1]
    assert ("func" in table.colnames) == functions


def test_queries_count_for_themselves(counted):
    other = ImageQualityQuery()
    assert other.to_table()["criteria"].tolist() == ["TOTAL", "signal after cleaning"]
    assert other.to_table()["counts"].tolist() == [0, 0]


def test_an_outcome_that_never_came_is_listed_with_zero():
    query = ImageQualityQuery()
    query.record("valid energy", 0)
    assert query.to_table()["criteria"].tolist()[-1] == "valid energy"
    assert query.to_table()["counts"].tolist() == [0, 0, 0]


@pytest.mark.parametrize("functions", [False, True])
def test_the_table_is_written_and_read_by_ctapipe(counted, functions, tmp_path):
    table = counted.to_table(functions)
    write_table(table, tmp_path / "counts.h5", "/dl2/service/statistics/Query")
    read = read_table(tmp_path / "counts.h5", "/dl2/service/statistics/Query")
    assert as_dict(read) == as_dict(table)


def in_camera_frame(intensity):
    """Parameters of a single image in the camera frame, as in the event loop."""
    hillas = CameraHillasParametersContainer(intensity=intensity)
    return ImageParametersContainer(hillas=hillas)


@pytest.mark.parametrize("prefix", ["", "camera_frame_"])
@pytest.mark.parametrize("of_file", ["", "camera_frame_"])
def test_the_intensity_has_both_names_in_both_frames(prefix, of_file):
    query = ImageQualityQuery(
        quality_criteria=[("bright", f"{prefix}hillas_intensity > 50")]
    )
    table = QTable({f"{of_file}hillas_intensity": [40.0, 60.0]})
    assert query.mask(table).tolist() == [False, True]
    # The table stays as it is.
    assert table.colnames == [f"{of_file}hillas_intensity"]
    if of_file:
        assert query.passes(in_camera_frame(60.0))
        assert not query.passes(in_camera_frame(40.0))
    assert query.to_table()["counts"].tolist()[1] == 1 + (of_file != "")


def test_the_training_selection_works_in_the_camera_frame():
    table = QTable(
        {
            "camera_frame_hillas_intensity": [51.0, 49.0],
            "morphology_n_pixels": [3, 3],
            "leakage_intensity_width_2": [0.1, 0.1],
        }
    )
    assert TrainingQualityQuery().mask(table).tolist() == [True, False]


def test_a_column_that_is_not_there_is_named_with_those_that_are_near():
    """A width in the camera frame is another number, in m: it is not taken for it."""
    query = ImageQualityQuery(
        quality_criteria=[("wide", "np.isfinite(hillas_width) & (hillas_width > 0.1)")]
    )
    table = QTable({"camera_frame_hillas_width": [0.1], "morphology_n_pixels": [3]})
    message = (
        r"ImageQualityQuery.quality_criteria: 'np.isfinite.*' needs hillas_width, which"
        r" old.dl1.h5 does not have. It has camera_frame_hillas_width$"
    )
    with pytest.raises(ToolConfigurationError, match=message):
        query.mask(table, "old.dl1.h5")
    with pytest.raises(ToolConfigurationError, match="which the event does not have"):
        query.passes(in_camera_frame(60.0))


def test_a_misspelt_column_is_told_what_it_may_be():
    query = ImageQualityQuery(quality_criteria=[("large", "morphology_pixels > 3")])
    table = QTable({"morphology_n_pixels": [3], "hillas_intensity": [3.0]})
    with pytest.raises(ToolConfigurationError, match="It has morphology_n_pixels$"):
        query.mask(table)
    query = ImageQualityQuery(quality_criteria=[("odd", "q > 3")])
    with pytest.raises(ToolConfigurationError, match="It has hillas_intensity, m.*"):
        query.mask(table)


def test_what_is_no_expression_is_a_clear_error():
    with pytest.raises(ToolConfigurationError, match="quality_criteria: Error comp"):
        ImageQualityQuery(quality_criteria=[("odd", "hillas_intensity >")])
