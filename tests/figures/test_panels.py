"""Parts of panels say what they are of, and leave room for it."""

import os

import numpy as np
import pytest
from matplotlib.figure import Figure

from ctapipe_gammaphysnet.figures.drawing import figure_style, write_figures
from ctapipe_gammaphysnet.figures.panels import (
    NAME_WIDTH,
    curve_styles,
    draw_band,
    legend_entries,
    mark_isolated,
    place_legend,
    plain_text,
    say_empty,
    set_logarithmic,
)
from ctapipe_gammaphysnet.tasks import TASKS


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
        # The font has it, but nobody sees it.
        ("turn\u202eed", r"turn\u202eed"),
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


@figure_style()
def draw(names):
    figure = Figure(figsize=(4, 3), layout="constrained")
    axis = figure.subplots()
    for name, style in curve_styles(names).items():
        axis.plot([1, 2], [1, 2], label=plain_text(name, NAME_WIDTH), **style)
    place_legend(figure, legend_entries([axis]), 2)
    return figure


def test_many_curves_with_long_names_leave_room_for_the_panel(tmp_path):
    figure = draw(["name " * 20 + str(number) for number in range(40)])
    paths = write_figures({"many": figure}, tmp_path)
    (axis,) = figure.axes
    width, height = axis.bbox.width / figure.dpi, axis.bbox.height / figure.dpi
    assert height > 1.5
    assert width > 1.5
    assert len(figure.legends[0].get_texts()) == 40
    assert len(paths) == 2


def test_tasks_have_colours_that_no_curve_has():
    colours = {style["color"] for style in curve_styles(range(20)).values()}
    of_tasks = {task.colour for task in TASKS.values()}
    assert len(of_tasks) == len(TASKS)
    assert not colours & of_tasks


def test_an_empty_panel_says_why():
    axis = Figure().subplots()
    say_empty(axis, "there is nothing at all that could be shown here")
    (text,) = axis.texts
    assert text.get_text() == "there is nothing at all that\ncould be shown here"


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
