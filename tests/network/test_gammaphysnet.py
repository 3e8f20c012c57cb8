"""The whole network: its size, its parts, and that its engines are one network."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass

import pytest
import torch
import toy_sample as toy
from cameras import CAMERAS, lattice_of, positions_of
from device import DEVICE
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
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            module.momentum = 1
    dense = GammaPhysNet(config, lattice, "lattice")
    dense.load_state_dict(indexed.state_dict(), strict=True)
    # Statistics as after training, so that activations stay of order one.
    with torch.no_grad():
        dense(images_of(8, lattice))
    for module in (*dense.modules(), *indexed.modules()):
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1
    indexed.load_state_dict(dense.state_dict(), strict=True)
    return indexed.to(dtype), dense.to(dtype)


def results(network, images):
    """Outputs, gradients and batch statistics of one step of training, by name."""
    network.to(DEVICE).zero_grad()
    images = images.to(DEVICE, copy=True).requires_grad_()
    outputs = network(images)
    loss = sum(
        (output.flatten() * (1 + torch.arange(output.numel()).to(output) / 7)).sum()
        for output in outputs.values()
    )
    loss.backward()
    found = {f"output {task}": output.detach() for task, output in outputs.items()}
    found["gradient at images"] = images.grad
    for name, parameter in network.named_parameters():
        found[f"gradient of {name}"] = parameter.grad.clone()
    for name, value in network.state_dict().items():
        if "running" in name:
            found[name] = value.clone()
    return found


def difference(found, expected, name):
    """Largest difference in one tensor, relative to its scale."""
    scale = expected[name].abs().max()
    if name.startswith("gradient of "):
        # A bias before a batch normalisation changes nothing, and its gradient is
        # nothing but rounding: that of the weight beside it gives the scale. Where a
        # sigmoid is saturated or ReLUs are dark, it is that of the largest of all.
        gradients = (v for k, v in expected.items() if k.startswith("gradient of "))
        largest = max(value.abs().max() for value in gradients)
        weight = expected.get(name.removesuffix("bias") + "weight", scale)
        scale = max(scale, weight.abs().max(), 1e-4 * largest)
    return ((found[name] - expected[name]).abs().max() / scale).item()


@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("camera", ["LSTCam", "FlashCam", "CHEC"])
def test_engines_agree_in_outputs_gradients_and_statistics(camera, train):
    lattice = lattice_of(camera)
    networks = both_engines(NetworkConfig(blocks=1), lattice, torch.float64)
    images = images_of(2, lattice, torch.float64)
    expected, found = (results(n.train(train), images) for n in networks)
    assert found.keys() == expected.keys()
    for name in expected:
        assert difference(found, expected, name) < 1e-10, name


@pytest.fixture(scope="module")
def full_depth():
    """One step of training of the paper's network: found and expected, by precision."""
    lattice = lattice_of("LSTCam")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        steps = {}
        networks = both_engines(NetworkConfig(), lattice, torch.float64)
        state = {k: v.clone() for k, v in networks[0].state_dict().items()}
        images = images_of(2, lattice, torch.float64)
        for dtype in (torch.float64, torch.float32):
            for network in networks:
                network.to(dtype).load_state_dict(state)
            expected, found = (results(n.train(), images.to(dtype)) for n in networks)
            steps[dtype] = found, expected
    return steps


def test_engines_agree_at_full_depth(full_depth):
    found, expected = full_depth[torch.float64]
    for name in expected:
        assert difference(found, expected, name) < 1e-10, name


def test_engines_agree_at_full_depth_in_single_precision(full_depth):
    # Rounding grows over 57 convolutions to some 1e-5 of the outputs. Of millions of
    # ReLUs some are so close to zero that it decides whether they let gradients pass:
    # these agree as a whole, within per cent, not one by one.
    found, expected = full_depth[torch.float32]
    for name in expected:
        if name.startswith("output"):
            assert difference(found, expected, name) < 5e-4, name
        if "running" in name:
            assert difference(found, expected, name) < 3e-5, name
    gradients = [
        torch.cat([v.flatten() for k, v in r.items() if k.startswith("gradient")])
        for r in (found, expected)
    ]
    assert torch.dist(*gradients) < 0.1 * gradients[1].norm()


def test_outputs_of_a_shallow_network_agree_in_single_precision():
    lattice = lattice_of("LSTCam")
    indexed, dense = both_engines(NetworkConfig(blocks=1), lattice, torch.float32)
    images = images_of(4, lattice)
    with torch.no_grad():
        expected, found = indexed.eval()(images), dense.eval()(images)
    for task in expected:
        assert difference(found, expected, task) < 1e-5, task


@pytest.mark.parametrize("engines", [("indexed", "lattice"), ("lattice", "indexed")])
@pytest.mark.parametrize("camera", ["DigiCam", "ASTRICam"])
def test_weights_of_one_engine_load_in_the_other(camera, engines):
    config, lattice = NetworkConfig(**SMALL), lattice_of(camera)
    first, second = (GammaPhysNet(config, lattice, engine) for engine in engines)
    second.load_state_dict(first.state_dict(), strict=True)
    assert list(second.state_dict()) == list(first.state_dict())
    assert not any("indices" in name or "mask" in name for name in first.state_dict())


