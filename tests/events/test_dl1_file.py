"""DL1 files in chunks: every event once, with its own pointing."""

import functools
import shutil

import astropy.units as u
import numpy as np
import pytest
import tables
from astropy.table import QTable
from astropy.time import TimeDelta
from ctapipe.io import EventSource, read_table, write_table
from spoil import change_length, change_rows, lose_attributes, remove

from ctapipe_gammaphysnet.events.dl1_file import DL1File
from ctapipe_gammaphysnet.events.images import fetch_prepared
from ctapipe_gammaphysnet.events.preparation import InputPreparation
from ctapipe_gammaphysnet.files.input_file import DL1FileError
from ctapipe_gammaphysnet.model.card import InputCard
from ctapipe_gammaphysnet.network import CameraLattice


def raw_of(file, tel_id):
    """What leaves the images of a telescope as they are."""
    geometry = file.subarray.tel[tel_id].camera.geometry
    return _raw(tuple(geometry.pix_x.value), tuple(geometry.pix_y.value))


@functools.cache
def _raw(pix_x, pix_y):
    lattice = CameraLattice.from_positions(pix_x, pix_y)
    return InputPreparation(InputCard(), lattice)


@pytest.fixture
def dl1(toy_file, tmp_path):
    """A copy of the file, to be spoilt."""
    return shutil.copy(toy_file, tmp_path / "copy.dl1.h5")


@pytest.mark.parametrize("size", [1, 5, 16, 100])
def test_every_event_is_in_one_chunk(toy_file, size):
    """And every telescope's rows and images are with their event."""
    found = []
    with DL1File(toy_file) as file:
        assert file.n_events == 16
        for chunk in file.chunks(size):
            assert len(chunk) <= size
            images = {
                tel_id: fetch_prepared(
                    file, chunk, tel_id, np.arange(len(events)), raw_of(file, tel_id)
                )()
                for tel_id, events in chunk.event.items()
            }
            for event, event_id in enumerate(chunk.event_id):
                telescopes = {
                    tel_id: (
                        images[tel_id][0][events == event][0],
                        chunk.parameters[tel_id]["hillas_intensity"][events == event],
                        [a[events == event] for a in chunk.pointing[tel_id]],
                    )
                    for tel_id, events in chunk.event.items()
                    if event in events
                }
                found.append((event_id, telescopes, chunk.array_alt[event]))
    with EventSource(toy_file) as source:
        for event, (event_id, telescopes, array_alt) in zip(source, found, strict=True):
            assert event.index.event_id == event_id
            assert u.isclose(event.monitoring.pointing.array_altitude, array_alt)
            assert set(telescopes) == set(event.trigger.tels_with_trigger)
            for tel_id, (inputs, intensity, (alt, az)) in telescopes.items():
                camera = event.dl1.tel[tel_id]
                np.testing.assert_array_equal(inputs, [camera.image, camera.peak_time])
                np.testing.assert_array_equal(
                    intensity, camera.parameters.hillas.intensity
                )
                pointing = event.monitoring.tel[tel_id].pointing
                assert u.isclose(alt, pointing.altitude).all()
                assert u.isclose(az, pointing.azimuth).all()


def read_all(path):
    with DL1File(path) as file:
        for chunk in file.chunks(5):
            for tel_id, events in chunk.event.items():
                prepare = raw_of(file, tel_id)
                fetch_prepared(file, chunk, tel_id, np.arange(len(events)), prepare)()


def test_a_spoilt_copy_is_read_as_long_as_nothing_is_spoilt(dl1):
    read_all(dl1)


@pytest.mark.parametrize("kind", ["images", "parameters"])
def test_rows_of_other_events_are_an_error(dl1, kind):
    node = f"/dl1/event/telescope/{kind}/tel_002"
    with tables.open_file(dl1, "r+") as file:
        rows = file.root[node].read()
        rows[[3, 4]] = rows[[4, 3]]
        file.root[node].modify_rows(start=0, rows=rows)
    with pytest.raises(DL1FileError, match=f"{node} does not hold the events"):
        read_all(dl1)


@pytest.mark.parametrize("kind", ["images", "parameters"])
def test_rows_that_are_missing_are_an_error(dl1, kind):
    node = f"/dl1/event/telescope/{kind}/tel_002"
    with tables.open_file(dl1, "r+") as file:
        file.root[node].truncate(file.root[node].nrows - 1)
    with pytest.raises(DL1FileError, match=f"{node} has 1. rows, but .* telescope 2"):
        read_all(dl1)


