"""The training tool: what it trains is real."""

import errno
import fcntl
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from subprocess import CalledProcessError

import numpy as np
import pytest
import torch
import toy_sample
from astropy.coordinates import angular_separation
from astropy.table import Table
from conftest import enlarge_mirror
from ctapipe.core import ToolConfigurationError, run_tool
from ctapipe.instrument import SubarrayDescription
from ctapipe.io import TableLoader
from device import DEVICE
from lightning.pytorch.utilities import rank_zero_only
from run_tools import apply
from sklearn.metrics import roc_auc_score
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tqdm.auto import tqdm
from traitlets import TraitError

from ctapipe_gammaphysnet.events.opening import open_events
from ctapipe_gammaphysnet.events.quality import TrainingQualityQuery
from ctapipe_gammaphysnet.events.showers import is_for_validation
from ctapipe_gammaphysnet.files.locks import locked
from ctapipe_gammaphysnet.model.errors import ModelFileError
from ctapipe_gammaphysnet.model.file import read_card, read_model
from ctapipe_gammaphysnet.model.predictor import Predictor
from ctapipe_gammaphysnet.tools import extras
from ctapipe_gammaphysnet.tools.command_line import repeat_options
from ctapipe_gammaphysnet.tools.train import TrainGammaPhysNet
from ctapipe_gammaphysnet.training import fit, outputs, records, run
from ctapipe_gammaphysnet.training.checkpoint import TrainingError
from ctapipe_gammaphysnet.training.index import (
    EventIndex,
    TrainingDataError,
    read_index,
)
from ctapipe_gammaphysnet.training.module import NotFiniteError, TrainingModule
from ctapipe_gammaphysnet.training.stream import read_images

pytestmark = pytest.mark.usefixtures("no_curves")

TYPE = "LST_LST_ToyCam"
NO_VALIDATION = "--TrainGammaPhysNet.validation_fraction=0"
#: A training of seconds.
SHORT = ("--epochs=1", "--batch-size=64")
# At the edge of the light pool of one telescope the others would teach little.
ARRAY = toy_sample.small_array(5, positions=[(0.0, 0.0, 0.0), (60.0, 40.0, 10.0)])


def write_files(folder, name, n_events, seed):
    """Files of gammas and protons, by particle."""
    return {
        particle: toy_sample.write_toy_file(
            folder / f"{name}_{particle}.dl1.h5",
            particle,
            n_events,
            seed,
            array=ARRAY,
            obs_id=obs_id,
        )
        for obs_id, particle in enumerate(("gamma", "proton"), 1)
    }


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """Small files, to train on where it does not matter what is learnt."""
    files = write_files(tmp_path_factory.mktemp("few"), "test", 150, 2)
    return {("training", particle): path for particle, path in files.items()}


@pytest.fixture(scope="module")
def files(few, tmp_path_factory):
    """Files for training, and the small ones for testing."""
    files = write_files(tmp_path_factory.mktemp("sample"), "training", 1000, 1)
    training = {("training", particle): path for particle, path in files.items()}
    return training | {("test", particle): path for (_, particle), path in few.items()}


def train(files, output, *options):
    argv = [
        f"--signal={files['training', 'gamma']}",
        f"--background={files['training', 'proton']}",
        f"--output={output}",
        "--no-progress",
        "--blocks=1",
        *("--channels", "16", "32"),
        "--hidden=64",
        f"--provenance-log={output}.log",
        *options,
    ]
    run_tool(TrainGammaPhysNet(), argv=argv, cwd=output.parent, raises=True)
    return output


@pytest.fixture(scope="module")
def model(files, tmp_path_factory):
    output = tmp_path_factory.mktemp("model") / "toy.safetensors"
    # Few images: none to lose.
    config = output.with_name("config.yaml")
    config.write_text(
        "TrainingQualityQuery: {quality_criteria: [[signal, morphology_n_pixels > 0]]}"
    )
    options = (
        f"--config={config}",
        f"--device={DEVICE}",
        "--epochs=12",
        "--batch-size=32",
        "--Recipe.decay_every=9",
        "--TrainGammaPhysNet.note=A toy.",
    )
    return train(files, output, *options)


def test_energy_direction_and_class_are_learnt(files, model):
    """On other showers, much better than the best constant; factors are stated."""
    content = read_model(model)
    query = TrainingQualityQuery(
        quality_criteria=[("signal", "morphology_n_pixels > 0")],
    )
    paths = [files["test", particle] for particle in ("gamma", "proton")]
    sample = EventIndex.concatenate(
        [read_index(path, n, TYPE, n, query) for n, path in enumerate(paths)]
    )
    images = read_images(paths, sample, np.arange(len(sample)))
    predictor = Predictor(content.card.networks[0], content.weights[0])
    inputs, _ = predictor.prepare(*images[1:])
    outputs = {task: out[0] for task, out in predictor(inputs).items()}

    gammaness = outputs["class"][:, 0]
    assert roc_auc_score(sample.label == 0, gammaness) > 0.8
    gammas = sample.label == 0
    for task, factor in (("energy", 4), ("direction", 1.7), ("impact", 1.2)):
        truth = sample.targets[task][gammas]
        error = np.abs(outputs[task][gammas] - truth).mean()
        constant = np.abs(np.median(truth, axis=0) - truth).mean()
        assert error < constant / factor


