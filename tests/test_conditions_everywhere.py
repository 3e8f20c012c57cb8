"""Conditions reach the heads wherever a network is applied: the same planted truth.

The energies of one network depend on pointing and noise by known amounts. Another one,
with the same weights, knows neither. A file has two pointings.
"""

import re

import astropy.units as u
import numpy as np
import pytest
import tables
import toy_sample
from conftest import FIELD_UT
from ctapipe.core import run_tool
from ctapipe.io import EventSource, TableLoader
from ctapipe.tools.merge import MergeTool
from numpy.testing import assert_allclose, assert_array_equal
from run_tools import apply, process

from ctapipe_gammaphysnet.evaluation.events import read_events
from ctapipe_gammaphysnet.evaluation.networks import predict_file
from ctapipe_gammaphysnet.events.background import measure_background
from ctapipe_gammaphysnet.events.opening import open_events
from ctapipe_gammaphysnet.events.quality import ImageQualityQuery, TrainingQualityQuery
from ctapipe_gammaphysnet.explanation.explainer import Explainer
from ctapipe_gammaphysnet.explanation.images import read_batches
from ctapipe_gammaphysnet.explanation.robustness import disturb, measure_movements
from ctapipe_gammaphysnet.files.input_file import DL1FileError
from ctapipe_gammaphysnet.model.file import Model, write_model
from ctapipe_gammaphysnet.model.loading import load_model
from ctapipe_gammaphysnet.reconstructor import GammaPhysNetReconstructor
from ctapipe_gammaphysnet.tasks.conditions import count_columns
from ctapipe_gammaphysnet.tools.explain import ExplainGammaPhysNet

ARRAY = toy_sample.small_array(4)
SUBARRAY = toy_sample.ToyCard(array=ARRAY).subarray()
#: Altitude and azimuth in deg, by observation.
POINTINGS = {1: (70.0, 180.0), 2: (50.0, 90.0)}
CONDITIONS = ("zenith", "geomagnetic_field", "noise")
#: What log10(E) gains for each unit of cos(zenith), for each µT of the field along
#: fov_lon and fov_lat, and for each factor of e in noise.
GAINS = ZENITH, LON, LAT = 0.5, 0.004, -0.002
NOISE = 0.3
CRITERIA = [("signal", "morphology_n_pixels > 0")]
KEYS = ("obs_id", "event_id", "tel_id")
FIRST_LAYERS = ("heads.energy.0.weight", "geometry.0.weight", "heads.class.weight")
FIRST_LAYERS += ("scales.energy.0.weight",)


def gain(obs_id):
    """Planted difference of log10(E) between the networks at a pointing."""
    north, west, up = FIELD_UT
    altitude = np.deg2rad(POINTINGS[obs_id][0])
    sin, cos = np.sin(altitude), np.cos(altitude)
    if obs_id == 1:
        # Seen to the south, larger azimuths are in the west, and the north is below.
        lon, lat = west, cos * up + sin * north
    else:
        # Seen to the east, larger azimuths are in the south.
        lon, lat = -north, cos * up + sin * west
    return np.dot(GAINS, [sin - 0.8, lon, lat])


def plant(weights, n_columns):
    """Let energies depend on the conditions by a unit of the hidden layer."""
    hidden = weights["heads.energy.0.weight"]
    hidden[:, -n_columns:], hidden[0] = 0, 0
    gains = ZENITH / 5, 30 * LON, 30 * LAT, NOISE / 3
    hidden[0, -n_columns:] = gains[:n_columns]
    # The unit is in the linear part of its ReLU.
    weights["heads.energy.0.bias"][0] = weights["heads.energy.2.weight"][0, 0] = 1


def without_conditions(model):
    """The same model, for which all conditions are always 0."""
    (card,), (members,) = model.card.networks, model.weights
    n_columns = count_columns(card.network.conditions)
    network = card.network.model_copy(update={"conditions": ()})
    card = card.model_copy(update={"network": network, "geomagnetic_field_ut": None})
    plain = [
        {
            name: values[:, :-n_columns] if name in FIRST_LAYERS else values
            for name, values in weights.items()
        }
        for weights in members
    ]
    return Model(model.card.model_copy(update={"networks": (card,)}), (tuple(plain),))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("conditions")


@pytest.fixture(scope="module")
def dl1(folder):
    """A file with both observations."""
    parts = [
        toy_sample.write_toy_file(
            *(folder / f"{obs_id}.dl1.h5", "gamma", 8, obs_id),
            **{"array": ARRAY, "obs_id": obs_id, "altitude": alt, "azimuth": az},
        )
        for obs_id, (alt, az) in POINTINGS.items()
    ]
    path = folder / "both.dl1.h5"
    argv = [*map(str, parts), f"--output={path}"]
    run_tool(MergeTool(), argv=argv, cwd=folder, raises=True)
    return path


