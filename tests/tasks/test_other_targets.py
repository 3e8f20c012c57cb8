"""Networks of other programs predict other targets: DL2 is where these point."""

import json
from types import SimpleNamespace

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import angular_separation
from ctapipe.core import ToolConfigurationError
from toy_sample import hexagonal_camera, toy_telescope
from with_units import telescope_columns

from ctapipe_gammaphysnet.events.preparation import InputPreparation
from ctapipe_gammaphysnet.explanation.run import make_explainers
from ctapipe_gammaphysnet.model.card import (
    CardError,
    InputCard,
    card_from_json,
    card_to_json,
)
from ctapipe_gammaphysnet.network import CameraLattice
from ctapipe_gammaphysnet.tasks.direction import offsets_from_differences

DIFFERENCES = "alt - pointing alt, az - pointing az / rad"
GROUND = "core - telescope / km, GroundFrame"
TARGETS = {"direction": DIFFERENCES, "impact": GROUND}
N = 400


@pytest.fixture
def sky():
    """Pointings over the whole sky, many near the zenith or north."""
    rng = np.random.default_rng(1)
    alt = np.concatenate([rng.uniform(20, 89, N // 2), rng.uniform(89, 90, N // 2)])
    az = np.concatenate([rng.uniform(0, 360, N - 100), rng.uniform(-1, 1, 100) % 360])
    return SimpleNamespace(
        pointing=(alt * u.deg, az * u.deg),
        position=rng.uniform(-300, 300, (N, 3)) * u.m,
        differences=np.deg2rad(rng.uniform(-3, 3, (N, 2))),
        core=rng.uniform(-0.5, 0.5, (N, 2)),
    )


def dl2(sky, direction, core, targets=TARGETS):
    outputs = {"direction": direction, "impact": core}
    outputs = {k: np.atleast_3d(v).reshape(-1, N, 2) for k, v in outputs.items()}
    return telescope_columns(outputs, *sky.pointing, sky.position, targets=targets)


def test_differences_lead_to_the_direction(sky):
    """Also beyond the zenith and across north: compared on the sphere."""
    geometry = dl2(sky, sky.differences, sky.core)["geometry"]
    true_alt = sky.pointing[0].to_value(u.rad) + sky.differences[:, 0]
    true_az = sky.pointing[1].to_value(u.rad) + sky.differences[:, 1]
    assert (np.rad2deg(true_alt) > 90).sum() > 50
    assert geometry["is_valid"].all()
    separation = angular_separation(
        geometry["az"].to_value(u.rad),
        geometry["alt"].to_value(u.rad),
        true_az,
        true_alt,
    )
    # Longitudes near the zenith round to 1e-8 rad.
    np.testing.assert_allclose(separation, 0, atol=1e-7)
    low = (np.rad2deg(true_alt) < 85) & (sky.pointing[0] < 85 * u.deg)
    off = geometry["az"].to_value(u.rad) - true_az
    np.testing.assert_allclose(np.sin(off[low] / 2), 0, atol=1e-11)
    np.testing.assert_allclose(
        geometry["alt"].to_value(u.rad)[low], true_alt[low], atol=1e-11
    )


def test_the_core_is_a_difference_on_the_ground(sky):
    geometry = dl2(sky, sky.differences, sky.core)["geometry"]
    core = sky.position[:, :2].to_value(u.m) + 1000 * sky.core
    np.testing.assert_allclose(geometry["core_x"].to_value(u.m), core[:, 0], atol=1e-7)
    np.testing.assert_allclose(geometry["core_y"].to_value(u.m), core[:, 1], atol=1e-7)


def test_members_are_converted_one_by_one(sky):
    """Their spread is that of what each alone gives, to first order."""
    members = np.stack([sky.differences, 1.0001 * sky.differences])
    cores = np.stack([sky.core, sky.core + [0.2, -0.1]])
    both = dl2(sky, members, cores)["geometry"]
    one, other = (
        dl2(sky, m, c)["geometry"] for m, c in zip(members, cores, strict=True)
    )
    spread = np.abs(one["alt"] - other["alt"]) / np.sqrt(2)
    width = both["alt_uncert"]
    np.testing.assert_allclose(width.value, spread.value, rtol=1e-2, atol=1e-6)
    np.testing.assert_allclose(both["core_uncert_x"].value, 200 / np.sqrt(2))
    np.testing.assert_allclose(both["core_uncert_y"].value, 100 / np.sqrt(2))


def test_own_targets_stay_as_they_are(sky):
    own = dl2(sky, sky.differences, sky.core, None)["geometry"]
    kept = dl2(sky, sky.differences, sky.core, {"energy": "x"})["geometry"]
    np.testing.assert_array_equal(own["alt"], kept["alt"])
    far = dl2(sky, sky.differences, sky.core)["geometry"]
    assert np.abs(far["alt"] - own["alt"]).max() > 1 * u.deg


@pytest.mark.parametrize("value", [np.nan, np.inf, -10, 10])
def test_no_direction_from_differences_off_the_sky(value):
    offset = offsets_from_differences(
        np.array([[value, 0.0], [0.01, 0.0]]), [70, 70] * u.deg, [10, 10] * u.deg
    )
    assert np.isnan(offset[0]).all()
    np.testing.assert_allclose(offset[1], [0, np.rad2deg(0.01)], atol=1e-9)


def changed(make_model, **targets):
    telescope = toy_telescope(hexagonal_camera(3))
    card = make_model(telescope).card
    values = json.loads(card_to_json(card))
    values["networks"][0]["targets"].update(targets)
    return json.dumps(values)


def test_a_card_keeps_other_targets(make_model):
    card = card_from_json(changed(make_model, **TARGETS))
    assert card.networks[0].targets["direction"] == DIFFERENCES
    assert card_from_json(card_to_json(card)) == card


@pytest.mark.parametrize(
    ("task", "meaning"), [("direction", GROUND), ("energy", "log(E)")]
)
def test_a_card_refuses_unknown_targets(make_model, task, meaning):
    with pytest.raises(CardError, match=f"targets.{task} must be"):
        card_from_json(changed(make_model, **{task: meaning}))


def test_a_network_with_other_targets_is_not_explained(make_model):
    card = card_from_json(changed(make_model, **TARGETS)).networks[0]
    network = SimpleNamespace(card=card, predictor=None)
    model = SimpleNamespace(networks={"LST": network})
    with pytest.raises(ToolConfigurationError, match="Only models that predict"):
        make_explainers("model", model, {}, "cell", None)


def test_missing_values_can_be_replaced_one_by_one():
    x, y = np.meshgrid(np.arange(3.0), np.arange(3.0))
    lattice = CameraLattice.from_positions(x.ravel(), y.ravel())
    prepare = InputPreparation(InputCard(missing_pixels="separate"), lattice)
    image, time = np.ones((2, 2, 9))
    image[0, 1] = time[0, 2] = np.nan
    inputs, has_pixels = prepare(image, time)
    assert has_pixels.all()
    expected = np.ones((2, 2, 9))
    expected[0, 0, 1], expected[0, 1, 2] = 0, -20
    np.testing.assert_array_equal(inputs, expected)


def test_missing_values_are_replaced_one_by_one_only_in_raw_images():
    with pytest.raises(ValueError, match="without image mask"):
        InputCard(missing_pixels="separate", image="cleaned")
