"""The model card: what it accepts, what it refuses, how it reads."""

import hashlib
import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from ctapipe_gammaphysnet.model.card import (
    FORMAT_VERSION,
    CameraCard,
    CardError,
    MemberCard,
    ModelCard,
    NetworkCard,
    NewerFormatError,
    OpticsCard,
    ParentCard,
    TelescopeCard,
    card_from_json,
    card_to_json,
    geometry_sha256,
)
from ctapipe_gammaphysnet.model.card_text import format_card
from ctapipe_gammaphysnet.model.file import read_card
from ctapipe_gammaphysnet.network import NetworkConfig

MODEL = (
    Path(__file__).parents[2] / "examples" / "data" / "lst_demonstration.safetensors"
)
X, Y = (-0.05, 0.0, 0.1, -0.0), (0.1 + 0.2, 1e-17, 0.05, 1 / 3)


def make_card(telescope_type="LST_LST_LSTCam"):
    camera = CameraCard(
        name="LSTCam",
        pix_x_m=X,
        pix_y_m=Y,
        pix_area_m2=(0.0025,) * 4,
        pix_type="hexagon",
        pix_rotation_deg=100.893,
        cam_rotation_deg=-0.0,
        geometry_sha256=geometry_sha256(X, Y),
    )
    optics = OpticsCard(
        name="LST",
        equivalent_focal_length_m=28.0,
        effective_focal_length_m=29.30565,
        mirror_area_m2=386.0,
        n_mirrors=1,
    )
    network = NetworkCard(
        telescope=TelescopeCard(type=telescope_type, optics=optics, camera=camera),
        network=NetworkConfig(blocks=3, channels=(8, 16)),
        training={"energy range / TeV": [0.01, 100], "noise": {"p.e.": [1.5, None]}},
        members=(
            MemberCard(seed=11, training={"loss": [0.5, 0.25], "epochs": 2}),
            MemberCard(seed=12),
        ),
    )
    return ModelCard(
        note="demonstration, not for science",
        created="2030-01-31T12:00:00+00:00",
        software={"torch": "2.9", "ctapipe": "0.28"},
        networks=(network,),
    )


def edited(path, value):
    """JSON of a card with one value replaced, or deleted if the new one is `...`."""
    values = json.loads(card_to_json(make_card()))
    target = values
    *parents, last = path
    for key in parents:
        target = target[key]
    if value is ...:
        del target[last]
    else:
        target[last] = value
    return json.dumps(values)


def make_parent_card(**update):
    """As of a network whose training began with the weights of another one."""
    values = {
        "type": "LST_LST_LSTCam",
        "sha256": "0" * 64,
        "created": "2030-01-31T12:00:00+00:00",
        "note": "the first",
        "seeds": (1, 2),
        "domain": None,
        "showers": {"showers": 1, "smallest_numbers": "AAAAAA=="},
        "knows_all_showers": True,
        "before": ("1" * 64,),
    }
    return ParentCard(**values | update)


def with_parent(parent):
    """A card of such a network."""
    card = make_card()
    (network,) = card.networks
    network = network.model_copy(update={"parent": parent})
    return card.model_copy(update={"networks": (network,)})


NETWORK = ("networks", 0)
CAMERA = (*NETWORK, "telescope", "camera")
OPTICS = (*NETWORK, "telescope", "optics")


def test_geometry_sha256_is_over_little_endian_doubles():
    expected = hashlib.sha256(struct.pack("<8d", *X, *Y)).hexdigest()
    assert geometry_sha256(X, Y) == expected
    assert geometry_sha256(np.array(X, ">f8"), np.array(Y)[::1]) == expected
    assert geometry_sha256(Y, X) != expected


def test_round_trip():
    card = make_card()
    text = card_to_json(card)
    assert text.isascii()
    back = card_from_json(text)
    assert back == card
    assert back.networks[0].members[0].training == {"loss": [0.5, 0.25], "epochs": 2}
    # Bit by bit, including the sign of zero.
    assert struct.pack("<4d", *back.networks[0].telescope.camera.pix_x_m) == (
        struct.pack("<4d", *X)
    )


