"""Figures of maps, in the arrangement of the paper's Figures 4 to 6, and of curves."""

from typing import NamedTuple

import astropy.units as u
import numpy as np
from ctapipe.visualization import CameraDisplay
from matplotlib import colormaps
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from scipy.spatial import KDTree

from ..drawing import (
    TASK_COLOURS,
    curve_styles,
    draw_band,
    figure_style,
    mark_isolated,
    place_legend,
    plain_text,
    say_empty,
    set_logarithmic,
)
from ..targets import direction_to_target
from .explainer import PRODUCT
from .heatmaps import OUTPUTS
from .images import on_sky
from .robustness import DISTURBANCES, MOVES
from .statistics import BINNED, STATISTICS, errors_of

__all__ = ["draw_event", "draw_robustness", "draw_statistics"]

#: What is said of a heatmap that is 0 everywhere.
_EMPTY = "empty: no pixel raises this output"
_EVERYWHERE = "map that is the same everywhere"
#: Pixels without a value are grey.
_MAP = colormaps["viridis"].with_extremes(bad="0.85")
#: Width of a camera in inches.
_PANEL = 2.7
#: Letters in a line of a row's label, of the facts, and of a legend.
_ROW, _FACTS, _WIDTH = 26, 52, 40
#: Lines of facts that fit beside the image.
_LINES = 13
#: Task of the network that moves, for `MOVES`.
_TASKS = {"gammaness": "class"}


@figure_style()
def draw_event(batch, maps):
    """Draw an event and the maps of several models.

    Parameters
    ----------
    batch : Batch
        The event's image: a single one.
    maps : dict of str to Maps
        For each model its maps of it.

    Returns
    -------
    matplotlib.figure.Figure
        First the image, with the true direction and those that are predicted, and what
        else is true and predicted; then for each model a row with the mean over the
        members of each output's heatmap, and one with their standard deviation if there
        are several; then the same of the attention maps, if there are any.
    """
    rows = [row for name, its_maps in maps.items() for row in _map_rows(name, its_maps)]
    n_columns = max(len(OUTPUTS), *(len(panels) for _, panels in rows))
    facts = _facts(batch, maps)
    first = max(1, max(map(len, facts)) / _LINES)
    figure = Figure(
        figsize=(_PANEL * n_columns, 0.88 * _PANEL * (first + len(rows))),
        layout="constrained",
    )
    # The layout forgets some of the outermost labels: room for them.
    figure.get_layout_engine().set(
        w_pad=0.02, h_pad=0.04, wspace=0.01, hspace=0.01, rect=(0.008, 0, 0.98, 1)
    )
    grid = GridSpec(
        1 + len(rows), n_columns, figure, height_ratios=[first] + [1] * len(rows)
    )
    axes = grid.subplots(squeeze=False)
    geometry = on_sky(batch.geometry)
    outline = _outline(geometry, batch.image_mask[0])
    _draw_image(axes[0], geometry, batch, outline)
    _draw_directions(axes[0, 0], batch, maps)
    for axis in axes[0, 2:]:
        axis.set_axis_off()
    for axis, lines in zip(axes[0, 2::2], facts, strict=False):
        text = axis.text(0.06, 1, "\n".join(lines), va="top", transform=axis.transAxes)
        # It may go on over the empty panel beside it.
        text.set_in_layout(False)
    for row_axes, (label, panels) in zip(axes[1:], rows, strict=True):
        for axis, panel in zip(row_axes, panels, strict=False):
            _draw_panel(axis, geometry, panel, outline)
        for axis in row_axes[len(panels) :]:
            axis.set_axis_off()
        row_axes[0].set_ylabel(label, fontsize="medium")
    return figure


class _Panel(NamedTuple):
    """A map with its title, its unit and the lower end of its colours."""

    title: str
    unit: str
    values: np.ndarray
    low: float
    task: str | None = None
    empty: str = ""


