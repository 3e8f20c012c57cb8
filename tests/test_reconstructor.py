"""The reconstructor on events, and through ctapipe-process on files."""

import copy
import hashlib
import json
import pickle
import shutil
import subprocess
import sys
from itertools import islice

import astropy.units as u
import numpy as np
import pytest
import tables
import torch
import toy_sample
from astropy.coordinates import angular_separation
from conftest import small_cameras
from ctapipe.core import ToolConfigurationError, run_tool
from ctapipe.instrument import SubarrayDescription
from ctapipe.io import EventSource, TableLoader, read_table
from ctapipe.reco import Reconstructor, StereoCombiner
from ctapipe.tools.info import info
from ctapipe.tools.merge import MergeTool
from run_tools import process
from spoil import change_length, change_rows, lose_attributes
from traitlets.config import Config
from traitlets.traitlets import TraitError
from with_units import telescope_columns

from ctapipe_gammaphysnet import __version__
from ctapipe_gammaphysnet.compat import PARTICLE_TYPE
from ctapipe_gammaphysnet.dl2.containers import CONTAINERS, PROPERTIES, group_names
from ctapipe_gammaphysnet.events.dl1_format import (
    IMAGES,
    OBSERVATIONS,
    PARAMETERS,
    TELESCOPE_TRIGGER,
)
from ctapipe_gammaphysnet.events.preparation import MissingImagesError, UnfitImagesError
from ctapipe_gammaphysnet.files.input_file import DL1FileError
from ctapipe_gammaphysnet.model.file import read_model, write_model
from ctapipe_gammaphysnet.model.predictor import Predictor
from ctapipe_gammaphysnet.reconstructor import GammaPhysNetReconstructor

FIXED = "/configuration/telescope/pointing"
NAMES = ("GammaPhysNetEnergy", "GammaPhysNetGeometry", "GammaPhysNetClassifier")


def read_events(path, **options):
    with EventSource(path, **options) as source:
        yield from source


@pytest.fixture(scope="module")
def dl2_file(toy_file, toy_model, tmp_path_factory):
    output = tmp_path_factory.mktemp("dl2") / "toy.dl2.h5"
    return process(toy_file, toy_model, output, "--reconstructor=HillasReconstructor")


def test_is_a_ctapipe_plugin():
    assert "GammaPhysNetReconstructor" in Reconstructor.non_abstract_subclasses()


def test_ctapipe_info_shows_our_version(capsys):
    info(plugins=True)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    for module in ("simulation.source", "reconstructor"):
        assert [f"ctapipe_gammaphysnet.{module}", "--", __version__] in lines


def test_the_module_needs_no_heavy_library():
    """Every ctapipe tool imports it: it must work where these cannot be imported."""
    code = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name in {"torch", "lightning", "safetensors", "pydantic", "captum"}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Refuse())
import ctapipe_gammaphysnet.reconstructor
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_model_file_is_required(toy_subarray, tmp_path):
    with pytest.raises(
        ToolConfigurationError, match="set GammaPhysNetReconstructor.load_path"
    ):
        GammaPhysNetReconstructor(toy_subarray)
    with pytest.raises(TraitError, match="there is no file"):
        GammaPhysNetReconstructor(toy_subarray, load_path=tmp_path / "no.safetensors")
    other = tmp_path / "pickle.safetensors"
    other.write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(ToolConfigurationError, match="pickle"):
        GammaPhysNetReconstructor(toy_subarray, load_path=other)


def test_a_pickled_reconstructor_predicts_the_same(toy_file, toy_subarray, toy_model):
    """Processes of a pool get it so."""
    made = GammaPhysNetReconstructor(toy_subarray, load_path=toy_model, prefix="Other")
    energies = []
    for reconstructor in (made, pickle.loads(pickle.dumps(made))):
        (event,) = read_events(toy_file, max_events=1)
        reconstructor(event)
        energies.append(event.dl2.stereo.energy["OtherEnergy"])
    assert energies[1].is_valid
    assert energies[1].energy == energies[0].energy


@pytest.mark.parametrize("prefix", ["a/b", "a b", "1a", "é", "a."])
def test_a_prefix_is_a_name(toy_subarray, toy_model, prefix):
    with pytest.raises(TraitError, match="'prefix' .* underscores, .* no digit"):
        GammaPhysNetReconstructor(toy_subarray, load_path=toy_model, prefix=prefix)