def test_round_trip_with_a_parent():
    card = with_parent(make_parent_card())
    assert card_from_json(card_to_json(card)) == card


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("sha256", "0" * 63, "parent.sha256"),
        ("sha256", "A" * 64, "parent.sha256"),
        ("sha256", "0" * 64 + "\n", "parent.sha256"),
        ("note", "a" * 1001, "at most 1000"),
        ("created", "a" * 101, "at most 100"),
        ("seeds", list(range(65)), "at most 64"),
        ("seeds", [-1], "parent.seeds"),
        ("before", ["0" * 64] * 9, "at most 8"),
        ("before", ["0"], "parent.before"),
        ("domain", {}, "parent.domain"),
        ("knows_all_showers", 1, "parent.knows_all_showers"),
        ("showers", {"showers": 1, "smallest_numbers": "?"}, "smallest_numbers"),
        (
            "showers",
            {"showers": 1, "smallest_numbers": "AAAA"},
            "no numbers of 32 bits",
        ),
        (
            "showers",
            {"showers": 1, "smallest_numbers": "A" * 533_340},
            "at most 533336",
        ),
        ("showers", {"showers": -1, "smallest_numbers": ""}, "showers.showers"),
        ("parent", {}, "parent.parent: Extra"),
    ],
)
def test_a_parent_that_makes_no_sense_is_refused(name, value, message):
    values = json.loads(card_to_json(with_parent(make_parent_card())))
    values["networks"][0]["parent"][name] = value
    with pytest.raises(CardError, match=message):
        card_from_json(json.dumps(values))


def test_round_trip_beyond_ascii():
    card = make_card().model_copy(update={"note": "γ 😀"})
    assert card_from_json(card_to_json(card)).note == "γ 😀"


def test_defaults_say_what_goes_in_and_out():
    network = make_card().networks[0]
    assert network.input.model_dump() == {
        "image": "raw",
        "charge_reference": "none",
        "charge_unit": "p.e.",
        "background_rings": 2,
        "charge": "linear",
        "charge_scale": 1.0,
        "peak_time_unit": "ns",
        "peak_time_reference": "none",
        "peak_time_scale": 1.0,
        "peak_time_pixels": "all",
        "peak_time_rings": 0,
        "missing_pixels": "zero",
    }
    assert network.targets == {
        "energy": "log10(E/TeV)",
        "direction": "fov_lon, fov_lat / deg, TelescopeFrame",
        "impact": "core - telescope / km, TiltedGroundFrame of the telescope pointing",
        "class": "logits of the classes",
    }


def test_targets_are_those_of_the_tasks():
    network = make_card().networks[0]
    values = network.model_dump(exclude={"targets"})
    values["network"] = network.network.model_copy(update={"tasks": ("energy",)})
    assert NetworkCard(**values).targets == {"energy": "log10(E/TeV)"}


def card_of_format_1():
    """JSON of a card as format 1 wrote it: a network without the class."""
    values = json.loads(card_to_json(make_card())) | {"format_version": 1}
    values["networks"][0]["network"]["tasks"] = ["direction", "energy"]
    values["networks"][0]["targets"] = {
        "energy": "log10(E/TeV)",
        "direction": "fov_lon, fov_lat / deg, TelescopeFrame",
        "impact": "core - telescope / km, TiltedGroundFrame of the telescope pointing",
    }
    return values


def test_format_1_is_read():
    card = card_from_json(json.dumps(card_of_format_1()))
    assert card.format_version == 1
    assert card.networks[0].targets == {
        "direction": "fov_lon, fov_lat / deg, TelescopeFrame",
        "energy": "log10(E/TeV)",
    }
    expected = make_card().networks[0]
    assert card.networks[0].telescope == expected.telescope
    assert card.networks[0].members == expected.members
    written = card_from_json(card_to_json(card))
    assert written == card.model_copy(update={"format_version": 2})


@pytest.mark.parametrize(
    ("task", "meaning"), [("energy", "E/TeV"), ("class", "logits")]
)
def test_format_1_means_what_it_meant(task, meaning):
    values = card_of_format_1()
    values["networks"][0]["targets"][task] = meaning
    with pytest.raises(CardError, match="targets"):
        card_from_json(json.dumps(values))


