"""Both convolutions do what a convolution over camera pixels should, and the same."""

import numpy as np
import pytest
import torch
import toy_sample as toy
from cameras import lattice_of
from device import DEVICE

from ctapipe_gammaphysnet.network import CameraLattice, compiled
from ctapipe_gammaphysnet.network.convolution import (
    ENGINES,
    BatchNorm,
    IndexedConvolution,
    LatticeConvolution,
    convolve_normalized,
)
from ctapipe_gammaphysnet.network.lattice import TAPS

#: Largest difference between the engines, relative to the largest value.
#: cuDNN has algorithms for gradients that round more.
TOLERANCE = {
    torch.float64: 1e-10,
    torch.float32: 1e-5 if DEVICE == "cpu" else 1e-4,
}


@pytest.fixture(autouse=True)
def _seed():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture(scope="module")
def small_lattice():
    """Lattice of a camera with 19 pixels."""
    return CameraLattice.from_geometry(toy.hexagonal_camera(2))


@pytest.fixture(params=ENGINES)
def engine(request):
    """One of the convolutions; tests that use it run for each."""
    return ENGINES[request.param]


def relative_difference(value, reference):
    """Largest difference, relative to the largest value of the reference."""
    return ((value - reference).abs().max() / reference.abs().max()).item()


def results(convolution, x):
    """Output of a convolution, and its gradients, by name."""
    convolution.to(DEVICE)
    x = x.to(DEVICE, copy=True).requires_grad_()
    y = convolution(x)
    # Different at each output, so that none can take another's place, and with a sum
    # that is not nearly zero, where rounding would be all that is left.
    weights = 0.5 + torch.cos(torch.arange(y.numel(), dtype=y.dtype).to(y)).view_as(y)
    (y * weights).sum().backward()
    return {
        "output": y.detach(),
        "input gradient": x.grad,
        "weight gradient": convolution.weight.grad,
        "bias gradient": convolution.bias.grad,
    }


@pytest.fixture(params=["compiled", "rectangle"])
def computation(request, monkeypatch):
    """How the lattice engine convolves; tests that use it run for both ways."""
    if request.param == "rectangle":
        monkeypatch.setattr(compiled, "can_compute", lambda x, weight: False)
    return request.param


# Numbers of channels that fill no vector, just one, and several.
@pytest.mark.parametrize("channels", [(3, 5), (16, 16), (24, 56)], ids=str)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("camera", ["LSTCam", "FlashCam", "CHEC"])
@pytest.mark.usefixtures("computation")
def test_engines_agree_in_outputs_and_gradients(camera, stride, dtype, channels):
    lattice = lattice_of(camera)
    indexed = IndexedConvolution(*channels, lattice, stride)
    dense = LatticeConvolution(*channels, lattice, stride).to(dtype)
    dense.load_state_dict(indexed.state_dict(), strict=True)
    x = torch.randn(2, channels[0], len(lattice), dtype=dtype)
    # In double precision, so that only one of them rounds.
    expected, found = results(indexed.double(), x.double()), results(dense, x)
    for name, reference in expected.items():
        assert found[name].dtype == dtype
        assert found[name].shape == reference.shape
        assert relative_difference(found[name], reference) < TOLERANCE[dtype], name


@pytest.mark.parametrize("stride", [1, 2])
def test_engines_agree_on_a_lattice_of_odd_and_even_shape(stride):
    # With an odd number of columns the rows of a strided output are longer than half.
    for n_rows, n_cols in [(4, 5), (5, 4), (4, 4), (5, 5)]:
        y, x = (axis.ravel() for axis in np.mgrid[:n_rows, :n_cols])
        lattice = CameraLattice.from_positions(x, y)
        assert lattice.shape == (n_rows, n_cols)
        indexed = IndexedConvolution(2, 3, lattice, stride).double()
        dense = LatticeConvolution(2, 3, lattice, stride).double()
        dense.load_state_dict(indexed.state_dict())
        image = torch.randn(2, 2, len(lattice), dtype=torch.float64)
        torch.testing.assert_close(dense(image), indexed(image), rtol=0, atol=1e-12)


def single_tap(engine, lattice, tap, stride=1):
    """Convolution whose output at a pixel is its neighbour's value at this tap."""
    convolution = engine(1, 1, lattice, stride)
    with torch.no_grad():
        convolution.weight.zero_()
        convolution.weight[0, 0, tap] = 1
        convolution.bias.zero_()
    return convolution


