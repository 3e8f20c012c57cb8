"""The explanation tool: what it writes is what the explainer says."""

import json
import re
import shutil
from subprocess import CalledProcessError

import numpy as np
import pytest
import tables
import toy_sample
from astropy.table import Table
from conftest import enlarge_mirror
from ctapipe.core import ToolConfigurationError, run_tool
from ctapipe.instrument import SubarrayDescription
from ctapipe.io import read_table

from ctapipe_gammaphysnet.events.quality import TrainingQualityQuery
from ctapipe_gammaphysnet.explanation import (
    event_figure,
    robustness,
    run,
    statistics_figures,
)
from ctapipe_gammaphysnet.explanation.explainer import Explainer
from ctapipe_gammaphysnet.explanation.images import read_batches
from ctapipe_gammaphysnet.explanation.statistics import (
    STATISTICS,
    describe_maps,
    errors_of,
)
from ctapipe_gammaphysnet.model.file import read_model, write_model
from ctapipe_gammaphysnet.model.predictor import Predictor
from ctapipe_gammaphysnet.tools import extras
from ctapipe_gammaphysnet.tools.explain import ExplainGammaPhysNet

ARRAY = toy_sample.small_array(3, positions=[(0.0, 0.0, 0.0), (60.0, 40.0, 10.0)])
KEYS = ("obs_id", "event_id", "tel_id")


@pytest.fixture(scope="module")
def dl1(tmp_path_factory):
    path = tmp_path_factory.mktemp("dl1") / "gamma.dl1.h5"
    return toy_sample.write_toy_file(path, "gamma", 40, seed=3, array=ARRAY)


@pytest.fixture(scope="module")
def models(dl1, make_model, tmp_path_factory):
    """With attention and two members; without, and a single one."""
    (telescope,) = SubarrayDescription.from_hdf(dl1).telescope_types
    folder = tmp_path_factory.mktemp("model")
    paths = {"DA": folder / "two.safetensors", "vanilla": folder / "one.safetensors"}
    write_model(paths["DA"], make_model(telescope, n_members=2))
    write_model(paths["vanilla"], make_model(telescope, attention=False))
    return paths


def draw_nothing(patch):
    """Files without content for figures: drawing takes longer than all the rest."""

    def touch(plots, folder, failures):
        for name in plots:
            for suffix in ("png", "pdf"):
                (folder / f"{name}.{suffix}").touch()

    patch.setattr(run, "write_figures", touch)
    patch.setattr(event_figure, "draw_event", lambda batch, maps: None)


@pytest.fixture
def no_figures(monkeypatch):
    draw_nothing(monkeypatch)


def explain(inputs, models, output, *options):
    """Run the tool, and return the folder it has written."""
    argv = [
        *(f"--input={path}" for path in inputs),
        *(f"--model={name}={path}" for name, path in models.items()),
        f"--output-dir={output}",
        f"--provenance-log={output}.provenance",
        f"--log-file={output}.log",
        "--log-file-level=INFO",
        "--no-progress",
        *options,
    ]
    run_tool(ExplainGammaPhysNet(), argv=argv, cwd=output.parent, raises=True)
    return output


def explained(path, model):
    """All selected images of a file, and what a model makes of them."""
    content = read_model(model)
    (card,), (weights,) = content.card.networks, content.weights
    explainer = Explainer(card, Predictor(card, weights))
    for batch in read_batches(path, [card.telescope.type], TrainingQualityQuery(), 9):
        inputs, _ = explainer.predictor.prepare(batch.image, batch.peak_time)
        yield batch, explainer(inputs)


@pytest.fixture(scope="module")
def everything(dl1, models, tmp_path_factory):
    output = tmp_path_factory.mktemp("explanation") / "out"
    with pytest.MonkeyPatch.context() as patch:
        draw_nothing(patch)
        few = {k: (label, v[:2]) for k, (label, v) in robustness.DISTURBANCES.items()}
        patch.setattr(robustness, "DISTURBANCES", few)
        return explain(
            [dl1],
            models,
            output,
            *("--best", "1", "--worst", "1", "--random", "1"),
            *("--statistics", "--robustness", "--batch-size=7"),
            "--ExplainGammaPhysNet.n_disturbed=5",
        )


