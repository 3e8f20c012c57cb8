"""The evaluation tool: models and DL2 of the same model say the same."""

import json
import re
import shutil
from subprocess import CalledProcessError

import astropy.units as u
import numpy as np
import pytest
import toy_sample
from astropy.coordinates import offset_by, position_angle
from astropy.table import QTable, Table
from conftest import enlarge_mirror
from ctapipe.core import ToolConfigurationError, run_tool
from ctapipe.instrument import SubarrayDescription
from ctapipe.io import read_table, write_table

from ctapipe_gammaphysnet.evaluation import plots
from ctapipe_gammaphysnet.evaluation.metrics import metrics_in
from ctapipe_gammaphysnet.events.showers import describe_showers, shower_numbers
from ctapipe_gammaphysnet.model.file import Model, write_model
from ctapipe_gammaphysnet.tasks.metric import CONTAINMENT
from ctapipe_gammaphysnet.tools import extras
from ctapipe_gammaphysnet.tools.apply import ApplyGammaPhysNet
from ctapipe_gammaphysnet.tools.evaluate import EvaluateGammaPhysNet

ARRAY = toy_sample.small_array(3, positions=[(0.0, 0.0, 0.0), (60.0, 40.0, 10.0)])
#: What is reconstructed, so that the same is evaluated.
SELECTION = [["signal after cleaning", "morphology_n_pixels > 0"]]