def test_errors_are_learnt_and_calibrated(files, tmp_path):
    """On other showers, two thirds of the truths are within the predicted errors."""
    config = tmp_path / "config.yaml"
    config.write_text(
        "TrainingQualityQuery: {quality_criteria: [[signal, morphology_n_pixels > 0]]}"
    )
    output = train(
        files,
        tmp_path / "errors.safetensors",
        f"--config={config}",
        f"--device={DEVICE}",
        "--errors",
        "--epochs=6",
        "--batch-size=32",
        "--Recipe.schedule=one-cycle",
        "--TrainGammaPhysNet.validation_fraction=0.3",
    )
    network = read_card(output).networks[0]
    assert network.network.errors
    calibration = network.members[0].calibration
    assert set(calibration.errors) == {"energy", "direction", "impact"}
    assert calibration.log_odds[0] > 0
    dl2 = apply(files["test", "gamma"], output, tmp_path / "gamma.dl2.h5")
    with TableLoader(dl2) as loader:
        table = loader.read_telescope_events(dl2=True, simulated=True)
    table = table[table["GammaPhysNetGeometry_tel_is_valid"]]
    assert len(table) > 100
    pull = np.log10(table["GammaPhysNetEnergy_tel_energy"] / table["true_energy"])
    relative = (
        table["GammaPhysNetEnergy_tel_energy_uncert"]
        / table["GammaPhysNetEnergy_tel_energy"]
    )
    width = np.arcsinh(relative) / np.log(10)
    assert 0.5 < np.mean(np.abs(pull) < width) < 0.85
    off = angular_separation(
        table["GammaPhysNetGeometry_tel_az"].quantity,
        table["GammaPhysNetGeometry_tel_alt"].quantity,
        table["true_az"].quantity,
        table["true_alt"].quantity,
    )
    radius = table["GammaPhysNetGeometry_tel_ang_distance_uncert"].quantity
    assert 0.5 < np.mean(off < radius) < 0.85
    # They are no constants: the smaller half is better.
    small = radius < np.median(radius)
    assert np.median(off[small]) < np.median(off[~small])


def test_errors_that_are_not_calibrated_are_said(few, tmp_path, capfd):
    train(few, tmp_path / "model.safetensors", *SHORT, "--errors", NO_VALIDATION)
    expected = "too few validation gammas to calibrate the errors of energy"
    assert expected in capfd.readouterr().err


def test_errors_need_a_value(few, tmp_path):
    options = "--errors", "--tasks", "class"
    with pytest.raises(ToolConfigurationError, match="errors needs a task .* class"):
        train(few, tmp_path / "model.safetensors", *options)


def test_the_card_tells_how_it_was_trained(files, model):
    card = read_card(model)
    assert card.note == "A toy."
    (network,) = card.networks
    assert network.telescope.type == TYPE
    assert network.network.channels == (16, 32)
    training = network.training
    assert training["recipe"]["epochs"] == 12
    assert training["recipe"]["weight_decay"] == 1e-4
    assert training["files"]["signal"] == [files["training", "gamma"].name]
    low, high = network.domain.energy_tev
    assert 0.03 <= low < 0.05
    assert 8 < high <= 10
    assert network.domain.pointings_deg == ((70, 180),)
    _, noise, _ = network.domain.noise_pe
    assert noise == pytest.approx(toy_sample.NOISE_PE, rel=0.1)
    n_selected = int(training["selection"][-1].split(": ")[-1])
    assert sum(training["images"].values()) == n_selected
    (member,) = network.members
    assert member.training["complete"]
    assert member.training["after the last epoch"]["AUC"] > 0.8
    assert member.training["after the last epoch"]["epoch"] == 12


def test_events_of_other_types_are_left_out(few, tmp_path, capfd):
    planted, kept = {}, 0
    for key, path in few.items():
        planted[key] = shutil.copy(path, tmp_path / path.name)
        is_shower = toy_sample.plant_event_types(planted[key])
        index = read_index(path, 0, TYPE, key[1] == "proton", TrainingQualityQuery())
        with open_events(path) as reader:
            (events,) = reader.chunks(1000)
        number = np.searchsorted(events.event_id, index.event_id)
        kept += is_shower[number].sum()
    chosen = "--EventTypeFilter.allowed_types=SUBARRAY"
    output = train(planted, tmp_path / "a.safetensors", *SHORT, chosen)
    training = read_card(output).networks[0].training
    assert sum(training["images"].values()) == kept > 0
    assert re.fullmatch(
        "left out by event type: [1-9][0-9]*", training["selection"][-1]
    )
    assert "not showers" not in capfd.readouterr().err
    read_index(planted["training", "gamma"], 0, TYPE, 0, TrainingQualityQuery())
    assert "not showers (" in capfd.readouterr().err


def test_files_are_in_the_provenance(files, model):
    log = json.loads((model.parent / f"{model.name}.log").read_text())
    # The log has all that this process did; this run came last.
    activity = log[-1]
    assert activity["activity_name"] == TrainGammaPhysNet.name
    inputs = {entry["url"] for entry in activity["input"]}
    assert {str(files["training", p]) for p in ("gamma", "proton")} <= inputs
    assert str(model) in {entry["url"] for entry in activity["output"]}


def test_the_same_seed_gives_the_same_weights(few, tmp_path):
    models = [
        read_model(train(few, tmp_path / name, "--epochs=1", "--seeds", *seeds))
        for name, seeds in (("a.safetensors", ("3", "4")), ("b.safetensors", ("3",)))
    ]
    (first, second), (again,) = models[0].weights[0], models[1].weights[0]
    assert [m.seed for m in models[0].card.networks[0].members] == [3, 4]
    for name, weights in first.items():
        np.testing.assert_array_equal(weights, again[name])
    assert not np.array_equal(first["heads.class.weight"], second["heads.class.weight"])


def test_gammas_alone_can_be_reconstructed(few, tmp_path):
    """Without the class there is nothing that needs background."""
    output = tmp_path / "energy.safetensors"
    argv = [
        f"--signal={few['training', 'gamma']}",
        f"--output={output}",
        "--no-progress",
        "--blocks=1",
        "--epochs=1",
        *("--tasks", "energy", "direction"),
        "--InputTransformation.image=cleaned",
    ]
    run_tool(TrainGammaPhysNet(), argv=argv, cwd=tmp_path, raises=True)
    (network,) = read_card(output).networks
    assert network.network.tasks == ("energy", "direction")
    assert network.input.image == "cleaned"