def test_an_engine_that_cannot_be_compiled_is_an_error(
    toy_subarray, toy_model, monkeypatch
):
    monkeypatch.setattr("numba.core.config.DISABLE_JIT", True)
    options = {"load_path": toy_model, "device": "cpu"}
    with pytest.raises(ToolConfigurationError, match="NUMBA_DISABLE_JIT"):
        GammaPhysNetReconstructor(toy_subarray, **options)
    assert GammaPhysNetReconstructor(toy_subarray, engine="indexed", **options)


@pytest.mark.parametrize("image", ["raw", "cleaned"])
def test_events_and_batches_agree(toy_file, toy_subarray, make_model, tmp_path, image):
    """What comes out of the event loop is the networks' answer to the file's images."""
    model = tmp_path / "model.safetensors"
    write_model(
        model, make_model(toy_subarray.telescope_types, n_members=2, image=image)
    )
    reconstruct = GammaPhysNetReconstructor(toy_subarray, load_path=model)
    with TableLoader(toy_file) as loader:
        by_type = loader.read_telescope_events_by_type(
            dl1_images=True, dl1_parameters=True, pointing=True
        )
    content = read_model(model)
    expected = {}
    for card, weights in zip(content.card.networks, content.weights, strict=True):
        table = by_type[card.telescope.type]
        predictor = Predictor(card, weights)
        inputs, _ = predictor.prepare(
            table["image"], table["peak_time"], table["image_mask"]
        )
        ids = toy_subarray.tel_ids_to_indices(table["tel_id"])
        columns = telescope_columns(
            predictor(inputs),
            u.Quantity(table["telescope_pointing_altitude"]),
            u.Quantity(table["telescope_pointing_azimuth"]),
            toy_subarray.tel_coords.cartesian.xyz.T[ids],
        )
        for row, key in enumerate(zip(table["event_id"], table["tel_id"], strict=True)):
            has_signal = table["morphology_n_pixels"][row] > 0
            expected[tuple(key)] = has_signal, columns, row

    n_compared = 0
    for event in read_events(toy_file):
        reconstruct(event)
        for tel_id in event.trigger.tels_with_trigger:
            has_signal, columns, row = expected[event.index.event_id, tel_id]
            assert reconstruct_is_valid(event, tel_id) == has_signal
            if not has_signal:
                continue
            for kind, values in columns.items():
                name = group_names("GammaPhysNet")[kind]
                container = getattr(event.dl2.tel[tel_id], kind)[name]
                for field, value in values.items():
                    value = u.Quantity(value[row])
                    # Of what the networks predict: random ones put impact points
                    # ten kilometres away.
                    scale = 1e4 if value.unit == u.m else 10
                    np.testing.assert_allclose(
                        u.Quantity(container[field]).value,
                        value.value,
                        rtol=1e-5,
                        atol=1e-5 * scale,
                    )
                    n_compared += 1
    assert n_compared > 500


def reconstruct_is_valid(event, tel_id):
    """Whether a telescope's predictions are valid: all of them, or none."""
    dl2 = event.dl2.tel[tel_id]
    flags = {
        dl2.energy[NAMES[0]].is_valid,
        dl2.geometry[NAMES[1]].is_valid,
        getattr(dl2, PARTICLE_TYPE)[NAMES[2]].is_valid,
    }
    assert len(flags) == 1
    return flags.pop()


def turn_pointing(event, angle):
    """Turn the pointing of all telescopes and of the array, from north to east."""
    for tel_id in event.trigger.tels_with_trigger:
        pointing = event.monitoring.tel[tel_id].pointing
        pointing.azimuth = pointing.azimuth + angle
    pointing = event.monitoring.pointing
    pointing.array_azimuth = pointing.array_azimuth + angle


def rotated_subarray(subarray, angle):
    """Turn the positions of all telescopes from north to east by an angle."""
    # The ground frame's y axis points west, azimuth turns from north to east.
    cos, sin = np.cos(angle), np.sin(angle)
    positions = {
        tel_id: u.Quantity([x * cos + y * sin, -x * sin + y * cos, z])
        for tel_id, (x, y, z) in subarray.positions.items()
    }
    return SubarrayDescription(
        subarray.name,
        tel_positions=positions,
        tel_descriptions=subarray.tel,
        reference_location=subarray.reference_location,
    )