def test_format_1_is_as_strict():
    for name, value in (("format_version", True), ("networks", {}), ("note", None)):
        with pytest.raises(CardError, match=name):
            card_from_json(json.dumps(card_of_format_1() | {name: value}))
    values = card_of_format_1()
    values["networks"][0]["network"]["blocks"] = 0
    with pytest.raises(CardError, match="network.blocks"):
        card_from_json(json.dumps(values))


def test_cards_without_conditions_are_read():
    """Those of older versions do not know the words."""
    values = json.loads(card_to_json(make_card()))
    del values["networks"][0]["network"]["conditions"]
    del values["networks"][0]["geomagnetic_field_ut"]
    assert card_from_json(json.dumps(values)) == make_card()


def test_a_card_keeps_its_conditions_and_their_field():
    values = json.loads(card_to_json(make_card()))
    conditions = ["zenith", "geomagnetic_field"]
    values["networks"][0]["network"]["conditions"] = conditions
    values["networks"][0]["geomagnetic_field_ut"] = [30.0, 3.0, -20.0]
    card = card_from_json(json.dumps(values))
    assert card.networks[0].network.conditions == tuple(conditions)
    assert json.loads(card_to_json(card)) == values
    text = format_card(card)
    assert "conditions: zenith, geomagnetic_field\n" in text
    assert "geomagnetic field / µT (north, west, up): 30.0, 3.0, -20.0\n" in text


def test_the_committed_model_has_the_current_format():
    text = MODEL.read_bytes()
    assert f'\\"format_version\\": {FORMAT_VERSION}'.encode() in text
    card = read_card(MODEL)
    assert list(card.networks[0].targets) == list(card.networks[0].network.tasks)
    assert card.networks[0].domain is not None


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ((*CAMERA, "pix_x_m", 1), 0.01, "geometry_sha256 does not belong"),
        ((*CAMERA, "pix_y_m", 1), 0.01, "geometry_sha256 does not belong"),
        ((*CAMERA, "geometry_sha256"), "0" * 64, "geometry_sha256 does not belong"),
        ((*CAMERA, "pix_x_m"), [0.0], "differ in length"),
        ((*CAMERA, "pix_area_m2"), [1.0] * 5, "differ in length"),
        ((*CAMERA, "pix_area_m2"), [1.0, 1.0, 1.0, 0.0], "must be positive"),
        ((*CAMERA, "pix_area_m2"), [], "differ in length"),
        ((*CAMERA, "pix_area_m2"), [1.0] * 50_001, "at most 50000"),
        ((*CAMERA, "pix_type"), "circle", "pix_type"),
        ((*CAMERA, "pix_rotation_deg"), "0", "pix_rotation_deg"),
        ((*CAMERA, "name"), "", "camera.name"),
        ((*OPTICS, "equivalent_focal_length_m"), 0.0, "greater than 0"),
        ((*OPTICS, "effective_focal_length_m"), -1.0, "greater than 0"),
        ((*OPTICS, "mirror_area_m2"), 0, "greater than 0"),
        ((*OPTICS, "n_mirrors"), 1.0, "n_mirrors"),
        ((*OPTICS, "diameter"), 1.0, "optics.diameter: Extra"),
        ((*NETWORK, "network", "blocks"), 65, "network.blocks"),
        ((*NETWORK, "network", "classes"), ["proton", "gamma"], "gamma"),
        ((*NETWORK, "network", "conditions"), ["rain"], "does not know: rain"),
        ((*NETWORK, "network", "conditions"), ["geomagnetic_field"], "_ut must be"),
        ((*NETWORK, "geomagnetic_field_ut"), [30.0, 3.0, -20.0], "_ut must be given"),
        ((*NETWORK, "geomagnetic_field_ut"), [30.0, 3.0], "geomagnetic_field_ut"),
        ((*NETWORK, "geomagnetic_field_ut"), [0.0, 0.0, 101.0], "less than or equal"),
        ((*NETWORK, "input", "image"), "dirty", "input.image"),
        ((*NETWORK, "input", "charge_unit"), "ADC", "input.charge_unit"),
        ((*NETWORK, "input", "charge_scale"), 0.0, "input.charge_scale"),
        ((*NETWORK, "input", "peak_time_rings"), 11, "input.peak_time_rings"),
        ((*NETWORK, "targets", "energy"), "E/TeV", "targets.energy"),
        ((*NETWORK, "targets", "energy"), ..., "targets.energy"),
        ((*NETWORK, "targets", "depth"), "g/cm²", "targets.depth"),
        (
            (*NETWORK, "network", "tasks"),
            ["energy", "depth"],
            "was made with a task that this version does not know: depth",
        ),
        ((*NETWORK, "members"), [], "members: Value error, there must be at least"),
        ((*NETWORK, "members"), [{"seed": s} for s in range(65)], "at most 64"),
        ((*NETWORK, "members", 1, "seed"), 11, "the same seed"),
        ((*NETWORK, "members", 1, "seed"), -1, "members.1.seed"),
        ((*NETWORK, "members", 1, "seed"), True, "members.1.seed"),
        ((*NETWORK, "members", 1, "seed"), ..., "members.1.seed: Field required"),
        (("networks",), [], "networks: Value error, there must be at least one"),
        (("created",), "yesterday", "must be a time in UTC"),
        (("created",), "2030-01-31T12:00:00", "must be a time in UTC"),
        (("created",), "2030-01-31T12:00:00+01:00", "must be a time in UTC"),
        (("software", "torch"), 2, "software.torch"),
        (("extra",), 1, "extra: Extra"),
        (("note",), None, "note"),
        (("format",), "other", "'ctapipe_gammaphysnet'"),
        (("format",), ..., "'ctapipe_gammaphysnet'"),
        (("format_version",), 0, "format_version"),
        (("format_version",), "1", "format_version"),
    ],
)
def test_invalid_values_are_named(path, value, message):
    with pytest.raises(CardError) as caught:
        card_from_json(edited(path, value))
    assert message in str(caught.value)
    assert not isinstance(caught.value, NewerFormatError)