def test_an_output_that_cannot_be_written_is_an_error_at_once(few, tmp_path):
    argv = [
        f"--signal={few['training', 'gamma']}",
        f"--background={few['training', 'proton']}",
        f"--output={tmp_path / 'missing' / 'model.safetensors'}",
    ]
    with pytest.raises(ToolConfigurationError, match="cannot write into .*missing"):
        run_tool(TrainGammaPhysNet(), argv=argv, cwd=tmp_path, raises=True)


def test_the_same_file_twice_is_an_error(few, tmp_path):
    """Its showers would be on both sides of the split."""
    twice = few | {("training", "proton"): few["training", "gamma"]}
    with pytest.raises(ToolConfigurationError, match="is given 2 times"):
        train(twice, tmp_path / "model.safetensors")


def test_a_telescope_type_must_be_in_all_files(few, tmp_path):
    other = toy_sample.write_toy_file(
        tmp_path / "proton.dl1.h5",
        "proton",
        2,
        array=toy_sample.small_array(3, "OtherCam"),
    )
    with pytest.raises(ToolConfigurationError, match="proton.dl1.h5 has no telescopes"):
        train(few | {("training", "proton"): other}, tmp_path / "model.safetensors")


#: Tells how threads are to wait when PyTorch, which reads that then, would be loaded.
WATCH = """
import os, runpy, sys

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print("torch", os.environ.get("OMP_WAIT_POLICY"))
            sys.exit()

sys.meta_path.insert(0, Watch())
runpy.run_module("ctapipe_gammaphysnet.tools.train", run_name="__main__")
"""


@pytest.mark.parametrize("wanted", [None, "ACTIVE"])
def test_threads_of_pytorch_sleep_while_they_wait(wanted):
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    if wanted:
        environment["OMP_WAIT_POLICY"] = wanted
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WATCH],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.stdout == f"torch {wanted or 'PASSIVE'}\n"


def test_an_existing_output_is_kept_unless_told_otherwise(few, tmp_path):
    output = tmp_path / "model.safetensors"
    output.write_text("precious")
    with pytest.raises(ToolConfigurationError, match="overwrite"):
        train(few, output, "--epochs=1")
    assert output.read_text() == "precious"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--telescope-types", "X"], "no telescopes of type X, only LST_LST_ToyCam"),
        (["--device=cuda:99"], "cuda:99"),
        (["--seeds", "1", "1"], "seeds must differ"),
        (
            ["--seeds", "-1"],
            r"'seeds' .* at least 0 and .*, not the int -1\.",
        ),
        (["--seeds", str(10**30)], rf"'seeds' .* at most 9\d+, not the int {10**30}\."),
        (
            ["--InputTransformation.charge_reference=bad", "--telescope-types", "X"],
            "charge_reference",
        ),
        (
            ["--Augmentation.noise_pe=-1"],
            r"'noise_pe' .* finite number of at least 0, not the float -1",
        ),
        (["--channels", "0"], r"'channels' .* number of at least 1, not the int 0\."),
        # Nothing of pydantic before or after.
        (
            ["--channels", "2000"],
            r"\.channels: 2000 should be less than or equal to 1024$",
        ),
        (["--batch-size=10000"], r"batch of 10000 images .* sample of \d{3,4} images"),
        (["stray.h5"], "not understood: stray.h5"),
        (["--devices=3", "--batch-size=2"], "cannot be split between 3 processes"),
        (["--resume", "--overwrite"], "give one"),
        (["--Recipe.patience=2", NO_VALIDATION], "patience needs validation images"),
        (
            ["--tasks", "energy", "--Recipe.signal_fraction=0.5"],
            "signal_fraction does nothing without background",
        ),
    ],
)
def test_errors_come_before_the_training(few, tmp_path, options, message):
    with pytest.raises((ToolConfigurationError, TraitError), match=message):
        train(few, tmp_path / "model.safetensors", *options)
    assert not list(tmp_path.glob("*.safetensors"))


def test_training_on_a_cpu_needs_compilation(few, tmp_path, monkeypatch):
    monkeypatch.setattr("numba.core.config.DISABLE_JIT", True)
    with pytest.raises(ToolConfigurationError, match="NUMBA_DISABLE_JIT"):
        train(few, tmp_path / "model.safetensors", "--device=cpu")


def test_no_image_left_is_an_error_with_the_counts(few, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(
        "TrainingQualityQuery: {quality_criteria: [[none, hillas_intensity < 0]]}"
    )
    with pytest.raises(TrainingDataError, match=r"0 images of signal(.|\n)*none"):
        train(few, tmp_path / "model.safetensors", f"--config={config}")


def test_files_are_needed(tmp_path):
    with pytest.raises(ToolConfigurationError, match="--signal FILE"):
        run_tool(TrainGammaPhysNet(), argv=[], cwd=tmp_path, raises=True)


def test_missing_libraries_say_what_to_install(few, tmp_path, monkeypatch):
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ToolConfigurationError, match="pip install lightning matplotlib"
    ):
        train(few, tmp_path / "model.safetensors")


@pytest.mark.parametrize("why", ["half is gone", "No module named 'other'"])
def test_broken_libraries_say_what_is_wrong(few, tmp_path, monkeypatch, why):
    (tmp_path / "lightning.py").write_text(f"raise ImportError({why!r})")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [n for n in sys.modules if n.partition(".")[0] == "lightning"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ToolConfigurationError, match=f"lightning, .*imported: {why}"):
        train(few, tmp_path / "model.safetensors")


