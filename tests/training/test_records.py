"""What is kept of a training: CSV, curves, summary."""

import csv
import threading

import matplotlib.figure
import matplotlib.image
import numpy as np
import pytest

from ctapipe_gammaphysnet.tasks import TASKS
from ctapipe_gammaphysnet.training.records import (
    plot_histories,
    summarise,
    write_history,
)


def epoch(number, **more):
    return {
        "epoch": number,
        "step": 10 * number,
        "training loss energy": 1 / number,
        "training loss class": 0.5 / number,
        "weight energy": 0.3,
        "weight class": 2.0,
    } | more


def with_validation(number):
    figures = {
        "validation loss energy": 2 / number,
        "AUC": 1 - 0.5 / number,
        "energy resolution": 1 / number,
        "energy bias": 0.0,
        "angular resolution / deg": 0.1 + 1e-17,
    }
    return epoch(number, **figures)


def read_csv(path):
    with open(path, newline="", encoding="utf-8") as file:
        return [
            {name: float(value) for name, value in row.items() if value}
            for row in csv.DictReader(file)
        ]


@pytest.mark.parametrize(
    "history",
    [
        [with_validation(n) for n in (1, 2, 3)],
        # Epochs with other figures than the first.
        [epoch(1), with_validation(2), epoch(3, AUC=0.7)],
        [epoch(1, AUC=float("nan"))],
    ],
)
def test_the_history_is_read_back(tmp_path, history):
    path = tmp_path / "history.csv"
    path.write_text("of before")
    write_history(history, path)
    np.testing.assert_equal(read_csv(path), history)
    assert [file.name for file in tmp_path.iterdir()] == ["history.csv"]


def test_columns_are_in_the_order_of_their_coming(tmp_path):
    write_history([epoch(1), with_validation(2)], tmp_path / "history.csv")
    header = (tmp_path / "history.csv").read_text().splitlines()[0]
    assert header.split(",") == list(with_validation(1))


def test_the_summary_has_the_last_epochs():
    histories = {
        "A seed 0": [with_validation(n) for n in (1, 2, 4)],
        "A seed 1": [with_validation(1), epoch(2)],
        "B seed 0": [],
    }
    table = summarise(histories)
    assert table["network"].tolist() == ["A seed 0", "A seed 1"]
    assert table["epoch"].tolist() == [4, 2]
    np.testing.assert_array_equal(table["AUC"], [0.875, np.nan])
    np.testing.assert_array_equal(table["energy resolution"], [0.25, np.nan])
    # No figure of an earlier epoch, and none that was never computed.
    assert np.isnan(table["impact resolution / m"]).all()
    text = "\n".join(table.pformat(max_width=-1))
    assert "0.875" in text
    assert "angular resolution / deg" in text


def test_a_training_without_epochs_has_an_empty_summary():
    assert len(summarise({"A seed 0": []})) == 0
    assert summarise({"A seed 0": []}).pformat(max_width=-1)


@pytest.fixture
def drawn(monkeypatch):
    """All figures that are drawn."""
    figures = []

    class Watched(matplotlib.figure.Figure):
        """Figure that is remembered."""

        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            figures.append(self)

    monkeypatch.setattr(matplotlib.figure, "Figure", Watched)
    return figures


def curves(figure):
    """Points of each curve, by panel and label."""
    return {
        (axis.get_ylabel(), line.get_label()): line.get_xydata().tolist()
        for axis in figure.axes
        for line in axis.lines
    }


def test_curves_are_drawn(tmp_path, drawn):
    path = tmp_path / "curves.png"
    path.write_text("of before")
    histories = {
        "seed 0": [with_validation(n) for n in (1, 2, 3)],
        "seed 1": [with_validation(n) for n in (1, 2)],
        "seed 2": [],
    }
    plot_histories(histories, path)
    assert path.read_bytes().startswith(b"\x89PNG")
    height, width, _ = matplotlib.image.imread(path).shape
    assert width > height > 500
    assert [file.name for file in tmp_path.iterdir()] == ["curves.png"]
    (figure,) = drawn
    panels = [axis.get_ylabel() for axis in figure.axes]
    # Two losses, the weights, and the figures that there are.
    assert panels == [
        "Training loss",
        "Validation loss",
        "Weight of the task",
        "AUC",
        "energy resolution",
        "energy bias",
        "angular resolution / deg",
    ]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["class", "energy", "direction", *histories]
    lines = curves(figure)
    assert lines["Training loss", "energy seed 0"] == [[1, 1], [2, 1 / 2], [3, 1 / 3]]
    assert lines["Validation loss", "energy seed 1"] == [[1, 2], [2, 1]]
    assert lines["Weight of the task", "class seed 0"] == [[1, 2], [2, 2], [3, 2]]
    assert lines["AUC", "seed 1"] == [[1, 0.5], [2, 0.75]]
    # Two tasks and their weights, a validation loss, four figures, of two members.
    assert len(lines) == 2 * (2 + 2 + 1 + 4)


