"""The tool for whole files writes what ctapipe-process does, table by table."""

import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from subprocess import CalledProcessError

import astropy.units as u
import numpy as np
import pytest
import tables
import toy_sample
from astropy.table import QTable, Table
from astropy.time import Time, TimeDelta
from conftest import small_cameras
from ctapipe.containers import EventType
from ctapipe.core import ToolConfigurationError, run_tool
from ctapipe.io import EventSource, TableLoader, read_table, write_table
from ctapipe.reco import StereoMeanCombiner
from ctapipe.tools.merge import MergeTool
from run_tools import apply, process

from ctapipe_gammaphysnet import bulk
from ctapipe_gammaphysnet.compat import PARTICLE_TYPE
from ctapipe_gammaphysnet.dl2.containers import group_names
from ctapipe_gammaphysnet.events.dl1_file import DL1File
from ctapipe_gammaphysnet.events.preparation import MissingImagesError
from ctapipe_gammaphysnet.files.input_file import DL1FileError
from ctapipe_gammaphysnet.files.output import OutputError
from ctapipe_gammaphysnet.model.file import Model, write_model
from ctapipe_gammaphysnet.reconstructor import GammaPhysNetReconstructor
from ctapipe_gammaphysnet.tools import apply as apply_module
from ctapipe_gammaphysnet.tools.apply import ApplyGammaPhysNet

ROOT = Path(__file__).parents[2]
STATISTICS = "/dl2/service/tel_event_statistics/GammaPhysNetReconstructor"
IMAGE_STATISTICS = "/dl1/service/image_statistics"
POINTING = "/dl0/monitoring/telescope/pointing"
# Who made the file, when and from what.
OWN_ATTRIBUTES = ("CTA ACTIVITY", "CTA PRODUCT CREATION", "CTA PRODUCT ID", "CONTEXT")


def read_nodes(path):
    """Tables of a file, and attributes of all its nodes."""
    with tables.open_file(path) as file:
        attributes = {
            node._v_pathname: {
                name: node._v_attrs[name] for name in node._v_attrs._v_attrnamesuser
            }
            for node in file.walk_nodes("/")
        }
        names = [
            node._v_pathname
            for node in file.walk_nodes("/", "Table")
            if not node._v_pathname.startswith("/configuration/instrument")
        ]
        return {name: read_table(file, name) for name in names}, attributes


def assert_columns_equal(name, one, other):
    if isinstance(one, Time):
        assert np.abs((one - other).to_value(u.ns)).max(initial=0) < 1
        return
    assert one.unit == other.unit, name
    # ctapipe-process can make signed numbers unsigned.
    kinds = {"i": "iu", "u": "iu"}.get(one.dtype.kind, one.dtype.kind)
    assert other.dtype.kind in kinds, name
    if one.dtype.kind != "f":
        np.testing.assert_array_equal(one, other, err_msg=name)
        return
    # Random networks put impact points ten kilometres away.
    atol = 1e-5 * (1e4 if one.unit == u.m else 10)
    one, other = np.asarray(one), np.asarray(other)
    if name.endswith("_az"):
        other = one + (other - one + 180) % 360 - 180
    np.testing.assert_allclose(other, one, rtol=1e-5, atol=atol, err_msg=name)


def assert_same_file(expected, found, dl1, same_version=True):
    """Every node, column, unit, attribute and value of ctapipe-process is there.

    What else there is, is as in the input.
    """
    expected, expected_attributes = read_nodes(expected)
    found, found_attributes = read_nodes(found)
    original, _ = read_nodes(dl1)
    assert set(expected_attributes) <= set(found_attributes)
    for name, table in expected.items():
        shared = [c for c in found[name].colnames if c in table.colnames]
        assert shared == table.colnames, name
        assert len(found[name]) == len(table), name
        for column in table.colnames:
            assert_columns_equal(
                f"{name}: {column}", table[column], found[name][column]
            )
        for column in set(found[name].colnames) - set(table.colnames):
            assert_columns_equal(
                f"{name}: {column}", original[name][column], found[name][column]
            )
    for name in set(found) - set(expected):
        assert found[name].colnames == original[name].colnames
        assert len(found[name]) == len(original[name])
    for node, attributes in expected_attributes.items():
        if not same_version and not node.startswith("/dl2"):
            continue
        for name, value in attributes.items():
            if name.startswith(OWN_ATTRIBUTES):
                continue
            if name == "CTAPIPE_VERSION" and not same_version:
                continue
            np.testing.assert_array_equal(found_attributes[node][name], value)
    return set(found) - set(expected)


@pytest.fixture(scope="module")
def processed(toy_file, toy_model, tmp_path_factory):
    output = tmp_path_factory.mktemp("processed") / "toy.dl2.h5"
    return process(toy_file, toy_model, output)


@pytest.mark.parametrize(
    "options",
    [
        (),
        # None of them divides the number of events or of images.
        ("--chunk-size=1",),
        ("--chunk-size=3", "--batch-size=5"),
        ("--chunk-size=100", "--batch-size=7", "--engine=indexed"),
    ],
)
def test_the_output_is_that_of_ctapipe_process(
    toy_file, toy_model, processed, tmp_path, options
):
    """Two telescope types; whatever the chunks and batches, the last one included."""
    output = apply(toy_file, toy_model, tmp_path / "toy.dl2.h5", *options)
    more = assert_same_file(processed, output, toy_file)
    assert more == {IMAGE_STATISTICS}
    assert [path.name for path in tmp_path.iterdir() if ".h5" in path.name] == [
        "toy.dl2.h5",
        "toy.dl2.h5.provenance.log",
    ]


@pytest.mark.slow
def test_the_reference_engine_needs_no_compiled_code(
    toy_file, toy_model, processed, tmp_path
):
    """Neither does ctapipe to combine tables, with a little help."""
    output = tmp_path / "toy.dl2.h5"
    subprocess.run(
        [
            *(sys.executable, "-m", "ctapipe_gammaphysnet.tools.apply"),
            *("--input", toy_file, "--model", toy_model, "--output", output),
            *("--engine", "indexed", "--device", "cpu", "--quiet"),
        ],
        cwd=tmp_path,
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"},
        check=True,
    )
    assert_same_file(processed, output, toy_file)