def test_the_best_and_the_worst_are_chosen(everything, dl1, models):
    rows = [
        (error, *(int(event[k]) for k in KEYS))
        for batch, maps in explained(dl1, models["DA"])
        for error, event in zip(
            errors_of(batch, maps.predictions)["separation"][0],
            batch.events,
            strict=True,
        )
    ]
    _, *best = min(rows)
    _, *worst = max(rows)
    (telescope_type,) = read_model(models["DA"]).card.networks
    table = read_table(
        everything / "explanation.h5", f"/maps/DA/{telescope_type.telescope.type}"
    )
    keys = [[int(row[k]) for k in KEYS] for row in table]
    assert len(keys) == 3
    assert keys[:2] == [best, worst]
    assert keys[2] not in keys[:2]
    for kind, key in zip(("best1", "worst1", "random1"), keys, strict=True):
        name = f"{kind}_obs{key[0]}_event{key[1]}_tel{key[2]}"
        assert (everything / f"{name}.png").exists()
        assert (everything / f"{name}.pdf").exists()


def test_the_file_knows_the_chosen_events_and_the_cameras(everything, dl1):
    events = read_table(everything / "explanation.h5", "/events")
    assert events["chosen"].tolist() == ["best1", "worst1", "random1"]
    assert (events["true_energy"] > 0).all()
    subarray = SubarrayDescription.from_hdf(everything / "explanation.h5")
    assert subarray == SubarrayDescription.from_hdf(dl1)


def test_maps_are_those_of_the_explainer(everything, dl1, models):
    with tables.open_file(everything / "explanation.h5") as file:
        paths = {name: file.root.maps[name] for name in models}
        paths = {name: next(iter(group))._v_pathname for name, group in paths.items()}
    found = {n: read_table(everything / "explanation.h5", p) for n, p in paths.items()}
    for name, table in found.items():
        n_found = 0
        for batch, maps in explained(dl1, models[name]):
            for row, event in enumerate(batch.events):
                same = np.all([table[k] == event[k] for k in KEYS], axis=0)
                if not same.any():
                    continue
                n_found += 1
                (saved,) = table[same]
                for output, values in (maps.heatmaps | maps.attention).items():
                    members = values[:, row]
                    close = {"rtol": 1e-4, "atol": 1e-6}
                    np.testing.assert_allclose(
                        saved[f"{output}_members"], members, **close
                    )
                    np.testing.assert_allclose(
                        saved[f"{output}_mean"], members.mean(axis=0), **close
                    )
                    if len(members) > 1:
                        expected = members.std(axis=0, ddof=1)
                        np.testing.assert_allclose(
                            saved[f"{output}_std"], expected, **close
                        )
        assert n_found == 3
    # A single member has no deviation, and no attention no maps.
    assert not [c for c in found["vanilla"].colnames if c.endswith("_std")]
    assert not [c for c in found["vanilla"].colnames if c.startswith("stage")]
    assert {"stage_1_std", "product_mean"} <= set(found["DA"].colnames)
    log = everything.with_suffix(".log").read_text()
    assert "vanilla has a single member: there are no deviations" in log
    assert "vanilla has no attention: there are no attention maps" in log


