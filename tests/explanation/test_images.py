"""Images of a file, batch after batch, with what is known of their events."""

import shutil

import numpy as np
import pytest
import tables
from astropy import units as u
from ctapipe.core import ToolConfigurationError
from ctapipe.instrument import SubarrayDescription
from ctapipe.io import TableLoader, read_table, write_table

from ctapipe_gammaphysnet.events.preparation import MissingImagesError
from ctapipe_gammaphysnet.events.quality import ImageQualityQuery
from ctapipe_gammaphysnet.explanation.images import read_batches
from ctapipe_gammaphysnet.files.input_file import DL1FileError

NO_SELECTION = ImageQualityQuery(quality_criteria=[])


def types_of(path):
    subarray = SubarrayDescription.from_hdf(path)
    return {str(telescope): telescope for telescope in subarray.telescope_types}


def without(path, output, node):
    shutil.copy(path, output)
    with tables.open_file(output, "a") as file:
        file.remove_node(node, recursive=True)
    return output


@pytest.mark.parametrize("size", [3, 1000])
def test_batches_have_all_images_with_their_truth(toy_file, size):
    types = types_of(toy_file)
    batches = list(read_batches(toy_file, types, NO_SELECTION, size))
    assert max(map(len, batches)) <= size
    with TableLoader(toy_file) as loader:
        expected = loader.read_telescope_events_by_id(
            dl1_images=True, true_images=True, simulated=True, true_parameters=False
        )
    assert sum(map(len, batches)) == sum(map(len, expected.values()))
    for batch in batches:
        assert batch.pixels.shape == (batch.image.shape[1], 2)
        for row, event in enumerate(batch.events):
            table = expected[event["tel_id"]]
            (found,) = table[
                (table["obs_id"] == event["obs_id"])
                & (table["event_id"] == event["event_id"])
            ]
            np.testing.assert_array_equal(batch.image[row], found["image"])
            np.testing.assert_array_equal(batch.peak_time[row], found["peak_time"])
            np.testing.assert_array_equal(batch.image_mask[row], found["image_mask"])
            np.testing.assert_array_equal(batch.true_image[row], found["true_image"])
            assert event["true_energy"].to_value(u.TeV) == found["true_energy"]
            assert event["label"] == (found["true_shower_primary_id"] != 0)
            assert event["cog_x"] == pytest.approx(found["hillas_fov_lon"], nan_ok=True)


def test_the_centroid_is_where_the_light_is(toy_file):
    """Positions of pixels and parameters are in the same frame and unit."""
    query = ImageQualityQuery(quality_criteria=[("bright", "hillas_intensity > 200")])
    for batch in read_batches(toy_file, types_of(toy_file), query, 100):
        charge = np.where(batch.image_mask, batch.image, 0)
        centroid = charge @ batch.pixels / charge.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(centroid[:, 0], batch.events["cog_x"], atol=1e-4)
        np.testing.assert_allclose(centroid[:, 1], batch.events["cog_y"], atol=1e-4)


def test_only_what_is_wanted_is_read(toy_file):
    (one, _) = types_of(toy_file)

    def wanted(events):
        return np.asarray(events["event_id"]) == 3

    batches = list(read_batches(toy_file, [one], NO_SELECTION, 10, wanted))
    assert {b.type for b in batches} == {one}
    assert {int(e["event_id"]) for b in batches for e in b.events} == {3}
    nothing = ImageQualityQuery(quality_criteria=[("none", "hillas_intensity < 0")])
    assert list(read_batches(toy_file, [one], nothing, 10)) == []


def test_observations_have_no_truth(toy_file, tmp_path):
    path = without(toy_file, tmp_path / "observed.h5", "/simulation")
    for batch in read_batches(path, types_of(path), NO_SELECTION, 10):
        assert batch.true_image is None
        assert (batch.events["label"] == -1).all()
        assert np.isnan(batch.events["true_energy"]).all()


def test_true_images_may_be_missing(toy_file, tmp_path):
    node = "/simulation/event/telescope/images"
    path = without(toy_file, tmp_path / "small.h5", node)
    for batch in read_batches(path, types_of(path), NO_SELECTION, 10):
        assert batch.true_image is None
        assert np.isfinite(batch.events["true_energy"]).all()


def test_images_must_be_there(toy_file, tmp_path):
    path = without(toy_file, tmp_path / "none.h5", "/dl1/event/telescope/images")
    with pytest.raises(MissingImagesError, match="has no DL1 images"):
        list(read_batches(path, types_of(path), NO_SELECTION, 10))


def test_the_truth_must_be_known(toy_file, tmp_path):
    path = shutil.copy(toy_file, tmp_path / "spoilt.h5")
    with tables.open_file(path, "r+") as file:
        table = file.root.simulation.event.subarray.shower
        rows = table.read()
        rows["true_energy"][rows["event_id"] == 3] = 0
        table.modify_rows(start=0, rows=rows)
    with pytest.raises(ToolConfigurationError, match="spoilt.h5: event 3 of obs.* 0.0"):
        list(read_batches(path, types_of(path), NO_SELECTION, 10))


@pytest.mark.parametrize("name", ["hillas_length", "leakage_intensity_width_2"])
def test_parameters_must_be_there(toy_file, tmp_path, name):
    path = shutil.copy(toy_file, tmp_path / "few.h5")
    node = "/dl1/event/telescope/parameters/tel_001"
    table = read_table(path, node)
    table.remove_column(name)
    write_table(table, path, node, overwrite=True)
    with pytest.raises(DL1FileError, match=f"telescope 1 have no {name}"):
        list(read_batches(path, types_of(path), NO_SELECTION, 10))
