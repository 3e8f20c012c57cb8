"""Trainings that are interrupted, shared, or fail."""

import errno
import gc
import io
import os
import shutil
import signal
import sys
from dataclasses import replace

import lightning
import numpy as np
import pytest
import tables
import torch
import toy_sample
from ctapipe.instrument import SubarrayDescription
from lightning.pytorch.utilities import rank_zero_only

from ctapipe_gammaphysnet.events.quality import ImageQualityQuery
from ctapipe_gammaphysnet.events.showers import is_for_validation
from ctapipe_gammaphysnet.model.calibration_card import CalibrationCard
from ctapipe_gammaphysnet.model.card import MemberCard, NetworkCard
from ctapipe_gammaphysnet.model.telescope import describe_telescope
from ctapipe_gammaphysnet.network import CameraLattice, GammaPhysNet, NetworkConfig
from ctapipe_gammaphysnet.training import module
from ctapipe_gammaphysnet.training.augmentation import Augmentation
from ctapipe_gammaphysnet.training.checkpoint import TrainingError
from ctapipe_gammaphysnet.training.fit import TrainingSet, fit
from ctapipe_gammaphysnet.training.hardware import Hardware, check_environment
from ctapipe_gammaphysnet.training.index import (
    EventIndex,
    TrainingDataError,
    read_index,
)
from ctapipe_gammaphysnet.training.module import TrainingModule
from ctapipe_gammaphysnet.training.outputs import Paths
from ctapipe_gammaphysnet.training.recipe import Recipe