def _draw_panel(axis, geometry, panel, outline):
    display = _draw_map(axis, geometry, panel.values, outline, panel.low)
    axis.set_title(panel.title, fontsize="medium", color=_colour(panel.task))
    if panel.empty == _EMPTY:
        say_empty(axis, _EMPTY)
        return
    _colour_bar(axis.figure, axis, display, panel.unit)
    if panel.empty:
        # Not over the map of the others.
        say_empty(axis, panel.empty, below=True)


def _colour(task):
    return TASK_COLOURS.get(task, "black")


def _said_of_empty(heatmaps):
    """What to say of those of the members' heatmaps that are 0 everywhere."""
    n_empty = int((heatmaps.max(axis=-1) <= 0).sum())
    if n_empty == len(heatmaps):
        return _EMPTY
    return f"empty: {n_empty} of {len(heatmaps)} members" if n_empty else ""


def _map_rows(name, maps):
    """Label and panels of each row."""
    parts = {"mean": lambda values: values[:, 0].mean(axis=0)}
    if len(next(iter(maps.heatmaps.values()))) > 1:
        parts["std"] = lambda values: values[:, 0].std(axis=0, ddof=1)
    shown = plain_text(name, _ROW)
    rows = []
    for part, of in parts.items():
        panels = [
            _Panel(
                OUTPUTS[output].label,
                OUTPUTS[output].unit,
                of(values),
                0,
                OUTPUTS[output].task,
                _said_of_empty(values[:, 0]),
            )
            for output, values in maps.heatmaps.items()
        ]
        label = part if len(parts) > 1 else "one member"
        rows.append((f"{shown}\nGrad-CAM, {label}", panels))
    for part, of in parts.items() if maps.attention else ():
        panels = [
            _Panel(_stage_label(stage), "factor", of(values), int(part == "mean"))
            for stage, values in maps.attention.items()
        ]
        label = part if len(parts) > 1 else "one member"
        rows.append((f"{shown}\nattention, {label}", panels))
    return rows


def _stage_label(stage):
    if stage == PRODUCT:
        return "Product of all"
    return stage.replace("_", " ").capitalize()


def _draw_image(axes, geometry, batch, outline):
    """Charge and peak time of the image."""
    time = np.where(batch.image_mask[0], batch.peak_time[0], np.nan)
    for axis, title, unit, values in (
        (axes[0], "Charge", "p.e.", batch.image[0]),
        (axes[1], "Peak time, cleaned", "ns", time),
    ):
        display = _draw_map(axis, geometry, values, outline, None)
        axis.set_title(title, fontsize="medium")
        if np.isfinite(values).any():
            _colour_bar(axis.figure, axis, display, unit)
        else:
            say_empty(axis, "empty: no pixel survived the cleaning")
    axes[0].set_ylabel("fov_lat / deg", fontsize="small", labelpad=0)
    axes[0].set_xlabel("fov_lon / deg", fontsize="small")
    axes[0].tick_params(
        left=True, bottom=True, labelleft=True, labelbottom=True, labelsize="small"
    )


def _draw_directions(axis, batch, maps):
    """Mark the true direction and those that are predicted, and say which is which."""
    directions = {}
    (true,) = direction_to_target(
        *(batch.events[name] for name in ("true_alt", "true_az")),
        *(batch.events[name] for name in ("pointing_alt", "pointing_az")),
    )
    if np.isfinite(true).all():
        directions["True direction"] = true, {"color": "black", "marker": "*"}
    for name, style in curve_styles(maps).items():
        predictions = maps[name].predictions
        if "direction" in predictions:
            mean = predictions["direction"][:, 0].mean(axis=0)
            marker = {"color": style["color"], "marker": style["marker"]}
            directions[f"{plain_text(name, _ROW)}: predicted"] = mean, marker
    limits = axis.get_xlim(), axis.get_ylim()
    for label, (position, marker) in directions.items():
        is_inside = all(
            min(ends) <= x <= max(ends)
            for x, ends in zip(position, limits, strict=True)
        )
        axis.plot(
            *position,
            **marker,
            linestyle="none",
            markersize=9,
            markeredgecolor="white",
            label=label if is_inside else f"{label}, outside the camera",
        )
    axis.set(xlim=limits[0], ylim=limits[1])
    handles, labels = axis.get_legend_handles_labels()
    entries = dict(zip(labels, handles, strict=True))
    place_legend(axis.figure, entries, 4, "upper")


