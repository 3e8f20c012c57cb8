"""Figures look the same whatever the settings of the user, and say what they are of."""

import os
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from ctapipe_gammaphysnet import drawing
from ctapipe_gammaphysnet.drawing import (
    TASK_COLOURS,
    check_drawing,
    curve_styles,
    draw_band,
    figure_style,
    mark_isolated,
    place_legend,
    plain_text,
    say_empty,
    set_logarithmic,
    write_figures,
)

#: As for a paper, on a machine without LaTeX and without the paper's fonts.
OF_A_USER = {
    "text.usetex": True,
    "font.family": "A font that nobody has",
    "savefig.bbox": "tight",
    "savefig.facecolor": "black",
    "axes.grid": True,
    "xtick.direction": "in",
    "lines.linewidth": 7.0,
    "figure.constrained_layout.use": True,
    "interactive": True,
}


@figure_style()
def draw(name="γ_1 $x$", n_curves=1):
    figure = Figure(figsize=(4, 3), layout="constrained")
    axis = figure.subplots()
    styles = curve_styles([f"{name} {number}" for number in range(n_curves)])
    for label, style in styles.items():
        axis.plot([1, 2], [1, 2], label=plain_text(label, 40), **style)
    axis.set_title(plain_text(name))
    handles, labels = axis.get_legend_handles_labels()
    place_legend(figure, dict(zip(labels, handles, strict=True)), 2)
    return figure


def test_figures_do_not_depend_on_the_settings_of_the_user(tmp_path):
    content = []
    for number, settings in enumerate([{}, OF_A_USER]):
        folder = tmp_path / str(number)
        folder.mkdir()
        with matplotlib.rc_context(settings):
            before = dict(matplotlib.rcParams)
            paths = write_figures({"a": draw()}, folder)
            assert dict(matplotlib.rcParams) == before
        assert [path.name for path in paths] == ["a.png", "a.pdf"]
        content.append(paths[0].read_bytes())
    assert content[0] == content[1]
    assert content[0].startswith(b"\x89PNG")


def test_settings_that_cannot_be_read_are_left_out(tmp_path):
    """matplotlib cannot even be imported with these."""
    (tmp_path / "stylelib").mkdir()
    for name in ("matplotlibrc", "stylelib/mine.mplstyle"):
        (tmp_path / name).write_bytes(b"font.family: caf\xe9\n")
    code = (
        "import os\n"
        "from ctapipe_gammaphysnet.drawing import check_drawing\n"
        "check_drawing()\n"
        "from matplotlib.figure import Figure\n"
        "print(os.environ['MPLBACKEND'], 'MATPLOTLIBRC' in os.environ, os.getcwd())\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "MATPLOTLIBRC"}
    environment |= {"MPLCONFIGDIR": str(tmp_path), "MPLBACKEND": "nonsense"}
    found = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    # The settings themselves stay.
    assert found.stdout.split() == ["nonsense", "False", str(tmp_path)]


def test_what_cannot_be_drawn_is_said_before_anything_is_computed(monkeypatch):
    def fail():
        raise RuntimeError("no font\nat all")

    check_drawing()
    monkeypatch.setattr(drawing, "_draw_trial", fail)
    with pytest.raises(drawing.ToolConfigurationError, match="RuntimeError: no font"):
        check_drawing()


class Broken(Figure):
    """A figure that cannot be written."""

    def savefig(self, *args, **kwargs):
        raise ValueError("cannot be\ndrawn")


def test_a_figure_that_fails_costs_no_other(tmp_path):
    plots, failures = {"bad": Broken(), "good": draw()}, []
    paths = write_figures(plots, tmp_path, failures)
    assert {path.name for path in tmp_path.iterdir()} == {"good.png", "good.pdf"}
    assert [path.name for path in paths] == ["good.png", "good.pdf"]
    assert failures == ["bad: ValueError: cannot be"]
    with pytest.raises(ValueError, match="cannot be"):
        write_figures(plots, tmp_path)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("γ-PhysNet DA", "γ-PhysNet DA"),
        ("a$b$c", "a$b$c"),
        (r"\$5 $\frac{", r"\$5 $\frac{"),
        ("%<&>_{}^", "%<&>_{}^"),
        ("_private", " _private"),
        ("模型", r"\u6a21\u578b"),
        ("two\nlines", r"two\nlines"),
        ("caf\udce9", r"caf\udce9"),
        ("", ""),
    ],
)
def test_names_are_shown_letter_by_letter(text, shown):
    figure = Figure()
    with figure_style():
        drawn = figure.text(0, 0, plain_text(text))
        # What is drawn, when matplotlib has looked for formulas in it.
        assert drawn._preprocess_math(drawn.get_text()) == (shown, False)
        figure.savefig(os.devnull, format="png")


def test_long_names_go_on_in_the_next_line():
    assert plain_text("abc$e", 2) == "ab\nc\\$\ne"


def test_many_curves_with_long_names_leave_room_for_the_panel(tmp_path):
    figure = draw("name " * 20, 40)
    paths = write_figures({"many": figure}, tmp_path)
    (axis,) = figure.axes
    width, height = axis.bbox.width / figure.dpi, axis.bbox.height / figure.dpi
    assert height > 1.5
    assert width > 1.5
    assert len(figure.legends[0].get_texts()) == 40
    assert len(paths) == 2


def test_a_figure_may_be_larger_than_matplotlib_draws(tmp_path):
    figure = Figure(figsize=(0.1, 600))
    (path, _) = write_figures({"large": figure}, tmp_path)
    height, _, _ = matplotlib.image.imread(path).shape
    assert 60_000 < height < 2**16


def test_tasks_have_colours_that_no_curve_has():
    colours = {style["color"] for style in curve_styles(range(20)).values()}
    assert len(set(TASK_COLOURS.values())) == 4
    assert not colours & set(TASK_COLOURS.values())


def test_an_empty_panel_says_why():
    axis = Figure().subplots()
    say_empty(axis, "there is nothing at all that could be shown here")
    (text,) = axis.texts
    assert " ".join(text.get_text().split()).startswith("there is nothing at all that")


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ((0.02, 0.8), ["0.02", "0.05", "0.1", "0.2", "0.5"]),
        ((0.02, 20), ["0.1", "1", "10"]),
        ((61, 89), ["65", "70", "75", "80", "85"]),
    ],
)
def test_numbers_at_a_logarithmic_axis_are_few_and_alike(ends, expected):
    axis = Figure().subplots()
    axis.set_xlim(ends)
    set_logarithmic(axis.xaxis)
    axis.figure.draw_without_rendering()
    ticks = axis.xaxis.get_major_ticks() + axis.xaxis.get_minor_ticks()
    low, high = ends
    shown = [t.label1.get_text() for t in ticks if low <= t.get_loc() <= high]
    assert [text for text in shown if text] == expected


def test_a_point_without_neighbours_is_drawn():
    axis = Figure().subplots()
    x, mean = np.arange(5.0), np.array([1, 2, np.nan, 3, np.nan])
    (line,) = axis.plot(x, mean, **mark_isolated(mean))
    assert np.flatnonzero(line.get_markevery()).tolist() == [3]
    draw_band(axis, x, mean, np.full(5, 0.5), "red")
    _, bars = axis.collections
    np.testing.assert_array_equal(bars.get_segments(), [[[3, 2.5], [3, 3.5]]])
    assert mark_isolated(mean[:2]) == {}