def test_a_wrong_option_is_said_whatever_else_is_given(tmp_path, capsys):
    """traitlets takes the others back, also where the provenance goes."""
    argv = [f"--provenance-log={tmp_path / 'provenance.log'}", "--seeds=-1"]
    assert run_tool(TrainGammaPhysNet(), argv, tmp_path, raises=False) == 2
    assert "not the int -1" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_small_sample_fills_default_batches_by_repeats(tmp_path, capsys):
    tiny = {
        ("training", particle): toy_sample.write_toy_file(
            tmp_path / f"{particle}.dl1.h5", particle, 20, array=ARRAY, obs_id=obs_id
        )
        for obs_id, particle in enumerate(("gamma", "proton"), 1)
    }
    train(tiny, tmp_path / "model.safetensors", "--epochs=1")
    message = r"WARNING.*: a batch of 128 images .* sample of \d\d images .* repeats"
    assert re.search(message, capsys.readouterr().err)


def test_lists_can_be_given_either_way():
    argv = ["--seeds", "0", "1", "--signal=a", "--epochs", "3", "--seeds=2", "3"]
    assert repeat_options(argv, {"--seeds"}) == [
        *("--seeds", "0", "--seeds", "1", "--signal=a"),
        *("--epochs", "3", "--seeds=2", "--seeds", "3"),
    ]


def test_another_camera_of_the_same_name_is_an_error(few, tmp_path):
    other = toy_sample.write_toy_file(
        tmp_path / "proton.dl1.h5",
        "proton",
        2,
        array=toy_sample.small_array(5, rotation=5.0),
    )
    few = few | {("training", "proton"): other}
    with pytest.raises(ValueError, match="rotated by 5"):
        train(few, tmp_path / "model.safetensors")
    assert len(SubarrayDescription.from_hdf(other)) == 4


@pytest.mark.parametrize("particles", [("proton",), ("gamma", "proton")])
def test_telescopes_of_one_name_that_differ_are_an_error(few, tmp_path, particles):
    """Within a file, and between files: one network cannot see with both mirrors."""
    files = dict(few)
    for particle in particles:
        path = shutil.copy(few["training", particle], tmp_path / f"{particle}.dl1.h5")
        files["training", particle] = enlarge_mirror(path, [1])
    message = r"(telescope 2, and .*, telescope 1|telescope 1, and .*, telescopes 1, 2)"
    with pytest.raises(ToolConfigurationError, match=message) as info:
        train(files, tmp_path / "model.safetensors")
    assert "its mirror area is" in str(info.value)
    assert f"{particles[0]}.dl1.h5, telescope" in str(info.value)
    assert list(tmp_path.glob("model*")) in ([], [tmp_path / "model.safetensors.log"])


def test_threads_are_those_asked_for(few, tmp_path):
    before = torch.get_num_threads()
    try:
        train(few, tmp_path / "m.safetensors", "--epochs=1", "--n-jobs=1")
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def sums_of_weights(path):
    (weights,) = read_model(path).weights[0]
    return {name: weight.astype(float).sum() for name, weight in weights.items()}


#: In a process of its own.
PROCESS = (sys.executable, "-m", "ctapipe_gammaphysnet.tools.train")


def small_training(files, output, *options):
    """The command line of a training of seconds."""
    return [
        f"--signal={files['training', 'gamma']}",
        f"--background={files['training', 'proton']}",
        f"--output={output}",
        f"--provenance-log={output}.log",
        *("--blocks=1", "--channels", "4", "8", "--hidden=8"),
        *("--epochs=2", "--batch-size=32", "--n-jobs=1", "--device=cpu"),
        *options,
    ]


def train_small(files, output, *options):
    argv = small_training(files, output, *options)
    run_tool(TrainGammaPhysNet(), argv=argv, cwd=output.parent, raises=True)
    return output


@pytest.fixture(scope="module")
def small(few, tmp_path_factory):
    """A small training in this process."""
    folder = tmp_path_factory.mktemp("small")
    return train_small(few, folder / "model.safetensors")


