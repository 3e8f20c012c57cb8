"""Losses and their balance."""

import math

import pytest
import torch

from ctapipe_gammaphysnet.tasks import TASKS
from ctapipe_gammaphysnet.training.losses import (
    FixedWeights,
    UncertaintyWeighting,
    task_losses,
)


def make_batch():
    outputs = {
        "energy": torch.tensor([[1.0], [2.0], [50.0]], requires_grad=True),
        "direction": torch.tensor([[0.0, 1.0], [2.0, 0.0], [9.0, 9.0]]),
        "class": torch.tensor([[2.0, 0.0], [0.0, 2.0], [0.0, 0.0]]),
    }
    targets = {
        "energy": torch.tensor([[0.0], [4.0], [0.0]]),
        "direction": torch.zeros(3, 2),
        "impact": torch.zeros(3, 2),
        "class": torch.tensor([0, 0, 1]),
        "weight": torch.ones(3),
    }
    return outputs, targets


def test_regressions_are_the_mean_deviation_of_gammas():
    outputs, targets = make_batch()
    losses = task_losses(outputs, targets)
    assert losses["energy"].item() == pytest.approx((1 + 2) / 2)
    assert losses["direction"].item() == pytest.approx((0.5 + 1) / 2)
    assert set(losses) == set(outputs)


def test_protons_do_not_pull_on_regressions():
    outputs, targets = make_batch()
    task_losses(outputs, targets)["energy"].backward()
    gradient = outputs["energy"].grad[:, 0]
    torch.testing.assert_close(gradient, torch.tensor([0.5, -0.5, 0.0]))


def test_the_class_is_cross_entropy():
    outputs, targets = make_batch()
    probabilities = torch.softmax(outputs["class"], dim=1)
    expected = -torch.log(probabilities[[0, 1, 2], [0, 0, 1]]).mean()
    torch.testing.assert_close(task_losses(outputs, targets)["class"], expected)


def test_weights_count_images_several_times():
    """A weight of 3 is the same as the image three times in the batch."""
    outputs, targets = make_batch()
    targets["weight"] = torch.tensor([3.0, 1.0, 2.0])
    losses = task_losses(outputs, targets)
    rows = torch.tensor([0, 0, 0, 1, 2, 2])
    repeated, of_rows = (
        {name: column[rows] for name, column in side.items()} for side in make_batch()
    )
    for task, loss in task_losses(repeated, of_rows).items():
        torch.testing.assert_close(losses[task], loss)
    # The scale of the weights does not matter.
    targets["weight"] *= 10
    for task, loss in task_losses(outputs, targets).items():
        torch.testing.assert_close(losses[task], loss)


def test_a_batch_without_gammas_has_no_regression_loss():
    outputs, targets = make_batch()
    targets["class"][:] = 1
    losses = task_losses(outputs, targets)
    assert losses["energy"] == losses["direction"] == 0
    assert losses["class"] > 0
    losses["energy"].backward()
    assert (outputs["energy"].grad == 0).all()


def test_small_weights_are_no_missing_ones():
    outputs, targets = make_batch()
    expected = task_losses(outputs, targets)
    targets["weight"] *= 1e-6
    for task, loss in task_losses(outputs, targets).items():
        torch.testing.assert_close(loss, expected[task])


def test_weights_settle_at_the_inverse_of_the_losses():
    """exp(-s) L + s is smallest where exp(-s) = 1 / L."""
    losses = {"energy": torch.tensor(0.1), "class": torch.tensor(4.0)}
    balance = UncertaintyWeighting(losses)
    optimizer = torch.optim.Adam(balance.parameters(), lr=0.05)
    for _ in range(1000):
        optimizer.zero_grad()
        balance(losses).backward()
        optimizer.step()
    for task, loss in losses.items():
        weight = torch.exp(-balance.log_scales[task])
        assert weight.item() == pytest.approx(1 / loss.item(), rel=1e-3)
        assert balance.weights()[task] == pytest.approx(weight.item())


def test_the_balance_is_the_formula_of_kendall():
    """The sum of exp(-s) L + s; d/ds = 1 - exp(-s) L and d/dL = exp(-s)."""
    s, loss = {"energy": 0.7, "class": -1.2}, {"energy": 0.3, "class": 2.0}
    balance = UncertaintyWeighting(s).double()
    with torch.no_grad():
        for task, value in s.items():
            balance.log_scales[task].fill_(value)
    losses = {
        task: torch.tensor(value, dtype=torch.float64, requires_grad=True)
        for task, value in loss.items()
    }
    total = balance(losses)
    total.backward()
    expected = sum(math.exp(-s[task]) * loss[task] + s[task] for task in s)
    assert total.item() == pytest.approx(expected, rel=1e-14)
    for task in s:
        weight = math.exp(-s[task])
        gradient = balance.log_scales[task].grad.item()
        assert gradient == pytest.approx(1 - weight * loss[task], rel=1e-14)
        assert losses[task].grad.item() == pytest.approx(weight, rel=1e-14)
    assert balance.weights() == pytest.approx({t: math.exp(-v) for t, v in s.items()})


def test_a_likelihood_is_not_balanced_again():
    """It would fall without end: its own scale already is the balance."""
    balance = UncertaintyWeighting(["class"])
    losses = {"energy": torch.tensor(-3.0), "class": torch.tensor(0.5)}
    expected = -3.0 + math.exp(-1) * 0.5 + 1
    assert balance(losses).item() == pytest.approx(expected)
    assert balance.weights() == {"class": pytest.approx(math.exp(-1))}


def test_errors_are_learnt_from_gammas_alone():
    outputs, targets = make_batch()
    plain = task_losses(outputs, targets)
    with_scales = {
        name: torch.cat([output, torch.zeros(len(output), TASKS[name].n_scales)], dim=1)
        for name, output in outputs.items()
    }
    losses = task_losses(with_scales, targets)
    # One number: a scale of 1 is the loss of the paper.
    torch.testing.assert_close(losses["energy"], plain["energy"])
    torch.testing.assert_close(losses["class"], plain["class"])
    gammas = targets["class"] == 0
    length = (outputs["direction"] - targets["direction"]).norm(dim=1)
    weight = targets["weight"] * gammas
    expected = (length * weight).sum() / weight.sum()
    torch.testing.assert_close(losses["direction"], expected)


def test_gradients_are_right_in_float64():
    balance = UncertaintyWeighting(["energy", "class"]).double()
    scales = [p.detach().clone().requires_grad_() for p in balance.parameters()]
    losses = torch.tensor([0.3, 2.0], dtype=torch.float64, requires_grad=True)

    def total(losses, *scales):
        names = [f"log_scales.{task}" for task in ("energy", "class")]
        named = dict(zip(names, scales, strict=True))
        values = {"energy": losses[0], "class": losses[1]}
        return torch.func.functional_call(balance, named, (values,))

    assert torch.autograd.gradcheck(total, (losses, *scales))


def test_fixed_weights_stay():
    balance = FixedWeights({"energy": 2.0, "class": 0.5})
    losses = {"energy": torch.tensor(3.0), "class": torch.tensor(4.0)}
    assert balance(losses).item() == 2 * 3 + 0.5 * 4
    assert balance.weights() == {"energy": 2.0, "class": 0.5}
    assert not list(balance.parameters())
    assert not balance.state_dict()
