"""The index of images: what they show is the truth of the file's events."""

import shutil

import astropy.units as u
import numpy as np
import pytest
import tables
import toy_sample
from astropy.coordinates import angular_separation
from astropy.table import Table
from conftest import small_cameras
from ctapipe.core import ToolConfigurationError
from ctapipe.io import EventSource, read_table
from with_units import direction_from_target, energy_from_target, impact_from_target

from ctapipe_gammaphysnet.events.quality import ImageQualityQuery, TrainingQualityQuery
from ctapipe_gammaphysnet.files.input_file import DL1FileError
from ctapipe_gammaphysnet.training import index as index_module
from ctapipe_gammaphysnet.training.index import (
    EventIndex,
    TrainingDataError,
    check_file,
    read_index,
)
from ctapipe_gammaphysnet.training.stream import read_images

TYPE = "LST_LST_ToyCam"


@pytest.fixture(scope="module")
def gamma_file(tmp_path_factory):
    """Gammas from the north, where azimuths jump."""
    path = tmp_path_factory.mktemp("gamma") / "gamma.dl1.h5"
    return toy_sample.write_toy_file(
        path, "gamma", 30, array=small_cameras(), azimuth=0.0
    )


@pytest.fixture
def copy(gamma_file, tmp_path):
    """A copy of the file, to be spoilt."""
    return shutil.copy(gamma_file, tmp_path / "copy.dl1.h5")


def read_all(path, label=0, telescope=TYPE):
    query = ImageQualityQuery(quality_criteria=[])
    return read_index(path, 0, telescope, label, query)


def read_truth(path, tel_ids):
    """Each telescope event with the row of its image, from ctapipe's event loop."""
    rows = dict.fromkeys(tel_ids, 0)
    with EventSource(path) as source:
        for event in source:
            for tel_id in event.trigger.tels_with_trigger:
                if tel_id in rows:
                    yield event, tel_id, rows[tel_id]
                    rows[tel_id] += 1


def assert_equal(index, expected):
    columns, theirs = (vars(i) | i.targets for i in (index, expected))
    assert columns.keys() == theirs.keys()
    for name in columns.keys() - {"targets"}:
        np.testing.assert_array_equal(columns[name], theirs[name])
        assert columns[name].dtype == theirs[name].dtype


def test_images_and_truth_are_those_of_the_events(gamma_file, toy_subarray):
    index = read_all(gamma_file)
    images = read_images([gamma_file], index, np.arange(len(index)))
    events = list(read_truth(gamma_file, toy_subarray.get_tel_ids_for_type(TYPE)))
    assert len(events) == len(index) > 30
    azimuths = []
    for event, tel_id, row in events:
        (n,) = np.flatnonzero((index.tel_id == tel_id) & (index.row == row))
        np.testing.assert_array_equal(images.image[n], event.dl1.tel[tel_id].image)
        shower = event.simulation.shower
        pointing = event.monitoring.tel[tel_id].pointing
        alt_az = [u.Quantity([pointing.altitude]), u.Quantity([pointing.azimuth])]
        assert u.isclose(energy_from_target(index.targets["energy"][n]), shower.energy)
        # In float32, azimuths of up to 360 degrees would not be precise enough.
        direction = index.targets["direction"][[n]].astype(float)
        alt, az = direction_from_target(direction, *alt_az)
        assert angular_separation(az[0], alt[0], shower.az, shower.alt) < 1e-6 * u.deg
        position = toy_subarray.positions[tel_id][np.newaxis]
        core, _ = impact_from_target(index.targets["impact"][[n]], position, *alt_az)
        assert u.isclose(core[0, 0], shower.core_x, atol=1 * u.cm)
        assert u.isclose(core[0, 1], shower.core_y, atol=1 * u.cm)
        np.testing.assert_allclose(
            index.pointing[n], u.Quantity(alt_az).to_value(u.deg)[:, 0]
        )
        azimuths.append(shower.az.to_value(u.deg) % 360)
    assert min(azimuths) < 10 < 350 < max(azimuths)
    assert (index.label == 0).all()
    assert (index.file == 0).all()