def test_blocks_of_images_do_not_change_anything(
    toy_file, toy_model, processed, tmp_path, monkeypatch
):
    monkeypatch.setattr(bulk, "_IMAGES_PER_BLOCK", 2)
    output = apply(toy_file, toy_model, tmp_path / "toy.dl2.h5", "--batch-size=3")
    assert_same_file(processed, output, toy_file)


def test_the_next_images_are_read_while_the_network_computes(
    toy_file, toy_model, tmp_path, monkeypatch
):
    reads, others_are_read = [], threading.Event()

    def read(*arguments, original=DL1File.fetch_images):
        reads.append(arguments)
        if len(reads) == 2:
            others_are_read.set()
        return original(*arguments)

    def compute(*arguments, original=GammaPhysNetReconstructor.run_network):
        assert others_are_read.wait(timeout=60)
        return original(*arguments)

    monkeypatch.setattr(DL1File, "fetch_images", read)
    monkeypatch.setattr(GammaPhysNetReconstructor, "run_network", compute)
    apply(toy_file, toy_model, tmp_path / "a.dl2.h5", "--chunk-size=1")


def test_few_images_wait_for_the_network(toy_file, toy_model, tmp_path, monkeypatch):
    """However slow it is: memory is flat."""
    n_read, n_done, waiting = 0, 0, []

    def read(*arguments, original=DL1File.fetch_images):
        nonlocal n_read
        images = original(*arguments)
        _, _, row, *_ = arguments
        n_read += len(row)
        waiting.append(n_read - n_done)
        return images

    def compute(*arguments, original=GammaPhysNetReconstructor.run_network):
        nonlocal n_done
        time.sleep(0.02)
        outputs = original(*arguments)
        _, _, inputs, *_ = arguments
        n_done += len(inputs)
        return outputs

    monkeypatch.setattr(DL1File, "fetch_images", read)
    monkeypatch.setattr(GammaPhysNetReconstructor, "run_network", compute)
    monkeypatch.setattr(bulk, "_IMAGES_PER_BLOCK", 1)
    apply(toy_file, toy_model, tmp_path / "a.dl2.h5", "--batch-size=1")
    assert n_read == n_done > 20
    # Those that are computed, one that is ready, and one that is being read.
    assert 2 <= max(waiting) <= 4


def test_an_error_of_the_network_is_raised(toy_file, toy_model, tmp_path, monkeypatch):
    def fail(*arguments):
        raise MemoryError("of the GPU")

    monkeypatch.setattr(GammaPhysNetReconstructor, "run_network", fail)
    with pytest.raises(MemoryError, match="of the GPU"):
        apply(toy_file, toy_model, tmp_path / "a.dl2.h5")
    assert_no_output(tmp_path)


def test_the_network_stops_with_the_tool(toy_file, toy_model, tmp_path, monkeypatch):
    calls = []

    def compute(*arguments, original=GammaPhysNetReconstructor.run_network):
        calls.append(arguments)
        time.sleep(0.02)
        return original(*arguments)

    def fail(*arguments):
        raise OSError("no space left")

    monkeypatch.setattr(GammaPhysNetReconstructor, "run_network", compute)
    monkeypatch.setattr(bulk, "_write_chunk", fail)
    with pytest.raises(OSError, match="no space left"):
        apply(toy_file, toy_model, tmp_path / "a.dl2.h5", "--chunk-size=1")
    n_calls = len(calls)
    time.sleep(0.2)
    assert len(calls) == n_calls <= 2 * bulk._BLOCKS_AHEAD


def test_tables_are_copied_as_they_are(toy_file, toy_model, tmp_path):
    """Compressed as they were, and with the gaps that some have between columns."""
    dl1 = tmp_path / "more.dl1.h5"
    shutil.copy(toy_file, dl1)
    gaps = np.dtype({"names": ["a", "b"], "formats": ["i1", "f8"], "offsets": [0, 8]})
    values = np.zeros(1000, gaps)
    values["a"], values["b"] = np.arange(1000) % 100, np.arange(1000) / 3
    with tables.open_file(dl1, "a") as file:
        gaps = file.create_table("/", "gaps", obj=values, chunkshape=300)
        assert gaps.description._v_dtype.itemsize == 16
    output = apply(dl1, toy_model, tmp_path / "a.dl2.h5")
    with tables.open_file(dl1) as one, tables.open_file(output) as other:
        np.testing.assert_array_equal(other.root.gaps[:], values)
        for node in ("/gaps", "/dl1/event/telescope/parameters/tel_001"):
            assert other.root[node].attrs.NROWS == one.root[node].nrows
            for start in range(0, one.root[node].nrows, *one.root[node].chunkshape):
                chunks = [file.root[node].read_chunk((start,)) for file in (one, other)]
                assert chunks[0] == chunks[1]


@pytest.mark.slow
def test_the_carried_example(tmp_path):
    """LSTCam, fixed-point images, written by ctapipe 0.28."""
    dl1 = ROOT / "examples/data/sample_gamma.dl1.h5"
    model = ROOT / "examples/data/lst_demonstration.safetensors"
    expected = process(dl1, model, tmp_path / "process.dl2.h5")
    output = apply(dl1, model, tmp_path / "apply.dl2.h5")
    assert_same_file(expected, output, dl1, same_version=False)


def test_images_are_copied_if_asked_for(toy_file, toy_model, tmp_path):
    expected = process(toy_file, toy_model, tmp_path / "p.dl2.h5", "--write-images")
    output = apply(toy_file, toy_model, tmp_path / "a.dl2.h5", "--dl1-images")
    assert_same_file(expected, output, toy_file)
    images, _ = read_nodes(output)
    image = images["/dl1/event/telescope/images/tel_001"]["image"]
    np.testing.assert_array_equal(
        image, read_table(toy_file, "/dl1/event/telescope/images/tel_001")["image"]
    )


