"""What new networks get from a model, and what they do not."""

import copy
import logging
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from ctapipe.core import ToolConfigurationError
from traitlets.config import Config

from ctapipe_gammaphysnet.events.showers import count_seen, describe_showers
from ctapipe_gammaphysnet.model.card import InputCard, card_from_json, card_to_json
from ctapipe_gammaphysnet.model.file import Model
from ctapipe_gammaphysnet.model.predictor import Predictor
from ctapipe_gammaphysnet.model.telescope import (
    TelescopeMismatchError,
    describe_telescope,
)
from ctapipe_gammaphysnet.network import NetworkConfig
from ctapipe_gammaphysnet.tasks.conditions import CONDITIONS, count_columns
from ctapipe_gammaphysnet.training.index import TrainingDataError
from ctapipe_gammaphysnet.training.inheritance import inherit
from ctapipe_gammaphysnet.training.parent import Parent, choose_input, default_settings
from ctapipe_gammaphysnet.training.recipe import InputTransformation

LOG = logging.getLogger("test")
#: What `make_model` makes.
CONFIG = {"blocks": 1, "channels": (4, 8), "hidden": 8}
SCALES = ["scales.energy", "scales.impact", "scales.direction"]
FIELD_FIRST = "geomagnetic_field", "zenith"
#: Layers that see the conditions.
LAYERS = ["heads.energy.0.weight", "heads.class.weight", "geometry.0.weight"]
LAYERS += ["scales.energy.0.weight"]
HEADS = ["heads.energy", "heads.impact", "heads.direction", "heads.class"]


@pytest.fixture(scope="module")
def telescope(toy_subarray):
    return toy_subarray.tel[1]


@pytest.fixture
def make_parent(make_model, telescope):
    def make(telescopes=telescope, sha256="a" * 64, update=None, **options):
        model = make_model(telescopes, **options)
        if update is not None:
            networks = tuple(n.model_copy(update=update) for n in model.card.networks)
            card = model.card.model_copy(update={"networks": networks})
            model = Model(card, model.weights)
        return Parent(Path("old.safetensors"), sha256, model)

    return make


def parts_of(inheritance, seed=0):
    """Backbone, hidden layer, or head of each weight."""
    names = [name.split(".") for name in inheritance.weights[seed]]
    has_tasks = "heads", "scales"
    return {".".join(n[:2]) if n[0] in has_tasks else n[0] for n in names}


def begin(parent, telescope, seeds=(0,), **config):
    return inherit(parent, telescope, NetworkConfig(**CONFIG | config), seeds, LOG)


def test_members_begin_with_those_of_their_seeds(make_parent, telescope):
    parent = make_parent(n_members=3, seed=4)
    found = begin(parent, telescope, [6, 4]).weights
    assert list(found) == [6, 4]
    for seed, number in ((6, 2), (4, 0)):
        np.testing.assert_equal(found[seed], parent.model.weights[0][number])
    with pytest.raises(
        ToolConfigurationError, match=r"old.safetensors has .* 4, 5, 6 for .* seed 7"
    ):
        begin(parent, telescope, [4, 7])


def test_a_single_member_serves_all_seeds(make_parent, telescope):
    parent = make_parent()
    found = begin(parent, telescope, [3, 9]).weights
    for seed in (3, 9):
        np.testing.assert_equal(found[seed], parent.model.weights[0][0])


@pytest.mark.parametrize(
    ("before", "now", "new", "left_out"),
    [
        ({}, {}, [], []),
        # The heads of direction and impact point share a hidden layer.
        (
            {"tasks": ("energy", "class")},
            {},
            ["geometry", "heads.impact", "heads.direction"],
            [],
        ),
        ({}, {"tasks": ("class",)}, [], ["geometry", *HEADS[:3]]),
        (
            {"tasks": ("direction", "class")},
            {"tasks": ("direction", "energy")},
            ["heads.energy"],
            ["heads.class"],
        ),
        # Classes of another order, or other ones.
        ({"classes": ("gamma", "electron")}, {}, ["heads.class"], ["heads.class"]),
        ({}, {"errors": True}, SCALES, []),
        ({"errors": True}, {}, [], SCALES),
        ({"errors": True}, {"errors": True}, [], []),
        # With another hidden layer, all that follows is new.
        ({"hidden": 4}, {}, ["geometry", *HEADS[:3]], ["geometry", *HEADS[:3]]),
    ],
)
def test_what_is_new_begins_anew(
    make_parent, telescope, caplog, before, now, new, left_out
):
    parent = make_parent(**before)
    with caplog.at_level("INFO"):
        found = begin(parent, telescope, **now)
    (line,) = caplog.messages
    names = [", ".join(sorted(names)) or "nothing" for names in (new, left_out)]
    said = line.partition("New: ")[2].split(". Left out: ")
    assert [", ".join(sorted(text.split(", "))) for text in said] == names
    assert line.startswith("LST_LST_ToyCam begins with the weights of old.safetensors")
    tasks = NetworkConfig(**CONFIG | now).tasks
    parts = {"backbone", *(f"heads.{task}" for task in tasks)}
    if "errors" in now:
        parts.update(SCALES)
    if {"direction", "impact"} & set(tasks):
        parts.add("geometry")
    assert parts_of(found) == parts - set(new)
    for name, weight in found.weights[0].items():
        np.testing.assert_array_equal(weight, parent.model.weights[0][0][name])