def test_the_order_is_that_of_the_file(gamma_file, monkeypatch):
    """However many events are read at once."""
    index = read_all(gamma_file)
    monkeypatch.setattr(index_module, "_CHUNK", 4)
    assert_equal(read_all(gamma_file), index)
    assert (np.lexsort((index.row, index.tel_id)) == np.arange(len(index))).all()


def test_telescope_types_are_apart(gamma_file):
    other = read_all(gamma_file, telescope="LST_LST_OtherCam")
    assert set(read_all(gamma_file).tel_id) == {1, 2}
    assert set(other.tel_id) == {3, 4}


def test_the_default_cuts_do_what_they_say(gamma_file):
    """A loose cut on charge, on number of pixels, on the leakage."""
    query = TrainingQualityQuery()
    index = read_index(gamma_file, 0, TYPE, 0, query)
    passed, n_images = set(), 0
    for tel_id in (1, 2):
        table = read_table(
            gamma_file, f"/dl1/event/telescope/parameters/tel_{tel_id:03d}"
        )
        n_images += len(table)
        passed |= {
            (tel_id, n)
            for n, row in enumerate(table)
            if row["hillas_intensity"] > 50
            and row["morphology_n_pixels"] > 2
            and row["leakage_intensity_width_2"] < 0.2
        }
    assert set(zip(index.tel_id, index.row, strict=True)) == passed
    # Each with its own truth.
    everything = read_all(gamma_file)
    images = zip(everything.tel_id, everything.row, strict=True)
    assert_equal(index, everything.select([image in passed for image in images]))
    counts = query.to_table()["cumulative_counts"].tolist()
    assert counts[0] == n_images
    assert counts[-1] == len(passed)
    assert 5 < len(passed) < n_images


@pytest.mark.parametrize(
    ("column", "low", "high", "passing"),
    [
        ("hillas_intensity", 50.0, 50.1, "high"),
        ("morphology_n_pixels", 2, 3, "high"),
        ("leakage_intensity_width_2", 0.19, 0.2, "low"),
    ],
)
def test_each_cut_has_its_limit(column, low, high, passing):
    values = [low, high]
    if column != "morphology_n_pixels":
        values.append(np.nan)
    good = {
        "hillas_intensity": 1000.0,
        "morphology_n_pixels": 20,
        "leakage_intensity_width_2": 0.0,
    }
    table = Table(
        {name: np.full(len(values), value) for name, value in good.items()}
        | {column: values}
    )
    expected = [passing == "low", passing == "high", False][: len(values)]
    assert TrainingQualityQuery().mask(table).tolist() == expected


def test_the_query_selects_and_counts(gamma_file):
    criteria = [("bright", "hillas_intensity > 500")]
    query = ImageQualityQuery(quality_criteria=criteria)
    n_images = len(read_all(gamma_file))
    n_bright = 0
    for _ in range(2):
        # Of several files, one query counts all.
        n_bright += len(read_index(gamma_file, 0, TYPE, 0, query))
    assert query.to_table()["counts"].tolist() == [2 * n_images, n_bright]
    assert 0 < n_bright < 2 * n_images


def test_a_query_that_nothing_passes_gives_an_empty_index(gamma_file):
    query = ImageQualityQuery(quality_criteria=[("none", "hillas_intensity > 1e12")])
    index = read_index(gamma_file, 0, TYPE, 0, query)
    assert len(index) == 0
    everything = read_all(gamma_file)
    assert_equal(EventIndex.concatenate([index, everything]), everything)


def test_a_selection_keeps_columns_together(gamma_file):
    index = read_all(gamma_file)
    bright = index.energy[:, 0] > 0
    rows = np.flatnonzero(bright)
    for selected in (index.select(bright), index.select(rows)):
        assert 0 < len(selected) == bright.sum() < len(index)
        assert_equal(
            selected, EventIndex.concatenate([index.select([n]) for n in rows])
        )
        for name in ("energy", "row"):
            np.testing.assert_array_equal(
                getattr(selected, name), [getattr(index, name)[n] for n in rows]
            )
        np.testing.assert_array_equal(
            selected.targets["impact"], [index.targets["impact"][n] for n in rows]
        )