@pytest.fixture(scope="module")
def models(make_model, folder):
    """Models with and without conditions, for all tasks or the energy.

    Of ``pointing``, the noise is no condition.
    """
    paths = {}
    for name, config in (
        ("all", {"errors": True}),
        ("energy", {"tasks": ("energy",)}),
        ("pointing", {"conditions": CONDITIONS[:2]}),
    ):
        config = {"conditions": CONDITIONS} | config
        model = make_model(SUBARRAY.tel[1], 2, **config)
        for weights in model.weights[0]:
            plant(weights, count_columns(config["conditions"]))
        for of, content in (
            (name, model),
            (f"{name}_plain", without_conditions(model)),
        ):
            paths[of] = folder / f"{of}.safetensors"
            write_model(paths[of], content)
    return paths


def keyed(table, values):
    """Values by observation, event and telescope."""
    keys = zip(*(np.asarray(table[name]).tolist() for name in KEYS), strict=True)
    return dict(zip(keys, np.asarray(values).tolist(), strict=True))


def telescope_events(path):
    with TableLoader(path) as loader:
        return loader.read_telescope_events(dl2=True)


def energies(table):
    """log10(E/TeV) of valid events."""
    table = table[table["GammaPhysNetEnergy_tel_is_valid"]]
    energy = u.Quantity(table["GammaPhysNetEnergy_tel_energy"]).to_value(u.TeV)
    return keyed(table, np.log10(energy))


@pytest.fixture(scope="module")
def bulk(dl1, models, folder):
    """DL2 of the telescopes, by model."""
    return {
        name: telescope_events(apply(dl1, path, folder / f"{name}.dl2.h5"))
        for name, path in models.items()
    }


@pytest.fixture(scope="module")
def noise(dl1):
    """Noise of all images, from two rings around the mask on, by their keys."""
    neighbors = SUBARRAY.tel[1].camera.geometry.neighbor_matrix
    with TableLoader(dl1) as loader:
        table = loader.read_telescope_events(dl1_images=True, true_images=False)
    near = np.asarray(table["image_mask"])
    for _ in range(2):
        near = near | (near @ neighbors)
    _, found = measure_background(np.asarray(table["image"]), ~near)
    return keyed(table, found)


@pytest.mark.parametrize("name", ["all", "energy"])
def test_energies_gain_what_is_planted(bulk, noise, name):
    found, plain = energies(bulk[name]), energies(bulk[f"{name}_plain"])
    assert found.keys() == {key for key in plain if np.isfinite(noise[key])}
    assert abs(gain(1) - gain(2)) > 0.1
    assert np.std([np.log(noise[key]) for key in found]) > 0.05
    for obs_id in POINTINGS:
        keys = [key for key in found if key[0] == obs_id]
        assert len(keys) > 10
        gained = [found[key] - plain[key] for key in keys]
        of_noise = NOISE * np.log([noise[key] / 1.5 for key in keys])
        assert_allclose(gained, gain(obs_id) + of_noise, atol=1e-6)


def test_images_without_background_have_no_predictions(dl1, models, bulk, tmp_path):
    """Their shower covers the camera."""
    path = tmp_path / "covered.dl1.h5"
    path.write_bytes(dl1.read_bytes())
    with tables.open_file(path, "r+") as file:
        images = file.root.dl1.event.telescope.images.tel_001
        images.modify_column(
            0, 2, column=np.ones_like(images[:2]["image_mask"]), colname="image_mask"
        )
        keys = {(*map(int, row),) for row in images[:2][list(KEYS)]}
    found, plain = (
        energies(telescope_events(apply(path, models[name], tmp_path / f"{name}.h5")))
        for name in ("energy", "energy_plain")
    )
    assert keys <= plain.keys() == energies(bulk["energy"]).keys()
    assert found.keys() == plain.keys() - keys


@pytest.mark.parametrize("name", ["all", "energy"])
def test_event_by_event_is_the_same(dl1, models, bulk, folder, name):
    output = folder / f"{name}.events.h5"
    events = telescope_events(process(dl1, models[name], output))
    columns = [n for n in events.colnames if re.match("GammaPhysNet.*_tel_", n)]
    assert len(columns) > (3 if name == "energy" else 20)
    for column in columns:
        found = keyed(events, events[column])
        expected = keyed(bulk[name], bulk[name][column])
        assert found.keys() == expected.keys()
        pairs = [found[key] for key in expected], [*expected.values()]
        # A spread is the difference of two members.
        assert_allclose(*pairs, rtol=1e-4, err_msg=column)
    assert energies(events) == pytest.approx(energies(bulk[name]), abs=1e-6)


@pytest.mark.parametrize("option", ["--batch-size=1", "--chunk-size=3"])
def test_batches_do_not_matter(dl1, models, bulk, folder, option):
    output = folder / f"all{option}.dl2.h5"
    found = telescope_events(apply(dl1, models["all"], output, option))
    assert energies(found) == pytest.approx(energies(bulk["all"]), abs=1e-6)


def networks_of(path, dl1):
    types = {str(SUBARRAY.tel[1])}
    model = load_model(
        *(path, {dl1: SUBARRAY}, types), on_missing=pytest.fail, log=None, device="cpu"
    )
    return list(model.networks.values())