@pytest.mark.parametrize(
    "options",
    [
        ("--StereoMeanCombiner.weights=intensity",),
        ("--StereoMeanCombiner.log_target=True",),
        ("--GammaPhysNetReconstructor.prefix=Other",),
    ],
)
def test_the_configuration_is_that_of_the_reconstructor(
    toy_file, toy_model, tmp_path, options
):
    expected = process(toy_file, toy_model, tmp_path / "p.dl2.h5", *options)
    output = apply(toy_file, toy_model, tmp_path / "a.dl2.h5", *options)
    assert_same_file(expected, output, toy_file)


@pytest.mark.parametrize("threshold", [300, 1e9])
def test_the_selection_is_that_of_the_reconstructor(
    toy_file, toy_model, tmp_path, threshold
):
    """Some images, and none."""
    config = tmp_path / "config.json"
    criteria = [["bright", f"hillas_intensity > {threshold}"]]
    query = {"ImageQualityQuery": {"quality_criteria": criteria}}
    config.write_text(json.dumps(query))
    expected = process(toy_file, toy_model, tmp_path / "p.dl2.h5", f"--config={config}")
    output = apply(toy_file, toy_model, tmp_path / "a.dl2.h5", f"--config={config}")
    assert_same_file(expected, output, toy_file)
    counts = read_table(output, STATISTICS)
    n_valid = dict(zip(counts["criteria"], counts["counts"], strict=True))["bright"]
    assert (n_valid == 0) == (threshold == 1e9)


@pytest.mark.parametrize(
    ("allowed", "chunk_size"),
    [
        (["SUBARRAY"], 1000),
        (["SUBARRAY"], 3),
        (["SUBARRAY", "MUON"], 3),
        (["DAQ"], 3),
        ([], 3),
    ],
)
def test_event_types_are_those_of_ctapipe_process(
    toy_file, toy_model, tmp_path, capfd, allowed, chunk_size
):
    dl1 = shutil.copy(toy_file, tmp_path / "planted.dl1.h5")
    is_shower = toy_sample.plant_event_types(dl1)
    options = [f"--EventTypeFilter.allowed_types={name}" for name in allowed]
    output = apply(
        dl1, toy_model, tmp_path / "a.dl2.h5", f"--chunk-size={chunk_size}", *options
    )
    log = capfd.readouterr().err
    if allowed == ["DAQ"]:
        # ctapipe-process writes no tables of events then.
        with tables.open_file(output) as file:
            for table in file.walk_nodes("/", "Table"):
                if "event_id" in table.colnames:
                    assert table.nrows == 0, table._v_pathname
            assert "/dl2/event/subarray/energy/GammaPhysNetEnergy" in file
        assert "0 events, without" in log
        assert "allowed_types leaves out all events: " in log
        assert "but DAQ is allowed" in log
        return
    expected = process(dl1, toy_model, tmp_path / "p.dl2.h5", *options)
    more = assert_same_file(expected, output, dl1)
    assert more == {IMAGE_STATISTICS}
    energies = read_table(output, "/dl2/event/subarray/energy/GammaPhysNetEnergy")
    if allowed == ["SUBARRAY"]:
        assert len(energies) == is_shower.sum() < len(is_shower)
        assert f"{is_shower.sum()} events, without " in log
        assert "FLATFIELD" in log
    if not allowed:
        assert len(energies) == len(is_shower)
        assert "not showers (" in log


def test_event_types_of_a_configuration_of_ctapipe_process(
    toy_file, toy_model, tmp_path
):
    dl1 = shutil.copy(toy_file, tmp_path / "planted.dl1.h5")
    toy_sample.plant_event_types(dl1)
    event_type = read_table(dl1, "/dl1/event/subarray/trigger")["event_type"]
    n_chosen = np.isin(
        event_type, [EventType.SUBARRAY.value, EventType.MUON.value]
    ).sum()
    config = tmp_path / "config.json"
    section = {"EventTypeFilter": {"allowed_types": ["SUBARRAY", "MUON"]}}
    for content in (
        section,
        {"ProcessorTool": section},
        {"ApplyGammaPhysNet": section},
    ):
        config.write_text(json.dumps(content))
        output = tmp_path / "a.dl2.h5"
        apply(dl1, toy_model, output, f"--config={config}", "--overwrite")
        with tables.open_file(output) as file:
            assert file.root.dl1.event.subarray.trigger.nrows == n_chosen
    folder = tmp_path / "outputs"
    folder.mkdir()
    apply(dl1, toy_model, folder)
    with pytest.raises(ToolConfigurationError, match="allowed_types was null, is"):
        apply(dl1, toy_model, folder, f"--config={config}")


def test_a_criterion_for_single_images_is_a_clear_error(toy_file, toy_model, tmp_path):
    config = tmp_path / "config.json"
    expression = "hillas_intensity > 10 and morphology_n_pixels > 0"
    query = {"ImageQualityQuery": {"quality_criteria": [["both", expression]]}}
    config.write_text(json.dumps(query))
    with pytest.raises(ToolConfigurationError, match="Use '&'"):
        apply(toy_file, toy_model, tmp_path / "a.dl2.h5", f"--config={config}")


@pytest.mark.parametrize("weights", StereoMeanCombiner.weights.values)
def test_weights_that_give_no_mean_give_no_valid_prediction(
    toy_file, toy_model, tmp_path, weights
):
    """Images that are a line, or a point, or at the edge altogether."""
    dl1 = shutil.copy(toy_file, tmp_path / "lines.dl1.h5")
    with tables.open_file(dl1, "r+") as file:
        for table in file.root.dl1.event.telescope.parameters:
            rows = table.read()
            # As many with each flaw, and as many without: telescopes with and without
            # meet in events.
            rows["hillas_width"][::4] = 0
            rows["hillas_width"][1::4] = rows["hillas_length"][1::4]
            rows["leakage_intensity_width_2"][2::4] = 1
            table[:] = rows
    option = f"--StereoMeanCombiner.weights={weights}"
    with warnings.catch_warnings():
        # ctapipe divides by the width.
        warnings.simplefilter("ignore", RuntimeWarning)
        expected = process(dl1, toy_model, tmp_path / "p.dl2.h5", option)
    output = apply(dl1, toy_model, tmp_path / "a.dl2.h5", option)
    assert_same_file(expected, output, dl1)
    counts = read_table(output, STATISTICS)
    counts = dict(zip(counts["criteria"], counts["counts"], strict=True))
    for kind, field in (("energy", "energy"), (PARTICLE_TYPE, "prediction")):
        name = group_names("GammaPhysNet")[kind]
        table = read_table(output, f"/dl2/event/subarray/{kind}/{name}")
        valid = np.asarray(table[f"{name}_is_valid"])
        assert np.array_equal(np.isfinite(table[f"{name}_{field}"]), valid)
        assert np.array_equal(table[f"{name}_telescopes"].any(axis=1), valid)
        assert counts[f"valid {kind} of the array"] == valid.sum()
        # Some weights are of use, whatever they are.
        assert valid.any()