def test_a_file_that_can_be_used_is_accepted(gamma_file):
    check_file(gamma_file)


def test_files_of_something_else_say_so(tmp_path):
    text = tmp_path / "text.h5"
    text.write_text("no HDF5")
    with pytest.raises(DL1FileError, match=r"text.h5 is not a ctapipe DL1 file"):
        check_file(text)


@pytest.mark.parametrize(
    ("group", "reason"),
    [
        ("/dl1/event/telescope/images", "--write-images"),
        ("/dl1/event/telescope/parameters", "--write-parameters"),
        ("/simulation/event/subarray/shower", "not observations"),
    ],
)
def test_files_that_lack_something_say_what(copy, group, reason):
    with tables.open_file(copy, "a") as file:
        file.remove_node(group, recursive=True)
    with pytest.raises(ToolConfigurationError, match=f"copy.dl1.h5 has no .*{reason}"):
        check_file(copy)


def test_images_without_mask_are_an_error(copy):
    """Some observatories' data reductions leave them out."""
    with tables.open_file(copy, "a") as file:
        node = file.root.dl1.event.telescope.images.tel_002
        rows = node.read()
        names = [name for name in rows.dtype.names if name != "image_mask"]
        node.remove()
        file.create_table("/dl1/event/telescope/images", "tel_002", obj=rows[names])
    with pytest.raises(TrainingDataError, match=r"no image masks in .*images/tel_002"):
        check_file(copy)


def test_a_truncated_file_is_named(copy):
    content = copy.read_bytes()
    copy.write_bytes(content[: len(content) // 2])
    with pytest.raises(DL1FileError, match=r"copy.dl1.h5 cannot be read"):
        check_file(copy)


def test_the_particles_must_be_what_the_user_says(gamma_file, tmp_path):
    with pytest.raises(DL1FileError, match="given as background, but has gammas"):
        read_all(gamma_file, label=1)
    protons = toy_sample.write_toy_file(
        tmp_path / "proton.dl1.h5", "proton", 2, array=small_cameras()
    )
    with pytest.raises(DL1FileError, match=r"proton.dl1.h5 .* ids \[101\]"):
        read_all(protons, label=0)
    assert (read_all(protons, label=1).label == 1).all()


def test_showers_of_other_events_are_an_error(copy):
    with tables.open_file(copy, "r+") as file:
        table = file.root.simulation.event.subarray.shower
        rows = table.read()
        rows[[3, 4]] = rows[[4, 3]]
        table.modify_rows(start=0, rows=rows)
    with pytest.raises(DL1FileError, match="does not have the showers"):
        read_all(copy)


def test_an_unknown_pointing_is_an_error(copy):
    with tables.open_file(copy, "r+") as file:
        file.remove_node("/configuration/telescope", recursive=True)
    with pytest.raises(DL1FileError, match="pointing of telescope 1 is not known"):
        read_all(copy)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("true_energy", 0, "true_energy 0.0 TeV"),
        ("true_energy", np.nan, "true_energy nan TeV"),
        ("true_energy", np.inf, "true_energy inf TeV"),
        # float32, of the network and of the file, reaches far further.
        ("true_energy", 1e7, "true_energy 10000000.0 TeV, .* up to 1e.06 TeV: leave"),
        ("true_az", np.nan, "true_az nan deg"),
        ("true_core_x", -np.inf, "true_core_x -inf m"),
        ("true_core_y", 1e9, "true_core_y 1000000000.0 m"),
        ("true_alt", 120, "true_alt 120.0 deg"),
    ],
)
def test_a_truth_that_is_not_known_is_an_error(copy, name, value, text):
    index = read_all(copy)
    event = int(index.row[index.tel_id == 1][2])
    with tables.open_file(copy, "r+") as file:
        images = file.root.dl1.event.telescope.images.tel_001
        event_id = images[event]["event_id"]
        table = file.root.simulation.event.subarray.shower
        rows = table.read()
        rows[name][rows["event_id"] == event_id] = value
        table.modify_rows(start=0, rows=rows)
    message = f"copy.dl1.h5: event {event_id} of observation 1 has the {text}"
    with pytest.raises(DL1FileError, match=message):
        read_all(copy)