@pytest.mark.parametrize("kind", ["images", "parameters"])
def test_rows_without_trigger_are_an_error(dl1, kind):
    node = f"/dl1/event/telescope/{kind}/tel_002"
    with tables.open_file(dl1, "r+") as file:
        file.root[node].append(file.root[node][-1:])
        n_rows = file.root[node].nrows
    with pytest.raises(DL1FileError, match=f"{node} has {n_rows} rows, but"):
        read_all(dl1)


def test_a_table_that_is_missing_is_an_error(dl1):
    with tables.open_file(dl1, "r+") as file:
        file.remove_node("/dl1/event/telescope/images/tel_003")
    with pytest.raises(DL1FileError, match="has no table .*images/tel_003"):
        read_all(dl1)


def test_an_unknown_observation_is_an_error(dl1):
    node = "/configuration/observation/observation_block"
    with tables.open_file(dl1, "r+") as file:
        rows = file.root[node].read()
        rows["obs_id"] = 77
        file.root[node].modify_rows(start=0, rows=rows)
    with pytest.raises(DL1FileError, match=f"observation 1, which is not in {node}"):
        read_all(dl1)


def test_files_that_are_no_dl1_files_are_an_error(toy_model, tmp_path):
    with pytest.raises(DL1FileError, match="not a ctapipe DL1 file"):
        DL1File(toy_model)
    empty = tmp_path / "empty.h5"
    tables.open_file(empty, "w").close()
    with pytest.raises(DL1FileError, match="this version of ctapipe can read"):
        DL1File(empty)


def test_an_unknown_pointing_is_not_a_number(dl1):
    """As in ctapipe-process; energy and gammaness do not need it."""
    with tables.open_file(dl1, "r+") as file:
        file.remove_node("/configuration/telescope", recursive=True)
    with DL1File(dl1) as file:
        chunk = next(file.chunks(16))
    for alt, az in chunk.pointing.values():
        assert np.isnan(alt).all()
        assert np.isnan(az).all()


def test_pointings_of_old_files_are_the_nearest_in_time(dl1):
    """Before ctapipe 0.21, files had a table of pointings over time."""
    times = read_table(dl1, "/dl1/event/subarray/trigger")["time"]
    with tables.open_file(dl1, "r+") as file:
        file.remove_node("/configuration/telescope", recursive=True)
    for tel_id in range(1, 5):
        table = QTable(
            {
                "time": times[[0, 5, 10, 15]],
                "azimuth": [1.0, 2.0, 3.0, 4.0] * u.rad,
                "altitude": [1.1, 1.2, 1.3, 1.4] * u.rad,
            }
        )
        write_table(table, dl1, f"/dl1/monitoring/telescope/pointing/tel_{tel_id:03d}")
    with EventSource(dl1) as source, DL1File(dl1) as file:
        (chunk,) = file.chunks(16)
        rows = dict.fromkeys(chunk.event, 0)
        for event in source:
            for tel_id in event.trigger.tels_with_trigger:
                pointing = event.monitoring.tel[tel_id].pointing
                alt, az = (angle[rows[tel_id]] for angle in chunk.pointing[tel_id])
                assert u.isclose(alt, pointing.altitude)
                assert u.isclose(az, pointing.azimuth)
                rows[tel_id] += 1
    assert len({*chunk.pointing[1][1].value}) == 4


TRIGGER = "/dl1/event/subarray/trigger"
TELESCOPE_TRIGGER = "/dl1/event/telescope/trigger"
IMAGES = "/dl1/event/telescope/images/tel_002"
PARAMETERS = "/dl1/event/telescope/parameters/tel_002"
TRUE_IMAGES = "/simulation/event/telescope/images/tel_002"
SHOWERS = "/simulation/event/subarray/shower"
OBSERVATIONS = "/configuration/observation/observation_block"
FIXED = "/configuration/telescope/pointing/tel_002"
MONITORED = "/dl0/monitoring/telescope/pointing"


def open_with_truth(path):
    with DL1File(path) as file:
        file.check_truth()


@pytest.mark.parametrize("n_more", [-1, -60, 3])
@pytest.mark.parametrize("column", ["image", "peak_time", "image_mask"])
def test_images_of_another_length_are_an_error(dl1, column, n_more):
    """Found when the file is opened; both lengths are named."""
    change_length(dl1, IMAGES, n_more, [column])
    message = (
        f"copy.dl1.h5: {column} in {IMAGES} has {61 + n_more} pixels, but the camera "
        "of telescope 2 has 61"
    )
    with pytest.raises(DL1FileError, match=message):
        DL1File(dl1)