def _draw_map(axis, geometry, values, outline, low):
    """One map with the outline of the cleaned image."""
    display = CameraDisplay(
        geometry, ax=axis, title="", cmap=_MAP, autoupdate=False, show_frame=False
    )
    values = np.ma.masked_invalid(np.asarray(values, dtype=float))
    display.pixels.set_array(values)
    if values.count() > 0:
        low = values.min() if low is None else low
        # A map that is the same everywhere has one colour, not the noise of rounding.
        high = values.max()
        display.pixels.set_clim(low, high if high > low else low + 1)
    # As vectors, thousands of pixels in dozens of panels would make a heavy PDF.
    display.pixels.set_rasterized(True)
    axis.add_collection(LineCollection(outline, colors="white", linewidths=1.6))
    axis.add_collection(LineCollection(outline, colors="crimson", linewidths=0.8))
    axis.set(xlabel="", ylabel="")
    axis.tick_params(left=False, bottom=False, labelleft=False, labelbottom=False)
    axis.set_aspect("equal", "box")
    for spine in axis.spines.values():
        spine.set_visible(False)
    return display


def _colour_bar(figure, axis, display, unit):
    bar = figure.colorbar(
        display.pixels, ax=axis, fraction=0.05, shrink=0.8, pad=0.01, aspect=20
    )
    bar.set_label(unit, fontsize="x-small")
    bar.ax.tick_params(labelsize="x-small")
    bar.formatter.set_powerlimits((-2, 4))
    bar.ax.yaxis.get_offset_text().set_fontsize("x-small")
    bar.update_ticks()


def _outline(geometry, mask):
    """Edges between the pixels of a mask and others, shape (n_edges, 2, 2)."""
    display_pixels = CameraDisplay.create_patches(
        geometry.pix_type,
        *(
            quantity.to_value(geometry.unit)[mask]
            for quantity in (geometry.pix_x, geometry.pix_y, geometry.pixel_width)
        ),
        geometry.pix_rotation,
    )
    if not display_pixels:
        return np.empty((0, 2, 2))
    edges = np.concatenate([_edges(patch) for patch in display_pixels])
    width = geometry.pixel_width.to_value(geometry.unit).min()
    # An edge between two pixels is there twice.
    middle = edges.mean(axis=1)
    is_shared = np.zeros(len(edges), dtype=bool)
    is_shared[KDTree(middle).query_pairs(0.3 * width, output_type="ndarray")] = True
    return edges[~is_shared]


def _edges(patch):
    corners = patch.get_verts()
    return np.stack([corners[:-1], corners[1:]], axis=1)


