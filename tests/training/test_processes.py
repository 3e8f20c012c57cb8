"""Processes that share each batch train as one."""

import numpy as np
import pytest
import torch
from torch import distributed, nn
from torch.multiprocessing import spawn

from ctapipe_gammaphysnet.network import CameraLattice, NetworkConfig
from ctapipe_gammaphysnet.network.convolution import BatchNorm
from ctapipe_gammaphysnet.network.gammaphysnet import GammaPhysNet
from ctapipe_gammaphysnet.training.losses import task_losses
from ctapipe_gammaphysnet.training.module import TrainingModule
from ctapipe_gammaphysnet.training.processes import (
    SharedBatchNorm,
    any_process,
    gather,
    n_processes,
    share_batch_norms,
    sum_over_processes,
)
from ctapipe_gammaphysnet.training.recipe import Recipe

#: Which images of the batch each process has: not equally many.
PARTS = slice(0, 5), slice(5, 8)


def make_network():
    """A small network with random weights, and a batch of eight images."""
    steps = np.arange(5)
    x, y = (axis.ravel() for axis in np.meshgrid(steps, steps))
    lattice = CameraLattice.from_positions(x + y / 2, y * np.sqrt(3) / 2)
    torch.manual_seed(0)
    config = NetworkConfig(blocks=1, channels=(4, 8), hidden=8)
    network = GammaPhysNet(config, lattice).double()
    batch = {
        "inputs": torch.randn(8, 2, 25, dtype=torch.float64) + 3,
        "energy": torch.randn(8, 1, dtype=torch.float64),
        "direction": torch.randn(8, 2, dtype=torch.float64),
        "impact": torch.randn(8, 2, dtype=torch.float64),
        "class": torch.tensor([0, 1, 1, 0, 0, 1, 1, 1]),
        "weight": torch.rand(8, dtype=torch.float64),
    }
    return network, batch


def make_frozen_network():
    """The same, with a backbone that is not trained."""
    network, batch = make_network()
    TrainingModule(network, Recipe(frozen=["backbone"]), None)
    return network, batch


def train_step(network, batch):
    """Outputs, losses, gradients and buffers after two steps' forward passes."""
    network(batch["inputs"] * 2)
    outputs = network(batch["inputs"])
    losses = task_losses(outputs, batch)
    sum(losses.values()).backward()
    return {
        "outputs": {task: output.detach() for task, output in outputs.items()},
        "losses": {task: loss.detach() for task, loss in losses.items()},
        "gradients": {n: p.grad for n, p in network.named_parameters()},
        "buffers": dict(network.named_buffers()),
    }


def normalise_far_from_zero():
    """Normalise numbers of which the mean is much larger than the spread."""
    torch.manual_seed(1)
    x = 1000 + torch.randn(8, 3, 25)
    return x, SharedBatchNorm(3)


def work(rank, folder):
    """What one of the processes does."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    cpu = torch.device("cpu")
    network, batch = make_network()
    share_batch_norms(network)
    part = {name: column[PARTS[rank]] for name, column in batch.items()}
    far, norm = normalise_far_from_zero()
    value = torch.tensor([1.0, 10.0 * rank], requires_grad=True)
    total, n = sum_over_processes(value)
    frozen, _ = make_frozen_network()
    share_batch_norms(frozen)
    results = {
        "step": train_step(network, part),
        "frozen": train_step(frozen, part),
        "far": norm(far[PARTS[rank]]).detach(),
        "sum": (total.tolist(), n, total.requires_grad, value.tolist()),
        "n": n_processes(),
        "gathered": gather({"rank": rank, "images": list(range(rank))}),
        "any": [any_process(c, cpu) for c in (False, rank == 0, rank == 1, True)],
    }
    torch.save(results, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Of both processes."""
    folder = tmp_path_factory.mktemp("processes")
    spawn(work, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.fixture(scope="module")
def alone():
    """What one process does with the whole batch."""
    network, batch = make_network()
    return train_step(network, batch)


def assert_close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_outputs_are_those_of_one_process(results, alone):
    for task, expected in alone["outputs"].items():
        found = torch.cat([result["step"]["outputs"][task] for result in results])
        assert_close(found, expected)


def test_mean_losses_are_those_of_one_process(results, alone):
    """Also where the processes have different numbers of gammas and weights."""
    for task, expected in alone["losses"].items():
        losses = [result["step"]["losses"][task] for result in results]
        assert abs(losses[0] - losses[1]) > 0.01
        assert_close(torch.stack(losses).mean(), expected)


def test_mean_gradients_are_those_of_one_process(results, alone):
    """The mean is what distributed data parallel training takes."""
    largest = max(gradient.abs().max() for gradient in alone["gradients"].values())
    assert largest > 0.1
    for name, expected in alone["gradients"].items():
        gradients = [result["step"]["gradients"][name] for result in results]
        assert_close(torch.stack(gradients).mean(dim=0), expected)


def test_running_statistics_are_those_of_one_process(results, alone):
    names = [name for name in alone["buffers"] if "running" in name]
    assert len(names) > 4
    for name, expected in alone["buffers"].items():
        for result in results:
            assert_close(result["step"]["buffers"][name], expected)


def test_a_frozen_backbone_is_the_same_in_all_processes(results):
    """Neither gradients nor statistics; the heads learn as in one process."""
    network, batch = make_frozen_network()
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    alone = train_step(network, batch)
    for step in (alone, *(result["frozen"] for result in results)):
        assert step["buffers"].keys() == before.keys()
        for name, buffer in step["buffers"].items():
            assert torch.equal(buffer, before[name]), name
        for name, gradient in step["gradients"].items():
            assert (gradient is None) == name.startswith("backbone"), name
    for name, expected in alone["gradients"].items():
        if expected is not None:
            gradients = [result["frozen"]["gradients"][name] for result in results]
            assert_close(torch.stack(gradients).mean(dim=0), expected)


def test_means_far_from_zero_cost_no_precision(results):
    far, _ = normalise_far_from_zero()
    expected = BatchNorm(3).double()(far.double()).detach().float()
    found = torch.cat([result["far"] for result in results])
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-3)


def test_sums_are_over_all_processes(results):
    for rank, result in enumerate(results):
        total, n, has_gradient, value = result["sum"]
        assert total == [2, 10]
        assert n == result["n"] == 2
        assert not has_gradient
        assert value == [1, 10 * rank]


def test_all_processes_have_what_is_gathered(results):
    for result in results:
        assert result["gathered"] == [
            {"rank": 0, "images": []},
            {"rank": 1, "images": [0]},
        ]


def test_what_is_so_in_one_process_is_known_to_all(results):
    assert [result["any"] for result in results] == [[False, True, True, True]] * 2


def test_one_process_asks_nobody():
    value = torch.tensor([1.0, 2.0])
    total, n = sum_over_processes(value)
    assert total.tolist() == [1, 2]
    assert n == n_processes() == 1
    assert gather("alone") == ["alone"]
    assert any_process(True, torch.device("cpu"))
    assert not any_process(False, torch.device("cpu"))


def test_batch_norms_of_a_network_are_shared_in_place():
    network, _ = make_network()
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    n_norms = sum(isinstance(module, BatchNorm) for module in network.modules())
    share_batch_norms(network)
    kinds = [type(m) for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert kinds == [SharedBatchNorm] * n_norms
    assert_close(network.state_dict(), before)


def test_a_trained_network_needs_no_other_process():
    network, batch = make_network()
    network(batch["inputs"])
    expected = network.eval()(batch["inputs"])
    share_batch_norms(network)
    assert_close(network(batch["inputs"]), expected)