def test_other_combiners_work_as_in_ctapipe_process(toy_file, toy_model, tmp_path):
    class OwnCombiner(StereoMeanCombiner):
        """A combiner that is not ctapipe's."""

    option = "--GammaPhysNetReconstructor.stereo_combiner_cls=OwnCombiner"
    expected = process(toy_file, toy_model, tmp_path / "p.dl2.h5", option)
    output = apply(toy_file, toy_model, tmp_path / "a.dl2.h5", option)
    assert_same_file(expected, output, toy_file)


def test_combiners_of_single_events_are_a_clear_error(toy_file, toy_model, tmp_path):
    class SingleEventCombiner(StereoMeanCombiner):
        """A combiner without a way to combine many events at once."""

        def predict_table(self, mono_predictions):
            raise NotImplementedError

    option = "--GammaPhysNetReconstructor.stereo_combiner_cls=SingleEventCombiner"
    with pytest.raises(ToolConfigurationError, match="cannot combine many events"):
        apply(toy_file, toy_model, tmp_path / "a.dl2.h5", option)
    assert_no_output(tmp_path)


def test_cleaned_images(toy_file, toy_subarray, make_model, tmp_path):
    model = tmp_path / "cleaned.safetensors"
    write_model(model, make_model(toy_subarray.telescope_types, image="cleaned"))
    expected = process(toy_file, model, tmp_path / "p.dl2.h5")
    output = apply(toy_file, model, tmp_path / "a.dl2.h5")
    assert_same_file(expected, output, toy_file)


@pytest.mark.parametrize("tasks", [("energy",), ("direction", "class")])
def test_networks_without_all_tasks(
    toy_file, toy_subarray, make_model, tmp_path, tasks
):
    model = tmp_path / "tasks.safetensors"
    write_model(model, make_model(toy_subarray.telescope_types, tasks=tasks))
    expected = process(toy_file, model, tmp_path / "p.dl2.h5")
    output = apply(toy_file, model, tmp_path / "a.dl2.h5")
    assert_same_file(expected, output, toy_file)


def test_telescopes_without_network(toy_file, toy_subarray, make_model, tmp_path):
    (telescope,) = [t for t in toy_subarray.telescope_types if "Other" in str(t)]
    model = tmp_path / "half.safetensors"
    write_model(model, make_model(telescope))
    with pytest.raises(ToolConfigurationError, match="no network for telescope type"):
        apply(toy_file, model, tmp_path / "a.dl2.h5")
    option = "--GammaPhysNetReconstructor.missing_network=warn"
    expected = process(toy_file, model, tmp_path / "p.dl2.h5", option)
    output = apply(toy_file, model, tmp_path / "a.dl2.h5", option)
    assert_same_file(expected, output, toy_file)


def test_a_single_event(toy_model, tmp_path):
    dl1 = toy_sample.write_toy_file(
        tmp_path / "one.dl1.h5", "gamma", 1, array=small_cameras()
    )
    expected = process(dl1, toy_model, tmp_path / "p.dl2.h5")
    output = apply(dl1, toy_model, tmp_path / "a.dl2.h5")
    assert_same_file(expected, output, dl1)


def make_observation(simulation, path):
    """Of a simulated file one as if observed: no truth, and a monitored pointing."""
    shutil.copy(simulation, path)
    with tables.open_file(path, "r+") as file:
        for group in (
            "/simulation",
            "/configuration/simulation",
            "/configuration/telescope/pointing",
        ):
            file.remove_node(group, recursive=True)
    times = read_table(path, "/dl1/event/subarray/trigger")["time"]
    time = times[0] + TimeDelta(np.linspace(-10, 10 + len(times), 7), format="sec")
    for tel_id in range(1, 5):
        table = QTable(
            {
                "time": time,
                # Across north.
                "azimuth": np.linspace(355, 365, 7) % 360 * u.deg.to(u.rad) * u.rad,
                "altitude": np.linspace(70, 71 + tel_id, 7) * u.deg.to(u.rad) * u.rad,
            }
        )
        write_table(table, path, f"{POINTING}/tel_{tel_id:03d}")
    return path


def test_observations(toy_file, toy_model, tmp_path):
    dl1 = make_observation(toy_file, tmp_path / "observation.dl1.h5")
    expected = process(dl1, toy_model, tmp_path / "p.dl2.h5")
    output = apply(dl1, toy_model, tmp_path / "a.dl2.h5", "--chunk-size=5")
    more = assert_same_file(expected, output, dl1)
    pointing = {f"{POINTING}/tel_{tel_id:03d}" for tel_id in range(1, 5)}
    assert more == {IMAGE_STATISTICS} | pointing
    with tables.open_file(output) as file:
        assert file.root._v_attrs["CTA PROCESS TYPE"] == "Observation"
    with TableLoader(output) as loader:
        events = loader.read_telescope_events(dl2=True, simulated=False)
    assert len(np.unique(events["telescope_pointing_azimuth"])) > 10


def test_a_pointing_that_ends_early_is_a_clear_error(toy_file, toy_model, tmp_path):
    dl1 = make_observation(toy_file, tmp_path / "observation.dl1.h5")
    with tables.open_file(dl1, "r+") as file:
        file.root[f"{POINTING}/tel_002"].truncate(2)
    with pytest.raises(DL1FileError, match="pointing of telescope 2"):
        apply(dl1, toy_model, tmp_path / "a.dl2.h5")


