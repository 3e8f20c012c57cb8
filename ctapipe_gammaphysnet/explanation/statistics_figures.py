"""Figures of where heatmaps lie: over a whole sample, and in bins."""

import numpy as np
from matplotlib.figure import Figure

from ..figures.drawing import figure_style
from ..figures.panels import (
    NAME_WIDTH,
    curve_styles,
    mark_isolated,
    plain_text,
    say_empty,
    set_logarithmic,
)
from ..tasks import TASKS
from .curves import draw_curve, draw_legend, new_figure
from .heatmaps import EMPTY, all_outputs
from .statistics import BINNED, STATISTICS

__all__ = ["draw_statistics"]

_EVERYWHERE = "map that is the same everywhere"


@figure_style()
def draw_statistics(summary):
    """Draw the statistics of heatmaps in bins.

    Parameters
    ----------
    summary : dict of str to astropy.table.Table
        As `summarise` returns them.

    Returns
    -------
    dict of str to matplotlib.figure.Figure
        ``statistics_overall``, a panel for each statistic; and for each binning one,
        for example ``statistics_energy``: rows are statistics, columns outputs.
    """
    return {
        f"statistics_{name}": _draw_binned(table, name)
        if name in BINNED
        else _draw_overall(table)
        for name, table in summary.items()
    }


def _outputs_in(table):
    """Outputs that a table has statistics of, by their names."""
    return {k: out for k, out in all_outputs().items() if k in table["output"]}


def _draw_overall(table):
    """Mean over members with its deviation, of each model side by side."""
    outputs = _outputs_in(table)
    statistics = [name for name in STATISTICS if name in table["statistic"]]
    styles = curve_styles(dict.fromkeys(table["model"].tolist()))
    figure = Figure(figsize=(4.2 * len(statistics), 4.4), layout="constrained")
    axes = figure.subplots(1, len(statistics), squeeze=False)
    step = min(0.15, 0.8 / len(styles))
    for axis, statistic in zip(axes.flat, statistics, strict=True):
        for number, (model, style) in enumerate(styles.items()):
            rows = table[(table["model"] == model) & (table["statistic"] == statistic)]
            at = np.array([list(outputs).index(name) for name in rows["output"]])
            at = at + step * (number - (len(styles) - 1) / 2)
            mean = np.asarray(rows["mean"])
            axis.errorbar(
                at,
                mean,
                yerr=np.nan_to_num(np.asarray(rows["members_std"])),
                **style | {"linestyle": "none"},
                capsize=3,
                label=plain_text(model, NAME_WIDTH),
            )
            for x in at[np.isnan(mean)]:
                _say_empty_at(axis, x, style["color"])
            if number == 0 and np.isfinite(rows["area"]).any():
                area = float(np.asarray(rows["area"]).mean())
                axis.axhline(area, color="0.5", linewidth=1, label=_EVERYWHERE)
        axis.set_xticks(
            range(len(outputs)),
            [output.label for output in outputs.values()],
            rotation=40,
            ha="right",
        )
        for text, output in zip(axis.get_xticklabels(), outputs.values(), strict=True):
            text.set_color(TASKS[output.task].colour)
        axis.set_xlim(-0.5, len(outputs) - 0.5)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
        axis.set_title(STATISTICS[statistic], fontsize="medium")
    draw_legend(figure, axes, _EVERYWHERE)
    return figure


def _say_empty_at(axis, x, colour):
    """Say that all heatmaps of an output are empty, where their point would be."""
    axis.text(
        x,
        0.02,
        "empty",
        color=colour,
        rotation=90,
        ha="center",
        va="bottom",
        fontsize="small",
        transform=axis.get_xaxis_transform(),
    )


def _draw_binned(table, binning):
    """Curves of all models: rows are statistics, columns outputs."""
    outputs = _outputs_in(table)
    statistics = [name for name in STATISTICS if name in table["statistic"]]
    figure, axes = new_figure(len(statistics), len(outputs), "all")
    _, label, is_logarithmic = BINNED[binning]
    styles = curve_styles(dict.fromkeys(table["model"].tolist()))
    for column, (name, output) in zip(axes.T, outputs.items(), strict=True):
        of_output = table[table["output"] == name]
        for axis, statistic in zip(column, statistics, strict=True):
            _draw_panel(axis, of_output, statistic, binning, styles)
            if is_logarithmic:
                set_logarithmic(axis.xaxis)
            axis.grid(alpha=0.3)
        column[0].set_title(
            output.label, fontsize="medium", color=TASKS[output.task].colour
        )
        column[-1].set_xlabel(label)
    for axis, statistic in zip(axes[:, 0], statistics, strict=True):
        axis.set_ylabel(STATISTICS[statistic], fontsize="small")
        # Only once all panels of the row are drawn: it also fixes the upper end.
        axis.set_ylim(bottom=0)
    draw_legend(figure, axes, _EVERYWHERE)
    return figure


def _draw_panel(axis, table, statistic, binning, styles):
    """Curves of a statistic of an output."""
    for number, (model, style) in enumerate(styles.items()):
        of_model = table[table["model"] == model]
        rows = of_model[of_model["statistic"] == statistic]
        x = _middle(rows, binning, np.unique(of_model["low"]))
        draw_curve(axis, x, rows, style, model)
        area = np.asarray(rows["area"])
        if number == 0 and np.isfinite(area).any():
            grey = {"color": "0.5", "linewidth": 1, **mark_isolated(area)}
            axis.plot(x, area, **grey, label=_EVERYWHERE)
    chosen = table[table["statistic"] == statistic]
    if not np.isfinite(chosen["mean"]).any():
        say_empty(axis, EMPTY if len(chosen) > 0 else "empty: not known")


def _middle(rows, binning, lows):
    """Positions of the bins in figures; those of the error by their number."""
    low, high = (np.asarray(rows[end]) for end in ("low", "high"))
    if binning == "error":
        return 1 + np.searchsorted(lows, low)
    return np.sqrt(low * high) if BINNED[binning][2] else (low + high) / 2
