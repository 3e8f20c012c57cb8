"""The backbone for GPUs gives the features of the network it was made of.

Without a GPU, Triton's interpreter computes what the GPU would.
"""

import importlib.util

import pytest
import torch
from cameras import lattice_of
from device import DEVICE
from trained import images_of, trained

from ctapipe_gammaphysnet.network import NetworkConfig
from ctapipe_gammaphysnet.network.gammaphysnet import GammaPhysNet
from ctapipe_gammaphysnet.network.gpu_inference import GPUBackbone, gpu_backbone
from ctapipe_gammaphysnet.network.inference import InferenceBackbone

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason="this build of PyTorch, for CPUs only, has no Triton to interpret programs",
)
on_gpu = pytest.mark.skipif(
    DEVICE == "cpu", reason="needs a GPU: set GAMMAPHYSNET_TEST_DEVICE to it"
)


@pytest.fixture(autouse=True)
def _seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def exact_features(network, config, lattice, images):
    """Features in double precision, on a CPU."""
    exact = GammaPhysNet(config, lattice).eval()
    exact.load_state_dict(network.state_dict())
    with torch.inference_mode():
        return exact.double().features(images.double().cpu())


def largest_error(found, expected):
    assert found.shape == expected.shape
    assert found.dtype == torch.float32
    return (found.cpu() - expected).abs().max() / expected.abs().max()


@needs_triton
@pytest.mark.parametrize(
    "config",
    [
        NetworkConfig(blocks=2),
        NetworkConfig(blocks=1, attention=False),
        # Channels that are filled, or more than two stages.
        NetworkConfig(blocks=1, channels=(3, 20, 33)),
    ],
    ids=["attention", "no attention", "odd channels"],
)
def test_features_are_those_of_the_network(config):
    lattice = lattice_of("CHEC" if config.blocks == 2 else "FlashCam")
    network, images = (
        trained(config, lattice, device=DEVICE),
        images_of(2, lattice, device=DEVICE),
    )
    with torch.inference_mode():
        found = GPUBackbone(network)(images)
    expected = exact_features(network, config, lattice, images)
    assert largest_error(found, expected) < 3e-5


@needs_triton
def test_weights_are_copied():
    config, lattice = NetworkConfig(blocks=1, channels=(4,)), lattice_of("CHEC")
    network, images = (
        trained(config, lattice, device=DEVICE),
        images_of(1, lattice, device=DEVICE),
    )
    backbone = GPUBackbone(network)
    with torch.inference_mode():
        expected = backbone(images).clone()
        for weight in network.parameters():
            weight.fill_(torch.nan)
        assert torch.equal(backbone(images), expected)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((1, 2, 7), torch.float32), ((1, 2, 2048), torch.float64)],
    ids=["shape", "dtype"],
)
def test_other_images_are_refused(shape, dtype):
    lattice = lattice_of("CHEC")
    network = trained(NetworkConfig(blocks=1, channels=(4,)), lattice, device=DEVICE)
    with pytest.raises(ValueError, match=r"\(any, 2, 2048\) in float32, got"):
        GPUBackbone(network)(torch.zeros(shape, dtype=dtype, device=DEVICE))


def test_a_gpu_that_cannot_compile_is_said(caplog, monkeypatch):
    lattice = lattice_of("CHEC")
    network = trained(NetworkConfig(blocks=1, channels=(4,)), lattice, device=DEVICE)
    monkeypatch.setattr(torch.version, "cuda", None)
    assert gpu_backbone(network, bfloat16=False) is None
    assert "PyTorch computes it, several times slower: it needs compute" in caplog.text


def test_few_numbers_of_images_are_recorded():
    """With something else than a network, and repeated by hand, not by a GPU."""

    class Repeated(GPUBackbone):
        def __init__(self):
            self._recorded = {}

        def _compute(self, images):
            return images.sum(dim=1)

        def _record(self, size):
            images = torch.full((size, 2, 5), torch.nan)
            features = torch.full((size, 5), torch.nan)
            return lambda: features.copy_(self._compute(images)), images, features

    backbone = Repeated()
    kept = []
    for n_images in (1, 2, 3, 4, 64, 100, 3, 600):
        images = torch.rand(n_images, 2, 5)
        kept.append((images.sum(dim=1), backbone._run(images)))
    # What was given is not changed by what is computed later.
    for expected, features in kept:
        assert torch.equal(features, expected)
    assert set(backbone._recorded) == {1, 2, 4, 64, 128}


@on_gpu
@pytest.mark.parametrize("n_images", [1, 2, 3, 64, 100, 600])
@pytest.mark.parametrize(
    ("bfloat16", "tolerance"),
    [(False, 3e-5), (True, 0.1)],
    ids=["float32", "bfloat16"],
)
def test_any_number_of_images(n_images, bfloat16, tolerance):
    """Recorded for some numbers of images, or not: each image keeps its features."""
    config, lattice = NetworkConfig(blocks=2), lattice_of("LSTCam")
    network, images = (
        trained(config, lattice, device=DEVICE),
        images_of(n_images, lattice, device=DEVICE),
    )
    backbone = gpu_backbone(network, bfloat16)
    expected = exact_features(network, config, lattice, images)
    with torch.inference_mode():
        for _ in range(2):
            found = backbone(images)
            assert largest_error(found, expected) < tolerance
        assert largest_error(backbone(images[-1:]), expected[-1:]) < tolerance
    # Another image's features would be noticed.
    assert n_images == 1 or largest_error(found[1:], expected[:-1]) > 2 * tolerance


@on_gpu
def test_bfloat16_is_as_exact_as_on_a_cpu():
    config, lattice = NetworkConfig(), lattice_of("LSTCam")
    network, images = (
        trained(config, lattice, device=DEVICE),
        images_of(8, lattice, device=DEVICE),
    )
    expected = exact_features(network, config, lattice, images)
    with torch.inference_mode():
        on_gpu = gpu_backbone(network, bfloat16=True)(images)
        on_cpu = InferenceBackbone(network.cpu(), bfloat16=True)(images.cpu())
    error, usual = ((x.cpu() - expected).norm() for x in (on_gpu, on_cpu))
    assert error < 1.2 * usual
    assert (on_gpu.cpu() - on_cpu).norm() < 1.5 * usual
