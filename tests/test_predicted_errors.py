"""Networks that predict errors: their weights, their DL2, and the array."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import toy_sample
from ctapipe.core import ToolConfigurationError
from ctapipe.io import EventSource, TableLoader
from run_tools import apply, process

from ctapipe_gammaphysnet.evaluation.events import read_events
from ctapipe_gammaphysnet.evaluation.networks import predict_file
from ctapipe_gammaphysnet.events.opening import open_events
from ctapipe_gammaphysnet.events.quality import TrainingQualityQuery
from ctapipe_gammaphysnet.model.calibration_card import (
    AxisCard,
    CalibrationCard,
    ErrorCurve,
)
from ctapipe_gammaphysnet.model.card import CardError, card_from_json, card_to_json
from ctapipe_gammaphysnet.model.card_text import format_card
from ctapipe_gammaphysnet.model.file import Model, read_model, write_model
from ctapipe_gammaphysnet.model.loading import load_model
from ctapipe_gammaphysnet.model.predictor import Predictor
from ctapipe_gammaphysnet.network import CameraLattice, GammaPhysNet, NetworkConfig
from ctapipe_gammaphysnet.reconstructor import GammaPhysNetReconstructor
from ctapipe_gammaphysnet.tasks import TASKS
from ctapipe_gammaphysnet.training.calibration import calibrate

SMALL = {"blocks": 1, "channels": (4, 8), "hidden": 8}
CURVE = ErrorCurve(log_scale=(-1.0, 1.0), log_radius=(-2.0, -2.5))
CALIBRATION = CalibrationCard(
    errors=dict.fromkeys(("energy", "direction", "impact"), CURVE),
    offsets={"direction": (0.25, -0.5)},
    axis=AxisCard(
        log_noise=(-6.0, -2.0),
        # Random networks are off by half the sky.
        log_angle=(-1.0, 0.5),
        log_radius={"direction": (0.3, 0.6), "impact": (0.2, 0.8)},
    ),
    log_odds=(0.5, 0.1),
)
#: Uncertainties of a telescope and of the array.
UNCERTAINTIES = [
    "Energy_tel_energy_uncert",
    "Geometry_tel_alt_uncert",
    "Geometry_tel_az_uncert",
    "Geometry_tel_ang_distance_uncert",
    "Geometry_tel_alt_az_correlation",
    "Geometry_tel_core_uncert_x",
    "Geometry_tel_core_uncert_y",
    "Geometry_tel_core_correlation",
]


@pytest.fixture(scope="module")
def lattice():
    return CameraLattice.from_geometry(toy_sample.hexagonal_camera(3))


def calibrated(model, calibration=CALIBRATION):
    """The same model with a calibration of each member."""
    networks = [
        network.model_copy(
            update={
                "members": tuple(
                    member.model_copy(update={"calibration": calibration})
                    for member in network.members
                )
            }
        )
        for network in model.card.networks
    ]
    card = model.card.model_copy(update={"networks": tuple(networks)})
    return Model(card, model.weights)


@pytest.fixture(scope="module", params=[1, 2])
def model(make_model, toy_subarray, tmp_path_factory, request):
    path = tmp_path_factory.mktemp("model") / "errors.safetensors"
    types = toy_subarray.telescope_types
    members = {"n_members": request.param, "seed": 12}
    write_model(path, calibrated(make_model(types, errors=True, **members)))
    return path


@pytest.fixture(scope="module")
def dl2(toy_file, model):
    """By the event loop, and in bulk."""
    return [
        run(toy_file, model, model.with_name(f"{run.__name__}.dl2.h5"))
        for run in (process, apply)
    ]


def telescopes_of(path):
    with TableLoader(path) as loader:
        return loader.read_telescope_events(dl2=True)


def array_of(path):
    with TableLoader(path) as loader:
        return loader.read_subarray_events(dl2=True)


def test_without_errors_the_network_is_that_of_the_paper(lattice):
    """With them, all its other weights start the same, and so do its outputs."""
    networks = []
    for errors in (False, True):
        torch.manual_seed(3)
        config = NetworkConfig(**SMALL, errors=errors)
        networks.append(GammaPhysNet(config, lattice).eval())
        assert len(networks[-1].state_dict()) == config.n_tensors
    plain, with_errors = networks
    more = with_errors.state_dict()
    for name, weight in plain.state_dict().items():
        torch.testing.assert_close(more.pop(name), weight, rtol=0, atol=0)
    assert {name.partition(".")[0] for name in more} == {"scales"}
    images = torch.randn(3, 2, len(lattice))
    outputs, with_scales = (network(images) for network in networks)
    for task, output in outputs.items():
        values, scale = TASKS[task].split(with_scales[task])
        torch.testing.assert_close(values, output, rtol=0, atol=0)
        # Errors start at 1: the first loss is the paper's.
        assert scale is None if task == "class" else (scale == 0).all()


@pytest.mark.parametrize("tasks", [("energy",), ("direction", "class"), tuple(TASKS)])
def test_tensors_are_counted_without_building(lattice, tasks):
    config = NetworkConfig(**SMALL, errors=True, tasks=tasks)
    assert len(GammaPhysNet(config, lattice).state_dict()) == config.n_tensors


def test_event_loop_and_bulk_predict_the_same(dl2):
    one, other = map(telescopes_of, dl2)
    valid = one["GammaPhysNetGeometry_tel_is_valid"]
    assert valid.sum() > 10
    for column in UNCERTAINTIES:
        values, others = (np.asarray(t[f"GammaPhysNet{column}"]) for t in (one, other))
        np.testing.assert_allclose(values, others, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(np.isfinite(values), valid, err_msg=column)
        assert "correlation" in column or (values[valid] > 0).all()
    one, other = map(array_of, dl2)
    for column in one.colnames:
        if column.startswith("GammaPhysNet") and one[column].dtype.kind == "f":
            np.testing.assert_allclose(
                np.asarray(one[column]),
                np.asarray(other[column]),
                rtol=1e-5,
                atol=1e-6,
                err_msg=column,
            )
    finite = np.isfinite(one["GammaPhysNetGeometry_ang_distance_uncert"])
    np.testing.assert_array_equal(finite, one["GammaPhysNetGeometry_is_valid"])


def test_the_evaluation_predicts_the_same(toy_subarray, model, tmp_path):
    """As bulk, with the axes of the images."""
    cameras = toy_sample.small_array(4, positions=toy_sample.LST_POSITIONS[:2])
    gammas = toy_sample.write_toy_file(
        tmp_path / "gamma.dl1.h5", "gamma", 8, array=cameras
    )
    with open_events(gammas) as reader:
        subarray = reader.subarray
    loaded = load_model(
        *(model, {gammas: subarray}, set(map(str, subarray.telescope_types))),
        on_missing=pytest.fail,
        log=None,
        device="cpu",
    )
    query = TrainingQualityQuery(quality_criteria=[("signal", "morphology_n_pixels>0")])
    events = read_events(gammas, 0, query, subarray.tel_ids)
    assert np.isfinite(events["axis_noise"]).sum() > 5
    with open_events(gammas) as reader:
        networks = list(loaded.networks.values())
        predictions, _ = predict_file(reader, networks, events)
    table = telescopes_of(apply(gammas, model, tmp_path / "gamma.dl2.h5"))
    rows = {(e, t): n for n, (e, t) in enumerate(table["event_id", "tel_id"])}
    rows = [rows[tuple(key)] for key in events["event_id", "tel_id"]]
    names = ("alt", "core_x", "ang_distance_uncert", "core_uncert_x")
    for name in names:
        expected = np.asarray(table[f"GammaPhysNetGeometry_tel_{name}"])[rows]
        np.testing.assert_allclose(
            predictions[name][0], expected, rtol=1e-5, atol=1e-6, err_msg=name
        )


def test_axes_are_used(toy_file, model, dl2, tmp_path):
    """Without their calibration, directions of the same networks are others."""
    without = calibrated(
        read_model(model), CALIBRATION.model_copy(update={"axis": None})
    )
    write_model(tmp_path / "plain.safetensors", without)
    plain = apply(toy_file, tmp_path / "plain.safetensors", tmp_path / "plain.dl2.h5")
    found, expected = telescopes_of(dl2[1]), telescopes_of(plain)
    for name, changes in (("alt", True), ("core_x", True), ("energy", False)):
        kind = "Energy" if name == "energy" else "Geometry"
        column = f"GammaPhysNet{kind}_tel_{name}"
        one, other = (np.asarray(t[column]) for t in (found, expected))
        moved = np.abs(one - other)[np.isfinite(one)] > 1e-4 * np.nanmax(np.abs(one))
        assert moved.any() == changes, name


def test_one_telescope_is_the_array(dl2):
    array, telescopes = array_of(dl2[1]), telescopes_of(dl2[1])
    valid = telescopes[telescopes["GammaPhysNetGeometry_tel_is_valid"]]
    n_compared = 0
    for event in array:
        same = valid["event_id"] == event["event_id"]
        if same.sum() == 1:
            n_compared += 1
            for column in UNCERTAINTIES + [f"Geometry_tel_{a}" for a in ("alt", "az")]:
                mono = float(valid[same][f"GammaPhysNet{column}"][0])
                name = f"GammaPhysNet{column.replace('_tel', '')}"
                assert event[name] == pytest.approx(mono, rel=1e-5), name
    assert n_compared > 0


def test_ctapipe_reads_the_ellipses_past(dl2):
    """Warnings would be errors."""
    with EventSource(dl2[0]) as source:
        n_valid = sum(
            geometry["GammaPhysNetGeometry"].is_valid
            for event in source
            for geometry in [event.dl2.stereo.geometry]
        )
    assert n_valid == array_of(dl2[0])["GammaPhysNetGeometry_is_valid"].sum() > 0


def test_members_are_calibrated_each(make_model, toy_subarray):
    """The same network twice, with a calibration of its own each."""
    (telescope, _) = toy_subarray.telescope_types
    plain = make_model(telescope, errors=True)
    card = calibrated(plain).card.networks[0]
    (other,) = card.members
    weights = plain.weights[0][0]
    both = card.model_copy(
        update={"members": (plain.card.networks[0].members[0], other)}
    )
    pixels = len(card.telescope.camera.pix_x_m)
    inputs = np.random.default_rng(0).normal(size=(5, 2, pixels)).astype(np.float32)
    found = Predictor(both, [weights, weights])(inputs)
    for task in ("energy", "direction", "impact"):
        n = len(TASKS[task].outputs)
        one, two = found[task]
        offset = CALIBRATION.offsets.get(task, 0)
        np.testing.assert_allclose(two[:, :n], one[:, :n] - offset, atol=1e-12)
        factor = two[:, n : n + 1] / one[:, n : n + 1]
        np.testing.assert_allclose(two[:, n:], factor * one[:, n:])
        assert (np.abs(np.log(factor)) > 0.5).all()
    odds = [np.log(p[:, 0] / p[:, 1]) for p in found["class"]]
    np.testing.assert_allclose(odds[1], 0.5 * odds[0] + 0.1)


def test_the_card_keeps_and_shows_the_calibration(model):
    card = read_model(model).card
    assert card.networks[0].members[0].calibration == CALIBRATION
    text = format_card(card)
    assert "errors: True" in text
    assert "68.27 % of direction within scales of: 0.135, 0.0821" in text
    assert "offset of direction: 0.25, -0.5" in text
    assert "log odds of gammaness: times 0.5, plus 0.1" in text


def test_the_card_shows_that_nothing_is_calibrated(make_model, toy_subarray):
    types = toy_subarray.telescope_types
    without = make_model(types, errors=True).card
    assert "calibration: none: errors as of a Laplace distribution" in format_card(
        without
    )
    assert "calibration" not in format_card(make_model(types).card)


@pytest.mark.parametrize(
    "value",
    [
        {"errors": {"energy": {"log_scale": [], "log_radius": []}}},
        {"errors": {"energy": {"log_scale": [0.0], "log_radius": [0.0, 1.0]}}},
        {"errors": {"energy": {"log_scale": [1.0, 0.0], "log_radius": [0.0, 1.0]}}},
        {"errors": {"energy": {"log_scale": [0.0], "log_radius": [1e300]}}},
        {"errors": {"charm": {"log_scale": [0.0], "log_radius": [0.0]}}},
        {"offsets": {"charm": [0.0, 0.0]}},
        {"offsets": {"energy": [0.0, 0.0]}},
        {"offsets": {"direction": [0.0]}},
        {"offsets": {"direction": [0.0, 11.0]}},
        {"axis": {"log_noise": [0.0], "log_angle": [0.0], "log_radius": {"x": [0.0]}}},
        {"axis": {"log_noise": [0.0], "log_angle": [99.0], "log_radius": {}}},
        {"log_odds": [-1.0, 0.0]},
        {"log_odds": [1.0, 1e9]},
        {"log_odds": [1.0]},
        {"slope": 1.0},
    ],
)
def test_a_calibration_that_makes_no_sense_is_refused(model, value):
    values = json.loads(card_to_json(read_model(model).card))
    values["networks"][0]["members"][0]["calibration"] |= value
    with pytest.raises(CardError, match="calibration"):
        card_from_json(json.dumps(values))


@pytest.mark.parametrize("config", [{"errors": False}, {"tasks": ["energy"]}])
def test_a_calibration_of_nothing_is_refused(model, config):
    values = json.loads(card_to_json(read_model(model).card))
    network = values["networks"][0]
    network["network"] |= config
    kept = network["network"]["tasks"]
    network["targets"] = {t: v for t, v in network["targets"].items() if t in kept}
    with pytest.raises(CardError, match="calibration is of direction, whose errors"):
        card_from_json(json.dumps(values))


@pytest.mark.parametrize("n_members", [1, 2])
def test_the_combiner_by_errors_needs_errors(
    toy_subarray, make_model, tmp_path, n_members
):
    """The spread of members is none: two can agree by chance."""
    path = tmp_path / "plain.safetensors"
    write_model(path, make_model(toy_subarray.telescope_types, n_members=n_members))
    options = {"load_path": path, "stereo_combiner_cls": "GammaPhysNetStereoCombiner"}
    with pytest.raises(ToolConfigurationError, match="predicts none.*--errors"):
        GammaPhysNetReconstructor(toy_subarray, **options)


#: Planted offsets, as large as the errors: these are from what is left.
OFFSETS = {"impact": (0.3, -0.2)}


def planted(rng, n):
    """Outputs with errors of twice their scale, an offset, and logits too steep."""
    log_scale = rng.uniform(-3, -1, n)
    true = {
        t: rng.normal(size=(n, len(TASKS[t].outputs))) for t in ("energy", "impact")
    }
    deviation = {
        "energy": rng.laplace(size=(n, 1)),
        "impact": rng.normal(size=(n, 2)),
    }
    outputs = {}
    for task, values in true.items():
        scale = np.zeros((n, TASKS[task].n_scales))
        scale[:, 0] = 6 * np.arctanh(log_scale / 6)
        off = 2 * np.exp(log_scale)[:, np.newaxis] * deviation[task]
        off += OFFSETS.get(task, 0)
        outputs[task] = np.concatenate([values + off, scale], axis=1)
    label = (rng.random(n) < 0.8).astype(int)
    log_odds = rng.normal(size=n) + np.where(label == 0, 1, -1)
    # The logarithm of the true odds is 2 x for equal numbers.
    logits = np.column_stack([5 * log_odds + 1, np.zeros(n)])
    return outputs | {"class": logits}, true | {"class": label}, log_scale


def test_the_calibration_finds_what_was_planted():
    rng = np.random.default_rng(5)
    outputs, targets, log_scale = planted(rng, 40_000)
    calibration = calibrate(outputs, targets)
    for task, expected in (("energy", 2 * 1.148), ("impact", 2 * 1.515)):
        curve = calibration.errors[task]
        assert curve.log_scale[0] < -2.5 < -1.5 < curve.log_scale[-1]
        radius = np.exp(curve.log_radius)
        np.testing.assert_allclose(radius, expected, rtol=0.12)
    assert calibration.offsets.keys() == OFFSETS.keys()
    # The smallest scale is 0.05.
    np.testing.assert_allclose(
        calibration.offsets["impact"], OFFSETS["impact"], atol=3e-3
    )
    slope, offset = calibration.log_odds
    assert slope == pytest.approx(2 / 5, rel=0.05)
    assert offset == pytest.approx(-2 / 5, abs=0.05)
    # The share of gammas in bins of gammaness, for equal numbers.
    gammaness = TASKS["class"].finish(outputs["class"], calibration.log_odds)[:, 0]
    is_gamma = targets["class"] == 0
    weight = np.where(is_gamma, 1 / is_gamma.sum(), 1 / (~is_gamma).sum())
    for low in (0.1, 0.4, 0.7):
        rows = (gammaness > low) & (gammaness < low + 0.2)
        share = weight[rows & is_gamma].sum() / weight[rows].sum()
        mean = np.average(gammaness[rows], weights=weight[rows])
        assert share == pytest.approx(mean, abs=0.03)


def test_the_offset_is_not_that_of_outliers():
    """A tenth of the images is far off, on one side: the mean would be off by 5."""
    outputs, targets, _ = planted(np.random.default_rng(8), 20_000)
    outputs["impact"][::10, 0] += 50
    offset = calibrate(outputs, targets).offsets["impact"]
    np.testing.assert_allclose(offset, OFFSETS["impact"], atol=0.05)


def test_few_images_are_not_calibrated():
    outputs, targets, _ = planted(np.random.default_rng(6), 60)
    assert calibrate(outputs, targets) == CalibrationCard()
    plain = {task: TASKS[task].split(output)[0] for task, output in outputs.items()}
    plain = {task: np.tile(output, (40, 1)) for task, output in plain.items()}
    targets = {task: np.concatenate([target] * 40) for task, target in targets.items()}
    # Networks without errors are those of the paper.
    assert calibrate(plain, targets) == CalibrationCard()


def test_the_default_is_by_errors(toy_subarray, model):
    reconstructor = GammaPhysNetReconstructor(toy_subarray, load_path=Path(model))
    names = {type(c).__name__ for c, *_ in reconstructor.stereo_combiners.values()}
    assert names == {"GammaPhysNetStereoCombiner"}