@pytest.mark.parametrize(
    ("before", "now", "new", "left_out"),
    [
        ((), ("zenith",), "condition zenith", "nothing"),
        (("zenith",), (), "nothing", "condition zenith"),
        (("zenith",), FIELD_FIRST, "condition geomagnetic_field", "nothing"),
        (FIELD_FIRST[::-1], FIELD_FIRST, "nothing", "nothing"),
    ],
)
def test_conditions_begin_where_the_model_is(
    make_parent, telescope, caplog, before, now, new, left_out
):
    """New ones have no effect yet, and known ones keep theirs, in any order."""
    parent = make_parent(conditions=before, errors=True)
    ((weights,),) = parent.model.weights
    rng = np.random.default_rng(0)
    layers = [n for n in weights if n in LAYERS]
    assert len(layers) == len(LAYERS)
    n_before = count_columns(before)
    for name in layers if before else ():
        weights[name][:, -n_before:] = rng.normal(size=(len(weights[name]), n_before))
    with caplog.at_level("INFO"):
        found = begin(parent, telescope, conditions=now, errors=True)
    assert caplog.messages[0].endswith(f"New: {new}. Left out: {left_out}")
    assert parts_of(found) == {"backbone", "geometry", *HEADS, *SCALES}
    for name, weight in found.weights[0].items():
        if name not in layers:
            np.testing.assert_array_equal(weight, weights[name])
            continue
        # What they add to a sum, for any values of the conditions.
        values = {n: rng.normal(size=c.n_columns) for n, c in CONDITIONS.items()}
        n_features = weight.shape[1] - count_columns(now)
        old, new = weights[name], weight
        np.testing.assert_array_equal(old[:, :n_features], new[:, :n_features])
        added = [
            each[:, n_features:] @ np.concatenate([[], *(values[n] for n in names)])
            for each, names in ((old, before), (new, now))
        ]
        if now:
            np.testing.assert_allclose(*added, atol=1e-6)


def test_a_head_that_means_something_else_begins_anew(make_parent, telescope):
    targets = make_parent().model.card.networks[0].targets
    targets = targets | {"direction": "alt, az - pointing / rad"}
    found = begin(make_parent(update={"targets": targets}), telescope)
    assert parts_of(found) == {"backbone", "geometry", *HEADS} - {"heads.direction"}


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"blocks": 2}, "blocks=1 instead of 2"),
        ({"channels": (4, 9)}, r"channels=\(4, 8\) instead of \(4, 9\)"),
        ({"attention": False}, "attention=True instead of False"),
        ({"attention_ratio": 2}, "attention_ratio=16 instead of 2"),
    ],
)
def test_another_backbone_is_an_error(make_parent, telescope, config, problem):
    message = f"old.safetensors: the backbone .* LST_LST_ToyCam has {problem}, so that"
    with pytest.raises(ToolConfigurationError, match=message):
        begin(make_parent(), telescope, **config)


def test_each_telescope_type_gets_its_own(make_parent, toy_subarray):
    types = list(toy_subarray.telescope_types)
    parent = make_parent(types)
    for number, telescope in enumerate(types):
        found = begin(parent, telescope)
        assert found.card.type == str(telescope)
        np.testing.assert_equal(found.weights[0], parent.model.weights[number][0])


def test_a_telescope_without_network_is_an_error(make_parent, toy_subarray):
    with pytest.raises(
        TelescopeMismatchError,
        match="old.safetensors has no network for LST_LST_OtherCam, only for .*_ToyCam",
    ):
        begin(make_parent(), toy_subarray.tel[3])
    larger = copy.deepcopy(toy_subarray.tel[1])
    larger.optics.mirror_area *= 1.1
    with pytest.raises(TelescopeMismatchError, match="its mirror area is"):
        begin(make_parent(), larger)


def rearranged(telescope, order=None, turn_deg=0.0):
    """The same telescope: its pixels in another order, or in a frame that is turned."""
    found = copy.deepcopy(telescope)
    geometry = found.camera.geometry
    order = np.arange(geometry.n_pixels) if order is None else order
    turn = np.exp(1j * np.deg2rad(turn_deg))
    xy = (geometry.pix_x + 1j * geometry.pix_y)[order] * turn
    geometry.pix_x, geometry.pix_y = xy.real, xy.imag
    geometry.cam_rotation += turn_deg * u.deg
    return found