def test_the_sky_and_the_ground_turn_with_the_pointing(
    toy_file, toy_subarray, toy_model
):
    """Turned by 123° across north, directions and impact points turn with it."""
    angle = 123 * u.deg
    reconstruct = GammaPhysNetReconstructor(toy_subarray, load_path=toy_model)
    turned = rotated_subarray(toy_subarray, angle)
    reconstruct_turned = GammaPhysNetReconstructor(turned, load_path=toy_model)
    cos, sin = np.cos(angle).value, np.sin(angle).value
    n_valid = 0
    for before, after in zip(read_events(toy_file), read_events(toy_file), strict=True):
        # Start at 300°, so that the turn crosses north.
        turn_pointing(before, 120 * u.deg)
        turn_pointing(after, 120 * u.deg + angle)
        reconstruct(before)
        reconstruct_turned(after)
        pairs = [(before.dl2.stereo, after.dl2.stereo)] + [
            (before.dl2.tel[t], after.dl2.tel[t])
            for t in before.trigger.tels_with_trigger
        ]
        for one, other in pairs:
            one, other = one.geometry[NAMES[1]], other.geometry[NAMES[1]]
            assert one.is_valid == other.is_valid
            if not one.is_valid:
                continue
            n_valid += 1
            separation = angular_separation(
                one.az + angle, one.alt, other.az, other.alt
            )
            assert separation < 1e-6 * u.deg
            x, y = one.core_x.to_value(u.m), one.core_y.to_value(u.m)
            assert other.core_x.to_value(u.m) == pytest.approx(
                x * cos + y * sin, abs=1e-3
            )
            assert other.core_y.to_value(u.m) == pytest.approx(
                -x * sin + y * cos, abs=1e-3
            )
            assert u.isclose(one.core_tilted_x, other.core_tilted_x)
    assert n_valid > 30


def test_all_rows_and_columns_are_in_the_file(dl2_file, toy_file):
    """As many rows as triggers, units on all columns, finite where valid."""
    with TableLoader(dl2_file) as loader:
        telescopes = loader.read_telescope_events(dl2=True)
        array = loader.read_subarray_events(dl2=True)
    with TableLoader(toy_file) as loader:
        assert len(telescopes) == len(loader.read_telescope_events(dl2=False))
        assert len(array) == len(loader.read_subarray_events(dl2=False)) == 16
    units = {
        "energy": u.TeV,
        "energy_uncert": u.TeV,
        "alt": u.deg,
        "alt_uncert": u.deg,
        "az": u.deg,
        "az_uncert": u.deg,
        "ang_distance_uncert": u.deg,
        "core_x": u.m,
        "core_y": u.m,
        "core_uncert_x": u.m,
        "core_uncert_y": u.m,
        "core_tilted_x": u.m,
        "core_tilted_y": u.m,
        "core_tilted_uncert_x": u.m,
        "core_tilted_uncert_y": u.m,
        "impact_distance": u.m,
        "impact_distance_uncert": u.m,
        "prediction": None,
    }
    columns = {
        NAMES[0]: ["energy", "energy_uncert"],
        NAMES[1]: [name for name in units if name not in ("energy", "energy_uncert")],
        NAMES[2]: ["prediction"],
    }
    columns[NAMES[1]].remove("prediction")
    for name, fields in columns.items():
        valid = telescopes[f"{name}_tel_is_valid"]
        assert 0 < valid.sum() < len(valid)
        for field in fields:
            column = telescopes[f"{name}_tel_{field}"]
            assert column.unit == units[field]
            assert np.isfinite(column[valid]).all()
            assert np.isnan(column[~valid]).all()
    valid = array["GammaPhysNetGeometry_is_valid"]
    for field in ("alt", "az", "core_x", "core_y", "core_tilted_x", "core_tilted_y"):
        assert np.isfinite(array[f"GammaPhysNetGeometry_{field}"][valid]).all()
    assert "HillasReconstructor_alt" in array.colnames


def test_counts_tell_what_became_of_each_telescope_event(dl2_file):
    counts = read_table(
        dl2_file,
        "/dl2/service/tel_event_statistics/GammaPhysNetReconstructor",
    )
    counts = dict(zip(counts["criteria"], counts["counts"], strict=True))
    with TableLoader(dl2_file) as loader:
        table = loader.read_telescope_events(dl2=True)
    assert counts["TOTAL"] == counts["DL1 data"] == len(table)
    assert counts["network for telescope type"] == len(table)
    n_valid = table["GammaPhysNetEnergy_tel_is_valid"].sum()
    assert counts["signal after cleaning"] == counts["valid energy"] == n_valid


