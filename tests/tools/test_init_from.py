"""Trainings that begin with the weights of a model."""

import json
import os
import shutil
import signal
import subprocess
import sys
from subprocess import CalledProcessError

import numpy as np
import pytest
import torch
import toy_sample
from ctapipe.core import ToolConfigurationError, run_tool
from ctapipe.instrument import SubarrayDescription
from rearrange import random_order, rearrange_pixels

from ctapipe_gammaphysnet.evaluation.networks import check_showers
from ctapipe_gammaphysnet.events.quality import TrainingQualityQuery
from ctapipe_gammaphysnet.files.input_file import sha256_of_file
from ctapipe_gammaphysnet.model.calibration_card import CalibrationCard
from ctapipe_gammaphysnet.model.file import Model, read_card, read_model, write_model
from ctapipe_gammaphysnet.model.predictor import Predictor
from ctapipe_gammaphysnet.network import CameraLattice, GammaPhysNet
from ctapipe_gammaphysnet.tools.show import main as show
from ctapipe_gammaphysnet.tools.train import TrainGammaPhysNet
from ctapipe_gammaphysnet.training import fit
from ctapipe_gammaphysnet.training.checkpoint import TrainingError
from ctapipe_gammaphysnet.training.index import read_index
from ctapipe_gammaphysnet.training.module import TrainingModule
from ctapipe_gammaphysnet.training.stream import read_images

pytestmark = pytest.mark.usefixtures("no_curves")

TYPE = "LST_LST_ToyCam"
FROZEN = "--Recipe.frozen=backbone"
#: So small that weights do not change in single precision, or hardly.
NO_LEARNING = "--Recipe.learning_rate=1e-15"
PARTICLES = "gamma", "proton"


def write_files(folder, seed, obs_id):
    """Files of gammas and of protons."""
    array = toy_sample.small_array(5, positions=[(0.0, 0.0, 0.0), (60.0, 40.0, 10.0)])
    return [
        toy_sample.write_toy_file(
            folder / f"{particle}_{seed}.dl1.h5",
            particle,
            80,
            seed,
            array=array,
            obs_id=obs_id + label,
        )
        for label, particle in enumerate(PARTICLES)
    ]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp("sample"), 1, 1)


@pytest.fixture(scope="module")
def other_files(tmp_path_factory):
    """Of other showers."""
    return write_files(tmp_path_factory.mktemp("other"), 2, 3)


@pytest.fixture(scope="module")
def telescope(files):
    (telescope,) = SubarrayDescription.from_hdf(files[0]).telescope_types
    return telescope


@pytest.fixture(scope="module")
def parent(make_model, telescope, tmp_path_factory):
    """A model of two members, with random weights."""
    path = tmp_path_factory.mktemp("parent") / "old.safetensors"
    write_model(path, make_model(telescope, n_members=2))
    return path


@pytest.fixture(scope="module")
def trained(files, tmp_path_factory):
    """A model that knows its showers."""
    output = tmp_path_factory.mktemp("trained") / "trained.safetensors"
    small = "--blocks=1", "--channels", "4", "8", "--hidden=8"
    return train(files, output, None, *small, "--TrainGammaPhysNet.note=The first.")


def arguments(files, output, parent, *options, epochs=1):
    return [
        f"--signal={files[0]}",
        f"--background={files[1]}",
        f"--output={output}",
        *([f"--init-from={parent}"] if parent else []),
        "--no-progress",
        f"--epochs={epochs}",
        "--batch-size=32",
        "--device=cpu",
        f"--provenance-log={output}.log",
        *options,
    ]


def train(files, output, parent, *options, epochs=1):
    argv = arguments(files, output, parent, *options, epochs=epochs)
    run_tool(TrainGammaPhysNet(), argv=argv, cwd=output.parent, raises=True)
    return output


def with_another_note(path, copy):
    """The same weights in another file."""
    model = read_model(path)
    card = model.card.model_copy(update={"note": "The second."})
    write_model(copy, Model(card, model.weights))
    return copy