def test_statistics_are_those_of_all_images_whatever_the_batches(
    everything, dl1, models
):
    path = everything / "explanation.h5"
    events = read_table(path, "/statistics/events")
    found = read_table(path, "/statistics/models/DA")
    expected = [describe_maps(*parts) for parts in explained(dl1, models["DA"])]
    assert len(found) == len(events) == sum(map(len, expected)) > 7
    for name in ("energy_share_edge", "class_distance", "error_energy", *KEYS):
        np.testing.assert_allclose(
            found[name],
            np.concatenate([table[name] for table in expected]),
            rtol=1e-3,
            atol=1e-6,
        )
    overall = Table.read(everything / "statistics_overall.ecsv")
    assert set(overall["model"]) == {"DA", "vanilla"}
    chosen = overall[
        (overall["model"] == "DA")
        & (overall["output"] == "energy")
        & (overall["statistic"] == "share_cleaned")
    ]
    shares = np.asarray(found["energy_share_cleaned"])
    assert chosen["mean"][0] == pytest.approx(np.nanmean(shares, axis=0).mean())
    assert np.isfinite(chosen["members_std"][0])
    assert np.isnan(overall["members_std"][overall["model"] == "vanilla"]).all()
    assert (everything / "statistics_energy.png").exists()


def test_robustness_starts_from_the_undisturbed_image(everything):
    table = Table.read(everything / "robustness.ecsv")
    assert set(table["model"]) == {"DA", "vanilla"}
    assert set(table["disturbance"]) == set(robustness.DISTURBANCES)
    nothing = table[(table["disturbance"] == "dead_pixels") & (table["value"] == 0)]
    is_heatmap = np.char.startswith(nothing["quantity"], "heatmap")
    np.testing.assert_allclose(nothing["mean"][~is_heatmap], 0, atol=1e-6)
    np.testing.assert_allclose(nothing["mean"][is_heatmap], 1, atol=1e-6)
    noisy = table[(table["disturbance"] == "night_sky") & (table["value"] > 0)]
    assert (noisy["mean"][np.char.startswith(noisy["quantity"], "heatmap")] < 1).all()
    assert (everything / "robustness_heatmaps.pdf").exists()


def test_provenance_is_in_the_file_and_in_the_log(everything, dl1, models):
    with tables.open_file(everything / "explanation.h5") as file:
        provenance = json.loads(file.root._v_attrs["provenance"])
    assert provenance["models"]["DA"]["seeds"] == [0, 1]
    assert len(provenance["models"]["vanilla"]["sha256"]) == 64
    assert provenance["inputs"] == [str(dl1)]
    assert "captum" in provenance["software"]
    activity = json.loads(everything.with_suffix(".provenance").read_text())[-1]
    outputs = {f["url"] for f in activity["output"]}
    assert outputs == {str(path) for path in everything.iterdir()}
    assert {str(dl1), *map(str, models.values())} <= {
        f["url"] for f in activity["input"]
    }
    assert list(everything.parent.glob("*.part")) == []


def event_ids(dl1, selected):
    """Events that have, or have not, a selected image."""
    query = TrainingQualityQuery()
    types = [str(t) for t in SubarrayDescription.from_hdf(dl1).telescope_types]
    chosen = {
        int(event["event_id"])
        for batch in read_batches(dl1, types, query, 100)
        for event in batch.events
    }
    trigger = read_table(dl1, "/dl1/event/subarray/trigger")
    return sorted(chosen if selected else set(trigger["event_id"].tolist()) - chosen)


@pytest.mark.usefixtures("no_figures")
def test_events_can_be_asked_for(dl1, models, tmp_path):
    good, bad = event_ids(dl1, True), event_ids(dl1, False)
    options = "--event-id", str(good[0]), str(good[1]), str(bad[0]), "123456"
    output = explain([dl1], models, tmp_path / "out", *options, "--upsampling=linear")
    with tables.open_file(output / "explanation.h5") as file:
        (table,) = file.root.maps.DA
        assert set(table.col("event_id").tolist()) == set(good[:2])
    log = (tmp_path / "out.log").read_text()
    assert f"event {bad[0]} has no selected image" in log
    assert "event 123456 is in none of the files" in log


@pytest.fixture(scope="module")
def same_numbers(dl1, tmp_path_factory):
    """A gamma and a proton of each number: of other showers, but the same run."""
    path = tmp_path_factory.mktemp("proton") / "gamma.dl1.h5"
    toy_sample.write_toy_file(path, "proton", 40, seed=4, array=ARRAY)
    both = set(event_ids(dl1, True)) & set(event_ids(path, True))
    return [dl1, path], sorted(both)[:2]


