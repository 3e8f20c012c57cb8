"""Records of a training for its users: tables and curves."""

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


def _task_of_metric():
    """Task of each validation metric."""
    return {
        metric: name
        for name, task in class_first().items()
        for metric in task.validation_metrics
    }


def write_history(history, path):
    """Write the metrics after each epoch as CSV.

    Parameters
    ----------
    history : list of dict of str to float
        The metrics; epochs may have different ones.
    path : pathlib.Path
        The file, which is replaced.
    """
    names = list(dict.fromkeys(name for row in history for name in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, names)
    writer.writeheader()
    writer.writerows(history)
    write_whole(path, text.getvalue().encode())


def describe_epoch(metrics):
    """Format the metrics after an epoch in a few lines.

    Parameters
    ----------
    metrics : dict of str to float
        The metrics.

    Returns
    -------
    str
        A line for each kind of metric.
    """
    lines = {name: [] for name in ("", *_CURVES)}
    for name, value in metrics.items():
        kind = next((k for k in _CURVES if name.startswith(f"{k} ")), "")
        lines[kind].append(f"{name.removeprefix(kind).strip()} {value:.4g}")
    return "\n".join(
        f"{kind}: {', '.join(values)}" if kind else ", ".join(values)
        for kind, values in lines.items()
        if values
    )


def summarise(histories):
    """Compare the validation metrics of several members.

    Parameters
    ----------
    histories : dict of str to list of dict
        The metrics after each epoch, by member.

    Returns
    -------
    astropy.table.Table
        The metrics after the last epoch, a row for each member.
    """
    last = {name: history[-1] for name, history in histories.items() if history}
    metrics = [
        metric
        for metric, task in _task_of_metric().items()
        if not TASKS[task].optional or any(metric in row for row in last.values())
    ]
    rows = [
        {"network": name, **{m: row.get(m, np.nan) for m in ("epoch", *metrics)}}
        for name, row in last.items()
    ]
    table = Table(rows=rows)
    for metric in metrics:
        if metric in table.colnames:
            table[metric].format = ".4g"
    return table


@figure_style()
def plot_histories(histories, path):
    """Draw losses, task weights and validation metrics against the epoch.

    Each task has its colour, and each member its line style.

    Parameters
    ----------
    histories : dict of str to list of dict
        The metrics after each epoch, by member.
    path : pathlib.Path
        PNG file, which is replaced.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    present = [
        metric
        for metric in _task_of_metric()
        if any(metric in row for history in histories.values() for row in history)
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
    # Several processes may draw at the same time: the last one wins.
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
            color=colours.get(_task_of_metric().get(panel, task), "black"),
            marker=".",
            label=f"{task} {name}".strip(),
        )
    if panel in _CURVES:
        axis.set_yscale("log")


def _legend(figure, histories):
    """Add the colours of the tasks and the line styles of the members."""
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
