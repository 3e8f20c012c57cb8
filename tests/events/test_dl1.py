"""Images enter the network as they are, with 0 for what is missing."""

import numpy as np
import pytest
from ctapipe.containers import (
    ArrayEventContainer,
    DL1CameraContainer,
    EventIndexContainer,
)
from scipy.stats import norm

from ctapipe_gammaphysnet.events.event import event_images
from ctapipe_gammaphysnet.events.preparation import (
    InputPreparation,
    MissingImagesError,
    UnfitImagesError,
)
from ctapipe_gammaphysnet.model.card import InputCard
from ctapipe_gammaphysnet.network import CameraLattice

N_PIXELS = 7
# A pixel and its six neighbours, counter-clockwise from the right.
ANGLES = np.deg2rad(60 * np.arange(6))
LATTICE = CameraLattice.from_positions(
    np.append(0, np.cos(ANGLES)), np.append(0, np.sin(ANGLES))
)


def prepare_as(**card):
    return InputPreparation(InputCard(**card), LATTICE)


RAW, CLEANED = prepare_as(image="raw"), prepare_as(image="cleaned")
PREPARATIONS = [
    RAW,
    CLEANED,
    prepare_as(
        charge="arcsinh",
        charge_scale=5.0,
        peak_time_reference="image",
        peak_time_pixels="cleaned",
        peak_time_rings=1,
    ),
]


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    return (
        rng.normal(10, 20, (4, N_PIXELS)).astype(np.float32),
        rng.uniform(1, 40, (4, N_PIXELS)).astype(np.float32),
    )


@pytest.fixture
def event(images):
    """Event with telescopes 1 to 4; pixel 0 survives the cleaning, and so on."""
    event = ArrayEventContainer(index=EventIndexContainer(obs_id=3, event_id=12))
    for tel_id, (image, peak_time) in enumerate(zip(*images, strict=True), start=1):
        mask = np.zeros(N_PIXELS, dtype=bool)
        mask[tel_id - 1] = True
        event.dl1.tel[tel_id] = DL1CameraContainer(
            image=image, peak_time=peak_time, image_mask=mask
        )
    return event


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_charge_and_peak_time_are_stacked_unchanged(images, dtype):
    charge, time = images
    inputs, has_pixels = RAW(charge.astype(dtype), time.astype(dtype))
    assert inputs.shape == (4, 2, N_PIXELS)
    assert inputs.dtype == np.float32
    np.testing.assert_array_equal(inputs[:, 0], charge)
    np.testing.assert_array_equal(inputs[:, 1], time)
    assert has_pixels.dtype == bool
    assert has_pixels.tolist() == [True] * 4


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("channel", [0, 1])
def test_a_pixel_missing_in_one_channel_is_zero_in_both(images, channel, value):
    images[channel][2, 5] = value
    inputs, has_pixels = RAW(*images)
    assert inputs[2, :, 5].tolist() == [0, 0]
    there = np.ones((4, N_PIXELS), dtype=bool)
    there[2, 5] = False
    for stacked, given in zip(np.moveaxis(inputs, 1, 0), images, strict=True):
        np.testing.assert_array_equal(stacked[there], given[there])
    assert has_pixels.all()


def test_an_image_without_any_pixel_is_told(images):
    charge, time = images
    charge[1] = np.nan
    # Each pixel lacks either charge or time.
    charge[3, :4] = np.nan
    time[3, 4:] = np.inf
    inputs, has_pixels = RAW(charge, time)
    assert has_pixels.tolist() == [True, False, True, False]
    assert not inputs[[1, 3]].any()
    assert inputs[[0, 2]].all()


def test_pixels_that_the_cleaning_left_out_are_zero_in_both_channels(images):
    mask = np.random.default_rng(1).random((4, N_PIXELS)) < 0.5
    images[0][0, mask[0].argmax()] = np.nan
    inputs, _ = CLEANED(*images, mask)
    mask[0, mask[0].argmax()] = False
    for stacked, given in zip(np.moveaxis(inputs, 1, 0), images, strict=True):
        np.testing.assert_array_equal(stacked[mask], given[mask])
        assert not stacked[~mask].any()


def test_an_image_of_which_cleaning_leaves_nothing_has_pixels(images):
    mask = np.zeros((4, N_PIXELS), dtype=bool)
    inputs, has_pixels = CLEANED(*images, mask)
    assert not inputs.any()
    assert has_pixels.all()


def test_the_mask_is_not_used_for_raw_images(images):
    mask = np.zeros((4, N_PIXELS), dtype=bool)
    inputs, _ = RAW(*images, mask)
    np.testing.assert_array_equal(inputs, np.stack(images, axis=1))