@pytest.mark.parametrize("camera", ["LSTCam", "DigiCam", "ASTRICam"])
def test_kernel_of_one_tap_moves_each_pixel_to_its_neighbor(camera, engine):
    lattice = lattice_of(camera)
    # A row of images, each lit in one pixel: two at corners, others anywhere.
    rng = np.random.default_rng(0)
    lit = np.r_[0, len(lattice) - 1, rng.choice(len(lattice), 30, replace=False)]
    images = torch.zeros(len(lit), 1, len(lattice))
    images[range(len(lit)), 0, lit] = 1
    numbers = {
        position: number
        for number, position in enumerate(
            zip(lattice.rows.tolist(), lattice.cols.tolist(), strict=True)
        )
    }
    for tap, (row, col) in enumerate(TAPS[lattice.kind]):
        with torch.no_grad():
            moved = single_tap(engine, lattice, tap)(images)[:, 0]
        expected = torch.zeros_like(moved)
        for image, pixel in enumerate(lit):
            # The pixel that has the lit one as its neighbour at this tap.
            target = numbers.get((lattice.rows[pixel] - row, lattice.cols[pixel] - col))
            if target is not None:
                expected[image, target] = 1
        assert torch.equal(moved, expected)


@pytest.mark.parametrize("camera", ["LSTCam", "FlashCam", "CHEC"])
def test_strided_convolution_keeps_every_second_row_and_column(camera, engine):
    lattice = lattice_of(camera)
    half = lattice.downsampled()
    # Each pixel's value tells its row and column.
    image = torch.from_numpy(1000.0 * lattice.rows + lattice.cols + 1).float()
    center = len(lattice.taps) // 2
    with torch.no_grad():
        found = single_tap(engine, lattice, center, stride=2)(image[None, None])
    expected = torch.from_numpy(2000.0 * half.rows + 2 * half.cols + 1).float()
    assert torch.equal(found[0, 0], expected)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("camera", ["LSTCam", "DigiCam", "CHEC"])
def test_kernel_of_ones_counts_the_pixels_around(camera, stride, engine):
    lattice = lattice_of(camera)
    convolution = engine(1, 1, lattice, stride)
    with torch.no_grad():
        convolution.weight.fill_(1)
        convolution.bias.fill_(0.5)
        counts = convolution(torch.ones(1, 1, len(lattice)))[0, 0] - 0.5
    positions = set(zip(lattice.rows.tolist(), lattice.cols.tolist(), strict=True))
    expected = [
        sum((row + tap[0], col + tap[1]) in positions for tap in TAPS[lattice.kind])
        for row, col in sorted(positions)
        if row % stride == 0 and col % stride == 0
    ]
    assert counts.tolist() == expected


def test_channels_are_mixed_by_the_weights(engine, small_lattice):
    convolution = engine(2, 3, small_lattice)
    x = torch.randn(4, 2, len(small_lattice))
    expected = convolution.bias[None, :, None].clone()
    for in_channel in range(2):
        for tap in range(7):
            moved = single_tap(engine, small_lattice, tap)(x[:, [in_channel]])
            weight = convolution.weight[:, in_channel, tap]
            expected = expected + weight[None, :, None] * moved
    torch.testing.assert_close(convolution(x), expected)


@pytest.mark.parametrize("stride", [1, 2])
def test_gradients_are_the_derivatives(engine, stride, small_lattice):
    convolution = engine(2, 3, small_lattice, stride).double()
    x = torch.randn(2, 2, len(small_lattice), dtype=torch.float64, requires_grad=True)
    # Weights and bias are varied in place.
    inputs = (x, convolution.weight, convolution.bias)
    assert torch.autograd.gradcheck(lambda x, *_: convolution(x), inputs)


@pytest.mark.parametrize(("camera", "taps"), [("LSTCam", 7), ("CHEC", 9)])
def test_only_weight_and_bias_are_saved(camera, taps, engine):
    state = engine(3, 5, lattice_of(camera), stride=2).state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == {
        "weight": (5, 3, taps),
        "bias": (5,),
    }