def test_only_the_equivalent_focal_length_is_known(toy_file, toy_model, tmp_path):
    dl1 = tmp_path / "old.dl1.h5"
    shutil.copy(toy_file, dl1)
    with tables.open_file(dl1, "r+") as file:
        optics = file.root["/configuration/instrument/telescope/optics"]
        rows = optics.read()
        rows["effective_focal_length"] = np.nan
        optics.modify_rows(start=0, rows=rows)
    with pytest.raises(DL1FileError, match=r"old.dl1.h5.*EQUIVALENT"):
        apply(dl1, toy_model, tmp_path / "a.dl2.h5")
    expected = process(
        dl1,
        toy_model,
        tmp_path / "p.dl2.h5",
        "--HDF5EventSource.focal_length_choice=EQUIVALENT",
    )
    option = "--focal-length-choice=EQUIVALENT"
    output = apply(dl1, toy_model, tmp_path / "a.dl2.h5", option)
    assert_same_file(expected, output, dl1)


def test_what_others_put_into_the_input_is_copied_or_named(
    toy_file, toy_model, tmp_path, capfd
):
    """Raw chunks would be garbage in another byte order, or be there not at all."""
    dl1 = tmp_path / "a.dl1.h5"
    shutil.copy(toy_file, dl1)
    rows = np.array([(1, 0.5), (2, 1.5)], dtype=[("run", "i8"), ("x", "f8")])
    with tables.open_file(dl1, "r+") as file:
        file.create_table("/", "big_endian", rows.copy(), byteorder="big")
        group = file.create_group("/", "mine")
        file.create_array(file.create_group(group, "classification"), "cut", [3.0])
        objects = tables.ObjectAtom(), "", tables.Filters()
        file.create_vlarray(group, "objects", *objects).append({})
    # As astropy and h5repack write: contiguous, and without PyTables' attributes.
    Table(rows).write(dl1, path="runs", append=True)
    expected = apply(toy_file, toy_model, tmp_path / "e.dl2.h5")
    output = apply(dl1, toy_model, tmp_path / "a.dl2.h5")
    with tables.open_file(output) as file, tables.open_file(expected) as without:
        for name in ("big_endian", "runs"):
            assert file.root[f"/{name}"].read().tolist() == rows.tolist()
        assert file.root["/mine/classification/cut"].read() == [3.0]
        path = "/dl2/event/telescope/energy/GammaPhysNetEnergy/tel_001"
        name = "GammaPhysNetEnergy_tel_energy"
        found, usual = (f.root[path].col(name) for f in (file, without))
        np.testing.assert_array_equal(found, usual)
        assert "/mine/objects" not in file
    assert "/mine/objects is not copied" in capfd.readouterr().err


def test_other_dl2_is_kept_and_ours_replaced(
    toy_file, toy_model, toy_subarray, make_model, tmp_path
):
    """As if ctapipe-process had run both at once; our own are of the new model."""
    other = tmp_path / "other.safetensors"
    write_model(other, make_model(toy_subarray.telescope_types, seed=7))
    hillas = "--reconstructor=HillasReconstructor"
    dl2 = process(toy_file, other, tmp_path / "i.dl2.h5", hillas, "--write-images")
    output = apply(dl2, toy_model, tmp_path / "a.dl2.h5")
    expected = process(toy_file, toy_model, tmp_path / "p.dl2.h5", hillas)
    assert "/dl2/event/subarray/geometry/HillasReconstructor" in read_nodes(output)[0]
    assert_same_file(expected, output, dl2)
    with tables.open_file(output) as file:
        levels = file.root._v_attrs["CTA PRODUCT DATA LEVELS"]
    assert levels == "DL1_PARAMETERS,DL2"


def test_ctapipe_reads_and_merges_the_output(toy_file, toy_model, tmp_path):
    other = toy_sample.write_toy_file(
        tmp_path / "b.dl1.h5", "gamma", 3, 5, array=small_cameras(), obs_id=2
    )
    folder = tmp_path / "dl2"
    folder.mkdir()
    apply([toy_file, other], toy_model, folder)
    merged = tmp_path / "merged.dl2.h5"
    argv = [*map(str, sorted(folder.glob("*.dl2.h5"))), f"--output={merged}"]
    run_tool(MergeTool(), argv=argv, cwd=tmp_path, raises=True)
    with TableLoader(merged) as loader:
        array = loader.read_subarray_events(dl2=True)
        telescopes = loader.read_telescope_events(dl2=True)
    assert len(array) == 16 + 3
    assert np.isfinite(array["GammaPhysNetEnergy_energy"]).sum() >= 3
    valid = []
    with EventSource(merged) as source:
        for event in source:
            for tel_id in event.trigger.tels_with_trigger:
                dl2 = event.dl2.tel[tel_id]
                particle_type = getattr(dl2, PARTICLE_TYPE)["GammaPhysNetClassifier"]
                valid.append(particle_type.is_valid)
    assert len(valid) == len(telescopes)
    assert sum(valid) == telescopes["GammaPhysNetClassifier_tel_is_valid"].sum() > 10


def test_a_file_without_events(toy_file, toy_model, tmp_path):
    dl1 = tmp_path / "none.dl1.h5"
    shutil.copy(toy_file, dl1)
    with tables.open_file(dl1, "r+") as file:
        # What ctapipe writes with the first event.
        for group in (
            "/dl1",
            "/simulation/event",
            "/configuration/telescope/pointing",
        ):
            file.remove_node(group, recursive=True)
    output = apply(dl1, toy_model, tmp_path / "none.dl2.h5")
    with tables.open_file(output) as file:
        assert "/dl2/event" not in file
        assert "DL2" in file.root._v_attrs["CTA PRODUCT DATA LEVELS"]
    counts = read_table(output, STATISTICS)
    # As many rows as in any other file: such tables can be merged.
    assert counts["counts"].tolist() == [0] * 11


