"""The figure of an event and its maps, arranged as the paper's Figures 4 to 6."""

from typing import NamedTuple

import astropy.units as u
import numpy as np
from ctapipe.visualization import CameraDisplay
from matplotlib import colormaps
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from scipy.spatial import KDTree

from ..figures.drawing import figure_style
from ..figures.panels import (
    curve_styles,
    legend_entries,
    place_legend,
    plain_text,
    say_empty,
)
from ..tasks import TASKS, class_first, default_tasks
from ..tasks.direction import direction_to_target
from .explainer import PRODUCT
from .heatmaps import EMPTY, all_outputs, outputs_of
from .images import on_sky
from .statistics import errors_of

__all__ = ["draw_event"]

#: Pixels without a value are grey.
_MAP = colormaps["viridis"].with_extremes(bad="0.85")
#: Width of a camera in inches.
_PANEL = 2.7
#: Characters in a line of a row's label, and of the facts.
_ROW, _FACTS = 26, 52
#: Lines of facts that fit beside the image.
_LINES = 13


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
        The first row shows the image with the true and predicted directions, and lists
        truth and predictions. Then each model has a row with the mean over the members
        of each output's heatmap, one with their standard deviation if there are
        several, and the same for attention maps, if there are any.
    """
    rows = [row for name, its_maps in maps.items() for row in _map_rows(name, its_maps)]
    n_columns = max(
        len(outputs_of(default_tasks())), *(len(panels) for _, panels in rows)
    )
    facts = _facts(batch, maps)
    first = max(1, max(map(len, facts)) / _LINES)
    figure = Figure(
        figsize=(_PANEL * n_columns, 0.88 * _PANEL * (first + len(rows))),
        layout="constrained",
    )
    # The layout ignores some of the outermost labels: leave space for them.
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
        # It may extend over the empty panel beside it.
        text.set_in_layout(False)
    for row_axes, (label, panels) in zip(axes[1:], rows, strict=True):
        for axis, panel in zip(row_axes, panels, strict=False):
            _draw_panel(axis, geometry, panel, outline)
        for axis in row_axes[len(panels) :]:
            axis.set_axis_off()
        row_axes[0].set_ylabel(label, fontsize="medium")
    return figure


class _Panel(NamedTuple):
    """A map with its labels."""

    title: str
    unit: str
    values: np.ndarray
    #: Low end of the colours of the map.
    low: float
    #: Colour of the title.
    colour: str = "black"
    #: Note on heatmaps that are 0 everywhere, if any are.
    empty: str = ""


def _draw_panel(axis, geometry, panel, outline):
    display = _draw_map(axis, geometry, panel.values, outline, panel.low)
    axis.set_title(panel.title, fontsize="medium", color=panel.colour)
    if panel.empty == EMPTY:
        say_empty(axis, EMPTY)
        return
    _colour_bar(axis.figure, axis, display, panel.unit)
    if panel.empty:
        # Not over the map of the other members.
        say_empty(axis, panel.empty, below=True)


def _said_of_empty(heatmaps):
    """Note on the members whose heatmaps are 0 everywhere."""
    n_empty = int((heatmaps.max(axis=-1) <= 0).sum())
    if n_empty == len(heatmaps):
        return EMPTY
    return f"empty: {n_empty} of {len(heatmaps)} members" if n_empty else ""


def _map_rows(name, maps):
    """Label and panels of each row."""
    n_members = len(next(iter(maps.heatmaps.values())))
    parts = {"mean" if n_members > 1 else "one member": lambda values: values.mean(0)}
    if n_members > 1:
        parts["std"] = lambda values: values.std(0, ddof=1)
    shown = plain_text(name, _ROW)
    rows = [
        (f"{shown}\nGrad-CAM, {part}", _heatmap_panels(maps.heatmaps, of))
        for part, of in parts.items()
    ]
    for part, of in parts.items() if maps.attention else ():
        panels = [
            _Panel(_stage_label(stage), "factor", of(values[:, 0]), int(part != "std"))
            for stage, values in maps.attention.items()
        ]
        rows.append((f"{shown}\nattention, {part}", panels))
    return rows


def _heatmap_panels(heatmaps, of):
    outputs = all_outputs()
    return [
        _Panel(
            outputs[name].label,
            outputs[name].unit,
            of(values[:, 0]),
            0,
            TASKS[outputs[name].task].colour,
            _said_of_empty(values[:, 0]),
        )
        for name, values in heatmaps.items()
    ]


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
    """Mark the true and the predicted directions, with a legend."""
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
            values, _ = TASKS["direction"].split(predictions["direction"][:, 0])
            mean = values.mean(axis=0)
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
    place_legend(axis.figure, legend_entries([axis]), 4, "upper")


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
    # An edge between two pixels occurs twice.
    middle = edges.mean(axis=1)
    is_shared = np.zeros(len(edges), dtype=bool)
    is_shared[KDTree(middle).query_pairs(0.3 * width, output_type="ndarray")] = True
    return edges[~is_shared]


def _edges(patch):
    corners = patch.get_verts()
    return np.stack([corners[:-1], corners[1:]], axis=1)


def _facts(batch, maps):
    """Truth and predictions of the event: lines, in one or two columns."""
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
    # If the lines do not fit beside the image, half of the models go into a second
    # column.
    if sum(map(len, blocks)) <= _LINES:
        return [sum(blocks, [])]
    half = -(-len(blocks) // 2)
    return [sum(blocks[:half], []), sum(blocks[half:], [])]


def _predicted(batch, predictions):
    """Predictions of the mean over members, and their errors."""
    errors = errors_of(batch, predictions)
    texts = [
        task.fact(predictions[name][:, 0], errors[task.error][0, 0])
        for name, task in class_first().items()
        if name in predictions
    ]
    return [f"  {text}" for text in texts if text]