@pytest.mark.slow
def test_a_killed_training_ends_with_the_same_weights(few, small, tmp_path):
    output = tmp_path / "model.safetensors"
    checkpoints = "--Recipe.checkpoint_every=1"
    argv = [*PROCESS, *small_training(few, output, checkpoints)]
    process = subprocess.Popen(
        argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    checkpoint = tmp_path / "model.training" / f"{TYPE}_seed0.ckpt"
    while not checkpoint.exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not output.exists()
    with pytest.raises(ToolConfigurationError, match="--resume"):
        train_small(few, output, checkpoints)
    train_small(few, output, checkpoints, "--resume")
    assert sums_of_weights(output) == sums_of_weights(small)
    assert not checkpoint.exists()


@pytest.mark.slow
def test_two_processes_train_what_one_does(few, small, tmp_path):
    output = tmp_path / "model.safetensors"
    argv = [*PROCESS, *small_training(few, output, "--devices=2")]
    result = subprocess.run(argv, capture_output=True, check=False)
    assert result.returncode == 0, result.stderr.decode()
    histories = [
        Table.read(path.with_suffix(".training") / f"{TYPE}_seed0.csv")
        for path in (small, output)
    ]
    assert len(histories[0]) == 2
    for name in histories[0].colnames:
        np.testing.assert_allclose(histories[0][name], histories[1][name], rtol=2e-3)


@pytest.mark.slow
def test_processes_of_torchrun_share_the_work(few, small, tmp_path):
    output = tmp_path / "model.safetensors"
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    # Without the "--", torchrun would take --signal for an option of its own.
    argv = [sys.executable, *launcher, "--no-python", "--", *PROCESS]
    argv += small_training(few, output, "--devices=2")
    subprocess.run(argv, check=True, capture_output=True)
    for name, weights in sums_of_weights(output).items():
        assert weights == pytest.approx(sums_of_weights(small)[name], abs=0.05)
    figures = Table.read(output.with_suffix(".training") / f"{TYPE}_seed0.csv")
    expected = Table.read(small.with_suffix(".training") / f"{TYPE}_seed0.csv")
    assert figures["AUC"][-1] == pytest.approx(expected["AUC"][-1], rel=2e-3)


def test_bfloat16_learns_about_the_same(few, tmp_path):
    histories = []
    for precision in ("float32", "bfloat16"):
        output = tmp_path / f"{precision}.safetensors"
        train(
            few, output, "--epochs=2", f"--precision={precision}", f"--device={DEVICE}"
        )
        folder = output.with_suffix(".training")
        histories.append(Table.read(folder / f"{TYPE}_seed0.csv"))
    exact, rounded = (h["validation loss class"][-1] for h in histories)
    assert exact != rounded
    assert rounded == pytest.approx(exact, rel=0.1)


def test_figures_are_shown_by_tensorboard(few, tmp_path):
    train(few, tmp_path / "m.safetensors", "--epochs=2", "--tensorboard")
    log = EventAccumulator(
        str(tmp_path / "m.training" / "tensorboard" / f"{TYPE}_seed0")
    ).Reload()
    table = Table.read(tmp_path / "m.training" / f"{TYPE}_seed0.csv")
    shown = [event.value for event in log.Scalars("AUC")]
    np.testing.assert_allclose(shown, table["AUC"], rtol=1e-6)


def interrupt_after(monkeypatch, n_epochs):
    """Have Ctrl-C pressed at the end of an epoch."""
    original, done = TrainingModule.on_train_epoch_end, []

    def interrupt(module):
        done.append(module)
        if len(done) == n_epochs:
            os.kill(os.getpid(), signal.SIGINT)
        original(module)

    monkeypatch.setattr(TrainingModule, "on_train_epoch_end", interrupt)


def test_an_interrupted_training_writes_what_it_has(few, tmp_path, monkeypatch):
    """Of two members, the first one is ready and the second one under way."""
    options = ("--epochs=2", "--batch-size=64", "--seeds", "1", "2")
    whole = read_model(train(few, tmp_path / "whole.safetensors", *options))
    output = tmp_path / "model.safetensors"
    with monkeypatch.context() as patch:
        interrupt_after(patch, 3)
        with pytest.raises(CalledProcessError) as info:
            train(few, output, *options)
    # As of a process that the signal ended: "train && apply" ends here.
    assert info.value.returncode == 128 + signal.SIGINT
    first, second = read_card(output).networks[0].members
    assert first.training["complete"]
    assert not second.training["complete"]
    assert second.training["epochs"] == 1
    resumed = read_model(train(few, output, *options, "--resume"))
    assert resumed.card.networks == whole.card.networks
    for before, after in zip(whole.weights[0], resumed.weights[0], strict=True):
        for name, weight in before.items():
            np.testing.assert_array_equal(weight, after[name])


def test_members_are_added(few, tmp_path, monkeypatch):
    options = ("--epochs=1", "--batch-size=64")
    both = read_model(
        train(few, tmp_path / "both.safetensors", *options, "--seeds", "1", "2")
    )
    output = tmp_path / "model.safetensors"
    for seed in ("1", "2"):
        train(few, output, *options, "--seeds", seed, "--add-members")
    added = read_model(output)
    assert [m.seed for m in added.card.networks[0].members] == [1, 2]
    assert added.card.networks == both.card.networks
    for first, second in zip(both.weights[0], added.weights[0], strict=True):
        for name, weight in first.items():
            np.testing.assert_array_equal(weight, second[name])
    monkeypatch.setattr(fit, "fit", None)  # not before they are trained
    with pytest.raises(
        ToolConfigurationError, match=r"^these .* be added: .* of the seeds \[2\]"
    ):
        train(few, output, *options, "--seeds", "2", "--add-members")
    with pytest.raises(
        ToolConfigurationError, match="^these .* be added: .* differ from the new ones"
    ):
        train(few, output, "--epochs=2", "--seeds", "3", "--add-members")
    assert read_model(output).card == added.card


def test_files_can_be_patterns(few, tmp_path):
    output = tmp_path / "model.safetensors"
    files = {key: path.parent / f"te*{key[1]}*.h5" for key, path in few.items()}
    train(files, output, "--epochs=1")
    (network,) = read_card(output).networks
    assert network.training["files"] == {
        "signal": ["test_gamma.dl1.h5"],
        "background": ["test_proton.dl1.h5"],
    }
    nothing = {key: tmp_path / "no*.h5" for key in files}
    with pytest.raises(ToolConfigurationError, match=r"there is no file .*no\*.h5"):
        train(nothing, tmp_path / "other.safetensors")


def test_curves_and_history_are_left_beside_the_model(model):
    folder = model.with_suffix(".training")
    assert sorted(path.name for path in folder.iterdir()) == [
        f"{TYPE}_seed0.csv",
        "curves.png",
    ]
    history = Table.read(folder / f"{TYPE}_seed0.csv")
    assert history["epoch"].tolist() == list(range(1, 13))
    assert history["AUC"][-1] > 0.8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--Recipe.task_weights", "energy=1"], "must have one weight for each task"),
        (["--Augmentation.dead_pixel_fraction=2"], "dead_pixel_fraction"),
        (["--Augmentation.dead_pixel_fraction=nan"], "dead_pixel_fraction"),
        (["--Recipe.learning_rate=nan"], "learning_rate"),
    ],
)
def test_options_of_components_are_checked(few, tmp_path, options, message):
    with pytest.raises((ToolConfigurationError, TraitError), match=message):
        train(few, tmp_path / "model.safetensors", *options)


