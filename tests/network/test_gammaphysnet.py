"""The whole network: its size, its parts, and that its engines are one network."""

import subprocess
import sys
import time
from dataclasses import dataclass

import numpy as np
import pytest
import toy_sample as toy
import torch
from cameras import CAMERAS, lattice_of, positions_of
from pydantic import ValidationError
from torch import nn

from ctapipe_gammaphysnet.network import (
    CameraLattice,
    GammaPhysNet,
    NetworkConfig,
    parameter_shapes,
)
from ctapipe_gammaphysnet.network.attention import (
    DualAttention,
    SpatialAttention,
    SqueezeExcitation,
)
from ctapipe_gammaphysnet.network.convolution import ENGINES

SMALL = {"blocks": 1, "channels": (4, 8), "hidden": 16, "attention_ratio": 2}


@dataclass(frozen=True)
class Camera:
    """Pixel positions, as the card of a camera has them."""

    pix_x_m: tuple[float, ...]
    pix_y_m: tuple[float, ...]

    @classmethod
    def of(cls, name):
        """One of the cameras."""
        return cls(*map(tuple, positions_of(name).T.tolist()))


@pytest.fixture(autouse=True)
def _seed():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture(scope="module")
def small_lattice():
    """Lattice of a camera with 61 pixels."""
    return CameraLattice.from_geometry(toy.hexagonal_camera(4))


def images_of(n_images, lattice, dtype=torch.float32):
    """Images like real ones: few photoelectrons in most pixels, times in ns."""
    charge = torch.empty(n_images, 1, len(lattice), dtype=dtype).exponential_(0.2)
    peak_time = 20 + 3 * torch.randn(n_images, 1, len(lattice), dtype=dtype)
    return torch.cat([charge, peak_time], dim=1)


def both_engines(config, lattice, dtype):
    """Network in both engines, with the same weights and batch statistics."""
    indexed = GammaPhysNet(config, lattice, "indexed")
    for module in indexed.modules():
        if isinstance(module, nn.BatchNorm2d):
            # Not the identity that batch normalisation starts as.
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
    dense = GammaPhysNet(config, lattice, "lattice")
    dense.load_state_dict(indexed.state_dict(), strict=True)
    return indexed.to(dtype), dense.to(dtype)


def results(network, images):
    """Outputs, gradients and batch statistics of one step of training, by name."""
    network.zero_grad()
    images = images.clone().requires_grad_()
    outputs = network(images)
    loss = sum(
        (output * (1 + torch.arange(output.numel()).view_as(output) / 7)).sum()
        for output in outputs.values()
    )
    loss.backward()
    found = {f"output {task}": output.detach() for task, output in outputs.items()}
    found["gradient of images"] = images.grad
    for name, parameter in network.named_parameters():
        found[f"gradient of {name}"] = parameter.grad
    for name, value in network.state_dict().items():
        if "running" in name:
            found[name] = value.clone()
    return found


def largest_difference(found, expected):
    """Largest difference and its name, relative to the scale of each tensor."""
    assert found.keys() == expected.keys()
    differences = {}
    for name, reference in expected.items():
        assert found[name].shape == reference.shape
        scale = reference.abs().max()
        # A bias before a batch normalisation changes nothing: its gradient is rounding.
        if scale > 0:
            difference = (found[name] - reference).abs().max() / scale
            differences[name] = difference.item()
    name = max(differences, key=differences.get)
    return differences[name], name


@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("camera", ["LSTCam", "FlashCam", "CHEC"])
def test_engines_agree_in_outputs_gradients_and_statistics(camera, train):
    lattice = lattice_of(camera)
    config = NetworkConfig(blocks=2)
    networks = both_engines(config, lattice, torch.float64)
    images = images_of(3, lattice, torch.float64)
    expected, found = (results(n.train(train), images) for n in networks)
    difference, name = largest_difference(found, expected)
    assert difference < 1e-10, name