TYPE = "LST_LST_ToyCam"
BATCH_SIZE = 8
# Steps in an epoch: enough for a checkpoint inside it.
N_STEPS = 5


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Images of a few toy showers, 40 of them to train on."""
    folder = tmp_path_factory.mktemp("sample")
    paths = [
        toy_sample.write_toy_file(
            folder / f"{particle}.dl1.h5",
            particle,
            60,
            seed=label,
            array=toy_sample.small_array(3),
        )
        for label, particle in enumerate(("gamma", "proton"))
    ]
    (telescope,) = SubarrayDescription.from_hdf(paths[0]).telescope_types
    geometry = telescope.camera.geometry
    index = EventIndex.concatenate(
        [
            read_index(path, n, TYPE, n, ImageQualityQuery())
            for n, path in enumerate(paths)
        ]
    )
    kept = is_for_validation(index.shower, 0.3)
    per_class = N_STEPS * BATCH_SIZE // 2
    training = EventIndex.concatenate(
        [
            index.select(np.flatnonzero(~kept & (index.label == label))[:per_class])
            for label in (0, 1)
        ]
    )
    assert len(training) == N_STEPS * BATCH_SIZE
    return TrainingSet(
        paths=paths,
        training=training,
        # Some are enough: they are all predicted after each epoch.
        validation=index.select(np.flatnonzero(kept)[::3]),
        card=NetworkCard(
            telescope=describe_telescope(telescope),
            network=NetworkConfig(blocks=1, channels=(4, 8), hidden=8),
            members=(MemberCard(seed=0),),
        ),
        lattice=CameraLattice.from_geometry(geometry),
        augmentation=Augmentation(geometry=geometry),
    )


def run(data, folder, seed=0, reports=None, progress=None, **recipe):
    """Train for two epochs; checkpoints are in the folder."""
    options = {"epochs": 2, "batch_size": BATCH_SIZE, "shuffle_images": 16} | recipe
    weights, history, calibration, interrupted = fit(
        data,
        Recipe(**options),
        seed,
        Hardware(),
        Paths(folder / "member.ckpt", folder / "member.csv"),
        {"recipe": options},
        (reports if reports is not None else []).append,
        progress=progress,
    )
    # These networks predict no errors.
    assert calibration == CalibrationCard()
    return weights, history, interrupted


def test_the_calibration_gets_the_axes_of_the_images(data, tmp_path, monkeypatch):
    """Each image its own."""
    seen = []
    monkeypatch.setattr(
        module, "calibrate", lambda *given: seen.append(given) or CalibrationCard()
    )
    run(data, tmp_path, epochs=1)
    ((_, targets, axes),) = seen
    expected = data.validation.targets["direction"]
    np.testing.assert_array_equal(targets["direction"], expected)
    np.testing.assert_array_equal(np.column_stack(axes), data.validation.axes)
    assert np.isfinite(data.validation.axes).any()


def assert_same(first, second):
    for name, weight in first.items():
        np.testing.assert_array_equal(weight, second[name], err_msg=name)


def at_step(monkeypatch, number, action):
    """Do something in a training step, counted from 0."""
    original = TrainingModule.training_step

    def training_step(module, batch, batch_index):
        if module.global_step == number:
            action()
        return original(module, batch, batch_index)

    monkeypatch.setattr(TrainingModule, "training_step", training_step)


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """A training that nothing interrupts."""
    weights, history, interrupted = run(data, tmp_path_factory.mktemp("whole"))
    assert interrupted is None
    return weights, history


@pytest.mark.parametrize("step", [2, N_STEPS - 1, N_STEPS])
def test_an_interrupted_training_goes_on_as_if_it_had_not_been(
    data, whole, tmp_path, monkeypatch, step
):
    number = signal.SIGINT if step == 2 else signal.SIGTERM
    with monkeypatch.context() as patch:
        at_step(patch, step, lambda: os.kill(os.getpid(), number))
        _, history, interrupted = run(data, tmp_path)
    assert interrupted == number
    # After the last step of an epoch, the epoch is brought to its end.
    assert len(history) == (step + 1) // N_STEPS
    weights, history, interrupted = run(data, tmp_path)
    assert interrupted is None
    assert history == whole[1]
    assert_same(weights, whole[0])


class Killed(BaseException):
    pass


def kill():
    raise Killed


@pytest.mark.parametrize("every", [None, 2])
def test_what_dies_loses_only_what_came_after_the_checkpoint(
    data, tmp_path, monkeypatch, every
):
    uninterrupted = tmp_path / "whole"
    uninterrupted.mkdir()
    weights, history, _ = run(data, uninterrupted, checkpoint_every=every)
    steps = []
    with monkeypatch.context() as patch:
        at_step(patch, N_STEPS + 3, kill)
        with pytest.raises(Killed):
            run(data, tmp_path, checkpoint_every=every)
    with monkeypatch.context() as patch:
        original = TrainingModule.training_step
        patch.setattr(
            TrainingModule,
            "training_step",
            lambda module, *args: (
                steps.append(module.global_step),
                original(module, *args),
            )[1],
        )
        again, history_again, interrupted = run(data, tmp_path, checkpoint_every=every)
    assert interrupted is None
    first = N_STEPS if every is None else N_STEPS + 3 - (N_STEPS + 3) % every
    assert steps == list(range(first, 2 * N_STEPS))
    assert history_again == history
    assert_same(again, weights)


def test_a_finished_training_is_not_repeated(data, whole, tmp_path, monkeypatch):
    run(data, tmp_path)
    at_step(monkeypatch, 2 * N_STEPS, kill)
    weights, history, interrupted = run(data, tmp_path)
    assert interrupted is None
    assert history == whole[1]
    assert_same(weights, whole[0])


def test_a_full_disk_leaves_the_last_checkpoint(data, whole, tmp_path, monkeypatch):
    original = lightning.Trainer.save_checkpoint
    n_saved = 0

    def save(trainer, path, *args, **kwargs):
        nonlocal n_saved
        n_saved += 1
        if n_saved == 2:
            path.write_bytes(b"half of")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(trainer, path, *args, **kwargs)

    monkeypatch.setattr(lightning.Trainer, "save_checkpoint", save)
    with pytest.raises(TrainingError, match=r"No space left.*last good one is .*ckpt"):
        run(data, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["member.ckpt", "member.csv"]
    weights, *_ = run(data, tmp_path)
    assert_same(weights, whole[0])


def test_a_damaged_checkpoint_is_an_error(data, tmp_path):
    (tmp_path / "member.ckpt").write_bytes(b"not a checkpoint")
    with pytest.raises(TrainingError, match="member.ckpt is not a checkpoint"):
        run(data, tmp_path)


def test_a_checkpoint_of_another_training_is_an_error(data, tmp_path):
    run(data, tmp_path)
    with pytest.raises(
        TrainingError, match=r": recipe.learning_rate was None, is 1e-05\."
    ):
        run(data, tmp_path, learning_rate=1e-5)


def test_a_loss_that_is_not_finite_says_where(data, tmp_path, monkeypatch):
    with pytest.raises(TrainingError) as info:
        run(data, tmp_path, learning_rate=1e30)
    message = str(info.value)
    assert "epoch 0, step 1" in message
    for path in data.paths:
        assert str(path) in message
    assert "there is no checkpoint yet" in message
    with pytest.raises(TrainingError, match="last good checkpoint is .*member.ckpt"):
        run(data, tmp_path, learning_rate=1e30, checkpoint_every=1)


@pytest.mark.parametrize(
    ("side", "column"), [("training", "image"), ("validation", "peak_time")]
)
def test_an_image_without_pixels_is_an_error(data, tmp_path, side, column):
    """Though augmentation switches some off, which makes zeros of them."""
    index = getattr(data, side)
    tel_id, row = index.tel_id[0], index.row[0]
    path = shutil.copy(data.paths[index.file[0]], tmp_path / "spoilt.dl1.h5")
    with tables.open_file(path, "r+") as file:
        table = file.root[f"/dl1/event/telescope/images/tel_{tel_id:03d}"]
        rows = table.read(row, row + 1)
        rows[column] = np.nan
        table.modify_rows(row, rows=rows)
    geometry = SubarrayDescription.from_hdf(path).tel[tel_id].camera.geometry
    spoilt = replace(
        data,
        paths=[path, *data.paths[1:]],
        augmentation=Augmentation(geometry=geometry, dead_pixel_fraction=0.5),
    )
    message = (
        rf"spoilt.dl1.h5: the image of telescope {tel_id} in event "
        rf"{index.event_id[0]} of observation {index.obs_id[0]} has no pixel"
    )
    with pytest.raises(TrainingDataError, match=message):
        run(spoilt, tmp_path, epochs=1)


def test_the_history_has_losses_weights_and_figures(data, tmp_path):
    reports = []
    _, history, _ = run(data, tmp_path, reports=reports)
    assert reports == history
    assert [row["epoch"] for row in history] == [1, 2]
    for row in history:
        assert 0 < row["AUC"] < 1
        for task in ("energy", "direction", "impact", "class"):
            assert np.isfinite(row[f"training loss {task}"])
            assert np.isfinite(row[f"validation loss {task}"])
            assert row[f"weight {task}"] > 0
        assert np.isfinite(row["energy resolution"])
        assert np.isfinite(row["angular resolution / deg"])
    table = np.genfromtxt(tmp_path / "member.csv", delimiter=",", names=True)
    assert table["AUC"].tolist() == pytest.approx([row["AUC"] for row in history])


def test_without_validation_data_there_are_no_figures(data, tmp_path):
    alone = replace(data, validation=data.validation.select(slice(0, 0)))
    _, history, _ = run(alone, tmp_path)
    assert not any(name.startswith("validation") for name in history[-1])


def test_patience_ends_a_training_that_gets_no_better(data, tmp_path, monkeypatch):
    losses = iter([3.0, 2.0, 2.5, 1.0, 1.5, 1.0, 0.0])
    monkeypatch.setattr(
        module, "_unweighted_losses", lambda *_: {"energy": torch.tensor(next(losses))}
    )
    _, history, interrupted = run(data, tmp_path, epochs=7, patience=2)
    assert interrupted is None
    assert [row["validation loss energy"] for row in history] == [3, 2, 2.5, 1, 1.5, 1]


def test_a_training_that_ended_early_does_not_go_on(data, tmp_path, monkeypatch):
    """As when its process died while the next member was trained."""
    losses = iter([3.0, 2.0, 2.5, 0.0])
    monkeypatch.setattr(
        module, "_unweighted_losses", lambda *_: {"energy": torch.tensor(next(losses))}
    )
    options = {"epochs": 4, "patience": 1}
    weights, history, _ = run(data, tmp_path, **options)
    assert len(history) == 3
    at_step(monkeypatch, 3 * N_STEPS, kill)
    again, history_again, interrupted = run(data, tmp_path, **options)
    assert interrupted is None
    assert history_again == history
    assert_same(again, weights)


def test_patience_needs_losses_that_are_finite(data, tmp_path, monkeypatch):
    losses = iter([3.0, np.nan, 2.0, 1.0])
    monkeypatch.setattr(
        module, "_unweighted_losses", lambda *_: {"energy": torch.tensor(next(losses))}
    )
    message = "validation loss became nan in epoch 1, .*last good checkpoint is .*ckpt"
    with pytest.raises(TrainingError, match=message):
        run(data, tmp_path, epochs=4, patience=2)
    # A training could continue from the epoch before.
    checkpoint = torch.load(tmp_path / "member.ckpt", weights_only=True)
    assert len(checkpoint["history"]) == 1


def test_weights_that_are_not_finite_are_an_error(data, whole, tmp_path, monkeypatch):
    """Also after the last step, where there is no loss to show it."""

    def on_validation_epoch_end(training):
        if training.current_epoch == 1:
            training.network.heads["class"].bias.data[0] = np.nan
        training._validation = []

    monkeypatch.setattr(
        TrainingModule, "on_validation_epoch_end", on_validation_epoch_end
    )
    message = "weights heads.class.bias are not finite in epoch 1, after step 10"
    with pytest.raises(TrainingError, match=f"{message}; the last good checkpoint"):
        run(data, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["member.ckpt", "member.csv"]
    monkeypatch.undo()
    weights, *_ = run(data, tmp_path)
    assert_same(weights, whole[0])


@pytest.mark.parametrize("content", [None, b"epoch\n1\n2\n3\n"])
@pytest.mark.parametrize("n_epochs", [1, 2])
def test_the_history_is_that_of_the_checkpoint(
    data, tmp_path, monkeypatch, content, n_epochs
):
    """Whatever is there: a process may die between the two, or the file be lost."""
    run(data, tmp_path)
    path = tmp_path / "member.csv"
    expected = path.read_bytes()
    (tmp_path / "member.ckpt").unlink()
    if n_epochs == 2:
        run(data, tmp_path)
    else:
        with monkeypatch.context() as patch:
            at_step(patch, N_STEPS, kill)
            with pytest.raises(Killed):
                run(data, tmp_path)
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    run(data, tmp_path)
    assert path.read_bytes() == expected


def test_who_asks_twice_need_not_wait(data, tmp_path, monkeypatch):
    def ask():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)

    at_step(monkeypatch, 2, ask)
    with pytest.raises(SystemExit) as info:
        run(data, tmp_path)
    assert info.value.code == 128 + signal.SIGINT
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "error"),
    [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)],
)
def test_an_interruption_before_the_first_step(
    data, tmp_path, monkeypatch, number, error
):
    """Lightning has answers of its own, with other exit statuses."""
    original = TrainingModule.train_dataloader

    def train_dataloader(training):
        os.kill(os.getpid(), number)
        return original(training)

    monkeypatch.setattr(TrainingModule, "train_dataloader", train_dataloader)
    with pytest.raises(error) as info:
        run(data, tmp_path)
    assert getattr(info.value, "code", 143) == 143
    assert list(tmp_path.iterdir()) == []


SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_JOB_NAME": "members",
    "SLURM_NTASKS": "3",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "0",
    "SLURM_NODELIST": "localhost",
}
TORCHRUN = {
    "RANK": "1",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "3",
    "TORCHELASTIC_RUN_ID": "a",
}


@pytest.mark.parametrize("variables", [SLURM, TORCHRUN])
def test_one_of_several_processes_can_train_alone(
    data, whole, tmp_path, monkeypatch, variables
):
    """As in a Slurm job whose tasks each train a member."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    assert check_environment(Hardware()) == 0
    assert rank_zero_only.rank == 0
    weights, *_ = run(data, tmp_path)
    assert_same(weights, whole[0])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["member.ckpt", "member.csv"]


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (SLURM, "ntasks-per-node"),
        (SLURM | {"SLURM_NTASKS_PER_NODE": "3"}, "--ntasks-per-node=3"),
        (TORCHRUN, "does not match the world size"),
    ],
)
def test_processes_that_share_batches_must_be_as_many_as_asked_for(
    monkeypatch, variables, message
):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message):
        check_environment(Hardware(devices=2))