def test_the_file_reads_back_as_events(dl2_file):
    n_valid = 0
    for event in read_events(dl2_file):
        assert set(NAMES) <= {
            *event.dl2.stereo.energy,
            *event.dl2.stereo.geometry,
            *getattr(event.dl2.stereo, PARTICLE_TYPE),
        }
        for tel_id in event.trigger.tels_with_trigger:
            n_valid += reconstruct_is_valid(event, tel_id)
        geometry = event.dl2.stereo.geometry[NAMES[1]]
        energy = event.dl2.stereo.energy[NAMES[0]]
        assert geometry.is_valid == (len(geometry.telescopes) > 0)
        assert energy.is_valid == np.isfinite(energy.energy)
    assert n_valid > 10


def test_merged_files_hold_both(dl2_file, toy_file, toy_model, tmp_path):
    card = {"array": small_cameras(), "obs_id": 2}
    other = toy_sample.write_toy_file(tmp_path / "b.dl1.h5", "gamma", 3, 5, **card)
    options = ["--reconstructor=HillasReconstructor"]
    second = process(other, toy_model, tmp_path / "b.dl2.h5", *options)
    merged = tmp_path / "merged.dl2.h5"
    argv = [str(dl2_file), str(second), f"--output={merged}"]
    run_tool(MergeTool(), argv=argv, cwd=tmp_path, raises=True)
    with TableLoader(merged) as loader:
        array = loader.read_subarray_events(dl2=True)
    assert len(array) == 16 + 3
    assert array["GammaPhysNetEnergy_is_valid"].sum() >= 3


def test_the_model_and_its_hash_are_inputs_of_the_run(dl2_file, toy_model):
    log = json.loads((dl2_file.parent / f"{dl2_file.name}.provenance.log").read_text())
    # The log has all that this process did; this run came last.
    (model,) = [
        entry for entry in log[-1]["input"] if entry["role"] == "γ-PhysNet model"
    ]
    assert model["url"] == str(toy_model)
    sha256 = hashlib.sha256(toy_model.read_bytes()).hexdigest()
    assert model["reference_meta"]["sha256"] == sha256


def test_images_alone_are_enough(dl2_file, toy_model, tmp_path):
    """Without parameters in the file ctapipe computes them, with the same result."""
    images = toy_sample.write_toy_file(
        tmp_path / "images.dl1.h5",
        "mixed",
        16,
        array=small_cameras(),
        parameters=False,
    )
    output = process(images, toy_model, tmp_path / "images.dl2.h5")
    tables_ = []
    for path in (dl2_file, output):
        with TableLoader(path) as loader:
            tables_.append(loader.read_telescope_events(dl2=True))
    for column in ("GammaPhysNetEnergy_tel_energy", "GammaPhysNetGeometry_tel_az"):
        np.testing.assert_allclose(tables_[0][column], tables_[1][column])


def test_parameters_alone_are_an_error(toy_model, tmp_path):
    parameters = toy_sample.write_toy_file(
        tmp_path / "p.dl1.h5", "gamma", 3, array=small_cameras(), images=False
    )
    with pytest.raises(MissingImagesError, match="--write-images"):
        process(parameters, toy_model, tmp_path / "p.dl2.h5")


@pytest.fixture
def half_model(make_model, toy_subarray, tmp_path):
    """Model file for one of the two telescope types."""
    (telescope,) = [t for t in toy_subarray.telescope_types if "Other" in str(t)]
    path = tmp_path / "half.safetensors"
    write_model(path, make_model(telescope))
    return path


def test_a_missing_network_is_an_error_by_default(toy_subarray, half_model):
    message = "no network for telescope type .*ToyCam"
    with pytest.raises(ToolConfigurationError, match=message):
        GammaPhysNetReconstructor(toy_subarray, load_path=half_model)