def test_epochs_are_whole_numbers(tmp_path, drawn):
    plot_histories({"a": [epoch(1), epoch(2)]}, tmp_path / "curves.png")
    ticks = drawn[0].axes[0].get_xticks()
    assert {1, 2} <= set(ticks) <= {0, 1, 2, 3}


def test_curves_have_gaps_where_there_are_no_figures(tmp_path, drawn):
    plot_histories({"a": [epoch(1), with_validation(2)]}, tmp_path / "curves.png")
    np.testing.assert_array_equal(
        curves(drawn[0])["AUC", "a"], [[1, np.nan], [2, 0.75]]
    )


def test_figures_of_an_earlier_epoch_are_drawn(tmp_path, drawn):
    """Where the last one has none, as after an interruption."""
    plot_histories({"a": [with_validation(1), epoch(2)]}, tmp_path / "curves.png")
    np.testing.assert_array_equal(curves(drawn[0])["AUC", "a"], [[1, 0.5], [2, np.nan]])


@pytest.mark.parametrize(
    "history", [[], [epoch(1)], [epoch(1, **{"weight energy": 0.0})]]
)
def test_curves_need_neither_epochs_nor_validation(tmp_path, drawn, history):
    """Nor do weights have to be positive."""
    plot_histories({"a": history}, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert len(drawn[0].axes) == 3


def test_processes_do_not_get_in_each_others_way(tmp_path):
    """Trainings of other members end, and draw, at the same time."""
    errors = []

    def write(number):
        try:
            start.wait()
            for _ in range(20):
                write_history([with_validation(number)], tmp_path / "history.csv")
        except Exception as error:
            errors.append(error)

    start = threading.Barrier(4)
    threads = [threading.Thread(target=write, args=(n,)) for n in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert [file.name for file in tmp_path.iterdir()] == ["history.csv"]
    ((row,),) = [read_csv(tmp_path / "history.csv")]
    assert row in [with_validation(n) for n in range(1, 5)]


def test_curves_are_drawn_beside_those_of_another_process(tmp_path, monkeypatch):
    """Which ends while ours are being written."""
    histories, path = {"a": [with_validation(1)]}, tmp_path / "curves.png"
    original = matplotlib.figure.Figure.savefig

    def savefig(figure, *args, **kwargs):
        original(figure, *args, **kwargs)
        monkeypatch.undo()
        plot_histories(histories, path)

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", savefig)
    plot_histories(histories, path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [file.name for file in tmp_path.iterdir()] == ["curves.png"]


def test_a_task_has_one_colour_in_all_panels(tmp_path, drawn):
    """Whichever tasks there are, and in whatever order."""
    late = epoch(2, **{"training loss impact": 1.0, "impact resolution / m": 9.0})
    late = dict(reversed(late.items()))
    plot_histories({"a": [with_validation(1), late]}, tmp_path / "curves.png")
    tasks = {
        "AUC": "class",
        "energy resolution": "energy",
        "energy bias": "energy",
        "angular resolution / deg": "direction",
        "impact resolution / m": "impact",
    }
    for axis in drawn[0].axes:
        for line in axis.lines:
            task = tasks.get(axis.get_ylabel(), line.get_label().removesuffix(" a"))
            assert line.get_color() == TASKS[task].colour


def test_names_of_telescopes_are_no_formulas(tmp_path, drawn):
    names = [f"LST_$x_{n}$ \N{HIRAGANA LETTER A} seed {n}" for n in range(20)]
    histories = {name: [epoch(1), epoch(2)] for name in names}
    plot_histories(histories, tmp_path / "curves.png")
    figure = drawn[0]
    assert len(figure.legends[0].get_texts()) == 2 + 20
    assert min(axis.bbox.height for axis in figure.axes) > figure.dpi


def test_an_empty_panel_says_so(tmp_path, drawn):
    plot_histories({"a": [epoch(1)]}, tmp_path / "curves.png")
    said = {a.get_ylabel(): [t.get_text() for t in a.texts] for a in drawn[0].axes}
    assert said["Validation loss"] == ["empty: no epoch has it"]
    assert said["Training loss"] == []