def test_initial_weights_are_drawn_from_the_same_distribution(small_lattice):
    for engine in ENGINES.values():
        convolution = engine(16, 64, small_lattice)
        bound = (16 * 7) ** -0.5
        for values in (convolution.weight, convolution.bias):
            assert values.abs().max() <= bound
            assert values.abs().max() > 0.9 * bound
        assert convolution.weight.std().item() == pytest.approx(
            bound / 3**0.5, rel=0.05
        )


def test_convolution_does_not_change_its_input(engine, small_lattice):
    x = torch.randn(2, 2, len(small_lattice))
    before = x.clone()
    engine(2, 3, small_lattice)(x)
    assert torch.equal(x, before)


def test_positions_outside_the_camera_do_not_leak(small_lattice):
    # A bias makes all of the rectangle bright: the next convolution must not see it.
    first = LatticeConvolution(1, 1, small_lattice)
    second = LatticeConvolution(1, 1, small_lattice)
    with torch.no_grad():
        for convolution, weight, bias in ((first, 0, 1), (second, 1, 0)):
            convolution.weight.fill_(weight)
            convolution.bias.fill_(bias)
        counts = second(first(torch.zeros(1, 1, len(small_lattice))))[0, 0]
    # The 19 pixels: six corners, six edges, seven inside.
    assert sorted(counts.tolist()) == [4] * 6 + [5] * 6 + [7] * 7


def test_batch_norm_is_over_batch_and_pixels():
    norm = BatchNorm(3)
    x = 5 * torch.randn(4, 3, 19) + torch.tensor([1.0, 2.0, 3.0])[:, None]
    y = norm(x)
    mean = x.mean(dim=(0, 2))
    variance = x.var(dim=(0, 2), correction=0)
    expected = (x - mean[:, None]) / (variance[:, None] + norm.eps).sqrt()
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(norm.running_mean, 0.1 * mean)
    unbiased = x.var(dim=(0, 2))
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * unbiased)


def channels_last(x):
    """The same features, those of one pixel side by side in memory."""
    return x.transpose(1, 2).contiguous().transpose(1, 2)


@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_compiled_normalization_agrees_with_batch_norm_and_relu(dtype, train):
    x = 3 * torch.randn(5, 20, 37, dtype=dtype) + torch.arange(20)[:, None]
    results = []
    for memory in (torch.clone, channels_last):
        norm = BatchNorm(20).to(dtype).train(train)
        with torch.no_grad():
            for values in (norm.weight, norm.bias, norm.running_mean):
                values.copy_(torch.linspace(-1, 1.5, 20))
        inputs = memory(x).requires_grad_()
        y = norm.rectified(inputs)
        # One of them is computed by PyTorch, as the memory shows.
        kind = type(y.grad_fn.next_functions[0][0]).__name__
        assert ("NormalizationReLU" in kind) == (memory is channels_last)
        (
            y * torch.cos(torch.arange(y.numel(), dtype=dtype)).view_as(y)
        ).sum().backward()
        results.append(
            {
                "output": y.detach(),
                "input gradient": inputs.grad,
                "weight gradient": norm.weight.grad,
                "bias gradient": norm.bias.grad,
                "running mean": norm.running_mean,
                "running variance": norm.running_var,
                "batches": norm.num_batches_tracked,
            }
        )
    expected, found = results
    assert 0.2 < (expected["output"] > 0).double().mean() < 0.8
    assert found.pop("batches") == expected.pop("batches") == train
    for name, reference in expected.items():
        assert relative_difference(found[name], reference) < TOLERANCE[dtype], name


def step_by_step(norm, convolution, x, shortcut=None):
    """What `convolve_normalized` does at once."""
    y = convolution(torch.relu(norm(x)))
    return y if shortcut is None else y + shortcut, x


def normalized_results(compute, convolution, x, shortcut, train):
    """Results and gradients of a normalised convolution between shortcuts."""
    norm = BatchNorm(x.shape[1]).to(x.dtype).train(train)
    with torch.no_grad():
        for values in (norm.weight, norm.bias, norm.running_mean):
            values.copy_(torch.linspace(-1, 1.5, len(values)))
    convolution.zero_grad()
    x = channels_last(x).requires_grad_()
    if shortcut is not None:
        shortcut = channels_last(shortcut).requires_grad_()
    y, past = compute(norm, convolution, x, shortcut)
    # The features are used once more, as in a residual block.
    wave = torch.cos(torch.arange(y.numel(), dtype=x.dtype)).view_as(y)
    ((y * wave).sum() + (past**3).sum()).backward()
    found = {"output": y.detach(), "features": past.detach()}
    parts = {"norm": norm, "convolution": convolution}
    found |= {
        f"gradient of {part}.{name}": parameter.grad.clone()
        for part, module in parts.items()
        for name, parameter in module.named_parameters()
    }
    found |= {"input gradient": x.grad, "running mean": norm.running_mean}
    if shortcut is not None:
        found["shortcut gradient"] = shortcut.grad
    return found