@pytest.mark.usefixtures("no_figures")
def test_events_of_the_same_numbers_are_told_apart(same_numbers, models, tmp_path):
    """Each image has its rows and its figure, and they are of its own file."""
    paths, numbers = same_numbers
    options = [f"--event-id={number}" for number in numbers]
    output = explain(paths, models, tmp_path / "out", *options, "--statistics")
    expected = {
        (number, *(int(event[k]) for k in KEYS)): maps.heatmaps["energy"][:, row]
        for number, path in enumerate(paths)
        for batch, maps in explained(path, models["DA"])
        for row, event in enumerate(batch.events)
    }
    chosen = {key for key in expected if key[2] in numbers}
    assert {key[0] for key in chosen} == {0, 1}
    names = {"event_file{}_obs{}_event{}_tel{}".format(*key) for key in chosen}
    for suffix in ("png", "pdf"):
        assert {path.stem for path in output.glob(f"*_event*.{suffix}")} == names
    with tables.open_file(output / "explanation.h5") as file:
        (maps,) = file.root.maps.DA
        (statistics,) = (file.root.statistics.models.DA,)
        for table, keys in (
            (file.root.events, chosen),
            (maps, chosen),
            (file.root.statistics.events, set(expected)),
            (statistics, set(expected)),
        ):
            rows = table.read()
            found = [tuple(int(row[k]) for k in ("file", *KEYS)) for row in rows]
            assert len(found) == len(keys)
            assert set(found) == keys
        for row in maps.read():
            key = tuple(int(row[k]) for k in ("file", *KEYS))
            np.testing.assert_allclose(row["energy_members"], expected[key], rtol=1e-4)
        provenance = json.loads(file.root._v_attrs["provenance"])
    assert provenance["inputs"] == list(map(str, paths))


@pytest.mark.usefixtures("no_figures")
def test_an_event_that_is_twice_in_a_file_is_an_error(dl1, models, tmp_path):
    """Two files of the same run, merged: no number tells their events apart."""
    path = tmp_path / "merged.dl1.h5"
    shutil.copy(dl1, path)
    with tables.open_file(path, "r+") as file:
        file.remove_node("/simulation", recursive=True)
        for table in file.walk_nodes("/dl1/event", "Table"):
            table.append(table.read())
    (number, *_) = event_ids(dl1, True)
    with pytest.raises(ToolConfigurationError, match=f"has event {number} of .* twice"):
        explain([path], models, tmp_path / "out", f"--event-id={number}")


@pytest.mark.usefixtures("no_figures")
def test_events_without_a_selected_image_are_an_error(dl1, models, tmp_path):
    (bad, *_) = event_ids(dl1, False)
    with pytest.raises(ToolConfigurationError, match=f"{bad} has no selected image"):
        explain([dl1], models, tmp_path / "out", "--event-id", str(bad))
    assert not (tmp_path / "out").exists()
    config = tmp_path / "none.json"
    nothing = {"quality_criteria": [["none", "hillas_intensity < 0"]]}
    config.write_text(json.dumps({"TrainingQualityQuery": nothing}))
    with pytest.raises(ToolConfigurationError, match="no image is selected"):
        explain([dl1], models, tmp_path / "out", f"--config={config}")
    assert list(tmp_path.glob("*.part")) == []


@pytest.mark.usefixtures("no_figures")
def test_observations_have_no_best_event(dl1, models, tmp_path):
    path = tmp_path / "observed.dl1.h5"
    shutil.copy(dl1, path)
    with tables.open_file(path, "a") as file:
        file.remove_node("/simulation", recursive=True)
    output = explain([path], models, tmp_path / "out", "--statistics", "--random=3")
    with tables.open_file(output / "explanation.h5") as file:
        (table,) = file.root.maps.DA
        assert table.nrows == 3
    reason = "there is no best or worst image: there are no gammas whose truth is known"
    assert reason in (tmp_path / "out.log").read_text()
    overall = Table.read(output / "statistics_overall.ecsv")
    assert "share_true" not in overall["statistic"]
    assert "share_cleaned" in overall["statistic"]
    assert not (output / "statistics_energy.ecsv").exists()


