"""What a model card says of a training is true."""

import json
from dataclasses import replace

import numpy as np
import pytest
import toy_sample
from conftest import small_cameras
from ctapipe.instrument import SubarrayDescription
from ctapipe.io import read_table

from ctapipe_gammaphysnet.events.preparation import InputPreparation
from ctapipe_gammaphysnet.events.quality import TrainingQualityQuery
from ctapipe_gammaphysnet.events.showers import is_among, is_for_validation
from ctapipe_gammaphysnet.model.card import InputCard
from ctapipe_gammaphysnet.network import CameraLattice
from ctapipe_gammaphysnet.training import describe
from ctapipe_gammaphysnet.training.augmentation import Augmentation
from ctapipe_gammaphysnet.training.describe import describe_data, digest, measure_domain
from ctapipe_gammaphysnet.training.index import (
    EventIndex,
    TrainingDataError,
    read_index,
)
from ctapipe_gammaphysnet.training.stream import read_images

TYPE = "LST_LST_ToyCam"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Gammas and protons, at different altitudes and with different noise."""
    folder = tmp_path_factory.mktemp("describe")
    paths = []
    for particle, altitude, noise in (("gamma", 70.0, 1.0), ("proton", 60.0, 3.0)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(toy_sample, "NOISE_PE", noise)
            path = toy_sample.write_toy_file(
                folder / f"{particle}.dl1.h5",
                particle,
                40,
                array=small_cameras(),
                altitude=altitude,
            )
        paths.append(path)
    return paths


@pytest.fixture(scope="module")
def sides(files):
    """Images for training and for validation."""
    index = EventIndex.concatenate(
        [
            read_index(path, n, TYPE, n, TrainingQualityQuery())
            for n, path in enumerate(files)
        ]
    )
    kept = is_for_validation(index.shower, 0.3)
    return index.select(~kept), index.select(kept)


@pytest.fixture(scope="module")
def description(files, sides):
    return json.loads(json.dumps(describe_data(*sides)))


def test_how_images_were_made_is_kept(files, sides):
    subarray = SubarrayDescription.from_hdf(files[0])
    geometry = subarray.tel[1].camera.geometry
    lattice = CameraLattice.from_geometry(geometry)
    prepare = InputPreparation(InputCard(background_rings=0), lattice)
    augmentation = Augmentation(geometry)
    made = {"image_extractors": ["A", "B"], "image_cleaners": []}
    domain = measure_domain(files, sides[0], prepare, augmentation, **made)
    assert domain.image_extractors == ("A", "B")
    assert domain.image_cleaners == ()


def measure(files, index, input=None, needs_noise=False, **augmentation):
    subarray = SubarrayDescription.from_hdf(files[0])
    geometry = subarray.tel[1].camera.geometry
    lattice = CameraLattice.from_geometry(geometry)
    prepare = InputPreparation(input or InputCard(background_rings=0), lattice)
    augmentation = Augmentation(geometry, **augmentation)
    return measure_domain(files, index, prepare, augmentation, needs_noise)


@pytest.fixture(scope="module")
def domain(files, sides):
    return measure(files, sides[0])


def test_images_are_counted(description, sides):
    assert description["images"] == {
        f"{side} {name}": int((index.label == label).sum())
        for side, index in zip(("training", "validation"), sides, strict=True)
        for label, name in enumerate(("signal", "background"))
    }
    assert min(description["images"].values()) > 3


def test_ranges_are_those_of_the_training(domain, files, sides):
    low, high = domain.energy_tev
    energies = read_table(files[0], "/simulation/event/subarray/shower")["true_energy"]
    for limit in (low, high):
        assert np.isclose(energies, limit, rtol=1e-6).any()
    gammas = sides[0].select(sides[0].label == 0)
    assert np.log10([low, high]) == pytest.approx(
        [gammas.energy.min(), gammas.energy.max()], abs=1e-6
    )
    assert domain.pointings_deg == ((60, 180), (70, 180))


def test_the_noise_is_that_of_the_simulation(domain):
    """Outside the cleaned pixels, where faint ones of showers add a little."""
    low, median, high = domain.noise_pe
    # Of some 50 pixels, a standard deviation is known to 10 %.
    assert low == pytest.approx(1, rel=0.3)
    assert 1 < median < 3
    assert high == pytest.approx(3, rel=0.3)
    low, median, high = domain.pedestal_pe
    assert -1 < low < 0 < high < 1
    assert domain.missing_pixels == (0, 0, 0)


def test_a_condition_that_no_image_shows_is_refused(files, sides):
    """All pixels are within so many rings."""
    card = InputCard(background_rings=10)
    assert measure(files, sides[0], card) is None
    with pytest.raises(TrainingDataError, match="no image has noise.*condition noise"):
        measure(files, sides[0], card, needs_noise=True)


def test_the_domain_is_that_of_the_augmented_images(files, sides, domain):
    shifted = measure(files, sides[0], pedestal_pe=[2.0, 2.0])
    for new, old in zip(shifted.pedestal_pe, domain.pedestal_pe, strict=True):
        assert new - old == pytest.approx(2, abs=1e-4)
    broken = measure(files, sides[0], dead_pixel_fraction=0.2)
    assert broken.missing_pixels[1] == pytest.approx(0.1, abs=0.03)
    noisy = measure(files, sides[0], noise_pe=[5.0, 5.0])
    assert noisy.noise_pe[1] == pytest.approx(5, rel=0.15)


def test_intensities_are_those_of_the_images(files, sides, domain):
    index = sides[0]
    images = read_images(files, index, np.arange(len(index)))
    intensity = np.where(images.image_mask, images.image, 0).sum(axis=1)
    assert domain.intensity_pe == pytest.approx(
        np.quantile(intensity, [0.05, 0.5, 0.95]), rel=1e-3
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_broken_pixels_do_not_count(files, sides, domain, monkeypatch, value):
    def broken(*args):
        images = read_images(*args)
        brightest = images.image.argmax(axis=1)[:, np.newaxis]
        charge, time = images.image.copy(), images.peak_time.copy()
        np.put_along_axis(charge, brightest, np.float32(value), axis=1)
        time[:, 0] = value
        return images._replace(image=charge, peak_time=time)

    monkeypatch.setattr(describe, "read_images", broken)
    found = measure(files, sides[0])
    assert found.intensity_pe[1] < domain.intensity_pe[1]
    assert found.missing_pixels[1] > 0
    np.testing.assert_allclose(found.noise_pe, domain.noise_pe, rtol=0.2)


def test_very_many_pointings_are_listed_coarsely(files, sides):
    rng = np.random.default_rng(0)
    index = sides[0].select(np.repeat(np.arange(len(sides[0])), 400))
    pointing = rng.uniform([50, 0], [70, 360], (len(index), 2))
    index = replace(index, pointing=pointing.astype(np.float32))
    found = np.array(measure(files, index).pointings_deg)
    assert len(found) <= 21 * 37
    altitude = np.sort(pointing[:, 0])
    nearest = np.abs(altitude[:, np.newaxis] - np.unique(found[:, 0])).min(axis=1)
    assert nearest.max() <= 0.56


def test_images_without_noise_cannot_be_in_units_of_it(files, sides, monkeypatch):
    def zero_suppressed(*args):
        images = read_images(*args)
        return images._replace(image=np.where(images.image_mask, images.image, 0))

    monkeypatch.setattr(describe, "read_images", zero_suppressed)
    card = InputCard(charge_unit="noise", background_rings=0)
    with pytest.raises(TrainingDataError, match="not zero-suppressed"):
        measure(files, sides[0], card)


def test_the_showers_of_the_training_are_recognised(description, sides):
    training, validation = sides
    showers = description["seen in training"]
    assert showers["showers"] == len(np.unique(training.shower))
    assert is_among(training.shower, showers).all()
    assert not is_among(validation.shower, showers).any()


def test_no_validation_and_no_background_are_described(files, sides):
    training, _ = sides
    nothing = training.select(slice(0))
    gammas = training.select(training.label == 0)
    images = describe_data(gammas, nothing)["images"]
    assert list(images.values()) == [len(gammas), 0, 0, 0]


def test_of_many_images_the_noise_is_that_of_all_files(files, sides):
    """Though only some are looked at."""
    training, _ = sides
    many = training.select(np.repeat(np.arange(len(training)), 400))
    low, _, high = measure(files, many).noise_pe
    assert low == pytest.approx(1, rel=0.3)
    assert high == pytest.approx(3, rel=0.3)


def test_the_digest_tells_values_apart():
    assert digest({"a": 1, "b": [2, 3]}) == digest({"b": [2, 3], "a": 1})
    digests = {digest(v) for v in ([1, 2], [2, 1], [1.0, 2], [[1], [2]], "[1, 2]")}
    assert len(digests) == 5
    assert all(len(d) == 16 and int(d, 16) >= 0 for d in digests)
