"""Disturbed images, and how far predictions and heatmaps move."""

import numpy as np
import pytest
from test_map_statistics import make_batch, predictions_of

from ctapipe_gammaphysnet.explanation.explainer import Maps
from ctapipe_gammaphysnet.explanation.robustness import (
    DISTURBANCES,
    disturb,
    movements,
    summarise_movements,
)


@pytest.fixture
def batch():
    batch, _ = make_batch(50)
    rng = np.random.default_rng(0)
    shape = batch.image.shape
    batch.image[...] = rng.normal(0, 1.5, shape) + 100 * batch.image_mask
    batch.peak_time[...] = rng.uniform(0, 30, shape)
    return batch


@pytest.mark.parametrize(
    ("disturbance", "value"),
    [
        ("night_sky", 0),
        ("brightness", 1),
        ("pedestal", 0),
        ("dead_pixels", 0),
        ("gain", 1),
        ("time", 0),
    ],
)
def test_nothing_is_disturbed_by_nothing(batch, disturbance, value):
    assert value in DISTURBANCES[disturbance][1]
    rng = np.random.default_rng(1)
    disturbed = disturb(batch, disturbance, value, rng)
    for name in ("image", "peak_time", "image_mask"):
        np.testing.assert_array_equal(getattr(disturbed, name), getattr(batch, name))


def test_noise_adds_in_quadrature_and_the_image_given_stays(batch):
    before = batch.image.copy()
    disturbed = disturb(batch, "night_sky", 2.0, np.random.default_rng(1))
    np.testing.assert_array_equal(batch.image, before)
    added = disturbed.image - batch.image
    assert added.std() == pytest.approx(2, rel=0.05)
    noise = disturbed.image[~batch.image_mask].std()
    assert noise == pytest.approx(np.hypot(1.5, 2), rel=0.05)


def test_a_sky_twice_as_bright_has_twice_the_variance(batch):
    disturbed = disturb(batch, "brightness", 2.0, np.random.default_rng(1))
    noise = disturbed.image[~batch.image_mask].std()
    assert noise == pytest.approx(1.5 * np.sqrt(2), rel=0.05)


def test_another_pedestal_moves_the_pixels_outside_of_the_mask(batch):
    disturbed = disturb(batch, "pedestal", -0.5, np.random.default_rng(1))
    moved = disturbed.image - batch.image
    expected = np.where(batch.image_mask, 0, -0.5)
    np.testing.assert_allclose(moved, expected, atol=1e-5)


def test_dead_pixels_gain_and_time(batch):
    rng = np.random.default_rng(1)
    dead = disturb(batch, "dead_pixels", 0.2, rng)
    is_dead = np.isnan(dead.image) & np.isnan(dead.peak_time)
    assert is_dead.mean() == pytest.approx(0.2, abs=0.02)
    assert not dead.image_mask[is_dead].any()
    gain = disturb(batch, "gain", 0.8, rng)
    np.testing.assert_allclose(gain.image, 0.8 * batch.image, rtol=1e-6)
    time = disturb(batch, "time", -2.0, rng)
    np.testing.assert_allclose(time.peak_time, batch.peak_time - 2, atol=1e-5)
    np.testing.assert_array_equal(time.image, batch.image)


def test_moves_are_those_that_were_planted():
    maps = np.zeros((2, 2, 61), np.float32)
    maps[:, :, 3] = 1
    other = maps.copy()
    # The first event's map of the first member goes elsewhere, of the second half.
    other[0, 0] = np.roll(maps[0, 0], 1)
    other[1, 0] = maps[1, 0] + np.roll(maps[1, 0], 1)
    other[:, 1] = 0
    before = Maps(predictions_of(2), {"energy": maps}, {})
    predictions = predictions_of(2, energy=1.1)
    predictions["direction"] = np.full((2, 2, 2), [0.3, 0.4])
    predictions["impact"] = np.full((2, 2, 2), [0.03, -0.04])
    predictions["class"] = np.full((2, 2, 2), [0.5, 0.5])
    moved = movements(before, Maps(predictions, {"energy": other}, {}))
    np.testing.assert_allclose(moved["energy"], 0.1)
    np.testing.assert_allclose(moved["direction"], 0.5)
    np.testing.assert_allclose(moved["impact"], 50)
    np.testing.assert_allclose(moved["gammaness"], -0.25)
    similarity = moved["heatmap_energy"]
    np.testing.assert_allclose(similarity[:, 0], [0, 0.5**0.5], rtol=1e-6)
    assert np.isnan(similarity[:, 1]).all()


def test_summaries_have_mean_and_dispersion_over_members():
    found = {
        ("m", "gain", 0.9): {
            "energy": np.array([[0.1, 0.3], [0.3, 0.5]]),
            "heatmap_energy": np.array([[1.0, np.nan], [np.nan, np.nan]]),
        },
        ("single", "gain", 0.9): {"energy": np.array([[0.1, 0.3]])},
    }
    energy, heatmap, single = summarise_movements(found)
    assert energy["mean"] == pytest.approx(0.3)
    assert energy["members_std"] == pytest.approx(np.std([0.2, 0.4], ddof=1))
    assert energy["images_std"] == pytest.approx(0.1)
    assert heatmap["mean"] == 1
    assert heatmap["empty"] == 3 / 4
    assert energy["empty"] == 0
    assert np.isnan(heatmap["members_std"])
    assert single["mean"] == pytest.approx(0.2)
    assert np.isnan(single["members_std"])


def test_movements_of_empty_heatmaps_are_not_known_and_stay():
    found = {("m", "gain", 0.9): {"heatmap_energy": np.full((2, 3), np.nan)}}
    (row,) = summarise_movements(found)
    assert np.isnan(row["mean"])
    assert row["empty"] == 1