def test_camera_without_pixels():
    camera = make_card().networks[0].telescope.camera.model_dump()
    nothing = dict.fromkeys(("pix_x_m", "pix_y_m", "pix_area_m2"), ())
    with pytest.raises(ValidationError, match="has no pixels"):
        CameraCard(**camera | nothing | {"geometry_sha256": geometry_sha256([], [])})


def test_same_telescope_type_twice():
    values = json.loads(card_to_json(make_card()))
    values["networks"] *= 2
    with pytest.raises(CardError, match="same telescope type"):
        card_from_json(json.dumps(values))
    values["networks"][1] = json.loads(card_to_json(make_card("MST")))["networks"][0]
    assert len(card_from_json(json.dumps(values)).networks) == 2


def test_newer_format_comes_before_the_schema():
    values = json.loads(edited(("format_version",), 3))
    values["something new"] = {}
    with pytest.raises(
        NewerFormatError,
        match=r"newer ctapipe_gammaphysnet \(format 3\).* up to 2: upgrade",
    ):
        card_from_json(json.dumps(values))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("place", ["training", "camera"])
def test_not_finite(number, place):
    text = card_to_json(make_card())
    old = '"epochs": 2' if place == "training" else '"pix_rotation_deg": 100.893'
    assert old in text
    message = "not valid" if number == "1e999" else "not a JSON value"
    with pytest.raises(CardError, match=message):
        card_from_json(text.replace(old, f"{old.split(':')[0]}: {number}"))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), (1, 2), {1: 2}, {1}])
def test_free_form_takes_only_json(value):
    with pytest.raises(ValidationError):
        MemberCard(seed=1, training={"value": value})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read"),
        ("[]", "format"),
        ("null", "format"),
        ("{" * 100, "cannot be read"),
        ("[" * 15_000, "cannot be read"),
        ('{"note": "", "note": ""}', "twice"),
        (f'{{"note": {"1" * 5000}}}', "cannot be read"),
        ('{"note": "γ"}', "ASCII"),
        (f'"{"a" * 5_000_000}"', "more than 5000000"),
        ("[" * 20_001, "more than 20000"),
        ("{" * 20_001, "more than 20000"),
        ("," * 200_001, "more than 200000"),
        (":" * 50_001, "more than 50000"),
    ],
    ids=range(13),
)
def test_hostile_json(text, message):
    with pytest.raises(CardError, match=message):
        card_from_json(text)