@pytest.mark.parametrize(
    ("particle", "message"),
    [
        ("gamma", r"of \d+ images .*, \d+ are signal and 0 are background"),
        ("proton", r"of \d+ images .*, 0 are signal and \d+ are background"),
        (None, "of 0 images .*, 0 are signal and 0 are background"),
    ],
)
def test_patience_needs_images_of_both_classes(
    few, tmp_path, monkeypatch, particle, message
):
    """A small sample may have none whose showers are kept for validation."""
    kept = []
    if particle is not None:
        path = few["training", particle]
        index = read_index(path, 0, TYPE, particle == "proton", TrainingQualityQuery())
        kept = index.shower
    monkeypatch.setattr(
        "ctapipe_gammaphysnet.training.sample.is_for_validation",
        lambda numbers, fraction: (
            is_for_validation(numbers, fraction) & np.isin(numbers, kept)
        ),
    )
    with pytest.raises(TrainingDataError, match=rf"{message}: Recipe.patience needs"):
        train(few, tmp_path / "model.safetensors", *SHORT, "--Recipe.patience=2")


def test_a_patience_that_ends_nothing_is_said(few, tmp_path, capsys):
    train(few, tmp_path / "a.safetensors", *SHORT, "--Recipe.patience=1")
    assert (
        "patience=1 has no effect on a training of 1 epochs" in capsys.readouterr().err
    )


def test_a_task_of_several_trains_its_member(few, tmp_path, monkeypatch):
    """Numbered 1 by Slurm, but it shares its batches with nobody."""
    monkeypatch.setenv("SLURM_NTASKS", "3")
    monkeypatch.setenv("SLURM_PROCID", "1")
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    output = train(few, tmp_path / "model.safetensors", *SHORT)
    assert len(read_model(output).weights[0]) == 1


def without_locks(monkeypatch):
    def flock(file, how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)


def test_members_need_locks(few, tmp_path, monkeypatch):
    """Which is found out before anything is trained."""
    without_locks(monkeypatch)
    monkeypatch.setattr(fit, "fit", None)
    with pytest.raises(ToolConfigurationError, match=r"cannot be locked \(No locks"):
        train(few, tmp_path / "model.safetensors", *SHORT, "--add-members")


def test_a_model_of_its_own_needs_no_locks(few, tmp_path, monkeypatch, capsys):
    without_locks(monkeypatch)
    output = train(few, tmp_path / "model.safetensors", *SHORT)
    assert read_card(output).networks[0].members[0].seed == 0
    assert "do not train the same seed twice" in capsys.readouterr().err


def test_two_processes_do_not_train_the_same_member(few, tmp_path):
    """Not even with --overwrite, which would remove the first one's checkpoint."""
    folder = tmp_path / "model.training"
    folder.mkdir()
    checkpoint = folder / f"{TYPE}_seed0.ckpt"
    checkpoint.write_bytes(b"of the first")
    with (
        locked(checkpoint),
        pytest.raises(ToolConfigurationError, match="another process trains seed 0"),
    ):
        train(few, tmp_path / "model.safetensors", *SHORT, "--overwrite")
    assert checkpoint.read_bytes() == b"of the first"


def test_a_drawing_that_fails_costs_nothing_else(few, tmp_path, monkeypatch, capsys):
    def plot(histories, path):
        raise RuntimeError("no font")

    monkeypatch.setattr(run, "plot_histories", plot)
    output = train(few, tmp_path / "model.safetensors", *SHORT)
    assert read_card(output).networks[0].members[0].training["complete"]
    assert "could not be drawn: no font" in capsys.readouterr().err
    assert not list(output.with_suffix(".training").glob("*.ckpt"))


def failing(monkeypatch, n_steps):
    """Have the training fail after some steps."""
    original, done = TrainingModule.training_step, []

    def training_step(training, batch, number):
        done.append(number)
        if len(done) > n_steps:
            raise NotFiniteError("the loss became nan")
        return original(training, batch, number)

    monkeypatch.setattr(TrainingModule, "training_step", training_step)


def test_what_cannot_be_written_is_not_trained_again(few, tmp_path, monkeypatch):
    output = tmp_path / "model.safetensors"
    original = outputs.write_model

    def write(path, model, overwrite=False):
        # The trial at the beginning has another name.
        if path == output:
            raise ModelFileError(f"{path} cannot be written: No space left on device")
        original(path, model, overwrite)

    with monkeypatch.context() as patch:
        patch.setattr(outputs, "write_model", write)
        with pytest.raises(ToolConfigurationError, match=r"No space left.* --resume"):
            train(few, output, *SHORT)
    assert not output.exists()
    with monkeypatch.context() as patch:
        failing(patch, 0)
        train(few, output, *SHORT, "--resume")
    assert read_card(output).networks[0].members[0].training["complete"]


def test_what_cannot_be_written_is_known_before_it_is_trained(
    few, tmp_path, monkeypatch
):
    def write(path, model, overwrite=False):
        raise ModelFileError(f"{path} cannot be written: No space left on device")

    monkeypatch.setattr(outputs, "write_model", write)
    monkeypatch.setattr(fit, "fit", None)
    with pytest.raises(ToolConfigurationError, match="No space left"):
        train(few, tmp_path / "model.safetensors", *SHORT)
    assert not list(tmp_path.glob("*.part"))


def test_a_member_that_fails_costs_no_other(few, tmp_path, monkeypatch):
    whole = read_model(train(few, tmp_path / "whole.safetensors", *SHORT))
    n_steps = Table.read(tmp_path / "whole.training" / f"{TYPE}_seed0.csv")["step"][-1]
    output = tmp_path / "model.safetensors"
    failing(monkeypatch, n_steps)
    with pytest.raises(TrainingError, match="the loss became nan"):
        train(few, output, *SHORT, "--seeds", "0", "1")
    model = read_model(output)
    assert [m.seed for m in model.card.networks[0].members] == [0]
    for name, weight in whole.weights[0][0].items():
        np.testing.assert_array_equal(weight, model.weights[0][0][name])


