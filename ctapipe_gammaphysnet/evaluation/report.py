"""Files of an evaluation: tables, figures and a page that shows them."""

import base64
import html
from datetime import UTC, datetime
from importlib.metadata import version

import numpy as np
from astropy.table import Table
from ctapipe.io import write_table

from ..figures.drawing import collect_failures, write_figures
from ..files.ecsv import write_ecsv
from ..files.hdf5_output import new_file
from ..files.output import write_whole
from . import plots
from .gaps import (
    describe_gaps,
    describe_sparse_bins,
    describe_unjudged,
    find_gaps,
)
from .metrics import label_of, metrics_in, with_spread
from .results import CONDITIONS
from .uncertainty import summarise_uncertainties

__all__ = [
    "FILES",
    "LISTING",
    "describe_evaluation",
    "summarise",
    "write_evaluation",
    "write_report",
    "write_tables",
]

_STYLE = """
body { font: 15px/1.5 sans-serif; max-width: 75em; margin: 2em auto; padding: 0 1em; }
table { border-collapse: collapse; margin: 1em 0; }
th, td { padding: 0.2em 0.8em; border-bottom: 1px solid #ccc; text-align: right; }
th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; }
figure { margin: 1.5em 0; }
figcaption { color: #444; max-width: 60em; }
"""
_CAPTIONS = {
    "resolution": "Angular resolution and energy resolution against true energy: 68 % "
    "containment of the angle between reconstructed and true direction, and of "
    "|E/E_true − 1|.",
    "bias_impact": "Energy bias, the median of E/E_true − 1, and impact resolution, "
    "68 % containment of the distance to the true impact point on the ground, against "
    "true energy.",
    "roc": "ROC curves, and precision against recall.",
    "gammaness": "Distributions of the gammaness.",
    "separation_energy": "AUC, precision and recall of gammas and background of the "
    "same true energy.",
    "separation_intensity": "AUC, precision and recall of gammas and background of the "
    "same intensity.",
    "conditions_zenith": "Against the zenith angle of the pointing. Grey: what the "
    "models saw in training.",
    "conditions_offset": "Against the angle between true direction and pointing.",
    "conditions_noise": "Against the noise of the pixels without light of the shower. "
    "Grey: what the models saw in training.",
}
#: Captions of what is in the section of predicted uncertainties.
_UNCERTAINTY_CAPTIONS = {
    "uncertainty_energy": "Coverage, width and median of the pulls against true energy."
    " Dashed: what right uncertainties have.",
    "uncertainty_intensity": "The same against intensity.",
    "kept": "Resolutions of the gammas that are left when those with the largest "
    "predicted errors are dropped; below, of the better half in each bin of true "
    "energy, over those of all in the bin.",
}
_UNCERTAINTY_TEXT = (
    "Coverage: share of the gammas whose true value is in the region that is predicted "
    "to hold 68.27 %: within the half width of energy (in its logarithm) and height, "
    "in the ellipse of direction and impact point, or in the circle of a direction "
    "without an ellipse. A pull is an error over the predicted one; its width is half "
    "of the central 68.27 % of the pulls or, of an ellipse, the factor by which it "
    "would hold 68.27 %: above 1, predicted errors are too small. Gammas without a "
    "predicted uncertainty do not count. Last column: resolution of the half with the "
    "smallest predicted errors, over that of all; the smaller, the better these choose."
)
_JUDGED = ("overall", "energy", "intensity")
_BINNED_TABLES = (
    *(*_JUDGED, *CONDITIONS),
    *(*(f"uncertainty_{name}" for name in _JUDGED), "kept"),
)
_TABLES = (
    *_BINNED_TABLES,
    *(f"members_{name}" for name in _BINNED_TABLES),
    *("roc", "cuts", "gammaness", "events"),
)
#: Names of all files of a report, and of the list of those that were written.
FILES = (
    *("report.html", "tables.h5"),
    *(f"{name}.ecsv" for name in _TABLES),
    *(
        f"{name}.{suffix}"
        for name in (*_CAPTIONS, *_UNCERTAINTY_CAPTIONS)
        for suffix in ("png", "pdf")
    ),
)
LISTING = "report.files.json"