def test_true_images_of_another_length_are_an_error(dl1):
    open_with_truth(dl1)
    change_length(dl1, TRUE_IMAGES, -1, ["true_image"])
    with pytest.raises(DL1FileError, match="true_image .* 60 pixels, .* 2 has 61"):
        open_with_truth(dl1)


def compress_images(path, scale):
    """Store charges as integers, as ctapipe does."""

    def compress(rows):
        fields = [(n, rows.dtype[n]) for n in rows.dtype.names if n != "image"]
        compressed = np.zeros(len(rows), [*fields, ("image", "i4", (61,))])
        for name, _ in fields:
            compressed[name] = rows[name]
        compressed["image"] = np.round(rows["image"] * scale)
        return compressed

    change_rows(path, IMAGES, compress)
    with tables.open_file(path, "r+") as file:
        table = file.root[IMAGES]
        position = table.colnames.index("image")
        for name in table.attrs._v_attrnamesuser:
            if name.startswith("CTAFIELD_"):
                del table.attrs[name]
        for key, value in {
            "TRANSFORM": "fixed_point",
            "TRANSFORM_SCALE": float(scale),
            "TRANSFORM_OFFSET": 0,
            "TRANSFORM_DTYPE": "float32",
        }.items():
            table.attrs[f"CTAFIELD_{position}_{key}"] = value
    return f"CTAFIELD_{position}_"


def read_charges(path):
    with DL1File(path) as file:
        (chunk,) = file.chunks(100)
        rows = np.arange(len(chunk.event[2]))
        return fetch_prepared(file, chunk, 2, rows, raw_of(file, 2))()[0][:, 0]


@pytest.mark.parametrize("lost", ["TRANSFORM", "TRANSFORM_SCALE", "TRANSFORM_OFFSET"])
def test_integers_without_their_scale_are_no_charges(dl1, lost):
    charges = read_charges(dl1)
    prefix = compress_images(dl1, scale=10)
    np.testing.assert_allclose(read_charges(dl1), charges, atol=0.06)
    lose_attributes(dl1, IMAGES, f"{prefix}{lost}")
    with pytest.raises(DL1FileError, match=f"image of {IMAGES} holds integers .int32"):
        DL1File(dl1)


@pytest.mark.parametrize("scale", [0.0, -10.0, np.nan, np.inf])
def test_a_scale_that_cannot_be_is_an_error(dl1, scale):
    prefix = compress_images(dl1, scale=10)
    with tables.open_file(dl1, "r+") as file:
        file.root[IMAGES].attrs[f"{prefix}TRANSFORM_SCALE"] = scale
    with pytest.raises(DL1FileError, match=f"image of {IMAGES} "):
        DL1File(dl1)


@pytest.mark.parametrize("column", ["image", "peak_time", "obs_id", "event_id"])
def test_a_column_of_images_that_is_missing_is_named(dl1, column):
    change_rows(
        dl1, IMAGES, lambda rows: rows[[n for n in rows.dtype.names if n != column]]
    )
    with pytest.raises(DL1FileError, match=f"{IMAGES} has no column {column}"):
        DL1File(dl1)


@pytest.mark.parametrize(
    ("node", "column"),
    [
        (PARAMETERS, "hillas_.* has no unit"),
        (TRIGGER, "time .* how times are stored"),
        (OBSERVATIONS, "subarray_pointing_lat .* has no unit"),
        (FIXED, "telescope_pointing_altitude .* has no unit"),
        (SHOWERS, "true_energy .* has no unit"),
    ],
)
def test_a_table_that_lost_its_attributes_is_named(dl1, node, column):
    open_with_truth(dl1)
    lose_attributes(dl1, node)
    column, _, problem = column.partition(" ")
    with pytest.raises(DL1FileError, match=f"column {column} of {node}.*{problem[3:]}"):
        open_with_truth(dl1)


def test_a_unit_that_cannot_be_is_named(dl1):
    with tables.open_file(dl1, "r+") as file:
        file.root[SHOWERS].attrs["CTAFIELD_2_UNIT"] = "m"
    with pytest.raises(DL1FileError, match="true_energy .* unit m, .* be converted to"):
        open_with_truth(dl1)


@pytest.mark.parametrize(
    "node", ["/dl1/event", "/dl1/event/subarray", TRIGGER, "/dl1/event/telescope"]
)
def test_a_file_that_lost_its_events_is_no_empty_one(dl1, node):
    remove(dl1, node)
    with pytest.raises(
        ValueError, match=f"copy.dl1.h5 has no (table {TRIGGER}|DL1 im)"
    ):
        DL1File(dl1)