def test_fixed_weights_stay(data, tmp_path):
    weights = {"energy": 1.0, "direction": 2.0, "impact": 0.5, "class": 3.0}
    _, history, _ = run(data, tmp_path, task_weights=weights)
    for row in history:
        assert {task: row[f"weight {task}"] for task in weights} == weights


def test_gradients_are_clipped(data, tmp_path, monkeypatch):
    norms = []

    def optimizer_step(module, *args, **kwargs):
        lightning.LightningModule.optimizer_step(module, *args, **kwargs)
        gradients = [p.grad.flatten() for p in module.parameters()]
        norms.append(float(torch.cat(gradients).norm()))

    monkeypatch.setattr(TrainingModule, "optimizer_step", optimizer_step)
    run(data, tmp_path, epochs=1, gradient_clip=0.01)
    assert len(norms) == N_STEPS
    assert max(norms) <= 0.01 * (1 + 1e-4)


def test_a_gpu_computes_exactly_and_the_same_again(data, tmp_path, monkeypatch):
    settings = []

    def optimizer_step(module, *args, **kwargs):
        cudnn = torch.backends.cudnn
        settings.append((cudnn.allow_tf32, cudnn.deterministic))
        lightning.LightningModule.optimizer_step(module, *args, **kwargs)

    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setattr(TrainingModule, "optimizer_step", optimizer_step)
    run(data, tmp_path, epochs=1)
    assert settings == [(False, True)] * N_STEPS
    assert torch.backends.cudnn.allow_tf32