def describe_evaluation(evaluation):
    """Describe in words what was evaluated, and how.

    Parameters
    ----------
    evaluation : Evaluation
        The evaluation, whose events are read.

    Returns
    -------
    dict of str to str
        Facts for `write_evaluation`.
    """
    settings = evaluation.settings
    facts = {
        f"Model {name}": _describe_model(path, evaluation.models[name])
        for name, path in evaluation.model_paths.items()
    }
    facts |= {f"DL2 of {name}": ", ".join(g) for name, g in evaluation.groups.items()}
    for label, name in enumerate(("Gammas", "Background")):
        names = [path.name for path, of in evaluation.files if of == label]
        facts[name] = ", ".join(names) or "none"
    spectra = dict.fromkeys(name or "as simulated" for name in evaluation.spectra)
    selection = "; ".join(evaluation.criteria) or "anything"
    return facts | {
        "Telescopes": ", ".join(evaluation.types),
        "Events": f"of each {evaluation.level}; images with {selection}",
        "Bins": f"empty with fewer than {settings.minimum} events; statistical errors "
        f"from {settings.n_resamples} samples of the showers",
        "Gammaness": f"at least {settings.cut:g} for precision and recall",
        "Spectra": " and ".join(spectra),
        "Made": f"{datetime.now(UTC).isoformat(timespec='seconds')} with "
        f"ctapipe_gammaphysnet {version('ctapipe_gammaphysnet')}, ctapipe "
        f"{version('ctapipe')}",
    }


def _describe_model(path, model):
    n_members = len(next(iter(model.networks.values())).card.members)
    return f"{path.name}, SHA-256 {model.sha256[:16]}…, {n_members} members"


def write_evaluation(
    folder, results, counts, settings, facts, members, published, weighted, trained=None
):
    """Write tables, figures and the report.

    Tables are written first: they are complete even if something cannot be drawn.

    Parameters
    ----------
    folder : pathlib.Path
        Where to write them.
    results : dict of str to astropy.table.Table
        As `evaluate` returns them.
    counts : astropy.table.Table
        As `count_valid` returns them.
    settings : Settings
        How metrics were computed.
    facts : dict of str to str
        What was evaluated, and how.
    members : bool
        Whether to draw the curve of each member, too.
    published : bool
        Whether to draw published resolutions of LST-1, for orientation.
    weighted : bool
        Whether the events are weighted to a spectrum.
    trained : dict of str to (float, float), optional
        As for `draw_all`.

    Returns
    -------
    written : list of pathlib.Path
        All files.
    gaps : list of str
        What is not shown, and why.
    failures : list of str
        What could not be drawn, and why.
    """
    gaps, failures, figures = find_gaps(results, settings), [], {}
    written = write_tables(results | {"events": counts}, folder)
    with collect_failures(failures, "figures"):
        figures = plots.draw_all(
            results, settings.cut, members, published, weighted, gaps, trained
        )
    written += write_figures(figures, folder, failures)
    images = [path for path in written if path.suffix == ".png"]
    written.append(folder / "report.html")
    missing = [
        *describe_gaps(gaps),
        *describe_sparse_bins(results, settings),
        *describe_unjudged(results),
        *(f"Not drawn: {failure}" for failure in failures),
    ]
    write_report(written[-1], facts, results, counts, images, published, missing)
    return written, describe_gaps(gaps), failures


def write_tables(results, folder):
    """Write tables, each as ECSV, and all of them into one HDF5 file.

    Parameters
    ----------
    results : dict of str to astropy.table.Table
        The tables by name; those without rows are left out.
    folder : pathlib.Path
        Where to write ``NAME.ecsv`` and ``tables.h5``, which ctapipe reads.

    Returns
    -------
    list of pathlib.Path
        What was written.
    """
    paths = [folder / "tables.h5"]
    with new_file(paths[0]) as file:
        for name, table in results.items():
            if len(table) == 0:
                continue
            paths.append(folder / f"{name}.ecsv")
            write_ecsv(table, paths[-1])
            write_table(table, file, f"/{name}")
    return paths