@pytest.mark.parametrize("choice", ["warn", "ignore"])
def test_telescopes_without_network_are_not_valid_and_counted(
    toy_file, toy_subarray, half_model, choice, caplog
):
    reconstruct = GammaPhysNetReconstructor(
        toy_subarray, load_path=half_model, missing_network=choice
    )
    assert ("ToyCam" in caplog.text) == (choice == "warn")
    n_events, n_valid, n_without = 0, 0, 0
    for event in read_events(toy_file):
        reconstruct(event)
        for tel_id in event.trigger.tels_with_trigger:
            n_events += 1
            without = toy_subarray.tel[tel_id].camera.name == "ToyCam"
            n_without += without
            valid = reconstruct_is_valid(event, tel_id)
            n_valid += valid
            assert not (without and valid)
    counts = reconstruct.quality_query.to_table()
    counts = dict(zip(counts["criteria"], counts["counts"], strict=True))
    assert n_without > 0
    assert n_valid > 0
    assert counts["network for telescope type"] == n_events - n_without
    assert counts["valid energy"] == n_valid


def test_the_tables_are_there_though_no_telescope_has_a_network(
    toy_file, make_model, tmp_path
):
    """So that such a file can be merged with others."""
    camera = toy_sample.hexagonal_camera(2, name="Elsewhere")
    model = tmp_path / "elsewhere.safetensors"
    write_model(model, make_model(toy_sample.toy_telescope(camera)))
    option = "--GammaPhysNetReconstructor.missing_network=ignore"
    output = process(toy_file, model, tmp_path / "none.dl2.h5", option)
    with TableLoader(output) as loader:
        table = loader.read_telescope_events(dl2=True)
    assert len(table) > 16
    assert not table["GammaPhysNetEnergy_tel_is_valid"].any()
    assert np.isnan(table["GammaPhysNetGeometry_tel_impact_distance"]).all()


def test_a_single_telescope_has_no_spread(dl2_file):
    with TableLoader(dl2_file) as loader:
        table = loader.read_subarray_events(dl2=True)
    n_telescopes = table["GammaPhysNetGeometry_telescopes"].sum(axis=1)
    for column in ("Energy_energy_uncert", "Geometry_ang_distance_uncert"):
        uncertainty = table[f"GammaPhysNet{column}"]
        assert (n_telescopes == 1).any()
        assert np.isnan(uncertainty[n_telescopes == 1]).all()
        assert np.isfinite(uncertainty[n_telescopes == 2]).any()


def test_another_camera_of_the_same_name_is_an_error(toy_model):
    cameras = small_cameras()
    for camera in cameras:
        camera["rotation"] += 10
    subarray = toy_sample.ToyCard(array=cameras).subarray()
    with pytest.raises(ToolConfigurationError, match="rotated by 10"):
        GammaPhysNetReconstructor(subarray, load_path=toy_model)


@pytest.mark.parametrize("tel_id", [1, 2])
def test_each_telescope_of_a_name_is_compared(toy_subarray, toy_model, tel_id):
    subarray = copy.deepcopy(toy_subarray)
    telescope = copy.deepcopy(toy_subarray.tel[tel_id])
    telescope.optics.mirror_area *= 1.03
    subarray.tel[tel_id] = telescope
    assert str(subarray.tel[1]) == str(subarray.tel[2])
    message = f"telescope {tel_id}: .* its mirror area is"
    with pytest.raises(ToolConfigurationError, match=message):
        GammaPhysNetReconstructor(subarray, load_path=toy_model)


def test_broken_pixels_do_not_break_predictions(toy_file, toy_subarray, toy_model):
    """Some NaN pixels are zeros; an image of NaN alone is not valid, and counted."""
    reconstruct = GammaPhysNetReconstructor(toy_subarray, load_path=toy_model)
    event = next(read_events(toy_file))
    first, second = event.trigger.tels_with_trigger[:2]
    for tel_id in (first, second):
        event.dl1.tel[tel_id].parameters.morphology.n_pixels = 5
    event.dl1.tel[first].image[:3] = np.nan
    event.dl1.tel[first].peak_time[4] = np.inf
    event.dl1.tel[second].image[:] = np.nan
    reconstruct(event)
    assert reconstruct_is_valid(event, first)
    assert np.isfinite(event.dl2.tel[first].energy[NAMES[0]].energy)
    assert not reconstruct_is_valid(event, second)
    assert np.isnan(event.dl2.tel[second].energy[NAMES[0]].energy)