@pytest.mark.parametrize(
    ("attention", "n_parameters"), [(True, 2_637_465), (False, 2_633_815)]
)
def test_number_of_parameters_is_that_of_the_paper(attention, n_parameters):
    config = NetworkConfig(attention=attention)
    with torch.device("meta"):
        network = GammaPhysNet(config, lattice_of("LSTCam"))
    assert sum(p.numel() for p in network.parameters()) == n_parameters


def test_resnet_56_has_57_convolutions():
    with torch.device("meta"):
        network = GammaPhysNet(NetworkConfig(), lattice_of("LSTCam"))
    convolutions = [m for m in network.modules() if isinstance(m, ENGINES["lattice"])]
    assert len(convolutions) == 57
    # Two at each of two changes of stage: on the way and on the shortcut past it.
    assert sum(m.stride == 2 for m in convolutions) == 4


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("camera", ["FlashCam", "CHEC"])
def test_order_of_pixels_does_not_change_the_outputs(camera, engine):
    lattice, positions = lattice_of(camera), positions_of(camera)
    shuffled = torch.randperm(len(lattice))
    other = CameraLattice.from_positions(*positions[shuffled.numpy()].T)
    config = NetworkConfig(**SMALL)
    first = GammaPhysNet(config, lattice, engine).eval()
    second = GammaPhysNet(config, other, engine).eval()
    second.load_state_dict(first.state_dict())
    images = images_of(2, lattice)
    with torch.no_grad():
        expected, found = first(images), second(images[..., shuffled])
        unmoved = second(images)
    for task in expected:
        assert torch.equal(found[task], expected[task])
        assert not torch.allclose(unmoved[task], expected[task], rtol=1e-3)


@pytest.mark.parametrize(
    ("tasks", "shapes"),
    [
        (("energy",), {"energy": (3, 1)}),
        (("class",), {"class": (3, 3)}),
        (("direction", "energy"), {"direction": (3, 2), "energy": (3, 1)}),
        (("impact",), {"impact": (3, 2)}),
    ],
)
def test_heads_are_those_of_the_tasks(tasks, shapes, small_lattice):
    classes = ("gamma", "proton", "electron")
    config = NetworkConfig(**SMALL, tasks=tasks, classes=classes)
    network = GammaPhysNet(config, small_lattice)
    outputs = network(images_of(3, small_lattice))
    assert {task: tuple(y.shape) for task, y in outputs.items()} == shapes
    # No weights without a use: each gets a gradient.
    sum(y.sum() for y in outputs.values()).backward()
    assert all(p.grad is not None for p in network.parameters())


def test_energy_depends_on_the_mean_over_the_camera_alone(small_lattice):
    network = GammaPhysNet(NetworkConfig(**SMALL), small_lattice).eval()
    features = torch.rand(2, 8, len(network.backbone.lattice), dtype=torch.float32)
    moved = features.roll(3, dims=2)
    with torch.no_grad():
        expected, found = network.predict(features), network.predict(moved)
    torch.testing.assert_close(found["energy"], expected["energy"])
    for task in ("direction", "impact", "class"):
        assert not torch.allclose(found[task], expected[task], rtol=1e-3)


def test_attention_raises_pixels_by_up_to_two():
    attention = DualAttention(8, ratio=2)
    x = 30 * torch.randn(4, 8, 100)
    pixels, channels = attention.spatial(x), attention.channel(x)
    assert pixels.shape == (4, 1, 100)
    assert channels.shape == (4, 8, 1)
    assert pixels.min() >= 1
    assert pixels.max() <= 2
    assert pixels.std() > 0.01
    assert channels.min() >= 0
    assert channels.max() <= 1
    torch.testing.assert_close(attention(x), x * channels * pixels)


def test_each_pixel_is_weighed_by_its_own_features():
    attention = SpatialAttention(8).eval()
    x = torch.randn(1, 8, 50)
    changed = x.clone()
    changed[..., 7] += 1
    differs = (attention(x) != attention(changed))[0, 0]
    assert differs.nonzero().tolist() == [[7]]


def test_channels_are_weighed_by_their_means_over_camera_pixels(small_lattice):
    attention = SqueezeExcitation(4, ratio=2)
    x = torch.randn(3, 4, len(small_lattice))
    weights = attention(x)
    torch.testing.assert_close(attention(x.mean(dim=2, keepdim=True)), weights)
    torch.testing.assert_close(attention(x.roll(5, dims=2)), weights)
    # In a network, the features are those of camera pixels, not of the rectangle.
    seen = []
    network = GammaPhysNet(NetworkConfig(**SMALL), small_lattice)
    for stage in network.backbone.stages:
        stage[-1].channel.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    network(images_of(2, small_lattice))
    half = small_lattice.downsampled()
    assert [x.shape[2] for x in seen] == [len(small_lattice), len(half)]


