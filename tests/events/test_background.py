"""Planted pedestals and noises come back, whatever else is in the image."""

import numpy as np
import pytest

from ctapipe_gammaphysnet.events.background import measure_background

N_PIXELS = 1855
EVERYWHERE = np.ones((400, N_PIXELS), bool)


def noise_images(pedestal, noise):
    rng = np.random.default_rng(3)
    image = rng.normal(pedestal, noise, EVERYWHERE.shape)
    return image.astype(np.float32)


@pytest.mark.parametrize("step", [None, 0.1, 0.2])
@pytest.mark.parametrize(("pedestal", "noise"), [(1.7, 1.3), (0.03, 1.25), (-2.0, 4.0)])
def test_planted_values_come_back_in_any_steps(pedestal, noise, step):
    """Steps of charges are not steps of the estimates."""
    image = noise_images(pedestal, noise)
    if step is not None:
        image = (np.round(image / step) * step).astype(np.float32)
    found_pedestal, found_noise = measure_background(image, EVERYWHERE)
    assert found_pedestal.mean() == pytest.approx(pedestal, abs=0.02)
    assert found_noise.mean() == pytest.approx(noise, rel=0.01)
    # As precise as order statistics of normal charges: 1.25 and 0.9 sigma / sqrt(n).
    assert found_pedestal.std() < 1.4 * noise / np.sqrt(N_PIXELS)
    assert found_noise.std() < 1.1 * noise / np.sqrt(N_PIXELS)
    assert np.diff(np.unique(found_pedestal.round(6))).min() < (step or 1) / 15


def test_bright_and_dead_pixels_do_not_mislead():
    """Light of a star or shower in 1 % of the pixels, and absurd charges."""
    image = noise_images(1.7, 1.3)
    image[:, :18] += 30
    image[:, 40], image[:, 41] = -1e30, 1e30
    pedestal, noise = measure_background(image, EVERYWHERE)
    assert pedestal.mean() == pytest.approx(1.7, abs=0.05)
    assert noise.mean() == pytest.approx(1.3, rel=0.03)


def test_only_the_background_counts():
    image = noise_images(0.0, 1.0)
    background = EVERYWHERE.copy()
    background[:, 1000:] = False
    image[:, 1000:] = np.nan
    pedestal, noise = measure_background(image, background)
    assert pedestal.mean() == pytest.approx(0, abs=0.02)
    assert noise.mean() == pytest.approx(1, rel=0.01)


def test_a_shift_and_a_factor_are_those_of_the_estimates():
    image = noise_images(0.5, 1.0)
    pedestal, noise = measure_background(image, EVERYWHERE)
    shifted, scaled = measure_background(2 * image + 1, EVERYWHERE)
    np.testing.assert_allclose(shifted, 2 * pedestal + 1, rtol=1e-5)
    np.testing.assert_allclose(scaled, 2 * noise, rtol=1e-5)


def test_without_pixels_nothing_is_known():
    image = noise_images(0.0, 1.0)
    pedestal, noise = measure_background(image, ~EVERYWHERE)
    assert np.isnan(pedestal).all()
    assert np.isnan(noise).all()