def test_the_order_of_the_pixels_does_not_matter(make_parent, telescope):
    """The same image gives the same predictions."""
    parent = make_parent()
    order = np.random.default_rng(0).permutation(telescope.camera.geometry.n_pixels)
    other = rearranged(telescope, order)
    found = begin(parent, other)
    old = parent.model.card.networks[0]
    new = old.model_copy(update={"telescope": describe_telescope(other)})
    images = np.random.default_rng(1).normal(size=(5, 2, len(order))).astype(np.float32)
    before = Predictor(old, parent.model.weights[0])(images)
    after = Predictor(new, [found.weights[0]])(images[..., order])
    for task, output in before.items():
        np.testing.assert_allclose(after[task], output, rtol=1e-5, atol=1e-6)


def test_another_frame_of_the_camera_is_an_error(make_parent, telescope):
    turned = rearranged(telescope, turn_deg=90.0)
    with pytest.raises(TelescopeMismatchError, match="in another frame of the camera"):
        begin(make_parent(), turned)


def test_networks_of_one_file_may_ask_for_a_choice(make_parent, toy_subarray):
    types = list(toy_subarray.telescope_types)
    parent = make_parent(types)
    first, second = parent.model.card.networks
    second = second.model_copy(
        update={"network": NetworkConfig(blocks=2, channels=(4, 8))}
    )
    card = parent.model.card.model_copy(update={"networks": (first, second)})
    both = Parent(parent.path, parent.sha256, Model(card, parent.model.weights))
    with pytest.raises(
        ToolConfigurationError, match="different blocks: give TrainGamma"
    ):
        default_settings(both, ["blocks", "channels"], [])
    assert default_settings(both, ["blocks", "channels"], ["blocks"]) == {
        "channels": [4, 8]
    }


def test_the_input_is_the_models(make_parent, telescope):
    separate = InputCard(missing_pixels="separate", charge_scale=3.0)
    inherited = begin(make_parent(update={"input": separate}), telescope)

    def choose(**options):
        config = Config({"InputTransformation": options})
        transformation = InputTransformation(config=config)
        return choose_input(transformation, inherited, Path("old.safetensors"))

    assert choose() == choose(charge_scale=3.0) == separate
    # Also a default, if it is asked for.
    message = r"InputTransformation.charge_scale is 1.0, but in old.* it is 3.0"
    with pytest.raises(ToolConfigurationError, match=message):
        choose(charge_scale=1.0)


def seen(numbers):
    return {"seen in training": describe_showers(np.array(numbers, np.uint64) << 32)}


def test_the_card_describes_all_networks_before(make_parent, telescope):
    """Each with its hash, and with its showers; however many there are."""
    card, hashes = None, []
    for number in range(11):
        sha256 = f"{number:064x}"
        update = {"training": seen([number, 100 + number]), "parent": card}
        parent = make_parent(sha256=sha256, update=update)
        card = begin(parent, telescope).card
        assert card.sha256 == sha256
        assert card.before == tuple(hashes[:8])
        assert card.showers.showers == 2 * (number + 1)
        assert card.knows_all_showers
        assert card.note == parent.model.card.note
        assert card.seeds == (0,)
        hashes.insert(0, sha256)
    everything = np.arange(200, dtype=np.uint64) << np.uint64(32)
    assert count_seen(everything, card.showers.description) == 22
    # It can be written, and read.
    model = make_parent(update={"parent": card}).model.card
    assert card_from_json(card_to_json(model)).networks[0].parent == card


def test_showers_that_are_not_known_are_not_forgotten(make_parent, telescope):
    unknown = begin(make_parent(), telescope).card
    assert unknown.showers is None
    assert not unknown.knows_all_showers
    update = {"training": seen([1, 2, 3]), "parent": unknown}
    card = begin(make_parent(update=update), telescope).card
    assert card.showers.showers == 3
    assert not card.knows_all_showers


@pytest.mark.parametrize(
    "description",
    [
        "all",
        {"showers": 3},
        {"showers": 3, "smallest numbers": "!"},
        {"showers": 3, "smallest numbers": "AAA="},
        {"showers": -1, "smallest numbers": ""},
    ],
)
def test_showers_that_make_no_sense_are_an_error(make_parent, telescope, description):
    update = {"training": {"seen in training": description}}
    with pytest.raises(TrainingDataError, match="old.safetensors: its card does not"):
        begin(make_parent(update=update), telescope)


def test_a_long_note_is_cut(make_parent, telescope):
    parent = make_parent()
    card = parent.model.card.model_copy(update={"note": "γ" * 5000})
    parent = Parent(parent.path, parent.sha256, Model(card, parent.model.weights))
    assert begin(parent, telescope).card.note == "γ" * 1000