@pytest.mark.parametrize(
    ("camera", "config"),
    [
        ("LSTCam", {}),
        ("LSTCam", {"attention": False, "blocks": 2}),
        ("DigiCam", SMALL | {"tasks": ("energy",)}),
        ("FlashCam", SMALL | {"tasks": ("class",), "classes": ("gamma", "p", "e")}),
        ("CHEC", SMALL | {"channels": (3, 3, 5, 7), "tasks": ("impact", "energy")}),
        ("CHEC", SMALL | {"conditions": ("zenith", "geomagnetic_field")}),
    ],
)
def test_parameter_shapes_are_those_of_the_network(camera, config):
    config = NetworkConfig(**config)
    network = GammaPhysNet(config, lattice_of(camera))
    expected = {name: tuple(w.shape) for name, w in network.state_dict().items()}
    assert parameter_shapes(config, Camera.of(camera)) == expected


@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("channels", [(2,), (4, 2, 2)])
@pytest.mark.parametrize("blocks", [1, 3])
@pytest.mark.parametrize(
    "tasks", [("energy",), ("class", "impact"), ("energy", "direction", "impact")]
)
def test_tensors_are_counted_without_the_network(blocks, channels, attention, tasks):
    config = NetworkConfig(
        blocks=blocks, channels=channels, attention=attention, tasks=tasks, hidden=2
    )
    assert config.n_tensors == len(parameter_shapes(config, Camera.of("FlashCam")))


@pytest.mark.slow
def test_shapes_of_a_huge_network_take_no_memory():
    code = """
from test_gammaphysnet import Camera, NetworkConfig, parameter_shapes

def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if "VmHWM" in line)

camera = Camera.of("LSTCam")
# Imports on first use are no memory of the network.
parameter_shapes(NetworkConfig(), camera)
before = peak()
shapes = parameter_shapes(NetworkConfig(hidden=4096, channels=(1024,)), camera)
assert shapes["geometry.0.weight"] == (4096, 1024 * 1855)
assert peak() - before < 200_000, peak() - before
"""
    # 31 GB if it were built.
    subprocess.run([sys.executable, "-c", code], check=True, env=environment())


def test_shapes_for_the_largest_camera_are_found_quickly():
    camera = Camera.of("SCTCam")
    assert len(camera.pix_x_m) == CAMERAS["SCTCam"][1]
    start = time.perf_counter()
    shapes = parameter_shapes(NetworkConfig(hidden=4096), camera)
    assert time.perf_counter() - start < 10
    assert shapes["geometry.0.weight"] == (4096, 64 * 708)


def environment():
    """Environment in which a new process finds the modules that this one does."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def test_import_does_not_wait_for_torch():
    code = "import ctapipe_gammaphysnet.network, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, env=environment())


@pytest.mark.parametrize(
    "wrong",
    [
        {"blocks": 0},
        {"blocks": 65},
        {"blocks": 1.0},
        {"blocks": "9"},
        {"channels": ()},
        {"channels": (16, 0)},
        {"channels": (16, 1025)},
        {"channels": (16,) * 7},
        {"channels": [16, 32]},
        {"hidden": 0},
        {"hidden": 4097},
        {"attention": 1},
        {"attention_ratio": 0},
        {"tasks": ()},
        {"tasks": ("energy", "energy")},
        {"tasks": ("energy", "colour")},
        {"classes": ("gamma",)},
        {"classes": ("proton", "gamma")},
        {"classes": ("gamma", "proton", "proton")},
        {"block": 9},
    ],
    ids=str,
)
def test_config_rejects_wrong_values(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        NetworkConfig(**wrong)


def test_config_is_unchangeable_and_survives_json():
    config = NetworkConfig(channels=(8, 16), tasks=("class",))
    with pytest.raises(ValidationError, match="frozen"):
        config.blocks = 3
    assert NetworkConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize("engine", ENGINES)
def test_bfloat16_gives_the_outputs_to_its_precision(engine):
    lattice = lattice_of("LSTCam")
    networks = both_engines(NetworkConfig(blocks=1), lattice, torch.float32)
    network = networks[list(ENGINES).index(engine) - 1].eval()
    images = images_of(4, lattice)
    with torch.no_grad():
        expected = network.features(images)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = network.features(images)
            outputs = network(images)
    assert all(output.dtype == torch.bfloat16 for output in outputs.values())
    # It has eight bits, 0.4 % at each of eleven layers one behind the other.
    error = torch.dist(found.float(), expected) / expected.norm()
    assert 1e-4 < error < 0.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_factors_of_attention_are_not_rounded(dtype):
    torch.manual_seed(0)
    attention = DualAttention(16).to(dtype).eval()
    features = torch.randn(3, 16, 50, dtype=dtype)
    with torch.no_grad():
        expected = attention(features)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = attention(features)
    assert found.dtype == dtype
    assert torch.equal(found, expected)


def test_what_all_blocks_add_to_is_not_rounded(small_lattice):
    backbone = GammaPhysNet(NetworkConfig(blocks=2), small_lattice).backbone.eval()
    features = []
    hook = backbone.stages[0][1].register_forward_hook(
        lambda block, inputs, output: features.append((*inputs, output))
    )
    with hook, torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        backbone(images_of(2, small_lattice))
    for tensor in features[0]:
        assert tensor.dtype == torch.float32
