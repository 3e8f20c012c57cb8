"""Conditions are further inputs of each head, and nothing else changes."""

import pytest
import torch
import toy_sample as toy
from pydantic import ValidationError

from ctapipe_gammaphysnet.network import CameraLattice, GammaPhysNet, NetworkConfig
from ctapipe_gammaphysnet.tasks import TASKS

CONFIG = {"blocks": 1, "channels": (4, 8), "hidden": 16, "tasks": tuple(TASKS)}
CONDITIONS = ("zenith", "geomagnetic_field")
LATTICE = CameraLattice.from_geometry(toy.hexagonal_camera(4))


def make_network(seed=0, **config):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GammaPhysNet(NetworkConfig(**CONFIG, **config), LATTICE).eval()


def images(n=3):
    generator = torch.Generator().manual_seed(1)
    return 5 * torch.randn(n, 2, len(LATTICE), generator=generator)


def first_layers(network):
    """The layers that see the conditions."""
    scales = [network.scales["energy"][0]] if network.scales else []
    layers = network.heads["energy"][0], network.geometry[0], network.heads["class"]
    return [*layers, *scales]


def test_without_conditions_nothing_changes():
    """Same draws, same weights, and no place for them."""
    plain, empty = make_network(), make_network(conditions=())
    assert NetworkConfig().conditions == ()
    for name, weight in plain.state_dict().items():
        assert torch.equal(weight, empty.state_dict()[name])
    outputs = plain(images())
    for task, output in empty(images(), torch.empty(3, 0)).items():
        assert torch.equal(output, outputs[task])


def test_a_network_starts_as_the_one_without_conditions():
    plain, network = make_network(), make_network(conditions=CONDITIONS)
    added = {
        name: tuple(weight.shape)
        for name, weight in network.state_dict().items()
        if weight.shape != plain.state_dict()[name].shape
    }
    assert added.keys() == {
        *("heads.energy.0.weight", "geometry.0.weight", "heads.class.weight")
    }
    for name, weight in plain.state_dict().items():
        found = network.state_dict()[name]
        if name in added:
            assert (found[:, -3:] == 0).all()
            found = found[:, :-3]
        assert torch.equal(found, weight)
    outputs = plain(images())
    for task, output in network(images(), torch.randn(3, 3)).items():
        torch.testing.assert_close(output, outputs[task])


def test_the_next_numbers_drawn_are_the_same():
    drawn = []
    for conditions in ((), CONDITIONS):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            config = NetworkConfig(**CONFIG, conditions=conditions)
            GammaPhysNet(config, LATTICE)
            drawn.append(torch.rand(4))
    assert torch.equal(*drawn)


@pytest.mark.parametrize("errors", [False, True])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_every_head_sees_the_conditions_of_its_own_image(number, errors):
    network = make_network(conditions=CONDITIONS, errors=errors)
    with torch.no_grad():
        for scale in network.scales.values():
            # The last layers start at 0.
            (scale[-1] if isinstance(scale, torch.nn.Sequential) else scale).weight[
                :
            ] = 1
        for layer in first_layers(network):
            layer.weight[:, -3 + number] = 1.0
        before = network(images(), torch.zeros(3, 3))
        conditions = torch.zeros(3, 3)
        conditions[1, number] = 2.0
        after = network(images(), conditions)
    for task, output in after.items():
        assert torch.equal(output[[0, 2]], before[task][[0, 2]])
        assert (output[1] - before[task][1]).abs().min() > 1e-4, task


def test_the_weights_of_conditions_learn():
    network = make_network(conditions=CONDITIONS)
    outputs = network(images(), torch.ones(3, 3))
    sum(output.sum() for output in outputs.values()).backward()
    for layer in first_layers(network):
        assert layer.weight.grad[:, -3:].abs().max() > 0


@pytest.mark.parametrize(
    ("conditions", "given", "found"),
    [
        (CONDITIONS, None, "none"),
        (CONDITIONS, (3, 2), r"\(3, 2\)"),
        (CONDITIONS, (1, 3), r"\(1, 3\)"),
        (CONDITIONS, (3,), r"\(3,\)"),
        ((), (3, 3), r"\(3, 3\)"),
    ],
)
def test_conditions_that_are_missing_or_wrong_are_an_error(conditions, given, found):
    network = make_network(conditions=conditions)
    given = None if given is None else torch.zeros(given)
    n = 3 if conditions else 0
    message = rf"conditions must have the shape \(3, {n}\), got {found}"
    with pytest.raises(ValueError, match=message):
        network(images(), given)


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        (("zenith", "zenith"), "conditions must differ"),
        (("weather",), "does not know: weather"),
    ],
)
def test_conditions_are_known_and_differ(conditions, message):
    with pytest.raises(ValidationError, match=message):
        NetworkConfig(conditions=conditions)


def test_the_pointing_is_needed():
    assert not NetworkConfig(tasks=("energy", "class")).needs_pointing
    assert NetworkConfig(tasks=("energy", "direction")).needs_pointing
    config = NetworkConfig(tasks=("energy",), conditions=("zenith",))
    assert config.needs_pointing
    assert not config.needs_field
    assert not config.needs_noise
    assert NetworkConfig(conditions=CONDITIONS).needs_field
    config = NetworkConfig(tasks=("energy",), conditions=("noise",))
    assert config.needs_noise
    assert not config.needs_pointing