def test_nothing_is_there_before_the_output_is_complete(
    toy_file, toy_model, tmp_path, monkeypatch
):
    """Not even under another name, once the tool has stopped."""
    seen = []

    def fail(*arguments, original=bulk._write_chunk):
        seen.append([path.name for path in tmp_path.iterdir()])
        if len(seen) == 2:
            raise KeyboardInterrupt
        original(*arguments)

    monkeypatch.setattr(bulk, "_write_chunk", fail)
    with pytest.raises(CalledProcessError):
        apply(toy_file, toy_model, tmp_path / "a.dl2.h5", "--chunk-size=5")
    (name,) = seen[0]
    assert name.startswith("a.dl2.h5.")
    assert name.endswith(".part")
    assert_no_output(tmp_path)


@pytest.mark.slow
def test_a_killed_run_leaves_nothing_that_looks_finished(toy_file, toy_model, tmp_path):
    output = tmp_path / "a.dl2.h5"
    # Event by event, so that it takes a while.
    argv = [
        *(sys.executable, "-m", "ctapipe_gammaphysnet.tools.apply"),
        *(f"--input={toy_file}", f"--model={toy_model}", f"--output={output}"),
        *("--chunk-size=1", "--no-progress", "--n-jobs=1"),
    ]
    process = subprocess.Popen(
        argv, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while not list(tmp_path.glob("*.part")):
        assert process.poll() is None
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert not output.exists()
    # The next run is not in the way of what was left, and does it all.
    apply(toy_file, toy_model, output, "--chunk-size=1")
    expected = apply(toy_file, toy_model, tmp_path / "b.dl2.h5")
    tables = [
        read_table(path, "/dl2/event/subarray/energy/GammaPhysNetEnergy")
        for path in (output, expected)
    ]
    assert len(tables[0]) == len(tables[1]) > 0
    for name in ("event_id", "GammaPhysNetEnergy_energy"):
        np.testing.assert_allclose(tables[0][name], tables[1][name], rtol=1e-5)


def assert_no_output(folder):
    assert not [p for p in folder.glob("*dl2*") if not p.name.endswith(".log")]


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_a_truncated_input_is_a_clear_error(toy_file, toy_model, tmp_path, fraction):
    dl1 = tmp_path / "truncated.dl1.h5"
    content = toy_file.read_bytes()
    dl1.write_bytes(content[: int(fraction * len(content))])
    before = sha256(dl1)
    with pytest.raises(DL1FileError, match="truncated.dl1.h5"):
        apply(dl1, toy_model, tmp_path / "a.dl2.h5")
    assert sha256(dl1) == before
    assert_no_output(tmp_path)


@pytest.mark.parametrize(
    "node",
    [
        "/dl1/event/telescope/images/tel_003",
        "/dl1/event/telescope/parameters/tel_001",
        "/dl1/event/subarray/trigger",
        "/simulation/event/subarray/shower",
    ],
)
def test_an_unreadable_chunk_is_a_clear_error(toy_file, toy_model, tmp_path, node):
    dl1 = tmp_path / "damaged.dl1.h5"
    shutil.copy(toy_file, dl1)
    with tables.open_file(dl1) as file:
        chunk = file.root[node].chunk_info((0,))
    with open(dl1, "r+b") as file:
        file.seek(chunk.offset + chunk.size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 0xFF]))
    with pytest.raises(DL1FileError, match="damaged.dl1.h5 cannot be read"):
        apply(dl1, toy_model, tmp_path / "a.dl2.h5")
    assert_no_output(tmp_path)


@pytest.mark.parametrize("size", [0, 20_000, 100_000, 200_000, 300_000])
def test_a_full_disk_is_a_clear_error(toy_file, toy_model, tmp_path, monkeypatch, size):
    """Simulated by the largest size that a file may have."""

    def with_full_disk(*arguments, original=apply_module.reconstruct_file):
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
            original(*arguments)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, handler)

    monkeypatch.setattr(apply_module, "reconstruct_file", with_full_disk)
    with pytest.raises(OutputError, match="a.dl2.h5 cannot be written"):
        apply(toy_file, toy_model, tmp_path / "a.dl2.h5")
    assert_no_output(tmp_path)


def test_complete_outputs_are_skipped(
    toy_file, toy_model, toy_subarray, make_model, tmp_path
):
    folder = tmp_path / "dl2"
    folder.mkdir()
    inputs = [tmp_path / "a.dl1.h5", tmp_path / "b.h5"]
    for path in inputs:
        shutil.copy(toy_file, path)
    apply(inputs[0], toy_model, folder)
    first = folder / "a.dl2.h5"
    before = sha256(first)
    apply(inputs, toy_model, folder)
    assert sha256(first) == before
    assert (folder / "b.dl2.h5").exists()

    other = tmp_path / "other.safetensors"
    write_model(other, make_model(toy_subarray.telescope_types, seed=7))
    with pytest.raises(ToolConfigurationError, match=r"a.dl2.h5 exists.*--overwrite"):
        apply(inputs, other, folder)
    assert sha256(first) == before
    apply(inputs, other, folder, "--overwrite")
    assert sha256(first) != before


def test_a_file_that_is_no_output_is_not_replaced(toy_file, toy_model, tmp_path):
    folder = tmp_path / "dl2"
    folder.mkdir()
    (folder / "toy.dl2.h5").write_text("mine")
    with pytest.raises(ToolConfigurationError, match="toy.dl2.h5 exists"):
        apply(toy_file, toy_model, folder)
    assert (folder / "toy.dl2.h5").read_text() == "mine"


def test_an_output_is_replaced_only_if_asked_for(toy_file, toy_model, tmp_path):
    output = tmp_path / "a.dl2.h5"
    output.write_text("mine")
    with pytest.raises(ToolConfigurationError, match="overwrite"):
        apply(toy_file, toy_model, output)
    assert output.read_text() == "mine"
    apply(toy_file, toy_model, output, "--overwrite")
    assert tables.is_hdf5_file(str(output))


@pytest.mark.parametrize("kind", ["images", "parameters"])
def test_missing_images_or_parameters(toy_model, tmp_path, kind):
    dl1 = toy_sample.write_toy_file(
        tmp_path / "part.dl1.h5", "gamma", 3, array=small_cameras(), **{kind: False}
    )
    with pytest.raises(MissingImagesError, match=f"part.dl1.h5 has no DL1 {kind}"):
        apply(dl1, toy_model, tmp_path / "a.dl2.h5")