def test_an_unknown_pointing_leaves_energy_and_gammaness(
    toy_file, toy_subarray, toy_model
):
    reconstruct = GammaPhysNetReconstructor(toy_subarray, load_path=toy_model)
    for event in read_events(toy_file):
        for tel_id in event.trigger.tels_with_trigger:
            event.monitoring.tel[tel_id].pointing.azimuth = np.nan * u.rad
        reconstruct(event)
        stereo = event.dl2.stereo
        assert not stereo.geometry[NAMES[1]].is_valid
        assert np.isnan(stereo.geometry[NAMES[1]].core_x)
        if stereo.energy[NAMES[0]].is_valid:
            break
    else:
        pytest.fail("no event has a valid energy")
    counts = reconstruct.quality_query.to_table()
    counts = dict(zip(counts["criteria"], counts["counts"], strict=True))
    assert counts["valid geometry"] == 0
    assert counts["valid energy"] > 0


class FailingCombiner(StereoCombiner):
    """It says that something is valid which is not finite, or finds no mean."""

    values = None

    def __call__(self, event):
        if self.values is None:
            raise ZeroDivisionError("Weights sum to zero")
        for kind, fields in self.values.items():
            if PROPERTIES[kind] is self.property:
                getattr(event.dl2.stereo, kind)[self.prefix] = CONTAINERS[kind][0](
                    **fields, is_valid=True, telescopes=[1], prefix=self.prefix
                )

    def predict_table(self, mono_predictions):
        """Nothing needs it."""


@pytest.mark.parametrize(
    "values",
    [
        None,
        {
            "energy": {"energy": np.inf * u.TeV},
            "geometry": {"alt": 70 * u.deg, "az": np.nan * u.deg},
            PARTICLE_TYPE: {"prediction": np.nan},
        },
        {
            "energy": {"energy": 1 * u.TeV, "energy_uncert": np.inf * u.TeV},
            "geometry": {"alt": np.nan * u.deg, "az": 10 * u.deg},
            PARTICLE_TYPE: {"prediction": -np.inf},
        },
    ],
)
def test_what_any_combiner_gives_is_finite_or_not_valid(
    toy_file, toy_subarray, toy_model, values, monkeypatch
):
    monkeypatch.setattr(FailingCombiner, "values", values)
    reconstruct = GammaPhysNetReconstructor(
        toy_subarray, load_path=toy_model, stereo_combiner_cls="FailingCombiner"
    )
    for event in islice(read_events(toy_file), 3):
        reconstruct(event)
        for kind in PROPERTIES:
            (stereo,) = getattr(event.dl2.stereo, kind).values()
            assert not stereo.is_valid
            assert list(stereo.telescopes) == []
            for field in ("energy", "alt", "az", "core_x", "prediction"):
                if field in stereo.keys():
                    assert np.isnan(u.Quantity(stereo[field]).value)
    counts = reconstruct.quality_query.to_table()
    counts = dict(zip(counts["criteria"], counts["counts"], strict=True))
    assert counts["valid energy"] > 0
    for kind in PROPERTIES:
        assert counts[f"valid {kind} of the array"] == 0


def test_an_unknown_pointing_is_warned_of_once(
    toy_file, toy_subarray, toy_model, caplog
):
    reconstruct = GammaPhysNetReconstructor(toy_subarray, load_path=toy_model)
    for event in read_events(toy_file):
        for tel_id in event.trigger.tels_with_trigger:
            if tel_id == 2:
                event.monitoring.tel[tel_id].pointing.azimuth = np.nan * u.rad
        reconstruct(event)
    warnings = [r.message for r in caplog.records if "pointing" in r.message]
    assert len(warnings) == 1
    assert "pointing of telescope 2 is not known" in warnings[0]


def set_column(name, value):
    """Change a column of a table."""

    def change(rows):
        rows[name] = value
        return rows

    return change


def reverse(rows):
    return rows[::-1]


def add_first(rows):
    return np.concatenate([rows[:1], rows])


def add_another_pointing(rows):
    other = rows[:1].copy()
    other["subarray_pointing_lat"] = 0.8
    return np.concatenate([rows, other])


def lengthen(path, node):
    change_length(path, node, 1)


