"""What is written can be read again, and needs nothing else."""

import re
from html.parser import HTMLParser

import astropy.units as u
import numpy as np
import pytest
from astropy.table import Table
from ctapipe.io import read_table
from disk import full_disk
from predictions import (
    make_algorithm,
    make_events,
    make_sample,
    make_settings,
    plant,
    with_uncertainties,
)

from ctapipe_gammaphysnet.evaluation.metrics import metrics_in
from ctapipe_gammaphysnet.evaluation.plots import draw_all
from ctapipe_gammaphysnet.evaluation.report import (
    FILES,
    summarise,
    write_report,
    write_tables,
)
from ctapipe_gammaphysnet.evaluation.results import evaluate
from ctapipe_gammaphysnet.evaluation.sample import count_valid
from ctapipe_gammaphysnet.figures.drawing import write_figures
from ctapipe_gammaphysnet.files.output import OutputError


@pytest.fixture(scope="module")
def sample():
    events = make_events(600, 400)
    members = [plant(events, seed) for seed in range(3)]
    other = plant(events, 7)
    other["energy"][:] = np.nan
    return make_sample(
        events,
        with_uncertainties(make_algorithm("γ-PhysNet", members)),
        make_algorithm("<Hillas>", [other]),
    )


@pytest.fixture(scope="module")
def results(sample):
    return evaluate(sample, make_settings(n_resamples=5))


def test_tables_come_back_with_units_and_descriptions(results, tmp_path):
    paths = write_tables(results, tmp_path)
    assert {path.name for path in paths} == {path.name for path in tmp_path.iterdir()}
    for name, table in results.items():
        for found in (
            Table.read(tmp_path / f"{name}.ecsv"),
            read_table(tmp_path / "tables.h5", f"/{name}"),
        ):
            assert found.colnames == table.colnames
            for column in table.colnames:
                assert (
                    found[column].tolist()
                    == pytest.approx(table[column].tolist(), nan_ok=True)
                    or found[column].tolist() == table[column].tolist()
                )
                assert (found[column].unit or None) == table[column].unit
                assert found[column].description == table[column].description
    assert read_table(tmp_path / "tables.h5", "/energy")["energy_low"].unit == u.TeV


def test_the_summary_has_a_row_for_members_and_one_for_the_ensemble(results):
    summary = summarise(results["overall"])
    assert summary["Algorithm"].tolist() == [
        "γ-PhysNet: members",
        "γ-PhysNet: ensemble",
        "<Hillas>",
    ]
    (row, *_) = results["overall"]
    mean, deviation = summary["AUC"][0].split(" ± ")
    assert float(mean) == pytest.approx(row["auc_members_mean"], abs=1e-3)
    assert float(deviation) == pytest.approx(row["auc_members_std"], rel=0.1)
    assert summary["Energy resolution"][2] == "–"


class Sources(HTMLParser):
    """What a page refers to."""

    def __init__(self):
        super().__init__()
        self.sources = []

    def handle_starttag(self, tag, attrs):
        self.sources += [v for name, v in attrs if name in {"src", "href"}]
        assert tag not in {"script", "link", "iframe"}


def test_the_page_needs_nothing_else(sample, results, tmp_path):
    counts = count_valid(sample.events, sample.algorithms)
    plots = draw_all(results, 0.5, members=True, published=True, weighted=True)
    plots = {name: plots[name] for name in ("resolution", "roc")}
    path = tmp_path / "report.html"
    figures = [p for p in write_figures(plots, tmp_path) if p.suffix == ".png"]
    write_report(path, {"Files": "a & b"}, results, counts, figures, published=True)
    text = path.read_text(encoding="utf-8")
    parser = Sources()
    parser.feed(text)
    assert len(parser.sources) == 2
    assert all(s.startswith("data:image/png;base64,iVBOR") for s in parser.sources)
    assert "url(" not in text
    assert "@import" not in text
    assert "&lt;Hillas&gt;" in text
    assert "<Hillas>" not in text
    assert "a &amp; b" in text
    assert "Abe et al. 2023" in text
    assert summarise(results["overall"])["AUC"][0] in text