def learning_rates(schedule, n_epochs=25, n_steps=4):
    network = torch.nn.Linear(1, 1)
    network.heads, network.scales = {"energy": None}, {}
    recipe = Recipe(epochs=n_epochs, schedule=schedule)
    training = TrainingModule(network, recipe, None)
    training.training_stream = range(n_steps)
    configured = training.configure_optimizers()
    optimizer, scheduler = (
        configured["optimizer"],
        configured["lr_scheduler"]["scheduler"],
    )
    assert configured["lr_scheduler"]["interval"] == "step"
    rates = []
    for _ in range(n_epochs * n_steps):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return np.array(rates).reshape(n_epochs, n_steps, 2), optimizer


def test_the_papers_schedule_divides_by_10_every_10_epochs():
    rates, optimizer = learning_rates("step")
    for first, last, rate in ((0, 10, 1e-3), (10, 20, 1e-4), (20, 25, 1e-5)):
        np.testing.assert_allclose(rates[first:last, :, 0], rate)
    decays = [group["weight_decay"] for group in optimizer.param_groups]
    # The balance between tasks has none.
    assert decays == [1e-4, 0.0]
    assert rates[0, 0, 1] == 0.025


def test_the_other_schedules_end_at_almost_nothing():
    cosine, _ = learning_rates("cosine")
    assert cosine[0, 0, 0] == pytest.approx(1e-3)
    assert cosine[12, 2, 0] == pytest.approx(5e-4, rel=0.01)
    assert cosine[-1, -1, 0] < 1e-5
    one_cycle, _ = learning_rates("one-cycle")
    peak = one_cycle[..., 0].argmax()
    assert one_cycle[..., 0].max() == pytest.approx(1e-3)
    assert 0.25 < peak / one_cycle[..., 0].size < 0.35
    assert one_cycle[0, 0, 0] < 1e-4
    assert one_cycle[-1, -1, 0] < 1e-6