def untrained(path):
    """What `fit` would return if it left the weights of a model as they are."""
    return lambda *_: (weights_of(path), [], CalibrationCard(), None)


def weights_of(path, member=0):
    return read_model(path).weights[0][member]


def backbone_of(path, member=0):
    weights = weights_of(path, member)
    return {name: w for name, w in weights.items() if name.startswith("backbone")}


def predict(path, file):
    """Predictions of all members for the images of a file."""
    model = read_model(path)
    index = read_index(file, 0, TYPE, 0, TrainingQualityQuery())
    images = read_images([file], index, np.arange(len(index)))
    predictor = Predictor(model.card.networks[0], model.weights[0])
    inputs, _ = predictor.prepare(*images[1:])
    return predictor(inputs)


def test_without_learning_predictions_are_the_models(files, parent, tmp_path):
    """Member by member. Nothing of the architecture needs to be given."""
    options = FROZEN, NO_LEARNING, "--seeds", "0", "1"
    output = train(files, tmp_path / "new.safetensors", parent, *options)
    before, after = (predict(path, files[0]) for path in (parent, output))
    assert before.keys() == after.keys()
    for task, output in before.items():
        np.testing.assert_allclose(after[task], output, rtol=1e-6, atol=1e-6)
        # The members are different ones.
        assert np.abs(output[0] - output[1]).max() > 0.01


def test_a_frozen_backbone_stays_bit_by_bit(files, parent, tmp_path, capsys):
    output = train(files, tmp_path / "new.safetensors", parent, FROZEN)
    np.testing.assert_equal(backbone_of(output), backbone_of(parent))
    for name, weight in weights_of(output).items():
        if not name.startswith("backbone"):
            assert not np.array_equal(weight, weights_of(parent)[name]), name
    assert read_card(output).networks[0].training["recipe"]["frozen"] == ["backbone"]
    assert "New: nothing. Left out: nothing" in capsys.readouterr().err


def test_a_backbone_that_is_not_frozen_moves_with_its_statistics(
    files, parent, tmp_path
):
    """Even if nothing is learnt, these become those of the new images."""
    still = train(files, tmp_path / "still.safetensors", parent, NO_LEARNING)
    for name, weight in backbone_of(parent).items():
        now = weights_of(still)[name]
        if "running" in name or "num_batches" in name:
            assert not np.array_equal(now, weight), name
        else:
            np.testing.assert_allclose(now, weight, rtol=1e-6, atol=1e-6)
    moved = train(files, tmp_path / "moved.safetensors", parent)
    for name, weight in backbone_of(parent).items():
        assert not np.array_equal(weights_of(moved)[name], weight), name


@pytest.mark.slow
def test_processes_that_share_batches_leave_it_alone(files, parent, tmp_path):
    output = tmp_path / "new.safetensors"
    argv = arguments(files, output, parent, FROZEN, "--devices=2", "--n-jobs=1")
    module = [sys.executable, "-m", "ctapipe_gammaphysnet.tools.train"]
    result = subprocess.run([*module, *argv], capture_output=True, check=False)
    assert result.returncode == 0, result.stderr.decode()
    np.testing.assert_equal(backbone_of(output), backbone_of(parent))
    head = "heads.class.weight"
    assert not np.array_equal(weights_of(output)[head], weights_of(parent)[head])


def test_a_new_head_begins_as_one_of_its_seed(
    files, make_model, telescope, tmp_path, capsys
):
    parent = tmp_path / "old.safetensors"
    write_model(parent, make_model(telescope, tasks=("energy", "class")))
    tasks = "--tasks", "energy", "direction", "class"
    options = FROZEN, NO_LEARNING, "--seeds", "5", *tasks
    output = train(files, tmp_path / "new.safetensors", parent, *options)
    assert (
        "New: heads.direction, geometry. Left out: nothing" in capsys.readouterr().err
    )
    card = read_card(output).networks[0]
    torch.manual_seed(5)
    lattice = CameraLattice.from_geometry(telescope.camera.geometry)
    fresh = GammaPhysNet(card.network, lattice).state_dict()
    for name, weight in weights_of(output).items():
        is_new = name.startswith(("geometry", "heads.direction"))
        expected = fresh[name].numpy() if is_new else weights_of(parent)[name]
        np.testing.assert_allclose(weight, expected, rtol=1e-6, atol=1e-6)