@pytest.mark.parametrize(
    ("node", "spoil", "message"),
    [
        (f"{IMAGES}/tel_002", lengthen, "image in .* has 62 pixels"),
        (f"{IMAGES}/tel_002", reverse, "does not hold the events"),
        (f"{PARAMETERS}/tel_002", reverse, "does not hold the events"),
        (TELESCOPE_TRIGGER, add_first, "rows, but according to .* the telescopes"),
        (TELESCOPE_TRIGGER, reverse, "does not hold the telescopes' triggers"),
        (f"{FIXED}/tel_002", set_column("tel_id", 3), "pointing of another telescope"),
        (f"{FIXED}/tel_002", lose_attributes, "has no unit"),
        (OBSERVATIONS, add_another_pointing, "several subarray_pointing_lat"),
    ],
)
def test_ctapipe_process_refuses_what_bulk_refuses(
    toy_file, toy_model, tmp_path, node, spoil, message
):
    """ctapipe itself takes images and triggers by their place in the file."""
    dl1 = shutil.copy(toy_file, tmp_path / "spoilt.dl1.h5")
    if spoil in (lengthen, lose_attributes):
        spoil(dl1, node)
    else:
        change_rows(dl1, node, spoil)
    with pytest.raises(DL1FileError, match=f"spoilt.dl1.h5.*{message}"):
        process(dl1, toy_model, tmp_path / "a.dl2.h5", "--write-parameters")


def test_an_image_of_another_length_is_refused(toy_file, toy_subarray, toy_model):
    reconstruct = GammaPhysNetReconstructor(toy_subarray, load_path=toy_model)
    event = next(read_events(toy_file))
    for camera in event.dl1.tel.values():
        camera.image = camera.image[:-1]
    with pytest.raises(UnfitImagesError, match=r"telescope \d: image has the shape"):
        reconstruct(event)


def test_negative_weights_give_no_valid_prediction(toy_file, toy_subarray, toy_model):
    """In bulk, too: see the tests of `combine_table`."""
    config = Config({"StereoMeanCombiner": {"weights": "intensity"}})
    reconstruct = GammaPhysNetReconstructor(
        toy_subarray, load_path=toy_model, config=config
    )
    for event in islice(read_events(toy_file), 3):
        reconstruct(event)
        valid = [
            t for t in event.trigger.tels_with_trigger if reconstruct_is_valid(event, t)
        ]
        event.dl1.tel[valid[0]].parameters.hillas.intensity *= -1
        reconstruct(event)
        for kind in PROPERTIES:
            (stereo,) = getattr(event.dl2.stereo, kind).values()
            assert not stereo.is_valid


def test_a_telescope_without_data_is_not_valid(toy_file, toy_subarray, toy_model):
    reconstruct = GammaPhysNetReconstructor(toy_subarray, load_path=toy_model)
    event = next(read_events(toy_file))
    tel_id = event.trigger.tels_with_trigger[0]
    del event.dl1.tel[tel_id]
    reconstruct(event)
    assert not reconstruct_is_valid(event, tel_id)
    counts = reconstruct.quality_query.to_table()
    counts = dict(zip(counts["criteria"], counts["counts"], strict=True))
    assert counts["DL1 data"] == len(event.trigger.tels_with_trigger) - 1


def test_configuration_reaches_the_component(toy_file, toy_subarray, toy_model):
    config = Config(
        {
            "GammaPhysNetReconstructor": {
                "load_path": str(toy_model),
                "prefix": "Other",
                "device": "cpu",
                "precision": "bfloat16",
                "engine": "indexed",
                "ImageQualityQuery": {
                    "quality_criteria": [("none", "hillas_intensity > 1e9")]
                },
            }
        }
    )
    reconstruct = GammaPhysNetReconstructor(toy_subarray, config=config)
    event = next(read_events(toy_file))
    reconstruct(event)
    assert set(event.dl2.stereo.energy) == {"OtherEnergy"}
    assert not event.dl2.stereo.energy["OtherEnergy"].is_valid
    assert event.dl2.stereo.energy["OtherEnergy"].prefix == "OtherEnergy"


def test_networks_without_all_tasks_write_what_they_predict(
    toy_file, toy_subarray, make_model, tmp_path
):
    model = tmp_path / "energy.safetensors"
    write_model(model, make_model(toy_subarray.telescope_types, tasks=("energy",)))
    output = process(toy_file, model, tmp_path / "energy.dl2.h5")
    with tables.open_file(output) as file:
        assert "/dl2/event/subarray/energy/GammaPhysNetEnergy" in file
        assert "/dl2/event/subarray/geometry" not in file


def test_the_number_of_threads_is_set(toy_subarray, toy_model):
    before = torch.get_num_threads()
    try:
        GammaPhysNetReconstructor(toy_subarray, load_path=toy_model, n_jobs=1)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