def _facts(batch, maps):
    """What is true of the event, and what is predicted: lines, in two columns."""
    event = batch.events[0]
    lines = [
        f"Event {event['event_id']} of observation {event['obs_id']}, "
        f"telescope {event['tel_id']}",
        plain_text(batch.type, _FACTS),
        f"{event['intensity']:.0f} p.e. after cleaning, "
        f"leakage {100 * event['leakage']:.0f} %",
    ]
    if event["label"] >= 0:
        particle = "gamma" if event["label"] == 0 else "background"
        energy = event["true_energy"].to_value(u.TeV)
        lines.append(f"Simulated: {particle}, {energy:.3g} TeV")
    else:
        lines.append("Truth is not known")
    lines.append("Outline: pixels that survived the cleaning")
    blocks = [lines]
    for name, its_maps in maps.items():
        shown = f"{plain_text(name, _FACTS)}:".split("\n")
        blocks.append([*shown, *_predicted(batch, its_maps.predictions)])
    # Models that do not fit beside the image go on in a second column, half of them.
    if sum(map(len, blocks)) <= _LINES:
        return [sum(blocks, [])]
    half = -(-len(blocks) // 2)
    return [sum(blocks[:half], []), sum(blocks[half:], [])]


def _predicted(batch, predictions):
    """What the mean over members predicts, and how wrong it is."""
    errors = {name: rows[0, 0] for name, rows in errors_of(batch, predictions).items()}
    texts = []
    if "class" in predictions:
        texts.append(f"gammaness {predictions['class'][:, 0, 0].mean():.2f}")
    if "energy" in predictions:
        texts.append(f"{10 ** predictions['energy'][:, 0, 0].mean():.3g} TeV")
    if np.isfinite(errors["separation"]):
        texts.append(f"{errors['separation']:.2f}° off the true direction")
    if np.isfinite(errors["impact"]):
        texts.append(f"{errors['impact']:.0f} m off the true impact point")
    return [f"  {text}" for text in texts]


def _new_figure(n_rows, n_columns, sharex):
    figure = Figure(figsize=(3.4 * n_columns, 2.6 * n_rows + 0.5), layout="constrained")
    axes = figure.subplots(
        n_rows, n_columns, squeeze=False, sharex=sharex, sharey="row"
    )
    return figure, axes


def _draw_curve(axis, x, rows, style, label):
    """Mean over members, with a band of their standard deviation."""
    mean, deviation = np.asarray(rows["mean"]), np.asarray(rows["members_std"])
    axis.plot(
        x,
        mean,
        **style,
        markersize=3.5,
        label=plain_text(label, _WIDTH),
    )
    if np.isfinite(deviation).any():
        draw_band(axis, x, mean, deviation, style["color"])


def _legend(figure, axes):
    entries = {}
    for axis in axes.flat:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    last = entries.pop(_EVERYWHERE, None)
    if last is not None:
        entries[_EVERYWHERE] = last
    place_legend(figure, entries, min(3, axes.shape[1]))


@figure_style()
def draw_statistics(summary):
    """Draw the statistics of heatmaps in bins.

    Parameters
    ----------
    summary : dict of str to astropy.table.Table
        As `summarise` gives them.

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


def _draw_overall(table):
    """Mean over members with its deviation, of each model side by side."""
    outputs = [name for name in OUTPUTS if name in table["output"]]
    statistics = [name for name in STATISTICS if name in table["statistic"]]
    styles = curve_styles(dict.fromkeys(table["model"].tolist()))
    figure = Figure(figsize=(4.2 * len(statistics), 4.4), layout="constrained")
    axes = figure.subplots(1, len(statistics), squeeze=False)
    step = min(0.15, 0.8 / len(styles))
    for axis, statistic in zip(axes.flat, statistics, strict=True):
        for number, (model, style) in enumerate(styles.items()):
            rows = table[(table["model"] == model) & (table["statistic"] == statistic)]
            at = np.array([outputs.index(name) for name in rows["output"]])
            at = at + step * (number - (len(styles) - 1) / 2)
            mean = np.asarray(rows["mean"])
            axis.errorbar(
                at,
                mean,
                yerr=np.nan_to_num(np.asarray(rows["members_std"])),
                **style | {"linestyle": "none"},
                capsize=3,
                label=plain_text(model, _WIDTH),
            )
            for x in at[np.isnan(mean)]:
                _say_empty_at(axis, x, style["color"])
            if number == 0 and np.isfinite(rows["area"]).any():
                area = float(np.asarray(rows["area"]).mean())
                axis.axhline(area, color="0.5", linewidth=1, label=_EVERYWHERE)
        axis.set_xticks(
            range(len(outputs)),
            [OUTPUTS[name].label for name in outputs],
            rotation=40,
            ha="right",
        )
        for text, name in zip(axis.get_xticklabels(), outputs, strict=True):
            text.set_color(_colour(OUTPUTS[name].task))
        axis.set_xlim(-0.5, len(outputs) - 0.5)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
        axis.set_title(STATISTICS[statistic], fontsize="medium")
    _legend(figure, axes)
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
    outputs = [name for name in OUTPUTS if name in table["output"]]
    statistics = [name for name in STATISTICS if name in table["statistic"]]
    figure, axes = _new_figure(len(statistics), len(outputs), "all")
    _, label, is_logarithmic = BINNED[binning]
    styles = curve_styles(dict.fromkeys(table["model"].tolist()))
    for row, statistic in enumerate(statistics):
        for column, output in enumerate(outputs):
            axis = axes[row, column]
            of_output = table[table["output"] == output]
            chosen = of_output[of_output["statistic"] == statistic]
            for number, (model, style) in enumerate(styles.items()):
                of_model = of_output[of_output["model"] == model]
                rows = of_model[of_model["statistic"] == statistic]
                x = _middle(rows, binning, np.unique(of_model["low"]))
                _draw_curve(axis, x, rows, style, model)
                if number == 0 and np.isfinite(rows["area"]).any():
                    area = np.asarray(rows["area"])
                    axis.plot(
                        x,
                        area,
                        color="0.5",
                        linewidth=1,
                        **mark_isolated(area),
                        label=_EVERYWHERE,
                    )
            if not np.isfinite(chosen["mean"]).any():
                is_empty = len(chosen) > 0
                say_empty(axis, _EMPTY if is_empty else "empty: not known")
            if is_logarithmic:
                set_logarithmic(axis.xaxis)
            axis.grid(alpha=0.3)
            if row == 0:
                colour = _colour(OUTPUTS[output].task)
                axis.set_title(OUTPUTS[output].label, fontsize="medium", color=colour)
            if column == 0:
                axis.set_ylabel(STATISTICS[statistic], fontsize="small")
            if row == len(statistics) - 1:
                axis.set_xlabel(label)
        # When all that share it are drawn: it fixes the upper end, too.
        axes[row, 0].set_ylim(bottom=0)
    _legend(figure, axes)
    return figure


def _middle(rows, binning, lows):
    """Where the bins of rows are drawn; those of the error by their number."""
    low, high = (np.asarray(rows[end]) for end in ("low", "high"))
    if binning == "error":
        return 1 + np.searchsorted(lows, low)
    return np.sqrt(low * high) if BINNED[binning][2] else (low + high) / 2


@figure_style()
def draw_robustness(table):
    """Draw how predictions and heatmaps move when images are disturbed.

    Parameters
    ----------
    table : astropy.table.Table
        As `summarise_movements` gives it.

    Returns
    -------
    dict of str to matplotlib.figure.Figure
        ``robustness_predictions`` and ``robustness_heatmaps``: rows are quantities,
        columns what was done to the images.
    """
    heatmaps = {f"heatmap_{name}": OUTPUTS[name].label for name in OUTPUTS}
    predictions, _ = _draw_movements(table, MOVES)
    of_heatmaps, axes = _draw_movements(table, heatmaps)
    for axis in axes[:, 0]:
        axis.set_ylim(0, 1.05)
    of_heatmaps.suptitle(
        "Cosine similarity of the heatmap with that of the undisturbed image",
        fontsize="medium",
    )
    return {"robustness_predictions": predictions, "robustness_heatmaps": of_heatmaps}


def _draw_movements(table, labels):
    labels = {q: label for q, label in labels.items() if q in table["quantity"]}
    figure, axes = _new_figure(len(labels), len(DISTURBANCES), "col")
    styles = curve_styles(dict.fromkeys(table["model"].tolist()))
    for column, (disturbance, (x_label, _)) in enumerate(DISTURBANCES.items()):
        for row, (quantity, label) in enumerate(labels.items()):
            axis = axes[row, column]
            chosen = table[
                (table["disturbance"] == disturbance) & (table["quantity"] == quantity)
            ]
            for model, style in styles.items():
                rows = chosen[chosen["model"] == model]
                _draw_curve(axis, np.asarray(rows["value"]), rows, style, model)
            if not np.isfinite(chosen["mean"]).any():
                say_empty(axis, _EMPTY)
            axis.grid(alpha=0.3)
            if column == 0:
                axis.set_ylabel(label, fontsize="small", color=_colour(_task(quantity)))
            if row == len(labels) - 1:
                axis.set_xlabel(x_label)
    _legend(figure, axes)
    return figure, axes


def _task(quantity):
    """Task of the network that moves, or whose heatmap does."""
    if quantity in MOVES:
        return _TASKS.get(quantity, quantity)
    return OUTPUTS[quantity.removeprefix("heatmap_")].task