def test_punctuation_in_texts_is_free():
    note = r"{[:,\"]}" * 60_000
    assert card_from_json(edited(("note",), note)).note == note


def test_deep_nesting_in_free_form():
    deep = json.loads("[" * 500 + "]" * 500)
    with pytest.raises(CardError, match="recursion"):
        card_from_json(edited((*NETWORK, "training", "deep"), deep))


def test_many_errors_are_counted_and_few_listed():
    with pytest.raises(CardError, match="^its values.*: 2000 fields are wrong$"):
        card_from_json(edited(("software",), dict.fromkeys(map(str, range(2000)), 1)))
    with pytest.raises(CardError, match=r"software\.4: .*; and 5 more$"):
        card_from_json(edited(("software",), dict.fromkeys(map(str, range(10)), 1)))
    with pytest.raises(CardError, match=r"pix_x_m\.1: [^;]*$"):
        card_from_json(edited((*CAMERA, "pix_x_m"), [0.0, *"xxx"]))


def test_cards_do_not_change():
    with pytest.raises(ValidationError):
        make_card().note = "other"


def test_all_fields_are_described():
    schema = ModelCard.model_json_schema()
    definitions = {"ModelCard": schema, **schema["$defs"]}
    assert {"CameraCard", "OpticsCard", "MemberCard"} <= definitions.keys()
    for name, definition in definitions.items():
        for key, field in definition.get("properties", {}).items():
            assert field.get("description"), f"{name}.{key}"


def test_format_card():
    lines = format_card(make_card()).splitlines()
    for line in [
        "Model of ctapipe_gammaphysnet, format 2",
        "note: demonstration, not for science",
        "software:",
        "  torch: 2.9",
        "telescope LST_LST_LSTCam:",
        "    equivalent focal length / m: 28.0",
        "    pixels: 4, hexagon",
        f"    geometry: {geometry_sha256(X, Y)[:12]}",
        "    blocks: 3",
        "    channels: 8, 16",
        "    image: raw",
        "    energy range / TeV: 0.01, 100",
        "    noise:",
        "      p.e.: 1.5, not given",
        "    seed 11:",
        "      loss: 0.5, 0.25",
        "    seed 12: none",
    ]:
        assert line in lines
    assert "0.30000000000000004" not in format_card(make_card())


def test_format_card_shows_the_parent():
    assert "  parent: none: the training began with random weights" in format_card(
        make_card()
    )
    parent = make_parent_card(note="two\nlines \x1b[2J")
    lines = format_card(with_parent(parent)).splitlines()
    for line in [
        "  parent:",
        f"    model file (SHA-256): {'0' * 64}",
        f"    model files before it (SHA-256): {'1' * 64}",
        "    note: two lines \ufffd[2J",
        "    seeds: 1, 2",
        "    showers seen in training: at least 1",
    ]:
        assert line in lines
    parent = make_parent_card(showers=None, knows_all_showers=False)
    line = "    showers seen in training: at least 0, others are not known"
    assert line in format_card(with_parent(parent)).splitlines()


def test_format_card_cuts_long_lists_and_tames_terminals():
    values = json.loads(card_to_json(make_card()))
    values["note"] = "two\nlines \x1b[2J"
    values["networks"][0]["training"] = {
        "loss": list(range(1000)),
        "steps": [{"rate": 0.1}, {"rate": 0.01}],
        "\x1b]0;title": "\u202e",
    }
    values["networks"][0]["training"]["showers"] = "A" * 5000
    text = format_card(card_from_json(json.dumps(values)))
    assert "loss: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, ... (1000 values)\n" in text
    assert f"showers: {'A' * 40}... (5000 characters)\n" in text
    assert "      1:\n        rate: 0.1\n      2:\n        rate: 0.01\n" in text
    assert "note: two lines \ufffd[2J\n" in text
    assert all(line.isprintable() for line in text.splitlines())


def test_import_needs_neither_torch_nor_ctapipe():
    code = (
        "import sys, ctapipe_gammaphysnet.model.file; "
        "sys.exit(' '.join({'torch', 'ctapipe'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert not done.stderr.strip()