def test_memory_does_not_grow_with_the_steps(data):
    network = GammaPhysNet(data.card.network, data.lattice)
    training = TrainingModule(network, Recipe(), None)
    n = 4
    batch = {
        "inputs": torch.randn(n, 2, len(data.lattice)),
        "conditions": torch.empty(n, 0),
        "energy": torch.randn(n, 1),
        "direction": torch.randn(n, 2),
        "impact": torch.randn(n, 2),
        "class": torch.tensor([0, 1, 0, 1]),
        "weight": torch.ones(n),
        "row": torch.arange(n),
    }

    def n_tensors():
        gc.collect()
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    counts = []
    for _ in range(3):
        for _ in range(4):
            training.zero_grad()
            training.training_step(batch, 0).backward()
        counts.append(n_tensors())
    assert counts[1] == counts[2]
    # Not even a graph of the last step is left in the sums.
    assert not any(total.requires_grad for total in training._loss_sums.values())


def test_the_slope_weighs_the_energies(data, tmp_path, monkeypatch):
    batches = []
    original = TrainingModule.training_step
    monkeypatch.setattr(
        TrainingModule,
        "training_step",
        lambda module, batch, number: (
            batches.append(batch),
            original(module, batch, number),
        )[1],
    )
    run(data, tmp_path, epochs=1, energy_weight_slope=-0.6)
    columns = {
        name: np.concatenate([np.asarray(batch[name]) for batch in batches])
        for name in ("weight", "energy", "class")
    }
    for label in (0, 1):
        mine = columns["class"] == label
        weight, energy = columns["weight"][mine], columns["energy"][mine, 0]
        assert weight.mean() == pytest.approx(1, rel=1e-5)
        slope, _ = np.polyfit(energy, np.log10(weight), 1)
        assert slope == pytest.approx(-0.6, abs=1e-4)


def test_lines_tell_how_far_a_training_is(data, tmp_path):
    """Where no bar can be shown."""
    lines = []
    run(data, tmp_path, progress=lines.append)
    # The tests' standard error is no terminal. There is a line for each epoch.
    assert [line.partition(", loss=")[0] for line in lines] == [
        "epoch=1/2, step=5/10",
        "epoch=2/2, step=10/10",
    ]
    assert lines[-1].endswith(", 00:00 left")


def test_a_bar_tells_it_on_a_terminal(data, tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    lines = []
    run(data, tmp_path, progress=lines.append)
    assert not lines
    assert "epoch=2/2" in sys.stderr.getvalue()