def test_errors_are_added_to_a_model_without(files, parent, tmp_path, capsys):
    """As new heads; the values stay."""
    options = FROZEN, NO_LEARNING, "--errors"
    output = train(files, tmp_path / "new.safetensors", parent, *options)
    new = "New: scales.energy, scales.impact, scales.direction. Left out: nothing"
    assert new in capsys.readouterr().err
    before, after = (predict(path, files[0]) for path in (parent, output))
    for task in ("energy", "direction", "impact"):
        n_values = before[task].shape[-1]
        assert after[task].shape[-1] > n_values
        values = after[task][0, :, :n_values]
        np.testing.assert_allclose(values, before[task][0], rtol=1e-6, atol=1e-6)
    # It is kept by those that begin with that one.
    last = train(files, tmp_path / "last.safetensors", output, FROZEN)
    assert read_card(last).networks[0].network.errors


def test_pixels_may_have_another_order(files, parent, telescope, tmp_path):
    order = random_order(telescope.camera.geometry.n_pixels)
    other = [shutil.copy(path, tmp_path / path.name) for path in files]
    for path in other:
        rearrange_pixels(path, [1, 2], order)
    options = FROZEN, NO_LEARNING
    output = train(other, tmp_path / "new.safetensors", parent, *options)
    before, after = predict(parent, files[0]), predict(output, other[0])
    for task, output in before.items():
        np.testing.assert_allclose(after[task][0], output[0], rtol=1e-5, atol=1e-6)


def test_the_card_names_the_model_and_its_showers(
    files, other_files, trained, tmp_path, capsys
):
    output = train(other_files, tmp_path / "new.safetensors", trained)
    card = read_card(output).networks[0]
    assert card.parent.sha256 == sha256_of_file(trained)
    assert card.parent.note == "The first."
    assert card.parent.domain == read_card(trained).networks[0].domain
    assert card.parent.type == TYPE
    capsys.readouterr()
    assert show([str(output)]) == 0
    shown = capsys.readouterr().out
    assert f"    model file (SHA-256): {card.parent.sha256}" in shown
    assert "    note: The first." in shown
    activity = json.loads((tmp_path / "new.safetensors.log").read_text())[-1]
    assert str(trained) in {entry["url"] for entry in activity["input"]}

    # Also of a training that begins with that one.
    last = train(other_files, tmp_path / "last.safetensors", output)
    last = read_card(last).networks[0]
    assert last.parent.before == (card.parent.sha256,)
    foreign = np.arange(1000, dtype=np.uint64) << np.uint64(40)
    for path in (files[0], other_files[0]):
        seen = read_index(path, 0, TYPE, 0, TrainingQualityQuery()).shower
        assert check_showers(last, seen) > 20
    assert check_showers(last, foreign) == 0


@pytest.mark.parametrize(
    ("fraction", "is_said"), [(0.1, False), (0.05, False), (0.5, True)]
)
def test_validation_showers_that_were_seen_are_said(
    files, trained, tmp_path, monkeypatch, capsys, fraction, is_said
):
    """With the same share, or a smaller one, there are none."""
    monkeypatch.setattr(
        fit, "fit", lambda *_: (weights_of(trained), [], CalibrationCard(), None)
    )
    option = f"--TrainGammaPhysNet.validation_fraction={fraction}"
    train(files, tmp_path / "new.safetensors", trained, option)
    assert ("metrics look too good" in capsys.readouterr().err) == is_said


