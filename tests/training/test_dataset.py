"""Labelled images from DL1 files."""

import astropy.units as u
import numpy as np
import pytest
import tables
import toy_sample
from conftest import small_cameras
from ctapipe.core import QualityQuery
from ctapipe.io import EventSource

from ctapipe_gammaphysnet.dl1 import event_images
from ctapipe_gammaphysnet.targets import (
    direction_from_target,
    energy_from_target,
    impact_from_target,
)
from ctapipe_gammaphysnet.training.dataset import (
    Sample,
    TrainingDataError,
    check_file,
    read_sample,
)

TYPE = "LST_LST_ToyCam"


@pytest.fixture(scope="module")
def gamma_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("gamma") / "gamma.dl1.h5"
    return toy_sample.write_toy_file(path, "gamma", 12, array=small_cameras())


@pytest.fixture(scope="module")
def sample(gamma_file):
    return read_sample(gamma_file, TYPE, 0, QualityQuery())


def read_truth(path, tel_ids):
    """Image and truth of each telescope event, from ctapipe's event loop."""
    with EventSource(path) as source:
        for event in source:
            for tel_id in event.trigger.tels_with_trigger:
                if tel_id in tel_ids:
                    inputs, _ = event_images(event, [tel_id])
                    yield event, tel_id, inputs[0]


def test_images_and_truth_are_those_of_the_events(gamma_file, sample, toy_subarray):
    tel_ids = toy_subarray.get_tel_ids_for_type(TYPE)
    rows = list(read_truth(gamma_file, tel_ids))
    assert len(rows) == len(sample) > 10
    for event, tel_id, image in rows:
        (row,) = np.flatnonzero((sample.inputs == image).all(axis=(1, 2)))
        shower = event.simulation.shower
        pointing = event.monitoring.tel[tel_id].pointing
        alt_az = [u.Quantity([pointing.altitude]), u.Quantity([pointing.azimuth])]
        assert u.isclose(energy_from_target(sample.energy[row]), shower.energy)
        alt, az = direction_from_target(sample.direction[[row]], *alt_az)
        assert u.isclose(alt[0], shower.alt, atol=1e-5 * u.deg)
        assert u.isclose(az[0], shower.az, atol=1e-5 * u.deg)
        position = toy_subarray.positions[tel_id][np.newaxis]
        core, _ = impact_from_target(sample.impact[[row]], position, *alt_az)
        assert u.isclose(core[0, 0], shower.core_x, atol=1 * u.cm)
        assert u.isclose(core[0, 1], shower.core_y, atol=1 * u.cm)
    assert (sample.label == 0).all()
    assert np.median(sample.noise) == pytest.approx(toy_sample.NOISE_PE, rel=0.2)


def test_telescopes_of_one_shower_share_its_number(gamma_file, sample, toy_subarray):
    tel_ids = toy_subarray.get_tel_ids_for_type(TYPE)
    event_of = {}
    for event, _, image in read_truth(gamma_file, tel_ids):
        (row,) = np.flatnonzero((sample.inputs == image).all(axis=(1, 2)))
        event_of.setdefault(event.index.event_id, set()).add(sample.shower[row])
    assert all(len(showers) == 1 for showers in event_of.values())
    assert len(set.union(*event_of.values())) == len(event_of)


def test_a_split_never_divides_a_shower(sample):
    both = Sample.concatenate([sample, sample])
    assert both.shower.max() == 2 * sample.shower.max() + 1
    for seed in range(5):
        first, second = both.split(0.3, seed)
        assert not set(first.shower) & set(second.shower)
        assert len(first) + len(second) == len(both)
        assert 0 < len(second) < len(first)
    assert len(both.split(0.0, 0)[1]) == 0


def test_the_query_selects_and_counts(gamma_file):
    criteria = [("bright", "hillas_intensity > 500")]
    query = QualityQuery(quality_criteria=criteria)
    bright = read_sample(gamma_file, TYPE, 0, query)
    table = query.to_table()
    assert list(table["counts"]) == [len(read_all(gamma_file)), len(bright)]
    assert 0 < len(bright) < len(read_all(gamma_file))


def read_all(path):
    return read_sample(path, TYPE, 0, QualityQuery())


def test_a_query_that_nothing_passes_gives_an_empty_sample(gamma_file):
    query = QualityQuery(quality_criteria=[("none", "hillas_intensity > 1e12")])
    assert len(read_sample(gamma_file, TYPE, 0, query)) == 0


def test_images_without_finite_noise_have_none(gamma_file, tmp_path):
    path = tmp_path / "reduced.dl1.h5"
    path.write_bytes(gamma_file.read_bytes())
    with tables.open_file(path, "a") as file:
        for table in file.root.dl1.event.telescope.images._f_iter_nodes("Table"):
            images, masks = table.col("image"), table.col("image_mask")
            images[~masks] = np.nan
            table.modify_column(colname="image", column=images)
    query = QualityQuery(quality_criteria=[("signal", "morphology_n_pixels > 0")])
    sample = read_sample(path, TYPE, 0, query)
    assert len(sample) > 5
    assert np.isnan(sample.noise).all()
    assert np.isfinite(sample.inputs).all()


def test_files_that_cannot_be_used_say_why(gamma_file, tmp_path):
    text = tmp_path / "text.h5"
    text.write_text("no HDF5")
    with pytest.raises(TrainingDataError, match="text.h5 is not a ctapipe DL1 file"):
        check_file(text)
    for group, reason in (
        ("/dl1/event/telescope/images", "--write-images"),
        ("/dl1/event/telescope/parameters", "--write-parameters"),
        ("/simulation/event/subarray/shower", "not observations"),
    ):
        path = tmp_path / "part.h5"
        path.write_bytes(gamma_file.read_bytes())
        with tables.open_file(path, "a") as file:
            file.remove_node(group, recursive=True)
        with pytest.raises(TrainingDataError, match=reason):
            check_file(path)


def test_the_particles_must_be_what_the_user_says(gamma_file, tmp_path):
    with pytest.raises(TrainingDataError, match="given as background, but has gammas"):
        read_sample(gamma_file, TYPE, 1, QualityQuery())
    protons = toy_sample.write_toy_file(
        tmp_path / "proton.dl1.h5", "proton", 2, array=small_cameras()
    )
    with pytest.raises(TrainingDataError, match=r"ids \[101\]"):
        read_sample(protons, TYPE, 0, QualityQuery())
