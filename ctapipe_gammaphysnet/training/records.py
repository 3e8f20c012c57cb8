"""What is kept of a training for people: tables and curves."""

import csv
import io
from itertools import cycle

import numpy as np
from astropy.table import Table

from ..figures.drawing import figure_style
from ..figures.panels import (
    NAME_WIDTH,
    place_legend,
    plain_text,
    say_empty,
)
from ..files.output import write_whole
from ..tasks import TASKS, class_first

__all__ = ["describe_epoch", "plot_histories", "summarise", "write_history"]

_CURVES = {
    "training loss": "Training loss",
    "validation loss": "Validation loss",
    "weight": "Weight of the task",
}
_LINES = ("-", "--", ":", "-.")


def _task_of_figure():
    """Task of each figure of merit on validation data."""
    return {f: name for name, task in class_first().items() for f in task.figures}


def write_history(history, path):
    """Write the figures after each epoch as CSV.

    Parameters
    ----------
    history : list of dict of str to float
        The figures; the epochs may have different ones.
    path : pathlib.Path
        The file, which is replaced.
    """
    names = list(dict.fromkeys(name for row in history for name in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, names)
    writer.writeheader()
    writer.writerows(history)
    write_whole(path, text.getvalue().encode())


def describe_epoch(figures):
    """Put the figures after an epoch into a few lines.

    Parameters
    ----------
    figures : dict of str to float
        The figures.

    Returns
    -------
    str
        A line for each kind of figure.
    """
    lines = {name: [] for name in ("", *_CURVES)}
    for name, value in figures.items():
        kind = next((k for k in _CURVES if name.startswith(f"{k} ")), "")
        lines[kind].append(f"{name.removeprefix(kind).strip()} {value:.4g}")
    return "\n".join(
        f"{kind}: {', '.join(values)}" if kind else ", ".join(values)
        for kind, values in lines.items()
        if values
    )


def summarise(histories):
    """Put the validation figures of several members side by side.

    Parameters
    ----------
    histories : dict of str to list of dict
        The figures after each epoch, by member.

    Returns
    -------
    astropy.table.Table
        The figures after the last epoch, a row for each member.
    """
    figures = [
        f
        for f, task in _task_of_figure().items()
        if not TASKS[task].optional or any(f in h[-1] for h in histories.values() if h)
    ]
    rows = [
        {
            "network": name,
            **{f: history[-1].get(f, np.nan) for f in ("epoch", *figures)},
        }
        for name, history in histories.items()
        if history
    ]
    table = Table(rows=rows)
    for figure in figures:
        if figure in table.colnames:
            table[figure].format = ".4g"
    return table


@figure_style()
def plot_histories(histories, path):
    """Draw losses, task weights and validation figures against the epoch.

    A task has one colour, and a member one line style.

    Parameters
    ----------
    histories : dict of str to list of dict
        The figures after each epoch, by member.
    path : pathlib.Path
        PNG file, which is replaced.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    present = [
        f
        for f in _task_of_figure()
        if any(f in row for h in histories.values() for row in h)
    ]
    figure = Figure(figsize=(12, 8), layout="constrained")
    panels = [*_CURVES, *present]
    axes = figure.subplots(-(-len(panels) // 3), 3, squeeze=False).flat
    for axis, panel in zip(axes, panels, strict=False):
        for line, (name, history) in zip(
            cycle(_LINES), histories.items(), strict=False
        ):
            _draw(axis, panel, name, history, line)
        axis.set_xlabel("Epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axis.set_ylabel(_CURVES.get(panel, panel))
        axis.grid(alpha=0.3)
        if not any(np.isfinite(line.get_ydata()).any() for line in axis.lines):
            say_empty(axis, "empty: no epoch has it")
    for axis in list(figure.axes)[len(panels) :]:
        axis.remove()
    _legend(figure, histories)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=120)
    # Several processes may draw at the same time: the last one's stays.
    write_whole(path, image.getvalue())


def _draw(axis, panel, name, history, line):
    epochs = [row["epoch"] for row in history]
    columns = dict.fromkeys(name for row in history for name in row)
    colours = {name: task.colour for name, task in TASKS.items()}
    for column in columns:
        if column != panel and not column.startswith(f"{panel} "):
            continue
        task = column.removeprefix(panel).strip()
        axis.plot(
            epochs,
            [row.get(column, np.nan) for row in history],
            line,
            color=colours.get(_task_of_figure().get(panel, task), "black"),
            marker=".",
            label=f"{task} {name}".strip(),
        )
    if panel in _CURVES:
        axis.set_yscale("log")


def _legend(figure, histories):
    """Say which colour is which task, and which line which member."""
    from matplotlib.lines import Line2D

    used = {line.get_color() for axis in figure.axes for line in axis.lines}
    entries = {
        name: Line2D([], [], color=task.colour)
        for name, task in class_first().items()
        if task.colour in used
    }
    for name, line in zip(histories, cycle(_LINES), strict=False):
        entries[plain_text(name, NAME_WIDTH)] = Line2D(
            [], [], color="black", linestyle=line
        )
    place_legend(figure, entries, 4)
