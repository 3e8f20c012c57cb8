"""What a model card says of a training is true."""

import json

import numpy as np
import pytest
import toy_sample
from conftest import small_cameras
from ctapipe.io import read_table

from ctapipe_gammaphysnet.events.quality import TrainingQualityQuery
from ctapipe_gammaphysnet.events.showers import is_among, is_for_validation
from ctapipe_gammaphysnet.training.describe import describe_data, digest
from ctapipe_gammaphysnet.training.index import EventIndex, read_index

TYPE = "LST_LST_ToyCam"
NOISE = "noise / p.e. (5 %, median, 95 % of images)"


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
    return json.loads(json.dumps(describe_data(files, *sides)))


def test_images_are_counted(description, sides):
    assert description["images"] == {
        f"{side} {name}": int((index.label == label).sum())
        for side, index in zip(("training", "validation"), sides, strict=True)
        for label, name in enumerate(("signal", "background"))
    }
    assert min(description["images"].values()) > 3


def test_ranges_are_those_of_the_training(description, files, sides):
    low, high = description["energy range of gammas / TeV"]
    energies = read_table(files[0], "/simulation/event/subarray/shower")["true_energy"]
    for limit in (low, high):
        assert np.isclose(energies, limit, rtol=1e-6).any()
    gammas = sides[0].select(sides[0].label == 0)
    assert np.log10([low, high]) == pytest.approx(
        [gammas.energy.min(), gammas.energy.max()], abs=1e-6
    )
    altitudes = description["pointing altitude range / deg"]
    assert altitudes == pytest.approx([60, 70], abs=1e-4)
    azimuths = description["pointing azimuth range / deg"]
    assert azimuths == pytest.approx([180, 180], abs=1e-4)


def test_the_noise_is_that_of_the_simulation(description):
    """Outside the cleaned pixels, where faint ones of showers add a little."""
    low, median, high = description[NOISE]
    # Of some 50 pixels, a standard deviation is known to 10 %.
    assert low == pytest.approx(1, rel=0.25)
    assert 1 < median < 3
    assert high == pytest.approx(3, rel=0.25)


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
    images = describe_data(files, gammas, nothing)["images"]
    assert list(images.values()) == [len(gammas), 0, 0, 0]


def test_of_many_images_the_noise_is_that_of_all_files(files, sides):
    """Though only some are looked at."""
    training, validation = sides
    many = training.select(np.repeat(np.arange(len(training)), 400))
    low, _, high = describe_data(files, many, validation)[NOISE]
    assert low == pytest.approx(1, rel=0.25)
    assert high == pytest.approx(3, rel=0.25)


def test_the_digest_tells_values_apart():
    assert digest({"a": 1, "b": [2, 3]}) == digest({"b": [2, 3], "a": 1})
    digests = {digest(v) for v in ([1, 2], [2, 1], [1.0, 2], [[1], [2]], "[1, 2]")}
    assert len(digests) == 5
    assert all(len(d) == 16 and int(d, 16) >= 0 for d in digests)