def test_a_run_without_events_is_a_file_without_events(dl1):
    """ctapipe then writes no group of events, and no pointing."""
    remove(dl1, "/dl1/event", "/simulation/event", "/configuration/telescope")
    with DL1File(dl1) as file:
        assert file.n_events == 0
        assert list(file.chunks(10)) == []


@pytest.mark.parametrize("node", [TRIGGER, IMAGES, PARAMETERS, SHOWERS, TRUE_IMAGES])
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda rows: rows[:-1], id="last is missing"),
        pytest.param(lambda rows: rows[1:], id="first is missing"),
        pytest.param(lambda rows: rows[[0, *range(len(rows))]], id="first twice"),
        pytest.param(lambda rows: rows[[0, *range(len(rows) - 1)]], id="one replaced"),
    ],
)
def test_rows_that_do_not_fit_the_triggers_are_an_error(dl1, node, change):
    def read():
        open_with_truth(dl1)
        with DL1File(dl1) as file:
            for chunk in file.chunks(5):
                for tel_id, events in chunk.event.items():
                    rows = chunk.row[tel_id]
                    keys = chunk.obs_id[events], chunk.event_id[events]
                    file.read_images(tel_id, rows, *keys)
                    file.read_true_images(tel_id, rows, *keys)

    read()
    change_rows(dl1, node, change)
    if node == SHOWERS and len(change(np.arange(16))) == 16:
        # The readers of the showers compare their numbers.
        return
    with pytest.raises(DL1FileError, match="copy.dl1.h5"):
        read()


def test_images_of_another_telescope_are_an_error(dl1):
    def change(rows):
        rows["tel_id"] = 1
        return rows

    change_rows(dl1, IMAGES, change)
    with pytest.raises(DL1FileError, match=f"{IMAGES} does not hold the events"):
        read_all(dl1)


@pytest.fixture
def monitored(dl1):
    """File whose telescopes turn from event to event, each at its own rate."""
    times = read_table(dl1, TRIGGER)["time"]
    time = times[[0, -1]] + TimeDelta([-10, 10], format="sec")
    for tel_id in range(1, 5):
        table = QTable(
            {
                "time": time,
                "azimuth": [0, tel_id] * u.rad,
                "altitude": [1, 1.2] * u.rad,
            }
        )
        write_table(table, dl1, f"{MONITORED}/tel_{tel_id:03d}")
    return dl1


def read_pointing(path, size):
    with DL1File(path) as file:
        chunks = list(file.chunks(size))
    return {
        tel_id: np.concatenate(
            [c.pointing[tel_id][1].value for c in chunks if tel_id in c.pointing]
        )
        for tel_id in range(1, 5)
    }


def test_a_pointing_is_that_of_the_trigger_of_its_own_telescope(monitored):
    """Whatever the order of the telescopes in an event."""
    expected = {tel_id: [] for tel_id in range(1, 5)}
    with EventSource(monitored) as source:
        for event in source:
            for tel_id in event.trigger.tels_with_trigger:
                azimuth = event.monitoring.tel[tel_id].pointing.azimuth
                expected[tel_id].append(azimuth.to_value(u.rad))
    assert len({*np.round(expected[3], 6)}) > 3

    def turn_around(rows):
        order = np.lexsort((-rows["tel_id"], rows["event_id"]))
        return rows[order]

    for change in (lambda rows: rows, turn_around):
        change_rows(monitored, TELESCOPE_TRIGGER, change)
        for size in (3, 100):
            found = read_pointing(monitored, size)
            for tel_id, azimuth in expected.items():
                np.testing.assert_allclose(found[tel_id], azimuth, rtol=1e-9)


def stray(rows):
    first = rows[:1].copy()
    first["event_id"] = 5555
    return np.concatenate([first, rows])


@pytest.mark.parametrize(
    "change",
    [
        stray,
        lambda rows: stray(rows)[:-1],
        # Behind all others, where only their number tells.
        lambda rows: np.concatenate([rows, stray(rows)[:1]]),
        lambda rows: rows[1:],
        lambda rows: rows[[0, *range(len(rows) - 1)]],
        lambda rows: rows[::-1].copy(),
    ],
)
def test_triggers_that_do_not_fit_move_no_direction(monitored, change):
    read_pointing(monitored, 5)
    change_rows(monitored, TELESCOPE_TRIGGER, change)
    with pytest.raises(DL1FileError, match=f"copy.dl1.h5: .*{TELESCOPE_TRIGGER}"):
        read_pointing(monitored, 5)


