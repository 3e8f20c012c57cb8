"""A camera triggers on light in three modules, or pixels, that touch."""

from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from ctapipe.instrument import CameraGeometry

from ctapipe_gammaphysnet.simulation import trigger
from ctapipe_gammaphysnet.simulation.camera import make_camera, waveforms
from ctapipe_gammaphysnet.simulation.trigger import (
    majority_regions,
    may_trigger,
    sum_regions,
    trigger_time,
    under_night_sky,
)

ROOT = Path(__file__).parents[2]
LSTCAM = ROOT / "ctapipe_gammaphysnet/simulation/data/LSTCam.camgeom.fits.gz"
NECTARCAM = ROOT / "ctapipe_gammaphysnet/simulation/data/NectarCam.camgeom.fits.gz"
FLASHCAM = ROOT / "tests/data/FlashCam.camgeom.fits.gz"
PULSE = np.array([[0.1, 0.2, 0.4, 0.2, 0.1]])  # of one phase
N_SAMPLES = 30


def read(path):
    return CameraGeometry.from_table(path)


@pytest.fixture(scope="module")
def lstcam():
    return read(LSTCAM)


@pytest.fixture(scope="module")
def regions(lstcam):
    return sum_regions(lstcam, PULSE)


def tiling(geometry):
    """What a trigger has, whatever the modules' numbers are."""
    regions = sum_regions(geometry, PULSE)
    modules = frozenset(
        frozenset(np.flatnonzero(regions.module == module).tolist())
        for module in range(regions.module.max() + 1)
    )
    return modules, len(regions.triples)


def dark(geometry, n_samples=N_SAMPLES):
    return np.zeros((geometry.n_pixels, n_samples), np.float32)


def shine(geometry, regions, region, sample, total, share_of_pixels=1.0):
    """Light of a total amplitude in one region, spread over its pixels."""
    recorded = dark(geometry)
    pixels = np.flatnonzero(np.isin(regions.module, regions.triples[region]))
    lit = pixels[: int(round(share_of_pixels * len(pixels)))]
    recorded[lit, sample] = total / len(lit)
    return recorded


@pytest.mark.parametrize("path", [LSTCAM, NECTARCAM], ids=["LSTCam", "NectarCam"])
def test_flowers_tile_the_camera(path):
    geometry = read(path)
    regions = sum_regions(geometry, PULSE)
    assert regions.module.shape == (1855,)
    np.testing.assert_array_equal(np.bincount(regions.module), np.full(265, 7))
    # each has a pixel that touches the other six
    for module in range(265):
        pixels = np.flatnonzero(regions.module == module)
        within = geometry.neighbor_matrix[np.ix_(pixels, pixels)]
        assert sorted(within.sum(axis=1)) == [3] * 6 + [6]


@pytest.mark.parametrize("path", [LSTCAM, NECTARCAM], ids=["LSTCam", "NectarCam"])
def test_regions_are_all_triples_that_touch(path):
    """Of a plane graph of triangles without holes: Euler's formula gives their number,
    edges - vertices + 1."""
    geometry = read(path)
    regions = sum_regions(geometry, PULSE)
    pairs = {
        tuple(sorted(regions.module[[i, j]].tolist()))
        for i, j in zip(*geometry.neighbor_matrix.nonzero(), strict=True)
        if regions.module[i] != regions.module[j]
    }
    triples = {tuple(sorted(triple)) for triple in regions.triples.tolist()}
    assert len(triples) == len(regions.triples) == len(pairs) - 265 + 1
    for i, j, k in triples:
        assert len({i, j, k}) == 3
        assert {(i, j), (i, k), (j, k)} <= pairs
    assert {module for triple in triples for module in triple} == set(range(265))


@pytest.mark.parametrize("degrees", [0.0, 17.0, 60.0, 100.9])
def test_a_turned_camera_has_the_same_modules(lstcam, degrees):
    turned = read(LSTCAM)
    turned.rotate(degrees * u.deg)
    assert tiling(turned) == tiling(lstcam)


def test_a_shifted_camera_has_the_same_modules(lstcam):
    shifted = read(LSTCAM)
    shifted.pix_x = shifted.pix_x + 0.01 * u.m
    shifted.pix_y = shifted.pix_y - 0.01 * u.m
    assert tiling(shifted) == tiling(lstcam)


def test_a_mirrored_camera_has_the_mirrored_modules(lstcam):
    """Flowers have two handednesses."""
    mirrored = CameraGeometry(
        name="mirrored",
        pix_id=lstcam.pix_id,
        pix_x=lstcam.pix_x,
        pix_y=-lstcam.pix_y,
        pix_area=lstcam.pix_area,
        pix_type=lstcam.pix_type,
        neighbors=lstcam.neighbors,
    )
    assert tiling(mirrored) == tiling(lstcam)


def test_a_camera_may_lack_modules(lstcam, regions):
    incomplete = lstcam[~np.isin(regions.module, regions.module[-1])]
    modules, n_regions = tiling(incomplete)
    assert len(modules) == 264
    assert n_regions < len(regions.triples)