def run(tmp_path, *argv):
    run_tool(ApplyGammaPhysNet(), argv=list(argv), cwd=tmp_path, raises=True)


def test_what_is_asked_for_must_make_sense(toy_file, toy_model, tmp_path):
    file, model = f"--input={toy_file}", f"--model={toy_model}"
    (tmp_path / "b").mkdir()
    twin = tmp_path / "b" / toy_file.name
    shutil.copy(toy_file, twin)
    for argv, message in (
        ((model, "--output=a.dl2.h5"), "--input FILE"),
        ((file, model), "--output FILE"),
        ((file, model, "--output=a.dl2.h5", "--output-dir=b"), "either"),
        ((file, f"--input={twin}", model, "--output=a.dl2.h5"), "--output-dir"),
        ((file, f"--input={twin}", model, "--output-dir=b"), "2 inputs"),
        ((file, model, f"--output={toy_file}", "--overwrite"), "is an input"),
        ((file, model, "--output=no/a.dl2.h5"), "cannot write into"),
        ((file, "--output=a.dl2.h5"), "--model"),
        ((file, model, "--output=a.dl2.h5", "stray"), "stray"),
        ((f"--input={toy_model}", model, "--output=a.dl2.h5"), "not a ctapipe DL1"),
    ):
        with pytest.raises(ToolConfigurationError, match=message):
            run(tmp_path, *argv)
    assert not list(tmp_path.glob("*dl2*"))


def test_model_input_and_output_are_in_the_provenance(toy_file, toy_model, tmp_path):
    output = apply(toy_file, toy_model, tmp_path / "a.dl2.h5")
    log = json.loads((tmp_path / "a.dl2.h5.provenance.log").read_text())[-1]
    assert {entry["url"] for entry in log["input"]} == {str(toy_file), str(toy_model)}
    assert [entry["url"] for entry in log["output"]] == [str(output)]


# --- what is there already


def test_what_another_process_made_meanwhile_is_not_made_again(
    toy_file, toy_model, tmp_path, monkeypatch
):
    inputs = [tmp_path / f"{name}.dl1.h5" for name in "ab"]
    for path in inputs:
        shutil.copy(toy_file, path)
    options = f"--model={toy_model}", "--output-dir=out"
    apply_one, made = ApplyGammaPhysNet._apply, []

    def _apply(tool, dl1, output):
        made.append(output.name)
        apply_one(tool, dl1, output)
        if len(made) == 1:
            run(tmp_path, f"--input={inputs[1]}", *options)

    monkeypatch.setattr(ApplyGammaPhysNet, "_apply", _apply)
    run(tmp_path, *(f"--input={path}" for path in inputs), *options)
    assert made == ["a.dl2.h5", "b.dl2.h5"]


@pytest.fixture(scope="module")
def finished(toy_file, toy_model, tmp_path_factory):
    """A folder with an input and its output."""
    folder = tmp_path_factory.mktemp("finished")
    shutil.copy(toy_file, folder / "a.dl1.h5")
    apply(folder / "a.dl1.h5", toy_model, folder)
    return folder, folder / "a.dl2.h5"


@pytest.mark.parametrize(
    "option",
    [
        "--GammaPhysNetReconstructor.prefix=Other",
        "--GammaPhysNetReconstructor.precision=bfloat16",
        "--GammaPhysNetReconstructor.engine=indexed",
        "--StereoMeanCombiner.weights=intensity",
        "--StereoMeanCombiner.log_target=True",
        "--ApplyGammaPhysNet.dl1_images=True",
        "--ApplyGammaPhysNet.focal_length_choice=EQUIVALENT",
        "--Contact.name=Somebody",
    ],
)
@pytest.mark.filterwarnings("ignore:.*bfloat16")
def test_an_output_is_no_answer_to_other_options(finished, toy_model, option):
    folder, output = finished
    before = sha256(output)
    name = option.removeprefix("--").partition("=")[0]
    with pytest.raises(ToolConfigurationError, match=f"{name} was .*--overwrite"):
        apply(folder / "a.dl1.h5", toy_model, folder, option)
    assert sha256(output) == before


def test_an_output_is_no_answer_to_other_criteria(finished, toy_model, tmp_path):
    folder, output = finished
    before = sha256(output)
    config = tmp_path / "bright.json"
    criteria = {"quality_criteria": [["bright", "hillas_intensity > 500"]]}
    config.write_text(json.dumps({"ImageQualityQuery": criteria}))
    with pytest.raises(ToolConfigurationError, match="quality_criteria was .*bright"):
        apply(folder / "a.dl1.h5", toy_model, folder, f"--config={config}")
    assert sha256(output) == before


def test_an_output_does_not_depend_on_hardware(finished, toy_model):
    folder, output = finished
    before = output.stat().st_mtime_ns
    options = "--n-jobs=1", "--batch-size=3", "--chunk-size=2"
    apply(folder / "a.dl1.h5", toy_model, folder, *options)
    assert output.stat().st_mtime_ns == before


def test_an_output_is_no_answer_to_a_changed_input(finished, toy_model):
    folder, _ = finished
    changed = folder / "changed" / "a.dl1.h5"
    changed.parent.mkdir()
    shutil.copy(folder / "a.dl1.h5", changed)
    with tables.open_file(changed, "r+") as file:
        table = file.root.dl1.event.telescope.images.tel_001
        table.modify_column(0, 2, column=table.col("image")[:2] * 2, colname="image")
    with pytest.raises(ToolConfigurationError, match="input .SHA-256. was"):
        apply(changed, toy_model, folder)


