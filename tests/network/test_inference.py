"""The backbone for inference gives the features of the network it was made of."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import toy_sample as toy
from cameras import lattice_of
from processor import needs_bfloat16
from torch import nn
from trained import images_of, trained

from ctapipe_gammaphysnet.network import CameraLattice, NetworkConfig, tiles
from ctapipe_gammaphysnet.network.compiled import share
from ctapipe_gammaphysnet.network.convolution import IndexedConvolution
from ctapipe_gammaphysnet.network.gammaphysnet import GammaPhysNet
from ctapipe_gammaphysnet.network.inference import InferenceBackbone
from ctapipe_gammaphysnet.network.resnet import ResidualBlock

TOLERANCE = {torch.float64: 1e-11, torch.float32: 3e-5}


@pytest.fixture(autouse=True)
def _seed():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def assert_same(found, expected, tolerance):
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    assert (found - expected).abs().max() < tolerance * expected.abs().max()


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(
    "config",
    [
        NetworkConfig(),
        NetworkConfig(blocks=1),
        NetworkConfig(blocks=2, attention=False),
        # Channels that do not fill a vector, or more than two.
        NetworkConfig(blocks=1, channels=(3, 20, 40)),
        NetworkConfig(blocks=2, channels=(5,)),
    ],
    ids=["paper", "shallow", "no attention", "odd channels", "one stage"],
)
def test_features_are_those_of_the_network(config, dtype):
    lattice = lattice_of("LSTCam")
    network = trained(config, lattice, dtype)
    images = images_of(2, lattice, dtype)
    with torch.inference_mode():
        found = InferenceBackbone(network)(images)
        expected = network.features(images)
    assert_same(found, expected, TOLERANCE[dtype])


@pytest.mark.parametrize("n_images", [1, 5])
@pytest.mark.parametrize("camera", ["LSTCam", "CHEC"])
def test_features_are_those_of_indexed_convolutions(camera, n_images):
    """Of the whole network, of which nothing but the weights is in common."""
    config, lattice = NetworkConfig(), lattice_of(camera)
    network = trained(config, lattice, torch.float64)
    indexed = GammaPhysNet(config, lattice, engine="indexed").double().eval()
    indexed.load_state_dict(network.state_dict())
    images = images_of(n_images, lattice, torch.float64)
    with torch.inference_mode():
        expected = indexed.features(images)
        assert_same(InferenceBackbone(network)(images), expected, 1e-11)


def to_bfloat16(values):
    """Round numbers in double precision to 8 digits, not to those of float32 before."""
    fraction, exponent = torch.frexp(values)
    return torch.ldexp((fraction * 2**8).round() / 2**8, exponent)


def residual_blocks(network):
    return [m for m in network.backbone.modules() if isinstance(m, ResidualBlock)]


def test_bfloat16_rounds_what_residual_blocks_multiply():
    """As if features and weights were rounded one by one; nothing else is."""
    lattice = lattice_of("LSTCam")
    config = NetworkConfig(blocks=2)
    network = trained(config, lattice, torch.float64)
    images = images_of(2, lattice, torch.float64)
    blocks = residual_blocks(network)
    for block in blocks:
        # Normalised weights are rounded: here that is the same as rounded weights.
        norm, _, _ = block.conv2
        norm.eps, norm.running_var[:] = 0, 1
        nn.init.constant_(norm.weight, 2)
    backbone = InferenceBackbone(network, bfloat16=True)
    exact = network.features(images).detach()
    reference = GammaPhysNet(config, lattice, "indexed").double().eval()
    reference.load_state_dict(network.state_dict())
    for block, other in zip(blocks, residual_blocks(reference), strict=True):
        other.conv2[0].eps = block.conv2[0].eps
    for block in residual_blocks(reference):
        for module in block.modules():
            if isinstance(module, IndexedConvolution):
                module.weight.data = to_bfloat16(module.weight.data)
                module.register_forward_pre_hook(lambda _, x: to_bfloat16(x[0]))
    with torch.inference_mode():
        expected = reference.features(images)
        assert_same(backbone(images), expected, 1e-11)
    assert (exact - expected).abs().max() > 1e-4 * exact.abs().max()


@needs_bfloat16
@pytest.mark.parametrize("channels", [(16, 32, 64), (3, 20)], ids=str)
def test_units_for_bfloat16_compute_what_float32_units_do(channels, monkeypatch):
    lattice = lattice_of("LSTCam")
    network = trained(NetworkConfig(blocks=2, channels=channels), lattice)
    images = images_of(2, lattice)
    found = InferenceBackbone(network, bfloat16=True)
    monkeypatch.setattr(tiles, "HAS_BFLOAT16", False)
    expected = InferenceBackbone(network, bfloat16=True)
    for backbone, dtype in ((found, np.uint16), (expected, np.float32)):
        *_, factors = backbone._arguments
        assert factors.dtype == dtype
    # Sums are rounded in another order: few features then fall on another number of 8
    # digits.
    difference = (found(images) - expected(images)).abs()
    largest = expected(images).abs().max()
    assert difference.max() < 5e-3 * largest
    assert difference.mean() < 1e-4 * largest
    exact = network.features(images).detach()
    assert (exact - expected(images)).abs().mean() > 4 * difference.mean()


@pytest.mark.parametrize("camera", ["FlashCam", "CHEC"])
def test_every_camera_has_its_own_order_and_neighbors(camera):
    lattice = lattice_of(camera)
    network = trained(NetworkConfig(blocks=1), lattice, torch.float64)
    images = images_of(3, lattice, torch.float64)
    with torch.inference_mode():
        assert_same(InferenceBackbone(network)(images), network.features(images), 1e-11)


@pytest.fixture
def small_network():
    lattice = CameraLattice.from_geometry(toy.hexagonal_camera(4))
    return trained(NetworkConfig(blocks=1, channels=(4, 8)), lattice, torch.float64)


@pytest.mark.parametrize("n_images", [0, 1, 2, 3, 7])
def test_threads_share_the_images(small_network, n_images):
    images = torch.rand(n_images, 2, len(small_network.order), dtype=torch.float64)
    backbone = InferenceBackbone(small_network)
    expected = small_network.features(images).detach() if n_images else None
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with torch.inference_mode():
            found = backbone(images)
    finally:
        torch.set_num_threads(before)
    assert len(found) == n_images
    if n_images:
        assert_same(found, expected, 1e-12)


def test_images_and_weights_stay_as_they_are(small_network):
    images = torch.rand(2, 2, len(small_network.order), dtype=torch.float64)
    images_before = images.clone()
    before = {k: v.clone() for k, v in small_network.state_dict().items()}
    InferenceBackbone(small_network)(images)
    assert torch.equal(images, images_before)
    for name, value in small_network.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("bfloat16", [False, True])
def test_what_is_not_a_number_stays_in_its_image(small_network, bfloat16):
    images = torch.rand(3, 2, len(small_network.order), dtype=torch.float64)
    backbone = InferenceBackbone(small_network, bfloat16)
    expected = backbone(images)
    images[1, 0, 20] = torch.nan
    found = backbone(images)
    assert found[1].isnan().any()
    assert torch.equal(found[[0, 2]], expected[[0, 2]])


def test_callers_at_once_have_the_same_threads():
    running, most, lock = 0, 0, threading.Lock()

    def work(part):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.01)
        with lock:
            running -= 1
        return part.stop - part.start

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with ThreadPoolExecutor(3) as callers:
            parts = list(callers.map(lambda _: share(work, 5), range(3)))
    finally:
        torch.set_num_threads(before)
    assert parts == 3 * [[2, 3]]
    assert most == 2