@pytest.mark.usefixtures("no_figures")
def test_without_an_image_to_explain_the_reason_is_an_error(dl1, make_model, tmp_path):
    (telescope,) = SubarrayDescription.from_hdf(dl1).telescope_types
    model = tmp_path / "energy.safetensors"
    write_model(model, make_model(telescope, tasks=("energy",)))

    def run(*options):
        return explain([dl1], {"m": model}, tmp_path / "out", *options)

    with pytest.raises(ToolConfigurationError, match="no image to explain: give"):
        run("--best=0", "--worst=0", "--random=0")
    options = "--best=1", "--worst=1", "--random=0"
    reason = "does not predict the direction: --rank-by energy"
    with pytest.raises(ToolConfigurationError, match=reason):
        run(*options)
    assert not (tmp_path / "out").exists()
    output = run(*options, "--rank-by=energy")
    assert len(read_table(output / "explanation.h5", "/events")) == 2
    # There is another image.
    output = run("--best=1", "--random=1", "--overwrite")
    assert len(read_table(output / "explanation.h5", "/events")) == 1
    assert reason in (tmp_path / "out.log").read_text()


@pytest.mark.usefixtures("no_figures")
def test_an_explanation_is_replaced_but_nothing_else(dl1, models, tmp_path):
    output = tmp_path / "out"
    options = "--random=1", "--best=0", "--worst=0"
    explain([dl1], models, output, *options)
    (output / "precious.png").write_text("precious")
    files = {path.name for path in output.iterdir()}
    assert any(name.startswith("random1_") for name in files)
    with pytest.raises(ToolConfigurationError, match="overwrite"):
        explain([dl1], models, output, *options)
    assert {path.name for path in output.iterdir()} == files
    options = "--random=0", "--best=1", "--worst=0", "--overwrite"
    explain([dl1], models, output, *options)
    files = {path.name for path in output.iterdir()}
    figures = {name for name in files if name.startswith("best1_")}
    assert len(figures) == 2
    assert files - figures == {
        *("explanation.h5", "explanation.files.json", "precious.png")
    }
    (output / "best1_mine_tel1.png").write_text("precious")
    with pytest.raises(ToolConfigurationError, match="best1_mine_tel1.png would be"):
        explain([dl1], models, output, *options)
    assert (output / "best1_mine_tel1.png").read_text() == "precious"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model=none.safetensors"], "there is no file .*none.safetensors"),
        (["--input=none.h5"], "there is no file .*/none.h5"),
        (["--telescope-types", "X"], "no telescopes of type X, only LST"),
        (["stray"], "not understood: stray"),
    ],
)
def test_mistakes_are_explained(dl1, models, tmp_path, options, message):
    with pytest.raises(ToolConfigurationError, match=message):
        explain([dl1], models, tmp_path / "out", *options)
    assert not (tmp_path / "out").exists()


def test_files_and_models_must_be_there_once(dl1, models, tmp_path):
    with pytest.raises(ToolConfigurationError, match="give at least one model"):
        explain([dl1], {}, tmp_path / "out")
    with pytest.raises(ToolConfigurationError, match="give at least one file"):
        explain([], models, tmp_path / "out")
    with pytest.raises(ToolConfigurationError, match="is given 2 times"):
        explain([dl1, dl1], models, tmp_path / "out")
    with pytest.raises(ToolConfigurationError, match="two models are called DA"):
        explain([dl1], models, tmp_path / "out", f"--model=DA={models['DA']}")