@pytest.mark.parametrize(
    "chosen", [slice(-1), slice(7, None)], ids=["a pixel", "the middle module"]
)
def test_a_camera_that_modules_do_not_tile_is_told(lstcam, chosen):
    """A pixel of the outermost module is missing, or the one in the middle is."""
    with pytest.raises(ValueError, match="cannot be tiled with modules of 7 pixels"):
        sum_regions(lstcam[chosen], PULSE)


def test_a_camera_with_other_modules_is_told():
    with pytest.raises(ValueError, match="FlashCam cannot be tiled"):
        sum_regions(read(FLASHCAM), PULSE)


@pytest.mark.parametrize("region", [0, 100, -1])
@pytest.mark.parametrize(("share", "triggers"), [(0.99, False), (1.01, True)])
def test_light_in_a_region_triggers_above_the_threshold(
    lstcam, regions, region, share, triggers
):
    """26 photoelectrons at once, whose pulses are 0.4 high."""
    recorded = shine(lstcam, regions, region, 12, share * 26 * 0.4)
    assert trigger_time(recorded, regions) == (12 if triggers else -1)


def test_the_threshold_goes_with_the_height_of_pulses(lstcam):
    wide, narrow = (
        sum_regions(lstcam, pulse) for pulse in (PULSE, np.array([[0, 1.0, 0]]))
    )
    assert narrow.threshold / wide.threshold == pytest.approx(2.5)
    assert narrow.clip / wide.clip == pytest.approx(2.5)


def test_photoelectrons_at_once_trigger_by_their_number(lstcam):
    """With the pulses of the camera, whatever their phase."""
    camera = make_camera(lstcam, N_SAMPLES, 0.0)
    regions = sum_regions(lstcam, camera.pulse)
    pixels = np.flatnonzero(np.isin(regions.module, regions.triples[50]))
    for pulse in camera.pulse:
        for photoelectrons, triggers in ((24.0, False), (28.0, True)):
            recorded = dark(lstcam)
            recorded[pixels, 5 : 5 + len(pulse)] = pulse * photoelectrons / len(pixels)
            assert (trigger_time(recorded, regions) >= 0) == triggers


def test_one_bright_pixel_does_not_trigger(lstcam, regions):
    recorded = dark(lstcam)
    recorded[::97] = 1000.0
    few = dark(lstcam)
    few[[100, 101, 102, 103]] = 1000.0  # 4 x 6 < 26
    assert trigger_time(few, regions) == -1
    assert np.bincount(regions.module[::97]).max() <= 1
    assert trigger_time(recorded, regions) == -1


@pytest.mark.parametrize(("n_bright", "triggers"), [(4, False), (5, True)])
def test_pixels_count_six_photoelectrons_at_most(lstcam, regions, n_bright, triggers):
    recorded = shine(lstcam, regions, 7, 3, 1e4, n_bright / 21)
    assert np.count_nonzero(recorded) == n_bright
    assert (trigger_time(recorded, regions) >= 0) == triggers


def test_light_is_not_added_up_over_regions_that_do_not_touch(lstcam, regions):
    """Nor over four modules."""
    below = 0.9 * regions.threshold
    recorded = shine(lstcam, regions, 0, 12, below)
    apart = next(
        region
        for region, triple in enumerate(regions.triples)
        if not set(triple) & set(regions.triples[0])
        and not (
            lstcam.neighbor_matrix[
                np.ix_(
                    np.isin(regions.module, triple),
                    np.isin(regions.module, regions.triples[0]),
                )
            ]
        ).any()
    )
    recorded += shine(lstcam, regions, apart, 12, below)
    assert trigger_time(recorded, regions) == -1


def test_light_is_not_added_up_over_time(lstcam, regions):
    recorded = sum(
        shine(lstcam, regions, 3, sample, 0.9 * regions.threshold)
        for sample in (10, 11, 12)
    )
    assert trigger_time(recorded, regions) == -1


@pytest.mark.parametrize("order", [1, -1])
def test_the_first_sample_above_the_threshold_is_reported(lstcam, regions, order):
    """Whichever region it is in."""
    above = 1.1 * regions.threshold
    places = [0, len(regions.triples) - 1][::order]
    recorded = dark(lstcam)
    for region, samples in zip(places, [(9, 25), (4, 5, 20)], strict=True):
        for sample in samples:
            recorded += shine(lstcam, regions, region, sample, above)
    assert trigger_time(recorded, regions) == 4


@pytest.mark.parametrize("sample", [0, N_SAMPLES - 1])
def test_the_first_and_the_last_sample_can_trigger(lstcam, regions, sample):
    recorded = shine(lstcam, regions, 2, sample, 1.1 * regions.threshold)
    assert trigger_time(recorded, regions) == sample


def test_a_dark_camera_does_not_trigger(lstcam, regions):
    assert trigger_time(dark(lstcam), regions) == -1


def test_what_is_below_the_baseline_is_not_clipped(lstcam, regions):
    """Noise averages out."""
    recorded = shine(lstcam, regions, 4, 6, 1.2 * regions.threshold)
    pixels = np.flatnonzero(np.isin(regions.module, regions.triples[4]))
    recorded[pixels[:7], 6] -= 0.3 * regions.threshold / 7
    assert trigger_time(recorded, regions) == -1