def test_a_model_without_list_of_showers_is_said(
    files, parent, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(
        fit, "fit", lambda *_: (weights_of(parent), [], CalibrationCard(), None)
    )
    train(files, tmp_path / "new.safetensors", parent)
    message = f"the card of {parent} does not have all the showers of its training"
    assert message in capsys.readouterr().err


def test_interrupted_it_goes_on_as_if_nothing_had_happened(
    files, trained, tmp_path, monkeypatch
):
    def run(name, parent, *options):
        options = FROZEN, "--seeds", "3", *options
        return train(files, tmp_path / name, parent, *options, epochs=2)

    whole = run("whole.safetensors", trained)
    original = TrainingModule.on_train_epoch_end

    def interrupt(module):
        os.kill(os.getpid(), signal.SIGINT)
        original(module)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingModule, "on_train_epoch_end", interrupt)
        with pytest.raises(CalledProcessError):
            run("new.safetensors", trained)
    # Not from another model.
    twin = with_another_note(trained, tmp_path / "twin.safetensors")
    with pytest.raises(TrainingError, match="with other settings: parent was .*, is"):
        run("new.safetensors", twin, "--resume")
    output = run("new.safetensors", trained, "--resume")
    assert read_card(output).networks == read_card(whole).networks
    np.testing.assert_equal(weights_of(output), weights_of(whole))
    np.testing.assert_equal(backbone_of(output), backbone_of(trained))


def test_members_of_another_beginning_are_not_added(files, trained, tmp_path):
    output = tmp_path / "new.safetensors"
    copy = shutil.copy(trained, tmp_path / "copy.safetensors")
    for seed, parent in (("0", trained), ("1", copy)):
        train(files, output, parent, "--seeds", seed, "--add-members")
    assert [m.seed for m in read_card(output).networks[0].members] == [0, 1]
    twin = with_another_note(trained, tmp_path / "twin.safetensors")
    message = (
        r"in 'parent' of the model card \(sha256 was .*, is .*: train with the same"
    )
    with pytest.raises(ToolConfigurationError, match=message):
        train(files, output, twin, "--seeds", "2", "--add-members")


@pytest.mark.parametrize("options", [[], ["--overwrite"], ["--add-members"]])
def test_the_model_itself_stays(files, parent, tmp_path, options):
    path = shutil.copy(parent, tmp_path / "old.safetensors")
    link = tmp_path / "link.safetensors"
    link.symlink_to(path)
    for output in (path, link):
        with pytest.raises(ToolConfigurationError, match="is .*input"):
            train(files, output, path, *options)
    assert path.read_bytes() == parent.read_bytes()
    assert not path.with_suffix(".training").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--blocks", "2"], "blocks=1 instead of 2"),
        (["--seeds", "0", "2"], "none of seed 2"),
        (
            ["--InputTransformation.charge=arcsinh"],
            "InputTransformation.charge is arcsinh, but in .* it is linear",
        ),
    ],
)
def test_what_does_not_fit_is_an_error(
    files, parent, tmp_path, monkeypatch, options, message
):
    monkeypatch.setattr(fit, "fit", None)
    with pytest.raises(ToolConfigurationError, match=message):
        train(files, tmp_path / "new.safetensors", parent, *options)


def test_a_file_that_is_no_model_is_an_error(files, tmp_path):
    with pytest.raises(ToolConfigurationError, match="--init-from: .* HDF5 file"):
        train(files, tmp_path / "new.safetensors", files[0])


def test_random_weights_are_not_frozen(files, tmp_path):
    with pytest.raises(
        ToolConfigurationError, match=r"Recipe.frozen=backbone .*--init"
    ):
        train(files, tmp_path / "new.safetensors", None, FROZEN)


def test_all_telescope_types_need_a_network(parent, tmp_path):
    """One without could begin with random weights, and hardly learn."""
    array = [
        *toy_sample.small_array(5, positions=[(0.0, 0.0, 0.0)]),
        *toy_sample.small_array(4, "OtherCam", positions=[(60.0, 40.0, 10.0)]),
    ]
    gammas = toy_sample.write_toy_file(
        tmp_path / "gamma.dl1.h5",
        "gamma",
        5,
        array=array,
    )
    options = "--tasks", "energy"
    message = (
        "old.safetensors has no network for LST_LST_OtherCam, only for LST_LST_Toy"
    )
    with pytest.raises(ToolConfigurationError, match=message):
        train([gammas, gammas], tmp_path / "new.safetensors", parent, *options)