@pytest.fixture(scope="module")
def dl1(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dl1")
    return [
        toy_sample.write_toy_file(
            folder / f"{particle}.dl1.h5", particle, 25, seed=3, array=ARRAY
        )
        for particle in ("gamma", "proton")
    ]


@pytest.fixture(scope="module")
def model(dl1, make_model, tmp_path_factory):
    """Two members with random weights, and impact points that are not far away."""
    (telescope,) = SubarrayDescription.from_hdf(dl1[0]).telescope_types
    path = tmp_path_factory.mktemp("model") / "toy.safetensors"
    write_model(path, make_model(telescope, n_members=2))
    return path


def apply_model(dl1, model, folder):
    """Write images, and predictions of a model."""
    argv = [
        *("--input", *map(str, dl1)),
        f"--model={model}",
        f"--output-dir={folder}",
        f"--provenance-log={folder / 'log'}",
        *("--dl1-images", "--no-progress"),
    ]
    run_tool(ApplyGammaPhysNet(), argv=argv, cwd=folder, raises=True)


@pytest.fixture(scope="module")
def dl2(dl1, model):
    """Images, and predictions of the model as DL2."""
    apply_model(dl1, model, dl1[0].parent)
    return [path.with_name(path.name.replace("dl1", "dl2")) for path in dl1]


def evaluate(files, output, *options, background=True, min_events=5):
    """Run the tool, and return the folder it has written."""
    config = output.with_suffix(".json")
    config.write_text(
        json.dumps({"TrainingQualityQuery": {"quality_criteria": SELECTION}})
    )
    argv = [
        f"--signal={files[0]}",
        *([f"--background={files[1]}"] if background else []),
        f"--output-dir={output}",
        f"--config={config}",
        f"--provenance-log={output}.log",
        "--no-progress",
        f"--min-events={min_events}",
        "--EvaluateGammaPhysNet.n_bootstrap=3",
        *options,
    ]
    run_tool(EvaluateGammaPhysNet(), argv=argv, cwd=output.parent, raises=True)
    return output


@pytest.fixture
def no_plots(monkeypatch):
    """Drawing takes longer than all the rest."""
    monkeypatch.setattr(plots, "draw_all", lambda *arguments: {})


@pytest.fixture(scope="module")
def both(dl2, model, tmp_path_factory):
    """The model beside its own predictions, telescope by telescope."""
    output = tmp_path_factory.mktemp("evaluation") / "both"
    return evaluate(
        dl2,
        output,
        f"--model=mine={model}",
        "--reference=GammaPhysNet",
        "--EvaluateGammaPhysNet.signal_spectrum=CRAB_HEGRA",
    )


def assert_same_metrics(overall):
    one, other = overall
    for name in metrics_in(overall):
        assert np.isfinite(one[name])
        assert one[name] == pytest.approx(other[name], rel=1e-4), name


def assert_same_uncertainties(folder, tasks):
    """The spread of the model's members, or of telescopes."""
    one, other = Table.read(folder / "uncertainty_overall.ecsv")
    for task in tasks:
        assert one[f"{task}_known"] > 0
        names = [
            f"{task}_{n}" for n in ("known", "coverage", "pull_width", "best_half")
        ]
        for name in names:
            assert one[name] == pytest.approx(other[name], rel=1e-4), name


def test_a_model_says_what_its_dl2_says(both):
    overall = Table.read(both / "overall.ecsv")
    assert overall["algorithm"].tolist() == ["mine", "GammaPhysNet"]
    assert_same_metrics(overall)
    # Two members lie on a line, which is no ellipse of the impact point; directions are
    # judged by their circle.
    assert_same_uncertainties(both, ["energy", "direction"])
    assert (Table.read(both / "uncertainty_overall.ecsv")["impact_known"] == 0).all()
    assert {"kept.png", "uncertainty_energy.pdf"} <= {p.name for p in both.iterdir()}
    assert np.isfinite(overall["auc_members_std"]).tolist() == [True, False]
    members = read_table(both / "tables.h5", "/members_overall")
    assert members["seed"].tolist() == [0, 1]


@pytest.mark.usefixtures("no_plots")
def test_so_it_does_of_the_array(dl2, model, tmp_path):
    output = evaluate(
        dl2,
        tmp_path / "array",
        f"--model={model}",
        "--reference",
        "again=GammaPhysNetEnergy,GammaPhysNetGeometry,GammaPhysNetClassifier",
        "--level=array",
    )
    overall = Table.read(output / "overall.ecsv")
    assert overall["algorithm"].tolist() == ["toy", "again"]
    assert_same_metrics(overall)
    assert_same_uncertainties(output, ["energy", "direction"])
    assert overall["n_gammas"][0] <= 25


@pytest.mark.usefixtures("no_plots")
def test_so_it_does_of_an_array_combined_by_errors(dl1, make_model, tmp_path):
    (telescope,) = SubarrayDescription.from_hdf(dl1[0]).telescope_types
    model = tmp_path / "errors.safetensors"
    write_model(model, make_model(telescope, errors=True, seed=10))
    files = [tmp_path / path.name.replace("dl1", "dl2") for path in dl1]
    apply_model(dl1, model, tmp_path)
    output = evaluate(
        files,
        tmp_path / "array",
        *(f"--model={model}", "--reference=GammaPhysNet", "--level=array"),
    )
    assert_same_metrics(Table.read(output / "overall.ecsv"))
    assert_same_uncertainties(output, ["energy", "direction", "impact"])
    overall = Table.read(output / "uncertainty_overall.ecsv")
    # Single telescopes have errors, too.
    assert (overall["impact_known"] == overall["n_gammas"]).all()


def test_all_outputs_are_there_and_in_the_provenance(both, dl2, model):
    names = {path.name for path in both.iterdir()}
    assert {"report.html", "tables.h5", "resolution.png", "roc.pdf"} <= names
    assert {"energy.ecsv", "events.ecsv", "members_energy.ecsv"} <= names
    assert [p.name for p in both.parent.glob("*.part")] == []
    activity = json.loads((both.parent / "both.log").read_text())[-1]
    assert {f["url"] for f in activity["output"]} == {str(p) for p in both.iterdir()}
    assert {str(model), *map(str, dl2)} <= {f["url"] for f in activity["input"]}
    report = (both / "report.html").read_text()
    assert "CRAB_HEGRA and as simulated" in report
    assert "morphology_n_pixels" in report


def test_the_report_names_the_groups_that_are_there(both):
    report = (both / "report.html").read_text()
    (groups,) = re.findall("<b>DL2 of GammaPhysNet</b>: ([^<]*)<", report)
    assert groups.split(", ") == [
        f"GammaPhysNet{name}" for name in ("Classifier", "Energy", "Geometry")
    ]


@pytest.mark.parametrize(
    ("reference", "missing"),
    [
        ("Hillas", "Hillas or HillasEnergy"),
        ("a=GammaPhysNetEnergy,disp", "in disp, only"),
    ],
)
def test_a_group_that_is_not_there_is_refused_at_once(
    dl2, tmp_path, monkeypatch, reference, missing
):
    monkeypatch.setattr(EvaluateGammaPhysNet, "start", None)
    with pytest.raises(ToolConfigurationError, match=missing) as error:
        evaluate(dl2, tmp_path / "out", f"--reference={reference}")
    there = "GammaPhysNetClassifier, GammaPhysNetEnergy, GammaPhysNetGeometry"
    assert f"only {there} (with --level array: {there})" in str(error.value)


def test_tables_are_there_even_if_nothing_can_be_drawn(dl2, tmp_path, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("no font")

    monkeypatch.setattr(plots, "draw_all", fail)
    output = tmp_path / "out"
    with pytest.raises(CalledProcessError) as error:
        evaluate(dl2, output, "--reference=GammaPhysNet", f"--log-file={output}.txt")
    assert error.value.returncode == 1
    assert len(read_table(output / "tables.h5", "/overall")) == 1
    assert len(Table.read(output / "energy.ecsv")) > 1
    assert (
        "Not drawn: figures: RuntimeError: no font"
        in (output / "report.html").read_text()
    )
    log = (tmp_path / "out.txt").read_text()
    assert "Not drawn: figures: RuntimeError: no font" in log
    assert "Traceback" not in log


@pytest.mark.usefixtures("quick_figures")
def test_what_is_not_shown_is_in_the_log_and_in_the_report(dl2, tmp_path):
    output = tmp_path / "out"
    options = "--reference=GammaPhysNet", f"--log-file={output}.txt"
    evaluate(dl2, output, *options, min_events=500)
    reason = "no bin of true energy has 500 gammas (--min-events): the fullest has"
    assert reason in (tmp_path / "out.txt").read_text()
    assert reason in (output / "report.html").read_text()
    assert not (output / "resolution.png").exists()


def plant_uncertainties(path, factor):
    """Replace a file's valid predictions of the array by ones with known errors.

    Every third event is at 1.1 times the edge of its region, in a direction of its own,
    the others are at 0.4 of it; uncertainties are too small by a factor.
    """
    groups = "/dl2/event/subarray"
    energy, geometry = (
        read_table(path, f"{groups}/{kind}/GammaPhysNet{kind.title()}")
        for kind in ("energy", "geometry")
    )
    truth = read_table(path, "/simulation/event/subarray/shower")
    rows = {event: row for row, event in enumerate(truth["event_id"].tolist())}
    truth = truth[[rows[event] for event in energy["event_id"].tolist()]]
    is_valid = np.asarray(energy["GammaPhysNetEnergy_is_valid"])
    number = np.cumsum(is_valid)
    distance = np.where(number % 3 == 0, 1.1, 0.4)
    true = truth["true_az"].quantity, truth["true_alt"].quantity
    az, alt = offset_by(*true, number * u.rad, 0.3 * distance * u.deg)
    angle = position_angle(az, alt, *true)
    offset = 0.3 * distance[:, np.newaxis] * np.stack([np.sin(angle), np.cos(angle)], 1)
    # Ellipses of this shape along azimuth and altitude, of the size that is needed.
    shape = np.array([[2.0, 0.7], [0.7, 1.0]])
    radius = np.sqrt(-2 * np.log(1 - CONTAINMENT))
    far = np.sqrt(np.einsum("ni,ij,nj->n", offset, np.linalg.inv(shape), offset))
    size = far / distance / radius / factor
    planted = {
        "energy": truth["true_energy"].quantity * 10 ** (0.1 * distance),
        "az": az % (360 * u.deg),
        "alt": alt,
        "az_uncert": size * np.sqrt(2) / np.cos(alt) * u.deg,
        "alt_uncert": size * u.deg,
        "alt_az_correlation": np.full(len(truth), 0.7 / np.sqrt(2)),
        "ang_distance_uncert": distance * u.deg,
    }
    planted["energy_uncert"] = planted["energy"] * np.sinh(0.1 / factor * np.log(10))
    for kind, table in (("energy", energy), ("geometry", geometry)):
        group = f"GammaPhysNet{kind.title()}"
        names = [n for n in planted if n.startswith("energy") == (kind == "energy")]
        for name in names:
            table[f"{group}_{name}"] = planted[name]
        write_table(table, path, f"{groups}/{kind}/{group}", overwrite=True)
    return distance[is_valid]


@pytest.mark.usefixtures("no_plots")
@pytest.mark.parametrize("factor", [1, 2])
def test_planted_uncertainties_of_the_array_come_back(dl2, tmp_path, factor):
    path = shutil.copy(dl2[0], tmp_path / "gamma.dl2.h5")
    distance = plant_uncertainties(path, factor)
    output = evaluate(
        [path],
        tmp_path / "out",
        "--reference=GammaPhysNet",
        "--level=array",
        f"--log-file={tmp_path / 'log.txt'}",
        background=False,
        min_events=1,
    )
    (row,) = Table.read(output / "uncertainty_overall.ecsv")
    assert row["energy_known"] == row["direction_known"] == len(distance)
    covered = np.mean(distance * factor <= 1)
    width = factor * np.quantile(distance, CONTAINMENT, method="inverted_cdf")
    assert row["energy_coverage"] == row["direction_coverage"] == covered
    assert row["direction_pull_width"] == pytest.approx(width, rel=1e-4)
    assert row["energy_pull_median"] == pytest.approx(factor * 0.4, rel=1e-4)
    # Without those that are far off; a third of all.
    kept = Table.read(output / "kept.ecsv")["angular_resolution"]
    assert kept[5] < 0.7 * kept[9]
    assert (kept[:6] <= kept[5]).all()
    report = (output / "report.html").read_text()
    assert "<h2>Predicted uncertainties</h2>" in report
    assert "Predicted uncertainties:" in (tmp_path / "log.txt").read_text()


def with_training(model, path, numbers):
    """The same model, which says on which showers it was trained."""
    from ctapipe_gammaphysnet.model.file import read_model

    content = read_model(model)
    training = {"seen in training": describe_showers(numbers)}
    networks = tuple(
        card.model_copy(update={"training": training}) for card in content.card.networks
    )
    card = content.card.model_copy(update={"networks": networks})
    write_model(path, Model(card, content.weights))
    return path


@pytest.mark.usefixtures("no_plots")
def test_showers_of_the_training_are_refused(dl1, model, tmp_path):
    showers = read_table(dl1[0], "/simulation/event/subarray/shower")
    numbers = shower_numbers(QTable(showers))
    seen = with_training(model, tmp_path / "seen.safetensors", numbers[:10])
    output = tmp_path / "evaluation"
    with pytest.raises(ToolConfigurationError, match="seen was trained on .* --allow"):
        evaluate(dl1, output, f"--model={seen}")
    assert not output.exists()
    options = f"--model={seen}", "--allow-training-showers"
    evaluate(dl1, output, *options, background=False)
    assert (output / "report.html").exists()


@pytest.mark.usefixtures("quick_figures")
def test_other_showers_are_not_and_a_report_is_replaced(
    dl1, model, tmp_path, monkeypatch
):
    def draw(*arguments, original=plots.draw_all):
        drawn = original(*arguments)
        return {name: drawn[name] for name in ("roc", "resolution") if name in drawn}

    monkeypatch.setattr(plots, "draw_all", draw)
    foreign = np.arange(100, dtype=np.uint64) << np.uint64(40)
    unseen = with_training(model, tmp_path / "unseen.safetensors", foreign)
    output = tmp_path / "gammas"
    evaluate(dl1, output, f"--model={unseen}")
    assert (output / "roc.png").exists()
    evaluate(dl1, output, f"--model={unseen}", "--overwrite", background=False)
    assert (output / "resolution.png").exists()
    # Without background there is nothing to say of the separation.
    assert not (output / "roc.png").exists()


@pytest.mark.usefixtures("no_plots")
def test_events_of_other_types_are_left_out(dl1, model, tmp_path, capfd):
    """The metrics are those of files that never had them."""
    planted, clean = [], []
    for path in dl1:
        planted.append(shutil.copy(path, tmp_path / path.name))
        toy_sample.plant_event_types(planted[-1])
        clean.append(planted[-1].with_name(f"{path.name.partition('.')[0]}.dl2.h5"))
    argv = [
        *("--input", *map(str, planted)),
        f"--model={model}",
        f"--output-dir={tmp_path}",
        *("--dl1-images", "--no-progress", "--EventTypeFilter.allowed_types=SUBARRAY"),
    ]
    run_tool(ApplyGammaPhysNet(), argv=argv, cwd=tmp_path, raises=True)
    options = [f"--model={model}", "--allow-training-showers"]
    expected = evaluate(clean, tmp_path / "clean", *options, min_events=1)
    capfd.readouterr()
    chosen = "--EventTypeFilter.allowed_types=SUBARRAY"
    found = evaluate(planted, tmp_path / "found", *options, chosen, min_events=1)
    assert re.search(r"left out by event type +[1-9]", capfd.readouterr().err)
    assert "images with event type SUBARRAY" in (found / "report.html").read_text()
    every = evaluate(planted, tmp_path / "every", *options, min_events=1)
    assert "not showers (" in capfd.readouterr().err
    counts = [
        read_table(folder / "tables.h5", "/events")["events"].tolist()
        for folder in (expected, found, every)
    ]
    assert counts[0] == counts[1]
    assert counts[0][0] < counts[2][0]
    tables = (read_table(f / "tables.h5", "/overall") for f in (expected, found))
    for one, other in zip(*tables, strict=True):
        for name in metrics_in(Table(one)):
            assert one[name] == pytest.approx(other[name], rel=1e-4, nan_ok=True)


@pytest.mark.usefixtures("no_plots")
def test_files_of_others_stay(dl1, model, tmp_path):
    """Even inputs of the run that are in the folder."""
    output = tmp_path / "home"
    output.mkdir()
    (output / "precious.txt").write_text("precious")
    gammas = output / "gammas.dl1.h5"
    shutil.copy(dl1[0], gammas)
    before = gammas.read_bytes()
    files = [gammas, *dl1[1:]]
    for options in ((), ("--overwrite",)):
        evaluate(files, output, f"--model={model}", *options)
        assert (output / "report.html").read_text().count("as simulated") == 1
        assert (output / "precious.txt").read_text() == "precious"
        assert gammas.read_bytes() == before
    with pytest.raises(ToolConfigurationError, match="overwrite"):
        evaluate(files, output, f"--model={model}")


def test_a_file_of_others_is_not_replaced(dl1, model, tmp_path):
    output = tmp_path / "home"
    output.mkdir()
    (output / "roc.pdf").write_text("precious")
    with pytest.raises(ToolConfigurationError, match="roc.pdf would be replaced"):
        evaluate(dl1, output, f"--model={model}", "--overwrite")
    assert [path.name for path in output.iterdir()] == ["roc.pdf"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give what to evaluate"),
        (["--model=none.safetensors"], "there is no file .*none.safetensors"),
        (["--reference", "A", "A"], "two algorithms are called A"),
        (["--reference=Hillas"], "no predictions of the telescopes in Hillas"),
        (["--reference=A", "--telescope-types", "X"], "no telescopes of type X"),
        (["stray", "--reference=A"], "not understood: stray"),
        (
            ["--reference=A", "--EvaluateGammaPhysNet.energy_min=200"],
            "the bins in energy go from 200",
        ),
        (
            ["--reference=A", "--EvaluateGammaPhysNet.energy_max=0.013"],
            "there is no bin in energy",
        ),
    ],
)
def test_mistakes_are_explained(dl2, tmp_path, options, message):
    with pytest.raises(ToolConfigurationError, match=message):
        evaluate(dl2, tmp_path / "evaluation", *options)
    assert not (tmp_path / "evaluation").exists()


def test_the_same_file_twice_is_an_error(dl2, tmp_path):
    with pytest.raises(ToolConfigurationError, match="is given 2 times"):
        evaluate([dl2[0], dl2[0]], tmp_path / "out", "--reference=GammaPhysNet")


@pytest.mark.parametrize("tel_id", [1, 2])
def test_each_telescope_of_a_name_is_compared_with_the_model(
    dl1, model, tmp_path, monkeypatch, tel_id
):
    """In each of the files, before anything is read."""
    monkeypatch.setattr(EvaluateGammaPhysNet, "start", None)
    path = shutil.copy(dl1[1], tmp_path / "proton.dl1.h5")
    files = [dl1[0], enlarge_mirror(path, [tel_id])]
    message = rf"proton.dl1.h5, telescope {tel_id}: .* its mirror area is"
    with pytest.raises(ToolConfigurationError, match=message):
        evaluate(files, tmp_path / "out", f"--model={model}")


def test_missing_libraries_say_what_to_install(dl2, tmp_path, monkeypatch):
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ToolConfigurationError, match="pip install pyirf matplotlib"):
        evaluate(dl2, tmp_path / "out", "--reference=GammaPhysNet")