def test_added_members_are_resumed(few, tmp_path, monkeypatch):
    """One was complete and written when the next one was interrupted."""
    output = tmp_path / "model.safetensors"
    train(few, output, *SHORT, "--seeds", "9", "--add-members")
    options = (*SHORT, "--seeds", "1", "2", "--add-members")
    with monkeypatch.context() as patch:
        failing(
            patch, Table.read(tmp_path / f"model.training/{TYPE}_seed9.csv")["step"][-1]
        )
        with pytest.raises(TrainingError):
            train(few, output, *options)
    assert [m.seed for m in read_card(output).networks[0].members] == [9, 1]
    train(few, output, *options, "--resume")
    assert [m.seed for m in read_card(output).networks[0].members] == [9, 1, 2]


def test_members_are_added_for_all_telescope_types_or_not_yet(tmp_path, monkeypatch):
    """A file with some of them would be refused by all that add later."""
    array = [
        *toy_sample.small_array(3, positions=toy_sample.LST_POSITIONS[:2]),
        *toy_sample.small_array(4, "ACam", positions=toy_sample.LST_POSITIONS[2:]),
    ]
    files = {
        ("training", particle): toy_sample.write_toy_file(
            tmp_path / f"{particle}.dl1.h5", particle, 30, seed, array=array
        )
        for seed, particle in enumerate(("gamma", "proton"))
    }
    output = tmp_path / "model.safetensors"
    options = ("--epochs=1", "--batch-size=8", "--add-members")
    whole = train(files, tmp_path / "whole.safetensors", *options)
    n_steps = {
        path.stem: Table.read(path)["step"][-1]
        for path in tmp_path.glob("whole.training/*.csv")
    }
    assert len(n_steps) == 2
    with monkeypatch.context() as patch:
        failing(patch, n_steps["LST_LST_ACam_seed0"])
        with pytest.raises(TrainingError):
            train(files, output, *options)
    assert not output.exists()
    train(files, output, *options, "--resume")
    assert read_card(output).networks == read_card(whole).networks


def test_checkpoints_are_checked_before_any_is_gone_on_with(few, tmp_path, monkeypatch):
    output, folder = tmp_path / "model.safetensors", tmp_path / "model.training"
    options = (*SHORT, "--seeds", "0", "1", "--resume")
    folder.mkdir()
    (folder / f"{TYPE}_seed1.ckpt").write_bytes(b"damaged")
    monkeypatch.setattr(fit, "fit", None)
    with pytest.raises(TrainingError, match=r"seed1.ckpt is not a checkpoint"):
        train(few, output, *options)
    with pytest.raises(ToolConfigurationError, match=r"seed1.ckpt is from a training"):
        train(few, output, *options[:-1])


def test_a_resumed_training_has_all_its_members(few, tmp_path):
    """A seed that is left out by mistake would be lost with the old model."""
    folder = tmp_path / "model.training"
    folder.mkdir()
    for seed in (0, 1):
        (folder / f"{TYPE}_seed{seed}.ckpt").write_bytes(b"")
    with pytest.raises(ToolConfigurationError, match="seed1.ckpt is from the same"):
        train(few, tmp_path / "model.safetensors", *SHORT, "--seeds", "0", "--resume")


def seeds_of(path):
    """Seeds of a model's members, and whether they are complete."""
    (network,) = read_card(path).networks
    return {m.seed: m.training["complete"] for m in network.members}


def test_resuming_loses_no_member_of_another_training(few, tmp_path, monkeypatch):
    """The one that was interrupted, and one that was added meanwhile."""
    output = tmp_path / "model.safetensors"
    with monkeypatch.context() as patch:
        interrupt_after(patch, 1)
        with pytest.raises(CalledProcessError):
            train(few, output, "--epochs=2", "--batch-size=64")
    options = ("--epochs=2", "--batch-size=64")
    train(few, output, *options, "--seeds", "5", "--add-members")
    assert seeds_of(output) == {0: False, 5: True}
    before = output.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(fit, "fit", None)  # not before it is trained
        with pytest.raises(
            ToolConfigurationError,
            match=f"not trained here: seed 5 of {TYPE}. Keep them with --add-members",
        ):
            train(few, output, *options, "--resume")
    assert output.read_bytes() == before
    (weights,) = (w for w in read_model(output).weights[0][1:])
    train(few, output, *options, "--resume", "--add-members")
    assert seeds_of(output) == {5: True, 0: True}
    for name, weight in read_model(output).weights[0][0].items():
        np.testing.assert_array_equal(weight, weights[name])


def test_resuming_loses_no_member_that_was_there(few, tmp_path, monkeypatch, capsys):
    output = train(few, tmp_path / "model.safetensors", *SHORT)
    options = (*SHORT, "--seeds", "1")
    with monkeypatch.context() as patch:
        interrupt_after(patch, 1)
        with pytest.raises(CalledProcessError):
            train(few, output, *options, "--add-members")
    assert "Continue with --resume --add-members" in capsys.readouterr().err
    assert seeds_of(output)[0]
    before = output.read_bytes()
    with pytest.raises(ToolConfigurationError, match="not trained here: seed 0 of"):
        train(few, output, *options, "--resume")
    assert output.read_bytes() == before
    train(few, output, *options, "--resume", "--add-members")
    assert seeds_of(output) == {0: True, 1: True}


def test_resuming_loses_no_member_that_comes_meanwhile(few, tmp_path, monkeypatch):
    other = train(few, tmp_path / "other.safetensors", *SHORT, "--seeds", "5")
    output = tmp_path / "model.safetensors"
    with monkeypatch.context() as patch:
        interrupt_after(patch, 1)
        with pytest.raises(CalledProcessError):
            train(few, output, "--epochs=2", "--batch-size=64")
    output.unlink()
    original = fit.fit

    def fit_and_copy(*args):
        shutil.copy(other, output)
        return original(*args)

    monkeypatch.setattr(fit, "fit", fit_and_copy)
    with pytest.raises(ToolConfigurationError, match="seed 5 of .* The trained"):
        train(few, output, "--epochs=2", "--batch-size=64", "--resume")
    assert output.read_bytes() == other.read_bytes()