@pytest.mark.parametrize("tel_id", [1, 2])
def test_each_telescope_of_a_name_is_compared_with_the_model(
    dl1, models, tmp_path, tel_id
):
    """In each of the files."""
    path = shutil.copy(dl1, tmp_path / "other.dl1.h5")
    files = [dl1, enlarge_mirror(path, [tel_id])]
    message = rf"other.dl1.h5, telescope {tel_id}: .* its mirror area is"
    with pytest.raises(ToolConfigurationError, match=message):
        explain(files, models, tmp_path / "out")


def test_missing_libraries_say_what_to_install(dl1, models, tmp_path, monkeypatch):
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ToolConfigurationError, match="pip install captum matplotlib"):
        explain([dl1], models, tmp_path / "out")


def test_what_cannot_be_drawn_costs_nothing_of_what_was_computed(
    dl1, models, tmp_path, monkeypatch
):
    def fail(*arguments):
        raise RuntimeError("no font")

    monkeypatch.setattr(event_figure, "draw_event", fail)
    monkeypatch.setattr(statistics_figures, "draw_statistics", fail)
    options = "--statistics", "--best=1", "--worst=0", "--random=0"
    with pytest.raises(CalledProcessError) as error:
        explain([dl1], {"vanilla": models["vanilla"]}, tmp_path / "out", *options)
    assert error.value.returncode == 1
    path = tmp_path / "out" / "explanation.h5"
    assert len(read_table(path, "/events")) == 1
    with tables.open_file(path) as file:
        (maps,) = file.root.maps.vanilla
        assert maps.nrows == 1
    found = read_table(path, "/statistics/summary/overall")
    assert len(Table.read(tmp_path / "out" / "statistics_overall.ecsv")) == len(found)
    log = (tmp_path / "out.log").read_text()
    assert "Not drawn: best1_obs" in log
    assert "Not drawn: statistics: RuntimeError: no font" in log
    assert "Traceback" not in log


def test_the_log_says_what_was_written(everything):
    log = everything.with_suffix(".log").read_text()
    assert "Explained 3 images with 2 models" in log
    n_figures = len(list(everything.glob("*.png")))
    (written,) = re.findall(f"Wrote {everything}: (.*)", log)
    assert f"and {n_figures} figures" in written
    for path in everything.iterdir():
        assert path.suffix not in {".h5", ".ecsv"} or path.name in written


def test_empty_heatmaps_are_in_the_log(dl1, models, tmp_path, monkeypatch):
    draw_nothing(monkeypatch)
    whole = Explainer.__call__

    def without_energy(*arguments):
        maps = whole(*arguments)
        maps.heatmaps["energy"][...] = 0
        return maps

    monkeypatch.setattr(Explainer, "__call__", without_energy)
    options = "--best=1", "--worst=0", "--random=0", "--statistics"
    output = explain([dl1], {"m": models["DA"]}, tmp_path / "out", *options)
    log = (tmp_path / "out.log").read_text()
    assert re.search("best1_obs.*, m: no pixel raises .*Energy.* empty", log)
    overall = Table.read(output / "statistics_overall.ecsv")
    rows = overall[overall["output"] == "energy"]
    assert set(rows["statistic"]) == set(STATISTICS)
    np.testing.assert_array_equal(rows["empty"], 1)
    assert np.isnan(rows["mean"]).all()


@pytest.mark.parametrize("name", [".", "a/b", "_v_a", "_i_a"])
def test_names_that_no_group_can_have_are_refused(dl1, models, tmp_path, name):
    with pytest.raises(ToolConfigurationError, match="NAME=FILE"):
        explain([dl1], {name: models["vanilla"]}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_any_other_name_is_shown_letter_by_letter(dl1, models, tmp_path):
    name = "a$b$_%<&> \N{HIRAGANA LETTER A}"
    options = "--best=1", "--worst=0", "--random=0"
    output = explain([dl1], {name: models["vanilla"]}, tmp_path / "out", *options)
    with tables.open_file(output / "explanation.h5") as file:
        assert [group._v_name for group in file.root.maps] == [name]
    assert len(list(output.glob("best1*.png"))) == 1