def summarise(overall):
    """Put the metrics of all events into a table like the paper's Table 1.

    Parameters
    ----------
    overall : astropy.table.Table
        As `evaluate` returns it.

    Returns
    -------
    astropy.table.Table
        Text. A row for each algorithm: values and their statistical errors. If there
        are several members, a row before it: mean and standard deviation over them.
    """
    rows, metrics = [], metrics_in(overall)
    for row in overall:
        name = row["algorithm"]
        has_members = any(np.isfinite(row[f"{m}_members_mean"]) for m in metrics)
        if has_members:
            cells = _cells(row, metrics, "_members_mean", "_members_std")
            rows.append((f"{name}: members", *cells))
            name = f"{name}: ensemble"
        rows.append((name, *_cells(row, metrics, "", "_error")))
    names = ["Algorithm", *(label_of(metric) for metric in metrics.values())]
    return Table(rows=rows, names=names)


def _cells(row, metrics, value, spread):
    return [with_spread(row[f"{m}{value}"], row[f"{m}{spread}"]) for m in metrics]


def write_report(path, facts, results, counts, figures, published=False, missing=()):
    """Write a page that shows everything and needs no other file.

    Parameters
    ----------
    path : pathlib.Path
        HTML file to write.
    facts : dict of str to str
        What was evaluated, and how.
    results : dict of str to astropy.table.Table
        As `evaluate` returns them.
    counts : astropy.table.Table
        As `count_valid` returns them.
    figures : list of pathlib.Path
        The plots as PNG files, which become part of the page.
    published : bool
        Whether published resolutions are in them.
    missing : list of str
        What is not shown, and why.
    """
    body = [
        "<h1>Evaluation</h1>",
        _list(facts),
        "<h2>Overall</h2>",
        _html_table(summarise(results["overall"])),
        "<p>Members: mean and standard deviation over them. Ensemble: the mean of "
        "their predictions. Errors of single values are statistical, by bootstrap "
        "over showers.</p>",
        "<h2>Events</h2>",
        "<p>All metrics are of the events for which every algorithm has valid values "
        "of all that it predicts. Numbers of selected events with each valid "
        "prediction:</p>",
        _html_table(counts),
    ]
    if missing:
        items = "".join(f"<li>{html.escape(text)}</li>" for text in missing)
        body += ["<h2>What is not shown</h2>", f"<ul>{items}</ul>"]
    body += [_html_figure(f, published) for f in figures if f.stem in _CAPTIONS]
    judged = summarise_uncertainties(results["uncertainty_overall"])
    if len(judged) > 0:
        body += [
            "<h2>Predicted uncertainties</h2>",
            _html_table(judged),
            f"<p>{html.escape(_UNCERTAINTY_TEXT)}</p>",
            *(_html_figure(f) for f in figures if f.stem in _UNCERTAINTY_CAPTIONS),
        ]
    energy = results["energy"]
    filled = [
        n for n in metrics_in(energy) if len(energy) and np.isfinite(energy[n]).any()
    ]
    if filled:
        body += [
            "<h2>In bins of true energy</h2>",
            _html_table(_binned_summary(energy, "energy", filled)),
        ]
    text = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>Evaluation</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )
    # Names of files need not be text.
    write_whole(path, text.encode("utf-8", "backslashreplace"))


def _list(facts):
    items = "".join(
        f"<li><b>{html.escape(key)}</b>: {html.escape(value)}</li>"
        for key, value in facts.items()
    )
    return f"<ul>{items}</ul>"


def _html_table(table):
    head = "".join(f"<th>{html.escape(name)}</th>" for name in table.colnames)
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(v))}</td>" for v in row) + "</tr>"
        for row in table
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _html_figure(path, published=False):
    caption = (_CAPTIONS | _UNCERTAINTY_CAPTIONS)[path.stem]
    if published and path.stem == "resolution":
        caption += f" Stars: other data, for orientation, {plots.PUBLISHED_SOURCE}."
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return (
        f'<figure><img alt="{html.escape(caption)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def _binned_summary(table, binning, names):
    """Values with their statistical errors, of bins that are not empty."""
    rows = [
        (
            row["algorithm"],
            f"{row[f'{binning}_low']:.3g} – {row[f'{binning}_high']:.3g}",
            row["n_gammas"],
            row["n_background"],
            *(with_spread(row[name], row[f"{name}_error"]) for name in names),
        )
        for row in table
        if any(np.isfinite(row[name]) for name in names)
    ]
    labels = [label_of(metrics_in(table)[name]) for name in names]
    header = ["Algorithm", "True energy / TeV", "Gammas", "Background", *labels]
    return Table(rows=rows, names=header)