@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("has_shortcut", [True, False])
@pytest.mark.parametrize("channels", [(3, 5), (16, 16), (24, 56)], ids=str)
@pytest.mark.parametrize("stride", [1, 2])
def test_normalized_convolution_is_its_parts_one_after_the_other(
    stride, channels, has_shortcut, train, small_lattice
):
    convolution = LatticeConvolution(*channels, small_lattice, stride).double()
    n_outputs = len(convolution.neighbors)
    x = 1 + torch.randn(5, channels[0], len(small_lattice), dtype=torch.float64)
    shortcut = None
    if has_shortcut:
        shortcut = torch.randn(5, channels[1], n_outputs, dtype=torch.float64)
    expected, found = (
        normalized_results(compute, convolution, x, shortcut, train)
        for compute in (step_by_step, convolve_normalized)
    )
    assert found.keys() == expected.keys()
    for name, reference in expected.items():
        assert relative_difference(found[name], reference) < 1e-10, name


@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
def test_only_in_training_all_is_computed_at_once(small_lattice, train):
    norm, convolution = (
        BatchNorm(3).train(train),
        LatticeConvolution(3, 4, small_lattice),
    )
    calls = []
    convolution.register_forward_hook(lambda *_: calls.append(1))
    y, _ = convolve_normalized(norm, convolution, channels_last(torch.randn(2, 3, 19)))
    kind = type(y.grad_fn.next_functions[0][0]).__name__
    assert ("NormalizedConvolution" in kind) == train
    # Explanations hook on modules.
    assert len(calls) == (not train)


def test_features_alone_let_their_gradient_pass(small_lattice):
    # If nothing depends on the convolution, as when its output is left out.
    norm, convolution = BatchNorm(3), LatticeConvolution(3, 4, small_lattice)
    x = channels_last(torch.randn(2, 3, 19)).requires_grad_()
    _, past = convolve_normalized(norm, convolution, x)
    past.sum().backward()
    torch.testing.assert_close(x.grad, torch.ones_like(x))


def test_statistics_survive_a_large_mean():
    # In single precision, mean squares would leave nothing of the variance.
    x = channels_last(1e4 + torch.randn(6, 2, 500))
    mean, variance = compiled.moments(x.transpose(1, 2))
    expected = x.double().var(dim=(0, 2), correction=0)
    torch.testing.assert_close(variance, expected, rtol=1e-3, atol=0)
    torch.testing.assert_close(mean, x.double().mean(dim=(0, 2)), rtol=1e-6, atol=0)


def test_moments_of_diverging_features_are_not_finite():
    x = torch.zeros(2, 3, 4)
    x[0, 1] = torch.inf
    mean, variance = compiled.moments(x)
    assert not torch.isfinite(mean).any()
    assert not torch.isfinite(variance).any()


def test_what_is_not_a_number_stays_so(small_lattice):
    x = channels_last(torch.randn(2, 3, 19))
    x[1, 2, 7] = torch.nan
    norm = BatchNorm(3).eval()
    assert torch.equal(norm.rectified(x).isnan(), x.isnan())
    assert LatticeConvolution(3, 4, small_lattice)(x)[1].isnan().any(dim=1).sum() >= 3


@pytest.mark.parametrize("n_images", [1, 2, 5])
def test_threads_share_the_images(small_lattice, n_images):
    convolution = LatticeConvolution(3, 4, small_lattice)
    norm = BatchNorm(3)
    x = channels_last(torch.randn(n_images, 3, 19))
    threads, found = torch.get_num_threads(), []
    try:
        for n in (1, 3):
            torch.set_num_threads(n)
            inputs = x.clone().requires_grad_()
            y, _ = convolve_normalized(norm, convolution, inputs)
            gradients = torch.autograd.grad(
                y.square().sum(), (inputs, *convolution.parameters())
            )
            found.append((y.detach(), *gradients))
    finally:
        torch.set_num_threads(threads)
    torch.testing.assert_close(*found)
