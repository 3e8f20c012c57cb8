"""Plots of the metrics, in the style of the paper's Fig. 3."""

import numpy as np
from matplotlib.figure import Figure

from ..figures.drawing import figure_style
from ..figures.panels import (
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
from ..tasks import TASKS
from ..tasks.metric import CONTAINMENT
from .metrics import label_of, with_spread
from .uncertainty import judged_tasks, kept_metrics, uncertainty_metrics

__all__ = ["PUBLISHED_SOURCE", "draw_all"]

#: What a band shows.
_MEMBERS = "members, mean ± standard deviation"
#: Performance of LST-1, for orientation: edges of the bins in TeV, values.
_PUBLISHED_ENERGY = np.array([[0.08, 0.2, 0.8, 3.2], [0.126, 0.32, 1.26, 5.0]])
_PUBLISHED = {
    "angular_resolution": [0.337, 0.241, 0.170, 0.171],
    "energy_resolution": [0.355, 0.245, 0.183, 0.171],
}
#: Source of the published values.
PUBLISHED_SOURCE = (
    "LST-1, random forests, source-independent analysis, 10° zenith, "
    "70 % efficiency of the gammaness cut: Abe et al. 2023, ApJ 956, 80"
)

_BINNINGS = {"energy": "True energy / TeV", "intensity": "Intensity / p.e."}
#: Conditions, and what is drawn against them.
_CONDITIONS = {
    "zenith": "Zenith angle of the pointing / deg",
    "offset": "Angle between true direction and pointing / deg",
    "noise": "Noise of the pixels without light of the shower / p.e.",
}
#: Metrics of uncertainties, and their values if these are right.
_RIGHT = {"coverage": CONTAINMENT, "pull_width": 1.0, "pull_median": 0.0}
_AGAINST_CONDITIONS = ("angular_resolution", "energy_resolution", "energy_bias", "auc")


@figure_style()
def draw_all(
    results,
    cut,
    members=False,
    published=False,
    weighted=False,
    gaps=None,
    trained=None,
):
    """Draw all plots for which there are data.

    Parameters
    ----------
    results : dict of str to astropy.table.Table
        As `evaluate` returns them.
    cut : float
        Smallest gammaness of events that are classified as gamma; it is marked.
    members, published, weighted : bool
        As for `write_evaluation`.
    gaps : dict of (str, str) to str, optional
        Why metrics are missing, for empty panels: as `find_gaps` returns it.
    trained : dict of str to (float, float), optional
        Range of each condition that all models saw in training; it is shaded.

    Returns
    -------
    dict of str to matplotlib.figure.Figure
        The plots, by name.
    """
    styles = curve_styles(dict.fromkeys(results["overall"]["algorithm"].tolist()))
    plots = {}
    optional = [name for t in TASKS.values() if t.optional for name in t.metrics]
    for name, metrics in (
        ("resolution", ("angular_resolution", "energy_resolution")),
        ("bias_impact", ("energy_bias", "impact_resolution", *optional)),
    ):
        metrics = [m for m in metrics if _is_known(results["energy"], m)]
        if metrics:
            plots[name] = _draw_against_energy(
                results, metrics, styles, members, published
            )
    if len(results["roc"]) > 0:
        plots["roc"] = _draw_roc(results, styles, cut)
        plots["gammaness"] = _draw_gammaness(results, styles, cut)
    plots |= _draw_separation(results, styles, members, gaps or {})
    plots |= _draw_uncertainties(results, styles, members)
    plots |= _draw_conditions(results, styles, members, trained or {})
    if weighted:
        for figure in plots.values():
            figure.suptitle("Events weighted to a spectrum", fontsize="medium")
    return plots


def _is_known(table, name):
    is_there = len(table) > 0 and name in table.colnames
    return is_there and bool(np.isfinite(table[name]).any())


def _new_figure(n_columns, n_rows=1, **kwargs):
    figure = Figure(figsize=(5.6 * n_columns, 4.2 * n_rows), layout="constrained")
    return figure, figure.subplots(n_rows, n_columns, squeeze=False, **kwargs)


def _finish(axis, x_label, y_label):
    axis.set_xlabel(x_label)
    axis.set_ylabel(y_label)
    axis.grid(alpha=0.3, which="major")
    axis.grid(alpha=0.1, which="minor")


def _label(axis, x_label, name):
    """Label the axes of a metric, in the colour of its task."""
    (task,) = (task for task in TASKS.values() if name in task.metrics)
    _label_metric(axis, x_label, task.metrics[name], task)


def _label_metric(axis, x_label, metric, task):
    _finish(axis, x_label, label_of(metric))
    axis.yaxis.label.set_color(task.colour)


def _legend(figure, axes, names=()):
    """One legend below all axes, in the order of the algorithms."""
    entries = legend_entries(axes.flat)
    shown = [plain_text(name, NAME_WIDTH) for name in names]

    def order(label):
        """Number of the algorithm that the label begins with; its members are last."""
        of = [i for i, name in enumerate(shown) if f"{label}: ".startswith(f"{name}: ")]
        # If several names match, the longest.
        return max(of, key=lambda i: len(shown[i]), default=len(shown)), (
            "member" in label.rpartition(": ")[2]
        )

    ordered = {label: entries[label] for label in sorted(entries, key=order)}
    place_legend(figure, ordered, 1 if np.size(axes) == 1 else 2)


def _draw_against_energy(results, names, styles, members, published):
    figure, axes = _new_figure(len(names), sharex=True)
    for axis, name in zip(axes.flat, names, strict=True):
        _draw_bins(axis, results, "energy", "energy_center", name, styles, members)
        if published and name in _PUBLISHED:
            _draw_published(axis, name)
        set_logarithmic(axis.xaxis)
        if "bias" in name:
            axis.axhline(0, color="black", linewidth=0.8)
        else:
            axis.set_ylim(bottom=0)
        _label(axis, "True energy / TeV", name)
    _legend(figure, axes, styles)
    return figure


def _draw_bins(axis, results, table, abscissa, name, styles, members):
    """Curve of each algorithm with statistical errors, band of its members."""
    table, of_members = results[table], results[f"members_{table}"]
    for algorithm, style in styles.items():
        # Bins without a value interrupt the curve.
        rows = table[table["algorithm"] == algorithm]
        if not _is_known(rows, name):
            continue
        x = np.asarray(rows[abscissa])
        has_members = np.isfinite(rows[f"{name}_members_std"]).any()
        shown = plain_text(algorithm, NAME_WIDTH)
        axis.errorbar(
            x,
            np.asarray(rows[name]),
            yerr=np.asarray(rows[f"{name}_error"]),
            **style,
            markersize=4,
            linewidth=1.4,
            elinewidth=0.8,
            label=f"{shown}: ensemble" if has_members else shown,
        )
        if has_members:
            mean = np.asarray(rows[f"{name}_members_mean"])
            deviation = np.asarray(rows[f"{name}_members_std"])
            thin = {"color": style["color"], "alpha": 0.5, "linewidth": 1}
            axis.plot(x, mean, **thin, **mark_isolated(mean))
            label = f"{shown}: {_MEMBERS}"
            draw_band(axis, x, mean, deviation, style["color"], label)
        if members and len(of_members) > 0:
            _draw_members(axis, of_members, abscissa, name, algorithm, style)


def _draw_members(axis, table, abscissa, name, algorithm, style):
    of_algorithm = table[table["algorithm"] == algorithm]
    for seed in dict.fromkeys(of_algorithm["seed"].tolist()):
        rows = of_algorithm[of_algorithm["seed"] == seed]
        axis.plot(
            np.asarray(rows[abscissa]),
            np.asarray(rows[name]),
            color=style["color"],
            linewidth=0.6,
            alpha=0.8,
            **mark_isolated(rows[name]),
            label=f"{plain_text(algorithm, NAME_WIDTH)}: each member",
        )


def _draw_published(axis, name):
    low, high = _PUBLISHED_ENERGY
    middle = np.sqrt(low * high)
    axis.errorbar(
        middle,
        _PUBLISHED[name],
        xerr=[middle - low, high - middle],
        fmt="*",
        color="black",
        markerfacecolor="none",
        markersize=9,
        elinewidth=0.8,
        label="Other data, for orientation: LST-1 (Abe et al. 2023)",
    )


def _draw_roc(results, styles, cut):
    """ROC curves, and precision against recall."""
    figure, axes = _new_figure(2)
    left, right = axes.flat
    overall = results["overall"]
    for algorithm, style in styles.items():
        line = {key: style[key] for key in ("color", "linestyle")}
        roc = results["roc"][results["roc"]["algorithm"] == algorithm]
        cuts = results["cuts"][results["cuts"]["algorithm"] == algorithm]
        if len(roc) == 0:
            continue
        (row,) = overall[overall["algorithm"] == algorithm]
        label = f"{plain_text(algorithm, NAME_WIDTH)}: {_auc(row)}"
        x, y = roc["background_efficiency"], roc["gamma_efficiency"]
        left.plot(x, y, **line, label=label)
        _band(left, roc, "background_efficiency", "gamma_efficiency", style["color"])
        right.plot(cuts["recall"], cuts["precision"], **line)
        at_cut = cuts[[np.argmin(np.abs(cuts["cut"] - cut))]]
        right.plot(
            at_cut["recall"],
            at_cut["precision"],
            color=style["color"],
            marker=style["marker"],
            linestyle="none",
        )
    right.plot(
        [],
        [],
        color="grey",
        marker="o",
        linestyle="none",
        label=f"gammaness ≥ {cut:g}",
    )
    left.set(xlim=(1e-3, 1), ylim=(0, 1.01))
    set_logarithmic(left.xaxis)
    right.set(xlim=(0, 1.01))
    _finish(left, "Background efficiency", "Gamma efficiency")
    _finish(right, "Recall (gamma efficiency)", "Precision")
    _legend(figure, axes, styles)
    return figure


def _band(axis, table, x, y, colour, label=None, step=None):
    mean, deviation = (
        np.asarray(table[f"{y}_members_{name}"]) for name in ("mean", "std")
    )
    if np.isfinite(deviation).any():
        draw_band(axis, np.asarray(table[x]), mean, deviation, colour, label, step)


def _auc(row):
    """AUC with its statistical error, and that of the members with their dispersion."""
    text = f"AUC {with_spread(row['auc'], row['auc_error'])}"
    if np.isfinite(row["auc_members_std"]):
        of_members = with_spread(row["auc_members_mean"], row["auc_members_std"])
        text += f"; members {of_members}"
    return text


def _draw_gammaness(results, styles, cut):
    """Distributions of the gammaness, a panel for each algorithm."""
    table = results["gammaness"]
    names = [a for a in styles if (table["algorithm"] == a).any()]
    n_columns = min(len(names), 3)
    figure, axes = _new_figure(n_columns, -(-len(names) // n_columns), sharey=True)
    classes = (
        ("gamma", "Gammas", "#0072B2", "-"),
        ("background", "Background", "#D55E00", "--"),
    )
    for axis, algorithm in zip(axes.flat, names, strict=False):
        rows = table[table["algorithm"] == algorithm]
        for name, label, colour, line in classes:
            x = np.asarray(rows["gammaness"])
            axis.step(
                x,
                rows[name],
                where="mid",
                color=colour,
                linestyle=line,
                label=label,
            )
            of_members = f"{label}: {_MEMBERS}"
            _band(axis, rows, "gammaness", name, colour, of_members, "mid")
        axis.axvline(cut, color="black", linewidth=0.8, linestyle=":")
        axis.set_title(plain_text(algorithm, NAME_WIDTH), fontsize="medium")
        axis.set_xlim(0, 1)
        axis.set_yscale("log")
        axis.set_ylim(bottom=0.01)
        set_logarithmic(axis.yaxis)
        _finish(axis, "Gammaness", "Density")
    for axis in list(axes.flat)[len(names) :]:
        axis.remove()
    _legend(figure, axes)
    return figure


def _draw_separation(results, styles, members, gaps):
    """AUC, precision and recall against energy and against intensity."""
    names = ("auc", "precision", "recall")
    plots = {}
    for binning, label in _BINNINGS.items():
        if not _is_known(results[binning], "auc"):
            continue
        figure, axes = _new_figure(3, sharex=True)
        for axis, name in zip(axes.flat, names, strict=True):
            x = f"{binning}_center"
            _draw_bins(axis, results, binning, x, name, styles, members)
            if (binning, name) in gaps:
                say_empty(axis, gaps[binning, name])
            set_logarithmic(axis.xaxis)
            bottom, _ = axis.get_ylim()
            axis.set_ylim(top=1 + 0.02 * (1 - bottom))
            _label(axis, label, name)
        _legend(figure, axes, styles)
        plots[f"separation_{binning}"] = figure
    return plots


def _draw_conditions(results, styles, members, trained):
    """Metrics against the conditions that differ between the events."""
    plots = {}
    for binning, label in _CONDITIONS.items():
        table = results[binning]
        names = [name for name in _AGAINST_CONDITIONS if _is_known(table, name)]
        if not names or len(np.unique(table[f"{binning}_center"])) < 2:
            continue
        figure, axes = _new_figure(2, -(-len(names) // 2), sharex=True)
        for axis, name in zip(axes.flat, names, strict=False):
            x = f"{binning}_center"
            _draw_bins(axis, results, binning, x, name, styles, members)
            _shade_training(axis, trained.get(binning))
            if "bias" in name:
                axis.axhline(0, color="black", linewidth=0.8)
            elif name != "auc":
                axis.set_ylim(bottom=0)
            _label(axis, label, name)
        for axis in list(axes.flat)[len(names) :]:
            axis.remove()
        _legend(figure, axes, styles)
        plots[f"conditions_{binning}"] = figure
    return plots


def _shade_training(axis, limits):
    """Shade the range of a training, without changing that of the axis."""
    if limits is None:
        return
    shown = axis.get_xlim()
    axis.axvspan(*limits, color="0.5", alpha=0.15, linewidth=0, label="training")
    axis.set_xlim(shown)


def _draw_uncertainties(results, styles, members):
    """Coverage and pulls in bins, and resolutions against the share that is kept."""
    plots, metrics = {}, uncertainty_metrics()
    for binning, label in _BINNINGS.items():
        table = f"uncertainty_{binning}"
        tasks = [
            task
            for name, task in judged_tasks().items()
            if _is_known(results[table], f"{name}_coverage")
        ]
        if not tasks:
            continue
        figure, axes = _new_figure(len(tasks), len(_RIGHT), sharex=True)
        for (kind, right), row in zip(_RIGHT.items(), axes, strict=True):
            for task, axis in zip(tasks, row, strict=True):
                name = f"{task.name}_{kind}"
                if name not in metrics:
                    axis.remove()
                    continue
                x = f"{binning}_center"
                _draw_bins(axis, results, table, x, name, styles, members)
                axis.axhline(right, color="black", linewidth=0.8, linestyle="--")
                axis.tick_params(labelbottom=True)
                set_logarithmic(axis.xaxis)
                _label_metric(axis, label, metrics[name], task)
        _legend(figure, np.array(figure.axes), styles)
        plots[table] = figure
    return plots | _draw_kept(results, styles, members)


def _draw_kept(results, styles, members):
    """Resolutions of the gammas kept: by their share, and in bins of energy."""
    kept, metrics = kept_metrics(1), uncertainty_metrics()
    names = [name for name in kept if _is_known(results["kept"], name)]
    if not names:
        return {}
    figure, axes = _new_figure(len(names), 2)
    for name, (above, below) in zip(names, axes.T, strict=True):
        _draw_bins(above, results, "kept", "share", name, styles, members)
        above.set(xlim=(0, 1.05))
        _label(above, "Share of the gammas kept", name)
        (task,) = (task for task in TASKS.values() if name in task.metrics)
        half, binned = f"{task.name}_best_half", ("uncertainty_energy", "energy_center")
        _draw_bins(below, results, *binned, half, styles, members)
        below.axhline(1, color="black", linewidth=0.8)
        set_logarithmic(below.xaxis)
        _label_metric(below, _BINNINGS["energy"], metrics[half], task)
    for axis in axes.flat:
        axis.set_ylim(bottom=0)
    _legend(figure, axes, styles)
    return {"kept": figure}