def test_cleaned_images_need_a_mask(images):
    with pytest.raises(ValueError, match="needs cleaned images: no image mask"):
        CLEANED(*images)


def test_no_images_give_no_inputs():
    inputs, has_pixels = RAW(*np.empty((2, 0, N_PIXELS)))
    assert inputs.shape == (0, 2, N_PIXELS)
    assert has_pixels.shape == (0,)


@pytest.mark.parametrize("prepare", PREPARATIONS)
def test_the_arrays_given_are_not_modified(images, prepare):
    images[0][0, 0] = np.nan
    mask = np.random.default_rng(1).random((4, N_PIXELS)) < 0.5
    before = [array.copy() for array in (*images, mask)]
    inputs, _ = prepare(*images, mask)
    inputs += 1
    for array, copy in zip((*images, mask), before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_images_of_an_event_come_in_the_order_of_the_telescopes(event, images):
    inputs, has_pixels = event_images(event, [3, 1, 4], RAW)
    np.testing.assert_array_equal(inputs, np.stack(images, axis=1)[[2, 0, 3]])
    assert has_pixels.tolist() == [True, True, True]


def test_images_of_an_event_are_cleaned_with_their_own_masks(event, images):
    inputs, _ = event_images(event, [3, 1], CLEANED)
    assert [np.flatnonzero(image).tolist() for image in inputs[:, 0]] == [[2], [0]]
    assert inputs[0, :, 2].tolist() == [images[0][2, 2], images[1][2, 2]]


def test_images_of_an_event_tell_which_are_broken(event):
    event.dl1.tel[1].peak_time[:] = np.nan
    _, has_pixels = event_images(event, [3, 1], RAW)
    assert has_pixels.tolist() == [True, False]


@pytest.mark.parametrize("missing", ["image", "peak_time"])
def test_a_missing_image_is_an_error_that_says_what_to_do(event, missing):
    setattr(event.dl1.tel[2], missing, None)
    with pytest.raises(MissingImagesError) as info:
        event_images(event, [1, 2], RAW)
    message = str(info.value)
    assert "event 12 of observation 3 has no DL1 image of telescope 2" in message
    assert "ctapipe-process --write-images" in message
    # The other telescopes are not affected.
    event_images(event, [1, 3], RAW)


@pytest.mark.parametrize("length", [0, N_PIXELS - 1, N_PIXELS + 1])
@pytest.mark.parametrize("name", ["image", "peak_time", "image_mask"])
def test_images_of_another_length_are_refused(event, images, name, length):
    """Compiled code would read what is behind them."""
    arrays = dict(zip(("image", "peak_time"), images, strict=True))
    arrays["image_mask"] = np.ones((4, N_PIXELS), dtype=bool)
    CLEANED(**arrays)
    spoilt = np.resize(arrays[name][:, :1], (4, length)).astype(arrays[name].dtype)
    with pytest.raises(UnfitImagesError, match=rf"{name} has .*\(4, {length}\).*4, 7"):
        CLEANED(**(arrays | {name: spoilt}))
    event.dl1.tel[2][name] = spoilt[0]
    with pytest.raises(UnfitImagesError) as info:
        event_images(event, [1, 2], CLEANED)
    message = str(info.value)
    assert "event 12 of observation 3, telescope 2" in message
    assert f"{name} has the shape ({length},)" in message
    assert f"has {N_PIXELS} pixels" in message
    event_images(event, [1, 3], CLEANED)


@pytest.mark.parametrize("dtype", [np.int32, bool, complex, object])
@pytest.mark.parametrize("name", ["image", "peak_time"])
def test_charges_and_times_are_floating_point_numbers(event, images, name, dtype):
    """Integers are what files compress charges to: ten times the charge, or so."""
    arrays = dict(zip(("image", "peak_time"), images, strict=True))
    with pytest.raises(UnfitImagesError, match=f"{name} holds .*, not floating"):
        RAW(**(arrays | {name: arrays[name].astype(dtype)}))
    event.dl1.tel[2][name] = event.dl1.tel[2][name].astype(dtype)
    with pytest.raises(UnfitImagesError, match=f"telescope 2: {name} holds"):
        event_images(event, [1, 2], RAW)


def test_masks_are_booleans(event, images):
    with pytest.raises(UnfitImagesError, match="image_mask holds int8, not booleans"):
        CLEANED(*images, np.ones((4, N_PIXELS), np.int8))


@pytest.mark.parametrize("shape", [(), (N_PIXELS,), (1, 2, N_PIXELS)])
def test_arrays_of_images_have_two_dimensions(shape):
    with pytest.raises(UnfitImagesError, match="image has the shape"):
        RAW(np.zeros(shape, np.float32), np.zeros(shape, np.float32))


@pytest.mark.parametrize("tel_ids", [[2], [2, 3]])
def test_a_missing_mask_is_an_error_where_images_must_be_cleaned(event, tel_ids):
    event.dl1.tel[2].image_mask = None
    event_images(event, tel_ids, RAW)
    with pytest.raises(MissingImagesError, match="telescope 2"):
        event_images(event, tel_ids, CLEANED)


def test_the_charge_is_scaled_as_the_card_says(images):
    charge, time = images
    for card, expected in (
        ({"charge_scale": 4.0}, charge / 4),
        ({"charge_scale": 5.0, "charge": "arcsinh"}, np.arcsinh(charge / 5)),
    ):
        inputs, _ = prepare_as(**card)(charge, time)
        np.testing.assert_allclose(inputs[:, 0], expected, rtol=1e-6)
        np.testing.assert_array_equal(inputs[:, 1], time)


def test_peak_times_count_from_the_mean_of_the_shower():
    """Weighted with the charge, over the mask alone; negative charge has no weight."""
    charge = np.array([[10.0, 30, 99, -5, 1, 1, np.nan]])
    time = np.array([[20.0, 24, 3, 7, 1, 2, 50]])
    mask = np.array([[True, True, False, True, False, False, True]])
    prepare = prepare_as(peak_time_reference="image", peak_time_scale=2.0)
    inputs, _ = prepare(charge, time, mask)
    np.testing.assert_allclose(inputs[0, 1, :6], (time[0, :6] - 23) / 2, rtol=1e-6)
    assert inputs[0, 1, 6] == 0
    # Without charge in the mask there is no reference.
    inputs, _ = prepare(charge, time, np.zeros_like(mask))
    np.testing.assert_allclose(inputs[0, 1, :6], time[0, :6] / 2)


@pytest.mark.parametrize("rings", [0, 1, 2])
def test_peak_times_far_from_the_shower_can_be_left_out(images, rings):
    charge, time = images
    mask = np.zeros((4, N_PIXELS), dtype=bool)
    mask[:, 1] = True
    prepare = prepare_as(peak_time_pixels="cleaned", peak_time_rings=rings)
    inputs, _ = prepare(charge, time, mask)
    # The neighbours of a pixel on the ring: the centre and those beside it.
    entering = [[1], [0, 1, 2, 6], range(N_PIXELS)][rings]
    assert set(np.flatnonzero(inputs[0, 1])) == set(entering)
    np.testing.assert_array_equal(inputs[:, 1, entering], time[:, entering])
    np.testing.assert_array_equal(inputs[:, 0], charge)


def test_a_card_says_whether_it_needs_the_mask(images):
    assert not RAW.needs_mask
    for card in (
        {"image": "cleaned"},
        {"peak_time_reference": "image"},
        {"peak_time_pixels": "cleaned"},
    ):
        prepare = prepare_as(**card)
        assert prepare.needs_mask
        with pytest.raises(ValueError, match="no image mask is given"):
            prepare(*images)


# --- charges relative to the background ---

COLUMN, ROW = np.mgrid[0:12, 0:12].reshape(2, -1)
LARGE = CameraLattice.from_positions(COLUMN + ROW / 2, ROW * np.sqrt(0.75))
AROUND = np.linspace(-0.05, 0.05, 21)
ROBUST = dict(charge_reference="background", charge_unit="noise", background_rings=1)


@pytest.fixture
def shower():
    """Images of noise around 1.5 p.e. with some bright pixels; charge, time, mask."""
    rng = np.random.default_rng(3)
    n_pixels = len(LARGE)
    charge = rng.normal(1.5, 0.8, (5, n_pixels)).astype(np.float32)
    mask = np.zeros(charge.shape, dtype=bool)
    mask[:, 60:66] = True
    charge[mask] += 40
    return charge, rng.uniform(1, 40, charge.shape).astype(np.float32), mask


def prepare_large(**card):
    return InputPreparation(InputCard(**card), LARGE)


def test_charges_relative_to_the_background_have_its_pedestal_and_noise(shower):
    charge, time, mask = shower
    inputs, has_pixels = prepare_large(**ROBUST)(*shower)
    assert has_pixels.all()
    around = mask @ LARGE.adjacency()
    for image, given, cleaned, near in zip(
        inputs[:, 0], charge, mask, around, strict=True
    ):
        dark = given[~near]
        low, middle, high = (
            np.quantile(dark, centre + AROUND, method="nearest").mean()
            for centre in norm.cdf([-1, 0, 1])
        )
        noise = (high - low) / 2 / norm.ppf(norm.cdf(1) + AROUND).mean()
        expected = np.where(cleaned, given, given - middle) / noise
        np.testing.assert_allclose(image, expected, rtol=2e-5, atol=2e-5)
    np.testing.assert_array_equal(inputs[:, 1], time)


@pytest.mark.parametrize("scale", [0.9, 1.0, 1.1])
@pytest.mark.parametrize("shift", [-0.5, 0.0, 0.5])
@pytest.mark.parametrize("reference", ["none", "image"])
def test_no_gain_and_no_dark_pedestal_changes_the_input(
    shower, scale, shift, reference
):
    prepare = prepare_large(
        **ROBUST, charge="arcsinh", charge_scale=3.0, peak_time_reference=reference
    )
    charge, time, mask = shower
    other = (charge * scale + np.where(mask, 0, shift)).astype(np.float32)
    np.testing.assert_allclose(
        prepare(other, time, mask)[0], prepare(*shower)[0], rtol=1e-4, atol=1e-4
    )


def test_light_around_the_mask_is_not_background(shower):
    charge, time, mask = shower
    brighter = charge.copy()
    brighter[(mask @ LARGE.adjacency()) & ~mask] += 5
    far = ~(mask @ LARGE.adjacency())
    prepare = prepare_large(**ROBUST)
    before, after = (prepare(c, time, mask)[0][:, 0] for c in (charge, brighter))
    np.testing.assert_array_equal(before[far], after[far])
    without_rings = prepare_large(**ROBUST | {"background_rings": 0})
    moved = without_rings(brighter, time, mask)[0][:, 0]
    assert (np.abs(moved - before)[far] > 0.01).any()


def test_missing_pixels_are_no_background(shower):
    charge, time, mask = shower
    broken = charge.copy()
    broken[:, :40] = np.nan
    inputs, has_pixels = prepare_large(**ROBUST)(broken, time, mask)
    assert has_pixels.all()
    assert not inputs[:, :, :40].any()
    # The median of those left is 0.
    left = ~(mask @ LARGE.adjacency())
    left[:, :40] = False
    for image, pixels in zip(inputs[:, 0], left, strict=True):
        assert abs(np.median(image[pixels])) < 0.05


def test_an_image_without_known_background_is_told(shower):
    charge, time, mask = (array.copy() for array in shower)
    mask[0] = True
    charge[1, ~mask[1]] = 0  # as after a zero suppression
    charge[2] = np.nan
    inputs, has_pixels = prepare_large(**ROBUST)(charge, time, mask)
    assert has_pixels.tolist() == [False, False, False, True, True]
    assert not inputs[:3, 0].any()
    assert np.isfinite(inputs).all()
    only_median = prepare_large(**ROBUST | {"charge_unit": "p.e."})
    has_pixels = only_median(charge, time, mask)[1]
    assert has_pixels.tolist() == [False, True, False, True, True]


def test_cleaned_images_know_the_background_outside_the_mask(shower):
    everything = prepare_large(**ROBUST)(*shower)[0]
    cleaned = prepare_large(**ROBUST, image="cleaned")(*shower)[0]
    mask = shower[2]
    np.testing.assert_array_equal(cleaned[:, 0][mask], everything[:, 0][mask])
    assert not cleaned[:, 0][~mask].any()


ORDER = np.random.default_rng(4).permutation(len(LARGE))


@pytest.mark.parametrize(
    "card",
    [
        {},
        {"image": "cleaned"},
        {"missing_pixels": "separate"},
        ROBUST,
        ROBUST | {"image": "cleaned"},
        {
            "charge": "arcsinh",
            "peak_time_reference": "image",
            "peak_time_pixels": "cleaned",
            "peak_time_rings": 2,
        },
    ],
)
def test_images_in_another_order_become_the_same_input(shower, card):
    """To the last bit."""
    for values in shower[:2]:
        values[1, [3, 40]] = np.nan
    permuted = [np.empty_like(values) for values in shower]
    for values, original in zip(permuted, shower, strict=True):
        values[:, ORDER] = original
    prepare = prepare_large(**card)
    reordered = prepare.reordered(ORDER)
    *found, found_background = reordered.with_background(*permuted)
    *expected, background = prepare.with_background(*shower)
    pairs = zip([*found, *found_background], [*expected, *background], strict=True)
    for values, expected_values in pairs:
        np.testing.assert_array_equal(values, expected_values)
    # Measuring does not change the input.
    for values, expected_values in zip(found, reordered(*permuted), strict=True):
        np.testing.assert_array_equal(values, expected_values)
    # The other one still takes images in its own order.
    assert not np.array_equal(prepare(*permuted)[0], prepare(*shower)[0])


@pytest.mark.parametrize("n_more", [-1, 1])
def test_images_of_another_length_are_refused_in_any_order(n_more):
    images = np.zeros((2, 3, len(LARGE) + n_more), dtype=np.float32)
    with pytest.raises(UnfitImagesError, match="the camera needs"):
        prepare_large().reordered(ORDER)(*images)