def labels_of(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_plots_show_what_was_computed(results, tmp_path):
    plots = draw_all(results, 0.5)
    assert set(plots) == {
        *("resolution", "bias_impact", "roc", "gammaness"),
        *("separation_energy", "separation_intensity"),
        *("conditions_zenith", "conditions_offset", "conditions_noise"),
        *("uncertainty_energy", "uncertainty_intensity", "kept"),
    }
    angular, energy = plots["resolution"].axes
    assert angular.get_ylabel() == "Angular resolution / deg"
    assert energy.get_xlabel() == "True energy / TeV"
    assert labels_of(plots["resolution"]) == [
        "γ-PhysNet: ensemble",
        "γ-PhysNet: members, mean ± standard deviation",
        "<Hillas>",
    ]
    rows = results["energy"][results["energy"]["algorithm"] == "γ-PhysNet"]
    np.testing.assert_array_equal(
        angular.containers[0].lines[0].get_ydata(), rows["angular_resolution"]
    )
    band = angular.collections[1].get_paths()[0].vertices[:, 1]
    mean, deviation = (rows[f"angular_resolution_members_{x}"] for x in ("mean", "std"))
    np.testing.assert_allclose(band.max(), (mean + deviation).max())
    # The energy of one algorithm only.
    assert len(energy.containers) == 1
    paths = write_figures({"roc": plots["roc"]}, tmp_path)
    assert [path.suffix for path in paths] == [".png", ".pdf"]
    assert all(path.stat().st_size > 1000 for path in paths)


def test_bands_of_histograms_have_their_steps_and_are_in_the_legend(results):
    figure = draw_all(results, 0.5)["gammaness"]
    assert labels_of(figure) == [
        "Gammas",
        "Background",
        "Gammas: members, mean ± standard deviation",
        "Background: members, mean ± standard deviation",
    ]
    x, y = figure.axes[0].collections[0].get_paths()[0].vertices.T
    # Horizontal or vertical, but for the ends.
    assert ((np.diff(x) == 0) | (np.diff(y) == 0)).all()


def test_published_data_and_members_are_drawn_on_demand(results):
    labels = labels_of(draw_all(results, 0.5, True, True)["resolution"])
    assert "γ-PhysNet: each member" in labels
    assert [label for label in labels if re.match("Other data.*Abe", label)]
    drawn = draw_all(results, 0.5, True)["resolution"].axes[0]
    thin = [line for line in drawn.lines if line.get_linewidth() == 0.6]
    assert len(thin) == 3


def test_gammas_alone_are_drawn():
    events = make_events(100, 0)
    sample = make_sample(events, make_algorithm("one", [plant(events)]))
    plots = draw_all(evaluate(sample, make_settings(n_resamples=2)), 0.5)
    plots = {n: plot for n, plot in plots.items() if not n.startswith("conditions")}
    assert set(plots) == {"resolution", "bias_impact"}


def test_nothing_to_draw_is_no_error():
    events = make_events(1, 0)
    sample = make_sample(events, make_algorithm("one", [plant(events)]))
    results = evaluate(sample, make_settings())
    assert draw_all(results, 0.5) == {}
    summary = summarise(results["overall"])
    assert all(summary[0][name] == "–" for name in summary.colnames[1:])
    assert len(summary.colnames) == 1 + len(metrics_in(results["overall"]))


def test_all_files_of_a_report_are_known(sample, results, tmp_path):
    """By name: only such may be replaced."""
    counts = count_valid(sample.events, sample.algorithms)
    written = write_tables(results | {"events": counts}, tmp_path)
    names = {path.name for path in written} | {"report.html"}
    for name in draw_all(results, 0.5):
        names |= {f"{name}.png", f"{name}.pdf"}
    assert names == set(FILES)


def test_tables_are_there_or_it_is_an_error(tmp_path):
    events = make_events(1000, 1000)
    sample = make_sample(events, make_algorithm("one", [plant(events)]))
    results = evaluate(sample, make_settings(n_resamples=2))
    (path, *_) = write_tables(results, tmp_path)
    full = path.stat().st_size
    for size in range(full // 20, full, full // 20):
        with full_disk(size), pytest.raises(OutputError, match="cannot be written"):
            write_tables(results, tmp_path)


def test_what_training_saw_is_shaded(results):
    plots = draw_all(results, 0.5, trained={"zenith": (20.0, 24.0)})
    for axis in plots["conditions_zenith"].axes:
        (shade,) = axis.patches
        assert shade.get_x() == 20
        assert shade.get_width() == 4
        assert axis.get_xlim()[0] < 18
    assert "training" in labels_of(plots["conditions_zenith"])
    assert not plots["conditions_noise"].axes[0].patches


def test_conditions_of_a_single_bin_are_not_drawn(sample):
    events = sample.events.copy()
    events["zenith"] = 20.5
    one_bin = make_sample(events, *sample.algorithms)
    plots = draw_all(evaluate(one_bin, make_settings(n_resamples=2)), 0.5)
    assert "conditions_zenith" not in plots
    assert "conditions_offset" in plots
