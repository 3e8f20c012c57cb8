"""Models that are loaded for the telescopes of arrays, by whatever asks for them."""

import hashlib
import logging

import numpy as np
import pytest
from ctapipe.core import Provenance, ToolConfigurationError

from ctapipe_gammaphysnet.evaluation.networks import read_networks
from ctapipe_gammaphysnet.model.errors import ModelFileError
from ctapipe_gammaphysnet.model.file import read_model, write_model
from ctapipe_gammaphysnet.model.loading import load_model
from ctapipe_gammaphysnet.model.predictor import DeviceError, Predictor
from ctapipe_gammaphysnet.model.telescope import TelescopeMismatchError
from ctapipe_gammaphysnet.reconstructor import GammaPhysNetReconstructor

LOG = logging.getLogger(__name__)


@pytest.fixture(scope="module")
def types(toy_subarray):
    return [str(telescope) for telescope in toy_subarray.telescope_types]


def load(path, subarray, types, missing=None, **settings):
    def refuse(names, available):
        raise AssertionError(f"{names} are missing")

    arrays = {None: subarray, "night.dl1.h5": subarray}
    settings = {"on_missing": missing or refuse, "log": LOG, **settings}
    return load_model(path, arrays, types, **settings)


def test_a_loaded_model_predicts_what_the_file_has(toy_model, toy_subarray, types):
    Provenance().start_activity("loading")
    model = load(toy_model, toy_subarray, types, device="cpu")
    inputs = Provenance().current_activity.provenance["input"]
    Provenance().finish_activity("loading")
    sha256 = hashlib.sha256(toy_model.read_bytes()).hexdigest()
    assert model.sha256 == sha256
    assert inputs[-1]["url"] == str(toy_model)
    assert inputs[-1]["reference_meta"] == {"sha256": sha256}
    assert list(model.networks) == types
    content = read_model(toy_model)
    assert model.card == content.card
    for card, weights in zip(content.card.networks, content.weights, strict=True):
        network = model.networks[card.telescope.type]
        assert network.card == card
        shape = 3, 2, len(card.telescope.camera.pix_x_m)
        images = np.random.default_rng(0).random(shape, dtype=np.float32)
        expected = Predictor(card, weights)(images)
        for task, outputs in network.predictor(images).items():
            np.testing.assert_array_equal(outputs, expected[task])


def test_only_what_is_asked_for_is_loaded(toy_model, toy_subarray, types):
    model = load(toy_model, toy_subarray, types[1:])
    assert list(model.networks) == types[1:]
    assert len(model.card.networks) == len(types)


def test_whoever_asks_hears_of_missing_networks(
    make_model, toy_subarray, types, tmp_path
):
    path = tmp_path / "half.safetensors"
    write_model(path, make_model(toy_subarray.telescope_types[1]))
    heard = []
    found = load(path, toy_subarray, types, lambda *names: heard.append(names))
    assert heard == [([types[0]], [types[1]])]
    assert list(found.networks) == [types[1]]


def test_a_telescope_that_does_not_fit_is_named_with_its_file(
    make_model, toy_subarray, types, tmp_path
):
    model = make_model(toy_subarray.telescope_types)
    first, *others = model.card.networks
    optics = first.telescope.optics
    optics = optics.model_copy(update={"mirror_area_m2": 2 * optics.mirror_area_m2})
    telescope = first.telescope.model_copy(update={"optics": optics})
    networks = (first.model_copy(update={"telescope": telescope}), *others)
    card = model.card.model_copy(update={"networks": networks})
    path = tmp_path / "large.safetensors"
    write_model(path, type(model)(card, model.weights))
    arrays = {"night.dl1.h5": toy_subarray}
    with pytest.raises(TelescopeMismatchError, match=r"^night.dl1.h5, .*mirror area"):
        load_model(path, arrays, types, on_missing=None, log=LOG)


def test_what_is_wrong_with_the_file_or_the_machine_is_told(
    toy_model, toy_subarray, types, tmp_path
):
    with pytest.raises(DeviceError, match="'cuda:99' is not on this machine"):
        load(toy_model, toy_subarray, types, device="cuda:99")
    with pytest.raises(DeviceError, match="n_jobs must be at least 1"):
        load(toy_model, toy_subarray, types, n_jobs=0)
    with pytest.raises(ModelFileError, match="does not exist"):
        load(tmp_path / "none.safetensors", toy_subarray, types)


def in_the_reconstructor(path, subarray, types):
    GammaPhysNetReconstructor(subarray, load_path=path)


def in_the_evaluation(path, subarray, types):
    read_networks(path, types, {path: subarray}, LOG)


@pytest.mark.parametrize("where", [in_the_reconstructor, in_the_evaluation])
@pytest.mark.parametrize("error", [ValueError, TypeError])
def test_an_error_in_the_code_is_no_mistake_of_the_user(
    toy_model, toy_subarray, types, where, error, monkeypatch
):
    """It keeps its kind and its traceback; of a file that is damaged it is told."""

    def fail(*arguments):
        raise error("operands could not be broadcast together")

    monkeypatch.setattr("numpy.lexsort", fail)  # as a network's lattice is found
    with pytest.raises(error, match="^operands") as caught:
        where(toy_model, toy_subarray, types)
    assert not isinstance(caught.value, ToolConfigurationError)


@pytest.mark.parametrize("where", [in_the_reconstructor, in_the_evaluation])
def test_a_damaged_file_is_told_without_a_traceback(
    toy_model, toy_subarray, types, where, tmp_path
):
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(toy_model.read_bytes()[:-1])
    with pytest.raises(ToolConfigurationError, match="damaged"):
        where(path, toy_subarray, types)
