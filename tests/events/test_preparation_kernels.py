"""Compiled code gives what plain NumPy does, for any images in any layout."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy.stats import norm

from ctapipe_gammaphysnet.events.background import measure_background
from ctapipe_gammaphysnet.events.kernels import prepare_images
from ctapipe_gammaphysnet.events.preparation import InputPreparation
from ctapipe_gammaphysnet.model.card import InputCard
from ctapipe_gammaphysnet.network import CameraLattice

COLUMN, ROW = np.mgrid[0:20, 0:20].reshape(2, -1)
LATTICE = CameraLattice.from_positions(COLUMN + ROW / 2, ROW * np.sqrt(0.75))
AROUND = np.linspace(-0.05, 0.05, 21)
RELATIVE = dict(charge_reference="background", background_rings=2)
TIMES = dict(peak_time_reference="image", peak_time_scale=5.0)
CARDS = [
    {"charge_scale": 3.0},
    {"image": "cleaned", "peak_time_scale": 2.0},
    {"missing_pixels": "separate", "charge": "arcsinh"},
    RELATIVE | TIMES | {"charge": "arcsinh", "peak_time_pixels": "cleaned"},
    RELATIVE | TIMES | {"charge_unit": "noise", "peak_time_pixels": "cleaned"},
    RELATIVE | TIMES | {"image": "cleaned", "charge_unit": "noise"},
    TIMES | {"peak_time_pixels": "cleaned", "peak_time_rings": 4},
]


def make_images():
    """Noise and a shower; broken pixels, images without background or anything."""
    rng = np.random.default_rng(5)
    charge = rng.normal(0.5, 1.2, (40, len(LATTICE))).astype(np.float32)
    time = rng.uniform(0, 40, charge.shape).astype(np.float32)
    mask = rng.random(charge.shape) < 0.005
    mask = (mask @ LATTICE.adjacency()) | mask
    charge[mask] += 30
    for values in charge, time:
        broken = rng.random(charge.shape) < 0.02
        values[broken] = rng.choice([np.nan, np.inf, -np.inf], broken.sum())
    charge[0], time[1], mask[2], mask[3] = np.nan, np.nan, True, False
    mask[4], mask[4, :30] = True, False
    charge[5, ~mask[5]] = 0
    charge[6, ::9] = -1e30
    charge[7] = np.round(charge[7])
    return charge, time, mask


def measured(charges):
    """Median and standard deviation, from quantiles of all charges in order."""
    if len(charges) == 0:
        return np.nan, np.nan
    low, middle, high = (
        np.sort(charges)[np.rint((len(charges) - 1) * (q + AROUND)).astype(int)].mean()
        for q in norm.cdf([-1, 0, 1])
    )
    return middle, (high - low) / 2 / norm.ppf(norm.cdf(1) + AROUND).mean()


def widened(mask, rings):
    for _ in range(rings):
        mask = (mask @ LATTICE.adjacency()) | mask
    return mask


def prepared(card, charge, time, mask):
    """One image, with float64 and NumPy: input, whether it has pixels, background."""
    card = InputCard(**card)
    charge, time = charge.astype(float), time.astype(float)
    present = np.isfinite(charge) & np.isfinite(time)
    mask = mask & present
    background = present & ~widened(mask, card.background_rings)
    pedestal, noise = measured(charge[background])
    found = pedestal, noise, 1 - present.mean()
    used, has_pixels = present, present.any()
    if card.needs_background:
        has_pixels &= background.sum() >= 20
    if card.charge_reference == "background":
        charge = np.where(mask, charge, charge - pedestal)
    if card.charge_unit == "noise":
        has_pixels &= noise > 0
        charge = charge / noise
    if card.missing_pixels == "separate":
        charge = np.where(np.isfinite(charge), charge, 0)
        time = np.where(np.isfinite(time), time, -20)
        used = np.ones_like(present)
    elif not has_pixels:
        used = np.zeros_like(present)
    if card.image == "cleaned":
        used = used & mask
    if card.peak_time_reference == "image" and charge[mask].clip(0).sum() > 0:
        time = time - np.average(time[mask], weights=charge[mask].clip(0))
    charge = np.where(used, charge, 0) / card.charge_scale
    if card.peak_time_pixels == "cleaned":
        used = used & widened(mask, card.peak_time_rings)
    time = np.where(used, time, 0) / card.peak_time_scale
    charge = np.arcsinh(charge) if card.charge == "arcsinh" else charge
    return np.stack([charge, time]), has_pixels, *found


@pytest.mark.filterwarnings("ignore:(invalid value|divide by zero) encountered")
@pytest.mark.parametrize("card", CARDS)
def test_it_is_what_numpy_computes(card):
    images = make_images()
    prepare = InputPreparation(InputCard(**card), LATTICE)
    inputs, has_pixels, background = prepare.with_background(*images)
    expected = [prepared(card, *image) for image in zip(*images, strict=True)]
    found = zip(inputs, has_pixels, *background, strict=True)
    for values, truth in zip(found, expected, strict=True):
        for value, true in zip(values, truth, strict=True):
            np.testing.assert_allclose(value, true, rtol=1e-5, atol=1e-5)
    assert 0 < has_pixels.sum() < len(has_pixels)


@pytest.mark.parametrize("n", [1, 2, 19, 64, 1855])
@pytest.mark.parametrize("kind", ["normal", "steps", "two", "skewed", "huge", "sorted"])
def test_quantiles_are_those_of_all_charges_in_order(kind, n):
    rng = np.random.default_rng(n)
    charge = {
        "normal": rng.normal(1, 2, n),
        "steps": rng.normal(1, 2, n).round(),
        "two": rng.integers(0, 2, n),
        "skewed": rng.exponential(1, n) ** 6,
        "huge": rng.normal(0, 1, n) * 10.0 ** rng.integers(-30, 30, n),
        "sorted": np.sort(rng.normal(0, 1e-3, n) + 1e4)[::-1],
    }[kind].astype(np.float32)
    pedestal, noise = measure_background(charge[np.newaxis], np.ones((1, n), bool))
    expected = measured(charge.astype(float))
    np.testing.assert_allclose([pedestal[0], noise[0]], expected, rtol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_charge_that_is_not_finite_is_no_background(value):
    charge, _, mask = make_images()
    charge = np.nan_to_num(charge, nan=0, posinf=0, neginf=0)
    mask[:, :7] = True
    expected = measure_background(charge, ~mask)
    charge[:, :7] = value
    broken = np.arange(len(LATTICE)) < 7
    np.testing.assert_array_equal(measure_background(charge, ~mask | broken), expected)


def test_images_and_pixels_must_have_one_shape():
    with pytest.raises(ValueError, match=r"\(2, 3\) with pixels of shape \(2, 4\)"):
        measure_background(np.zeros((2, 3), np.float32), np.ones((2, 4), bool))


def read_only(values):
    values = values.copy()
    values.flags.writeable = False
    return values


@pytest.mark.parametrize(
    "layout",
    [
        read_only,
        np.asfortranarray,
        lambda values: np.repeat(values, 2, axis=1)[:, ::2],
        lambda values: values[::-1].copy()[::-1],
        lambda values: values.astype(values.dtype.newbyteorder()),
        lambda values: values.astype(np.promote_types(values.dtype, bool)),
        list,
    ],
)
def test_any_layout_of_images_is_prepared_by_the_same_code(layout):
    images = make_images()
    prepare = InputPreparation(InputCard(**CARDS[4]), LATTICE)
    expected = prepare(*images)
    n_compiled = len(getattr(prepare_images, "signatures", []))
    for found, true in zip(prepare(*map(layout, images)), expected, strict=True):
        np.testing.assert_array_equal(found, true)
    assert len(getattr(prepare_images, "signatures", [])) == n_compiled <= 1


def test_many_threads_prepare_at_once():
    images = make_images()
    prepare = InputPreparation(InputCard(**CARDS[3]), LATTICE)
    expected = prepare(*images)[0]
    with ThreadPoolExecutor(4) as executor:
        for inputs, _ in executor.map(lambda _: prepare(*images), range(40)):
            np.testing.assert_array_equal(inputs, expected)


def test_without_compilation_it_is_the_same(tmp_path):
    images = make_images()
    prepare = InputPreparation(InputCard(**CARDS[4]), LATTICE)
    path = tmp_path / "images.npz"
    np.savez(path, images=images[:2], mask=images[2], expected=prepare(*images)[0])
    code = f"""
import sys
sys.path.insert(0, {os.path.dirname(__file__)!r})
import numpy as np
from test_preparation_kernels import *
with np.load({str(path)!r}) as saved:
    prepare = InputPreparation(InputCard(**CARDS[4]), LATTICE)
    inputs, _ = prepare(*saved["images"], saved["mask"])
    np.testing.assert_allclose(inputs, saved["expected"], rtol=1e-5, atol=1e-5)
assert not hasattr(prepare_images, "signatures")
"""
    environment = {"PYTHONPATH": os.pathsep.join(sys.path), "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
