"""Figures of maps, in the arrangement of the paper's Figures 4 to 6, and of curves."""

from itertools import cycle

import astropy.units as u
import numpy as np
from ctapipe.visualization import CameraDisplay
from matplotlib import colormaps
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from scipy.spatial import KDTree

from .explainer import PRODUCT
from .heatmaps import OUTPUTS
from .images import on_sky
from .robustness import DISTURBANCES, MOVES
from .statistics import BINNED, STATISTICS, errors_of

__all__ = ["draw_event", "draw_robustness", "draw_statistics"]

# The colours of Okabe and Ito, which colour-blind readers tell apart.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_LINES = ("-", "--", "-.", ":")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_EVERYWHERE = "map that is the same everywhere"
#: Pixels without a value are grey.
_MAP = colormaps["viridis"].with_extremes(bad="0.85")
#: Width of a camera in inches.
_PANEL = 2.7


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
        First the image, and what is true and predicted; then for each model a row with
        the mean over the members of each output's heatmap, and one with their standard
        deviation if there are several; then the same of the attention maps, if there
        are any.
    """
    rows = [row for name, its_maps in maps.items() for row in _map_rows(name, its_maps)]
    n_columns = max(len(OUTPUTS), *(len(panels) for _, panels in rows))
    figure = Figure(
        figsize=(_PANEL * n_columns, 0.88 * _PANEL * (1 + len(rows))),
        layout="constrained",
    )
    # The layout forgets some of the leftmost label: room for it.
    figure.get_layout_engine().set(
        w_pad=0.02, h_pad=0.04, wspace=0.01, hspace=0.01, rect=(0.008, 0, 0.992, 1)
    )
    axes = figure.subplots(1 + len(rows), n_columns, squeeze=False)
    geometry = on_sky(batch.geometry)
    outline = _outline(geometry, batch.image_mask[0])
    _draw_image(axes[0], geometry, batch, outline)
    _write_facts(axes[0, 2], batch, maps)
    for axis in axes[0, 3:]:
        axis.set_axis_off()
    for row_axes, (label, panels) in zip(axes[1:], rows, strict=True):
        for axis, (title, unit, values, low) in zip(row_axes, panels, strict=False):
            display = _draw_map(axis, geometry, values, outline, low)
            axis.set_title(title, fontsize="medium")
            _colour_bar(figure, axis, display, unit)
        for axis in row_axes[len(panels) :]:
            axis.set_axis_off()
        row_axes[0].set_ylabel(label, fontsize="medium")
    return figure


def _map_rows(name, maps):
    """Label and panels of each row: title, unit, map, lower end of its colours."""
    parts = {"mean": lambda values: values[:, 0].mean(axis=0)}
    if len(next(iter(maps.heatmaps.values()))) > 1:
        parts["std"] = lambda values: values[:, 0].std(axis=0, ddof=1)
    rows = []
    for part, of in parts.items():
        panels = [
            (OUTPUTS[output].label, OUTPUTS[output].unit, of(values), 0)
            for output, values in maps.heatmaps.items()
        ]
        label = part if len(parts) > 1 else "one member"
        rows.append((f"{name}\nGrad-CAM, {label}", panels))
    for part, of in parts.items() if maps.attention else ():
        panels = [
            (
                _stage_label(stage),
                "factor",
                of(values),
                1 if part == "mean" else 0,
            )
            for stage, values in maps.attention.items()
        ]
        label = part if len(parts) > 1 else "one member"
        rows.append((f"{name}\nattention, {label}", panels))
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
        _colour_bar(axis.figure, axis, display, unit)
    axes[0].set_ylabel("fov_lat / deg", fontsize="small", labelpad=0)
    axes[0].set_xlabel("fov_lon / deg", fontsize="small")
    axes[0].tick_params(
        left=True, bottom=True, labelleft=True, labelbottom=True, labelsize="small"
    )


def _draw_map(axis, geometry, values, outline, low):
    """One map with the outline of the cleaned image."""
    display = CameraDisplay(
        geometry, ax=axis, title="", cmap=_MAP, autoupdate=False, show_frame=False
    )
    values = np.ma.masked_invalid(np.asarray(values, dtype=float))
    display.pixels.set_array(values)
    if values.count() > 0:
        low = values.min() if low is None else low
        display.pixels.set_clim(low, max(values.max(), low + 1e-12))
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


def _write_facts(axis, batch, maps):
    """What is true of the event, and what is predicted."""
    axis.set_axis_off()
    event = batch.events[0]
    lines = [
        f"Event {event['event_id']} of observation {event['obs_id']}, "
        f"telescope {event['tel_id']} ({batch.type})",
        f"{event['intensity']:.0f} p.e. after cleaning, "
        f"leakage {100 * event['leakage']:.0f} %",
    ]
    if event["label"] >= 0:
        particle = "gamma" if event["label"] == 0 else "background"
        energy = event["true_energy"].to_value(u.TeV)
        lines.append(f"Simulated: {particle}, {energy:.3g} TeV")
    else:
        lines.append("Truth is not known")
    for name, its_maps in maps.items():
        lines += [f"{name}:", *_predicted(batch, its_maps.predictions)]
    lines.append("Outline: pixels that survived the cleaning")
    text = axis.text(0, 1, "\n".join(lines), va="top", transform=axis.transAxes)
    # It may go on over the empty panels beside it.
    text.set_in_layout(False)


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


def _styles(models):
    return dict(
        zip(
            models,
            zip(cycle(_COLOURS), cycle(_LINES), cycle(_MARKERS), strict=False),
            strict=False,
        )
    )


def _new_figure(n_rows, n_columns):
    figure = Figure(figsize=(3.4 * n_columns, 2.6 * n_rows + 0.5), layout="constrained")
    return figure, figure.subplots(n_rows, n_columns, squeeze=False, sharey="row")


def _draw_curve(axis, x, rows, style, label):
    """Mean over members, with a band of their standard deviation."""
    colour, line, marker = style
    mean, deviation = np.asarray(rows["mean"]), np.asarray(rows["members_std"])
    axis.plot(
        x,
        mean,
        color=colour,
        linestyle=line,
        marker=marker,
        markersize=3.5,
        label=label,
    )
    if np.isfinite(deviation).any():
        axis.fill_between(
            x, mean - deviation, mean + deviation, color=colour, alpha=0.2, linewidth=0
        )


def _legend(figure, axes):
    entries = {}
    for axis in axes.flat:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    labels = sorted(entries, key=lambda label: label == _EVERYWHERE)
    figure.legend(
        [entries[label] for label in labels],
        labels,
        loc="outside lower center",
        ncols=3,
        frameon=False,
    )


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
    styles = _styles(dict.fromkeys(table["model"].tolist()))
    figure = Figure(figsize=(4.2 * len(statistics), 4.4), layout="constrained")
    axes = figure.subplots(1, len(statistics), squeeze=False)
    for axis, statistic in zip(axes.flat, statistics, strict=True):
        for number, (model, (colour, _, marker)) in enumerate(styles.items()):
            rows = table[(table["model"] == model) & (table["statistic"] == statistic)]
            at = np.array([outputs.index(name) for name in rows["output"]])
            shift = 0.15 * (number - (len(styles) - 1) / 2)
            axis.errorbar(
                at + shift,
                np.asarray(rows["mean"]),
                yerr=np.nan_to_num(np.asarray(rows["members_std"])),
                color=colour,
                marker=marker,
                linestyle="none",
                capsize=3,
                label=model,
            )
            if number == 0 and np.isfinite(rows["area"]).any():
                area = float(np.asarray(rows["area"]).mean())
                axis.axhline(area, color="0.5", linewidth=1, label=_EVERYWHERE)
        axis.set_xticks(
            range(len(outputs)),
            [OUTPUTS[name].label for name in outputs],
            rotation=40,
            ha="right",
        )
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
        axis.set_title(STATISTICS[statistic], fontsize="medium")
    _legend(figure, axes)
    return figure


def _draw_binned(table, binning):
    outputs = [name for name in OUTPUTS if name in table["output"]]
    statistics = [name for name in STATISTICS if name in table["statistic"]]
    figure, axes = _new_figure(len(statistics), len(outputs))
    _, label, is_logarithmic = BINNED[binning]
    styles = _styles(dict.fromkeys(table["model"].tolist()))
    for row, statistic in enumerate(statistics):
        for column, output in enumerate(outputs):
            axis = axes[row, column]
            chosen = table[
                (table["output"] == output) & (table["statistic"] == statistic)
            ]
            for number, (model, style) in enumerate(styles.items()):
                rows = chosen[chosen["model"] == model]
                x = np.arange(1, len(rows) + 1)
                if binning != "error":
                    low, high = (np.asarray(rows[end]) for end in ("low", "high"))
                    x = np.sqrt(low * high) if is_logarithmic else (low + high) / 2
                _draw_curve(axis, x, rows, style, model)
                if number == 0 and np.isfinite(rows["area"]).any():
                    axis.plot(
                        x,
                        np.asarray(rows["area"]),
                        color="0.5",
                        linewidth=1,
                        label=_EVERYWHERE,
                    )
            if is_logarithmic:
                axis.set_xscale("log")
                axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axis.grid(alpha=0.3)
            if row == 0:
                axis.set_title(OUTPUTS[output].label, fontsize="medium")
            if column == 0:
                axis.set_ylabel(STATISTICS[statistic], fontsize="small")
            if row == len(statistics) - 1:
                axis.set_xlabel(label)
        # When all that share it are drawn: it fixes the upper end, too.
        axes[row, 0].set_ylim(bottom=0)
    _legend(figure, axes)
    return figure


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
    return {
        "robustness_predictions": _draw_movements(table, MOVES),
        "robustness_heatmaps": _draw_movements(table, heatmaps),
    }


def _draw_movements(table, labels):
    labels = {q: label for q, label in labels.items() if q in table["quantity"]}
    figure, axes = _new_figure(len(labels), len(DISTURBANCES))
    styles = _styles(dict.fromkeys(table["model"].tolist()))
    for column, (disturbance, (x_label, _)) in enumerate(DISTURBANCES.items()):
        for row, (quantity, label) in enumerate(labels.items()):
            axis = axes[row, column]
            chosen = table[
                (table["disturbance"] == disturbance) & (table["quantity"] == quantity)
            ]
            for model, style in styles.items():
                rows = chosen[chosen["model"] == model]
                _draw_curve(axis, np.asarray(rows["value"]), rows, style, model)
            axis.grid(alpha=0.3)
            if column == 0:
                axis.set_ylabel(label, fontsize="small")
            if row == len(labels) - 1:
                axis.set_xlabel(x_label)
    if next(iter(labels)) not in MOVES:
        for axis in axes[:, 0]:
            axis.set_ylim(0, 1.05)
        figure.suptitle(
            "Cosine similarity of the heatmap with that of the undisturbed image",
            fontsize="medium",
        )
    _legend(figure, axes)
    return figure