def test_the_evaluation_is_the_same(dl1, models, bulk):
    query = ImageQualityQuery(quality_criteria=CRITERIA)
    events = read_events(dl1, 0, query, SUBARRAY.tel_ids)
    with open_events(dl1) as reader:
        networks = networks_of(models["all"], dl1)
        predictions, _ = predict_file(reader, networks, events)
    found = keyed(events, np.log10(predictions["energy"][0]))
    assert found == pytest.approx(energies(bulk["all"]), abs=1e-6)


@pytest.fixture(scope="module")
def explained(dl1, models):
    """Batches of images, and explainers of the models with all tasks."""
    query = TrainingQualityQuery(quality_criteria=CRITERIA)
    batches = list(read_batches(dl1, [str(SUBARRAY.tel[1])], query, 7))
    explainers = {}
    for name in ("all", "all_plain", "pointing", "pointing_plain"):
        (network,) = networks_of(models[name], dl1)
        explainers[name] = Explainer(network.card, network.predictor)
    return batches, explainers


def test_the_explanation_is_the_same(bulk, explained):
    batches, explainers = explained
    found = {}
    for batch in batches:
        maps, plain = (explainers[n].explain(batch) for n in ("all", "all_plain"))
        found |= keyed(batch.events, maps.predictions["energy"].mean(axis=0)[:, 0])
        # What is added does not depend on the image.
        heatmap, expected = (m.heatmaps["energy"] for m in (maps, plain))
        assert_allclose(heatmap, expected, atol=1e-6 * expected.max())
    assert found == pytest.approx(energies(bulk["all"]), abs=1e-6)


def test_disturbed_images_keep_their_pointing(explained):
    batches, explainers = explained
    names = "pointing", "pointing_plain"
    models = {name: {batches[0].type: explainers[name]} for name in names}
    moved = measure_movements(
        batches[:1], models, np.random.default_rng(0), lambda n: None
    )
    movements = {name: [] for name in names}
    for (name, *_), quantities in moved.items():
        movements[name] += quantities["energy"].ravel().tolist()
    assert np.ptp(movements["pointing"]) > 0.01
    assert_allclose(*movements.values(), atol=1e-5)


def test_the_noise_is_that_of_the_disturbed_image(explained):
    """Twice the charge of all pixels is twice the noise."""
    batches, explainers = explained
    brighter = disturb(batches[0], "gain", 2.0, np.random.default_rng(0))
    inputs = (explainers["all"].inputs_of(batch) for batch in (batches[0], brighter))
    before, after = (conditions for _, conditions in inputs)
    assert_array_equal(after[:, :3], before[:, :3])
    assert_allclose(after[:, 3] - before[:, 3], 3 * np.log(2), atol=1e-5)


@pytest.mark.parametrize("name", ["all", "energy"])
def test_without_pointing_nothing_is_valid(dl1, models, caplog, name):
    """Not even the energy alone; counted and warned of once for each telescope."""
    reconstruct = GammaPhysNetReconstructor(SUBARRAY, load_path=models[name])
    n_valid = 0
    with EventSource(dl1) as source:
        for event in source:
            for tel_id in event.trigger.tels_with_trigger:
                if tel_id == 2:
                    event.monitoring.tel[tel_id].pointing.azimuth = np.nan * u.rad
            reconstruct(event)
            for tel_id, dl2 in event.dl2.tel.items():
                prediction = dl2.energy["GammaPhysNetEnergy"]
                assert np.isfinite(prediction.energy) == prediction.is_valid
                assert not (prediction.is_valid and tel_id == 2)
                n_valid += prediction.is_valid
    counts = reconstruct.quality_query.to_table()
    counts = dict(zip(counts["criteria"], counts["counts"], strict=True))
    assert counts["valid energy"] == n_valid > 10
    assert counts["image that the network can use"] > n_valid + 5
    (warning,) = [r.message for r in caplog.records if "not known" in r.message]
    assert "pointing of telescope 2 is not known at event" in warning
    assert "without it, predictions are not valid" in warning


@pytest.fixture
def without_pointing(dl1, tmp_path):
    path = tmp_path / "unknown.dl1.h5"
    path.write_bytes(dl1.read_bytes())
    with tables.open_file(path, "r+") as file:
        file.remove_node("/configuration/telescope/pointing/tel_002")
    return path


def test_whole_files_without_pointing_are_refused(without_pointing, models, tmp_path):
    output = tmp_path / "a.dl2.h5"
    with pytest.raises(DL1FileError, match="does not have the pointing of telescope 2"):
        apply(without_pointing, models["energy"], output)
    assert not output.exists()
    apply(without_pointing, models["energy_plain"], output)
    assert output.exists()


def test_unknown_pointings_are_not_explained(without_pointing, models, tmp_path):
    argv = [
        *(f"--input={without_pointing}", f"--model={models['energy']}"),
        *(f"--output-dir={tmp_path / 'maps'}", f"--provenance-log={tmp_path / 'log'}"),
        *("--rank-by=energy", "--no-progress"),
    ]
    with pytest.raises(DL1FileError, match="unknown.*pointing of telescope 2 is not"):
        run_tool(ExplainGammaPhysNet(), argv=argv, cwd=tmp_path, raises=True)