def test_the_threshold_is_that_of_a_large_sized_telescope():
    assert (trigger.THRESHOLD, trigger.CLIP, trigger.MODULE_PIXELS) == (26, 6, 7)


@pytest.fixture(scope="module")
def nectarcam():
    return read(NECTARCAM)


@pytest.fixture(scope="module")
def majority(nectarcam):
    return majority_regions(nectarcam, PULSE)


def test_a_majority_is_of_three_pixels_that_touch(nectarcam, majority):
    """Euler's formula, as for modules."""
    touch = nectarcam.neighbor_matrix
    assert len(majority.triples) == touch.sum() / 2 - nectarcam.n_pixels + 1
    for i, j, k in majority.triples:
        assert touch[i, j]
        assert touch[i, k]
        assert touch[j, k]


@pytest.mark.parametrize(
    ("share", "samples", "triggers"),
    [(1.01, 2, True), (0.99, 2, False), (1.01, 1, False), (100.0, 1, False)],
)
def test_a_majority_is_above_its_threshold_for_two_samples(
    nectarcam, majority, share, samples, triggers
):
    """4.2 photoelectrons at once, whose pulses are 0.4 high, in each pixel."""
    recorded = dark(nectarcam)
    for sample in range(12, 12 + samples):
        recorded[majority.triples[700], sample] = share * 4.2 * 0.4
    assert trigger_time(recorded, majority) == (13 if triggers else -1)


def test_all_three_pixels_must_be_above_the_threshold(nectarcam, majority):
    recorded = dark(nectarcam)
    recorded[majority.triples[700][:2]] = 1e3
    assert trigger_time(recorded, majority) == -1
    recorded[majority.triples[700][2]] = 0.99 * 4.2 * 0.4
    assert trigger_time(recorded, majority) == -1
    recorded[majority.triples[700][2]] = 1.01 * 4.2 * 0.4
    assert trigger_time(recorded, majority) == 1


def test_a_majority_must_be_in_the_same_pixels_for_both_samples(nectarcam, majority):
    recorded = dark(nectarcam)
    recorded[majority.triples[0], 5] = 1e3
    recorded[majority.triples[-1], 6] = 1e3
    assert trigger_time(recorded, majority) == -1


def test_two_samples_with_a_pause_between_them_do_not_trigger(nectarcam, majority):
    recorded = dark(nectarcam)
    recorded[majority.triples[700], 5] = 1e3
    recorded[majority.triples[700], 7] = 1e3
    assert trigger_time(recorded, majority) == -1
    recorded[majority.triples[700], 8] = 1e3
    assert trigger_time(recorded, majority) == 8


@pytest.mark.parametrize(("photoelectrons", "triggers"), [(4.0, False), (7.0, True)])
def test_a_majority_of_pulses(nectarcam, photoelectrons, triggers):
    """Those of the camera, which are above their threshold for 2 ns if they are 6.6
    photoelectrons, whatever their phase."""
    camera = make_camera(nectarcam, N_SAMPLES, 0.0)
    regions = majority_regions(nectarcam, camera.pulse)
    for pulse in camera.pulse:
        recorded = dark(nectarcam)
        recorded[regions.triples[50], 5 : 5 + len(pulse)] = pulse * photoelectrons
        assert (trigger_time(recorded, regions) >= 0) == triggers


def test_what_is_too_faint_for_a_majority_is_not_simulated(majority):
    pixels = majority.triples[9]
    assert not may_trigger(np.repeat(pixels, [2, 2, 0]), majority)
    assert may_trigger(np.repeat(pixels, [2, 2, 1]), majority)
    # three triples that have no pixel in common, with 4 photoelectrons each
    apart = np.repeat(majority.triples[[9, 900, 1900], 0], 4)
    assert not may_trigger(apart, majority)


def test_a_bright_night_sky_helps_faint_light_over_the_threshold(majority):
    """Under a dark sky nothing changes; no light of a shower is not its image."""
    for dark_sky in (0.0, 0.24, 0.4):
        assert under_night_sky(majority, dark_sky).fewest == pytest.approx(4.2)
    brighter = under_night_sky(majority, 0.6).fewest
    assert brighter == pytest.approx(4.2 * (3 - 2 * np.sqrt(1.5)))
    assert under_night_sky(majority, 10.0).fewest == 1


def test_faint_light_under_a_bright_night_sky_is_simulated(lstcam):
    """A fifth of the threshold, which then triggers more often than not."""
    camera = make_camera(lstcam, N_SAMPLES, 2.4)
    regions = sum_regions(lstcam, camera.pulse)
    pixel = np.flatnonzero(regions.module == regions.triples[40, 0])[:5]
    time_ns = np.full(len(pixel), 12.0)
    rng = np.random.default_rng(1)
    recorded = [waveforms(rng, pixel, time_ns, camera) for _ in range(20)]
    assert np.mean([trigger_time(each, regions) >= 0 for each in recorded]) > 0.5
    assert not may_trigger(pixel, regions)
    assert may_trigger(pixel, under_night_sky(regions, 2.4))