@pytest.mark.parametrize("node", [TELESCOPE_TRIGGER, f"{MONITORED}/tel_002"])
def test_times_without_format_are_an_error(monitored, node):
    lose_attributes(monitored, node)
    with pytest.raises(DL1FileError, match=f"column time of {node} does not say"):
        DL1File(monitored)


def test_pointings_of_an_observation_that_differ_are_an_error(dl1):
    change_rows(dl1, FIXED, lambda rows: rows[[0, 0]])
    read_all(dl1)

    def change(rows):
        rows["telescope_pointing_azimuth"][1] += 1
        return rows

    change_rows(dl1, FIXED, change)
    with pytest.raises(DL1FileError, match=f"{FIXED} has several .*_azimuth of one"):
        read_all(dl1)


def test_the_pointing_of_another_telescope_is_an_error(dl1):
    def exchange(rows):
        rows["tel_id"] = 3
        return rows

    change_rows(dl1, FIXED, exchange)
    with pytest.raises(DL1FileError, match=f"{FIXED} has the pointing of another"):
        DL1File(dl1)


@pytest.mark.parametrize(
    ("angle", "value", "found"),
    [("altitude", 3, "171.9 deg"), ("azimuth", 200, "1.146e.04 deg")],
)
def test_a_pointing_that_cannot_be_is_an_error(dl1, angle, value, found):
    def turn(rows):
        rows[f"telescope_pointing_{angle}"] = value
        return rows

    change_rows(dl1, FIXED, turn)
    with pytest.raises(DL1FileError, match=f"{FIXED} has the {angle} {found}"):
        DL1File(dl1)


def test_a_pointing_of_the_array_is_known_as_a_whole_or_not(dl1):
    def lose(rows):
        rows["subarray_pointing_lat"] = np.nan
        return rows

    change_rows(dl1, OBSERVATIONS, lose)
    with DL1File(dl1) as file:
        (chunk,) = file.chunks(100)
    assert np.isnan(chunk.array_alt).all()
    assert np.isnan(chunk.array_az).all()


def test_a_telescope_that_is_twice_in_the_array_is_an_error(dl1):
    layout = "/configuration/instrument/subarray/layout"
    change_rows(dl1, layout, lambda rows: np.concatenate([rows, rows[:1]]))
    with pytest.raises(DL1FileError, match=r"has telescopes \[1\] several times"):
        DL1File(dl1)


@pytest.mark.parametrize(
    ("node", "name"),
    [
        ("subarray/layout", "pos_x"),
        ("telescope/camera/geometry_0", "pix_x"),
        ("telescope/optics", "mirror_area"),
    ],
)
def test_lost_units_of_telescopes_are_named(dl1, node, name):
    node = f"/configuration/instrument/{node}"
    with tables.open_file(dl1, "r+") as file:
        attributes = file.root[node].attrs
        for attribute in attributes._v_attrnamesuser:
            if attribute.endswith("UNIT"):
                del attributes[attribute]
    with pytest.raises(DL1FileError, match=f"column {name} of {node} has no unit"):
        DL1File(dl1)


def test_a_pointing_of_the_array_beyond_the_zenith_is_an_error(dl1):
    def lift(rows):
        rows["subarray_pointing_lat"] = 500
        return rows

    change_rows(dl1, OBSERVATIONS, lift)
    with pytest.raises(DL1FileError, match="observation_block has the altitude"):
        DL1File(dl1)


def test_a_mirror_area_that_is_not_finite_is_an_error(dl1):
    def lose(rows):
        rows["mirror_area"] = np.nan
        return rows

    change_rows(dl1, "/configuration/instrument/telescope/optics", lose)
    with pytest.raises(DL1FileError, match="optics has a mirror_area that is not"):
        DL1File(dl1)


@pytest.mark.parametrize("position", [np.nan, -np.inf, 1e9])
def test_a_telescope_where_none_can_be_is_an_error(dl1, position):
    def move(rows):
        rows["pos_y"][1] = position
        return rows

    change_rows(dl1, "/configuration/instrument/subarray/layout", move)
    with pytest.raises(DL1FileError, match=r"impossible positions of telescopes \[2\]"):
        DL1File(dl1)


def test_telescopes_without_pointing_are_found(dl1, monitored):
    with DL1File(monitored) as file:
        assert file.without_pointing([1, 2, 3]) == []
    remove(monitored, f"{MONITORED}/tel_003")
    with DL1File(monitored) as file:
        assert file.without_pointing([1, 2, 3]) == [3]