def test_links_are_written_through(toy_file, toy_model, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    output = tmp_path / "a.dl2.h5"
    output.symlink_to("scratch/target.h5")
    apply(toy_file, toy_model, output)
    first = sha256(scratch / "target.h5")
    apply(toy_file, toy_model, output, "--overwrite")
    assert output.is_symlink()
    assert sha256(scratch / "target.h5") != first
    assert [path.name for path in scratch.iterdir()] == ["target.h5"]


def test_only_plain_files_are_replaced_and_never_inputs(toy_file, toy_model, tmp_path):
    dl1, model = tmp_path / "a.dl1.h5", tmp_path / "model.safetensors"
    shutil.copy(toy_file, dl1)
    shutil.copy(toy_model, model)
    before = sha256(dl1), sha256(model)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "same.dl2.h5").hardlink_to(dl1)
    (tmp_path / "link.dl2.h5").symlink_to(dl1)
    for name, message in (
        ("pipe", "is a pipe"),
        ("same.dl2.h5", "is an input"),
        ("link.dl2.h5", "is an input"),
        ("model.safetensors", "is an input"),
    ):
        with pytest.raises(OutputError, match=message):
            apply(dl1, model, tmp_path / name, "--overwrite")
    assert (sha256(dl1), sha256(model)) == before
    assert pipe.is_fifo()


def test_it_says_what_it_wrote(toy_file, toy_model, tmp_path, capfd):
    apply(toy_file, toy_model, tmp_path / "a.dl2.h5")
    said = capfd.readouterr().err
    assert "a.dl2.h5: 16 events" in said
    (counts,) = [line for line in said.splitlines() if "valid energy of the" in line]
    assert int(counts.split()[-1]) > 0
    apply(toy_file, toy_model, tmp_path / "b.dl2.h5", "--quiet")
    assert "b.dl2.h5: 16 events" not in capfd.readouterr().err


# --- merging


def merge(paths, output):
    argv = [*map(str, paths), f"--output={output}", "--overwrite"]
    run_tool(MergeTool(), argv=argv, cwd=output.parent, raises=True)
    return output


def write_observation(path, n_events, obs_id):
    return toy_sample.write_toy_file(
        path, "gamma", n_events, 5, array=small_cameras(), obs_id=obs_id
    )


def change_events(path, change):
    """Change all tables of events in a file."""
    with tables.open_file(path, "r+") as file:
        for table in file.walk_nodes("/", "Table"):
            if "/event/" in table._v_pathname:
                change(table)
    return path


def remove_all(table):
    table.remove_rows()


def remove_signal(table):
    if "morphology_n_pixels" in table.colnames and table.nrows > 0:
        rows = table.read()
        rows["morphology_n_pixels"] = 0
        table.modify_rows(start=0, rows=rows)


def test_files_without_events_or_signal_merge_in_any_order(
    toy_file, toy_model, tmp_path
):
    empty = change_events(write_observation(tmp_path / "e.h5", 2, 2), remove_all)
    dark = change_events(write_observation(tmp_path / "d.h5", 2, 3), remove_signal)
    paths = [
        apply(dl1, toy_model, tmp_path / f"{number}.dl2.h5")
        for number, dl1 in enumerate((toy_file, empty, dark))
    ]
    counts = [read_table(path, STATISTICS)["counts"] for path in paths]
    assert counts[0].sum() > counts[2].sum() > counts[1].sum() == 0
    for order in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        merged = merge([paths[i] for i in order], tmp_path / "merged.h5")
        np.testing.assert_array_equal(
            read_table(merged, STATISTICS)["counts"], np.sum(counts, axis=0)
        )
        with TableLoader(merged) as loader:
            assert len(loader.read_subarray_events(dl2=True)) == 16 + 2


MODEL = "GAMMAPHYSNET_MODEL"


def test_all_output_names_its_model_however_it_was_made_and_merged(
    toy_file, toy_model, toy_subarray, make_model, tmp_path
):
    """Hash and note; in a file of two models each event names its own."""
    content = make_model(toy_subarray.telescope_types, seed=7)
    card = content.card.model_copy(update={"note": "ü" * 9999})
    other = tmp_path / "other.safetensors"
    write_model(other, Model(card, content.weights))
    second = write_observation(tmp_path / "b.dl1.h5", 2, 2)
    paths = [
        process(second, other, tmp_path / "p.dl2.h5"),
        apply(toy_file, toy_model, tmp_path / "a.dl2.h5"),
    ]
    notes = ["ü" * 1000, "Random weights, for tests."]
    hashes = [sha256(other), sha256(toy_model)]
    for path, digest, note in zip(paths, hashes, notes, strict=True):
        _, attributes = read_nodes(path)
        ours = [a for n, a in attributes.items() if "GammaPhysNet" in n.split("/")[-1]]
        ours += [
            a for n, a in attributes.items() if "/GammaPhysNet" in n and "/tel_" in n
        ]
        ours = [a for a in ours if f"{MODEL}_SHA256" in a]
        assert len(ours) == 3 + 4 * 4
        assert {str(a[f"{MODEL}_SHA256"]) for a in ours} == {digest}
        assert {str(a[f"{MODEL}_NOTE"]) for a in ours} == {note}
    for order in (paths, paths[::-1]):
        merged = merge(order, tmp_path / "merged.h5")
        with TableLoader(merged) as loader:
            events = loader.read_subarray_events(dl2=True)
        for name in ("Energy", "Geometry", "Classifier"):
            models = events[f"GammaPhysNet{name}_model"]
            first = events["obs_id"] == 1
            assert set(models[first]) == {hashes[1][:16]}
            assert set(models[~first]) == {hashes[0][:16]}


def test_any_number_of_runs(toy_file, toy_model, tmp_path):
    dl1 = tmp_path / "many.dl1.h5"
    shutil.copy(toy_file, dl1)
    with tables.open_file(dl1, "r+") as file:
        for name in ("observation_block", "scheduling_block"):
            table = file.root.configuration.observation[name]
            if "obs_id" in table.colnames:
                rows = np.repeat(table[:1], 14_999)
                rows["obs_id"] = np.arange(100_000, 114_999)
                table.append(rows)
    output = apply(dl1, toy_model, tmp_path / "many.dl2.h5")
    with tables.open_file(output) as file:
        assert file.root.configuration.observation.observation_block.nrows == 15_000
        assert file.root._v_attrs["CTA PROCESS ID"] == "1-114998"
        assert file.root.dl2.event.subarray.energy.GammaPhysNetEnergy.nrows == 16