def test_resuming_replaces_models_only(few, tmp_path):
    output, folder = tmp_path / "model.safetensors", tmp_path / "model.training"
    folder.mkdir()
    (folder / f"{TYPE}_seed0.ckpt").write_bytes(b"")
    output.write_text("precious")
    with pytest.raises(ToolConfigurationError, match="--resume does not replace it"):
        train(few, output, *SHORT, "--resume")
    assert output.read_text() == "precious"


def test_resuming_a_complete_training_changes_nothing(
    few, tmp_path, monkeypatch, capsys
):
    """A batch job that is run again ends well."""
    output = train(few, tmp_path / "model.safetensors", *SHORT, "--seeds", "1", "2")
    shutil.rmtree(output.with_suffix(".training"))
    before = output.read_bytes()
    monkeypatch.setattr(fit, "fit", None)
    for more in (["--seeds", "1", "2"], ["--seeds", "2", "--add-members"]):
        train(few, output, *SHORT, *more, "--resume")
        assert "nothing is left to train" in capsys.readouterr().err
        assert output.read_bytes() == before
        assert not output.with_suffix(".training").exists()
    with pytest.raises(ToolConfigurationError, match="differ .* in 'training'"):
        train(few, output, "--epochs=3", "--seeds", "1", "2", "--resume")
    with pytest.raises(ToolConfigurationError, match="overwrite"):
        train(few, output, *SHORT, "--seeds", "2", "3", "--resume")
    assert output.read_bytes() == before


@pytest.mark.parametrize("name", ["curves.png", f"{TYPE}_seed0.csv"])
@pytest.mark.parametrize("options", [[], ["--resume"], ["--seeds", "1", "0"]])
def test_records_of_others_are_kept(few, tmp_path, monkeypatch, name, options):
    folder = tmp_path / "model.training"
    folder.mkdir()
    (folder / name).write_text("of another")
    monkeypatch.setattr(fit, "fit", None)
    with pytest.raises(ToolConfigurationError, match=f"{name} exists, .* --overwrite"):
        train(few, tmp_path / "model.safetensors", *SHORT, *options)
    assert (folder / name).read_text() == "of another"


def test_records_are_replaced_where_they_are_given_up(few, tmp_path, monkeypatch):
    """As are those of a training before, and by a link what it points to."""
    monkeypatch.setattr(run, "plot_histories", records.plot_histories)
    output, folder = tmp_path / "model.safetensors", tmp_path / "model.training"
    folder.mkdir()
    (folder / "curves.png").write_text("of another")
    history = folder / f"{TYPE}_seed0.csv"
    history.symlink_to(tmp_path / "history.csv")
    history.write_text("of another")
    for _ in range(2):
        train(few, output, *SHORT, "--overwrite")
        assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
        assert history.is_symlink()
        assert Table.read(tmp_path / "history.csv")["epoch"].tolist() == [1]


@pytest.mark.parametrize("suffix", ["csv", "ckpt"])
@pytest.mark.parametrize("options", [[], ["--resume"], ["--overwrite"]])
def test_what_is_no_plain_file_is_known_at_once(
    few, tmp_path, monkeypatch, suffix, options
):
    monkeypatch.setattr(fit, "fit", None)
    folder = tmp_path / "model.training"
    folder.mkdir()
    pipe = folder / f"{TYPE}_seed0.{suffix}"
    os.mkfifo(pipe)
    with pytest.raises(ToolConfigurationError, match=f"{suffix} is a pipe"):
        train(few, tmp_path / "model.safetensors", *SHORT, *options)
    pipe.unlink()
    (folder / "curves.png").mkdir()
    with pytest.raises(ToolConfigurationError, match="png is a folder"):
        train(few, tmp_path / "model.safetensors", *SHORT, *options)


def test_a_file_in_place_of_the_folder_is_an_error(few, tmp_path):
    file = tmp_path / "model.training"
    file.write_text("precious")
    with pytest.raises(ToolConfigurationError, match="not a folder, but the check"):
        train(few, tmp_path / "model.safetensors", *SHORT)
    assert file.read_text() == "precious"


def test_without_a_terminal_there_are_lines(few, tmp_path, capfd):
    train_small(few, tmp_path / "m.safetensors")
    lines = capfd.readouterr().err.splitlines()
    shown = [line for line in lines if "epoch=" in line]
    assert len(shown) == 2
    assert all("INFO" in line and "\r" not in line for line in shown)
    assert "epoch=2/2" in shown[1]


def test_quiet_leaves_no_progress(few, tmp_path, capfd):
    train_small(few, tmp_path / "m.safetensors", "--quiet")
    assert "epoch" not in "".join(capfd.readouterr())


def test_the_share_for_validation_is_a_number():
    with pytest.raises(TraitError, match="validation_fraction"):
        TrainGammaPhysNet(validation_fraction=float("nan"))


def test_records_are_above_the_bar(monkeypatch):
    """Not behind it, in the same line."""
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    tool = TrainGammaPhysNet(log_level="INFO")
    tool.log.parent.handlers[0].setStream(screen)
    with tqdm(total=3, file=screen) as bar:
        bar.update()
        run.report_epoch(tool.log, {"epoch": 1})
    text = screen.getvalue()
    before, _, _ = text.partition("After the epoch")
    # The line is empty when the record begins.
    line = before.rpartition("\n")[2].rpartition("\r")[2]
    assert "it/s" not in line
    assert "/3" not in line
