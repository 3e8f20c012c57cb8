"""lstchain's DL1 files in the tools for whole files, against ctapipe's event loop."""

import astropy.units as u
import numpy as np
import pytest
import tables
import toy_sample
from astropy.time import Time
from ctapipe.io import EventSource, read_table, write_table
from lstchain_file import change, draw_images, lst_subarray, write_lstchain
from official_files import DATA, needs
from run_tools import apply, process

from ctapipe_gammaphysnet.events.lstchain import LSTChainDL1EventSource
from ctapipe_gammaphysnet.events.lstchain.reader import LSTChainReader
from ctapipe_gammaphysnet.events.opening import open_events, open_images
from ctapipe_gammaphysnet.events.quality import TrainingQualityQuery
from ctapipe_gammaphysnet.events.telescope_events import telescope_events
from ctapipe_gammaphysnet.files.input_file import DL1FileError
from ctapipe_gammaphysnet.model.file import write_model

#: Observation, event, telescope, event type, altitude and azimuth. The last image is
#: of the first event, and the telescopes take turns.
ROWS = [
    (3, 1, 2, 32, 70.2, 180.3),
    (3, 2, 2, 32, 70.5, 181),
    (3, 4, 1, 0, 71, 182),
    (5, 11, 1, 2, 60, 359.9),
    (5, 17, 1, 32, 60, 0.1),
    (5, 17, 2, 32, 60, 0.1),
    (3, 1, 1, 32, 70, 180),
]
KINDS = ("simulation", "observation")
SHOWERS_ONLY = "--EventTypeFilter.allowed_types=SUBARRAY"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The same events as a simulation and as an observation."""
    folder = tmp_path_factory.mktemp("lstchain")
    subarray = lst_subarray()
    image, time, mask = draw_images(subarray, len(ROWS), seed=3)
    mask[3] = False  # a pedestal
    images = image, time, mask
    return {
        kind: write_lstchain(
            folder / f"{kind}.h5", subarray, images, ROWS, kind == "simulation"
        )
        for kind in KINDS
    }


@pytest.fixture(scope="module")
def model(make_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "lst.safetensors"
    write_model(path, make_model(lst_subarray().telescope_types))
    return path


def read_all(path):
    with tables.open_file(path) as file:
        names = [node._v_pathname for node in file.walk_nodes("/", "Table")]
        return {name: read_table(file, name) for name in names}


def assert_same_column(name, found, expected):
    if isinstance(expected, Time):
        assert np.abs((found - expected).to_value(u.us)).max(initial=0) < 1, name
        return
    assert found.unit == expected.unit, name
    found, expected = np.asarray(found), np.asarray(expected)
    if expected.dtype.kind != "f":
        np.testing.assert_array_equal(found, expected, err_msg=name)
        return
    # Random networks put impact points kilometres away.
    np.testing.assert_allclose(found, expected, 1e-5, 1e-4, err_msg=name)


def assert_same_tables(found, expected):
    """All that ctapipe-process wrote, except true images that are not known."""
    for node, table in expected.items():
        if node.startswith(("/simulation/event/telescope/images", "/dl2/service")):
            continue
        assert found[node].colnames == table.colnames, node
        assert len(found[node]) == len(table), node
        for column in table.colnames:
            name = f"{node}: {column}"
            assert_same_column(name, found[node][column], table[column])


@pytest.mark.parametrize("options", [(), (SHOWERS_ONLY,)])
@pytest.mark.parametrize("kind", KINDS)
def test_whole_files_are_what_ctapipe_process_writes(
    files, model, tmp_path, kind, options
):
    expected = process(
        files[kind], model, tmp_path / "a.dl2.h5", "--write-images", *options
    )
    output = apply(files[kind], model, tmp_path / "b.dl2.h5", "--dl1-images", *options)
    found, expected = read_all(output), read_all(expected)
    assert_same_tables(found, expected)
    trigger = found["/dl1/event/subarray/trigger"]
    assert len(trigger) == (3 if options else 5)
    geometry = found["/dl2/event/subarray/geometry/GammaPhysNetGeometry"]
    assert geometry["GammaPhysNetGeometry_is_valid"].sum() >= 3


def test_the_output_can_be_reconstructed_again(files, model, tmp_path):
    output = apply(files["observation"], model, tmp_path / "a.dl2.h5", "--dl1-images")
    again = apply(output, model, tmp_path / "b.dl2.h5")
    # ctapipe's files have one pointing of the array for each observation.
    group = "/dl2/event/telescope/"
    expected = {n: t for n, t in read_all(output).items() if n.startswith(group)}
    assert len(expected) == 8
    assert_same_tables(read_all(again), expected)


def test_ctapipe_reads_observations_from_the_output(files, model, tmp_path):
    path = files["observation"]
    output = apply(path, model, tmp_path / "a.dl2.h5", "--dl1-images")
    with (
        LSTChainDL1EventSource(input_url=path) as original,
        EventSource(output, focal_length_choice="EFFECTIVE") as source,
    ):
        events = list(zip(original, source, strict=True))
    for expected, found in events:
        assert found.trigger.event_type == expected.trigger.event_type
        assert [*found.dl1.tel] == [*expected.dl1.tel]
        for tel_id, dl1 in expected.dl1.tel.items():
            image = found.dl1.tel[tel_id].image
            np.testing.assert_array_equal(image, dl1.image)
            pointing = [e.monitoring.tel[tel_id].pointing for e in (expected, found)]
            for angle in ("altitude", "azimuth"):
                one, other = (p[angle].to_value(u.rad) for p in pointing)
                assert np.cos(one - other) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("size", [1, 2, 100])
def test_chunks_hold_the_events_of_the_source(files, size):
    with LSTChainDL1EventSource(input_url=files["simulation"]) as source:
        expected = list(source)
    with open_events(files["simulation"]) as reader:
        assert isinstance(reader, LSTChainReader)
        assert reader.n_events == len(expected)
        assert reader.obs_ids == [3, 5]
        chunks = list(reader.chunks(size))
        for chunk in chunks:
            showers = reader.read_showers(chunk)
            for n, number in enumerate(chunk.number):
                event = expected[number]
                assert chunk.event_id[n] == event.index.event_id
                assert reader.event_type[number] == event.trigger.event_type.value
                shower = event.simulation.shower
                assert showers["true_energy"][n] == shower.energy
                assert showers["true_core_x"][n] == shower.core_x
                assert showers["true_az"][n] == shower.az
                altitude = event.monitoring.pointing.array_altitude
                assert chunk.array_alt[n] == altitude
            for tel_id, index in chunk.event.items():
                ids = chunk.obs_id[index], chunk.event_id[index]
                images = reader.read_images(tel_id, chunk.row[tel_id], *ids)
                for i, n in enumerate(index):
                    event = expected[chunk.number[n]]
                    dl1 = event.dl1.tel[tel_id]
                    np.testing.assert_array_equal(images[0][i], dl1.image)
                    np.testing.assert_array_equal(images[2][i], dl1.image_mask)
                    found = chunk.parameters[tel_id][i]
                    for container in dl1.parameters.values():
                        for name, value in container.items(add_prefix=True):
                            np.testing.assert_equal(found[name], value)
                    azimuth = event.monitoring.tel[tel_id].pointing.azimuth
                    assert chunk.pointing[tel_id][1][i] == azimuth
    assert sum(len(index) for c in chunks for index in c.event.values()) == len(ROWS)


def test_training_finds_events_and_truth(files):
    query = TrainingQualityQuery(quality_criteria=[("light", "hillas_intensity > 1")])
    query.event_types.allowed_types = {"SUBARRAY"}
    with open_events(files["simulation"]) as reader:
        parts = telescope_events(
            reader, [1, 2], query, 3, parameters=("intensity", "cog_x"), label=1
        )
        found = {
            (tel_id, event_id): energy
            for part in parts
            for tel_id, event_id, energy in zip(
                part["tel_id"], part["event_id"], part["true_energy"], strict=True
            )
        }
    assert found.keys() == {(1, 1), (2, 1), (2, 2), (1, 17), (2, 17)}
    assert found[2, 2] == 2.1 * u.TeV
    assert query.to_table()["counts"][-1] == 2  # left out by event type


def test_images_of_other_events_are_an_error(files):
    with open_images(files["observation"]) as reader:
        image, _, mask = reader.read_images(1, np.array([0, 1]), [3, 3], [1, 4])
        assert image.shape == mask.shape == (2, 1855)
        assert reader.read_true_images(1, np.array([0]), [3], [1]) is None
        for tel_id, row in ((1, [1, 2]), (1, [9, 10]), (8, [0, 1])):
            with pytest.raises(DL1FileError, match="does not have the images"):
                reader.read_images(tel_id, np.array(row), [3, 3], [1, 4])


def test_files_that_cannot_be_used_say_why(files, tmp_path):
    path = tmp_path / "a.h5"
    path.write_bytes(files["observation"].read_bytes())
    with tables.open_file(path, "r+") as file:
        file.copy_node("/dl1/event/telescope/parameters/LST_LSTCam", newname="OTHER")
        file.copy_node("/dl1/event/telescope/image/LST_LSTCam", newname="OTHER")
    with pytest.raises(DL1FileError, match="telescope 1 in the tables"):
        open_events(path)
    with tables.open_file(path, "r+") as file:
        file.remove_node("/dl1/event/telescope/image", recursive=True)
    with pytest.raises(DL1FileError, match="--no-image"):
        open_events(path)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(DL1FileError, match="damaged"):
        open_events(path)


@pytest.mark.parametrize("column", ["alt_tel", "x", "length", "mc_energy"])
def test_parameters_without_their_unit_are_an_error(files, tmp_path, column):
    path = tmp_path / "a.h5"
    path.write_bytes(files["simulation"].read_bytes())
    node = "/dl1/event/telescope/parameters/LST_LSTCam"
    with tables.open_file(path, "r+") as file:
        attributes = file.root[node].attrs
        number = file.root[node].colnames.index(column)
        del attributes[f"CTAFIELD_{number}_UNIT"]
    with pytest.raises(DL1FileError, match=f"column {column} of {node} has no unit"):
        open_events(path)


def altitude_of(path):
    with open_events(path) as reader:
        return reader.subarray.reference_location.height.to_value(u.m)


def test_simulations_are_at_the_altitude_of_their_runs(files, tmp_path):
    path = tmp_path / "a.h5"
    path.write_bytes(files["simulation"].read_bytes())
    assert altitude_of(path) == pytest.approx(toy_sample.LA_PALMA.height.to_value(u.m))
    runs = read_table(path, "/simulation/run_config")
    runs["prod_site_alt"] = 1500.0
    write_table(runs, path, "/simulation/run_config", overwrite=True)
    # The file knows an altitude of the array.
    assert altitude_of(path) == pytest.approx(toy_sample.LA_PALMA.height.to_value(u.m))
    with tables.open_file(path, "r+") as file:
        attributes = file.root.configuration.instrument.subarray.layout.attrs
        for axis in "xyz":
            del attributes[f"reference_itrs_{axis}"]
    assert altitude_of(path) == pytest.approx(1500)
    runs["prod_site_alt"] = 1500.0 + np.arange(len(runs))
    write_table(runs, path, "/simulation/run_config", overwrite=True)
    with pytest.raises(DL1FileError, match="runs at the altitudes"):
        open_events(path)


def test_files_without_events_give_empty_files(files, model, tmp_path):
    path = tmp_path / "a.h5"
    path.write_bytes(files["simulation"].read_bytes())
    with tables.open_file(path, "r+") as file:
        for kind in ("image", "parameters"):
            file.root[f"/dl1/event/telescope/{kind}/LST_LSTCam"].remove_rows(0)
    with open_events(path) as reader:
        assert reader.n_events == 0
        assert list(reader.chunks(10)) == reader.obs_ids == []
    found = read_all(apply(path, model, tmp_path / "a.dl2.h5"))
    assert not any(node.startswith("/dl1/event/") for node in found)
    assert len(found["/configuration/simulation/run"]) == 2


def test_times_that_are_not_known_are_those_of_ctapipe(files, model, tmp_path):
    path = tmp_path / "a.h5"
    path.write_bytes(files["simulation"].read_bytes())
    times = np.arange(len(ROWS)) + 1.6e9
    times[1] = np.nan
    node = "/dl1/event/telescope/parameters/LST_LSTCam"
    change(path, node, trigger_time=times)
    with LSTChainDL1EventSource(input_url=path) as source:
        expected = Time([event.trigger.time for event in source])
    with open_events(path) as reader:
        found = reader.time[reader.events.of_array]
    assert np.abs((found - expected).to_value(u.us)).max() < 1


@pytest.mark.parametrize("name", ["gamma", "lst1_observation"])
@needs("lstchain_dl1_gamma.h5", "lstchain_dl1_lst1_observation.h5")
def test_official_files_against_ctapipe_process(make_model, tmp_path, name):
    path, model = DATA / f"lstchain_dl1_{name}.h5", tmp_path / "lst.safetensors"
    with LSTChainDL1EventSource(input_url=path) as source:
        write_model(model, make_model(source.subarray.telescope_types))
    expected = process(path, model, tmp_path / "a.dl2.h5", "--write-images")
    found = apply(path, model, tmp_path / "b.dl2.h5", "--dl1-images")
    assert_same_tables(read_all(found), read_all(expected))
