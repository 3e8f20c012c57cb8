"""Errors drawn from predicted ellipses have the pulls that were drawn."""

import numpy as np
import pytest
from astropy.coordinates import offset_by
from astropy.table import Table
from scipy.stats import kstest

from ctapipe_gammaphysnet.tasks.direction import DIRECTION
from ctapipe_gammaphysnet.tasks.ellipse import RADIUS
from ctapipe_gammaphysnet.tasks.energy import ENERGY
from ctapipe_gammaphysnet.tasks.h_max import H_MAX
from ctapipe_gammaphysnet.tasks.impact import IMPACT
from ctapipe_gammaphysnet.tasks.metric import CONTAINMENT

N = 4000


def draw(width, seed=0, n=N):
    """Offsets, their distances in standard deviations, and columns of their ellipses.

    Ellipses have any orientation, and axes from the width to ten times that.
    """
    rng = np.random.default_rng(seed)
    axes = width * 10 ** rng.uniform(0, 1, (n, 2))
    normal = rng.normal(size=(n, 2))
    angle = rng.uniform(0, np.pi, n)
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.stack([cos, -sin, sin, cos], axis=-1).reshape(n, 2, 2)
    offset = np.einsum("nij,nj->ni", turn, axes * normal)
    covariance = np.einsum("nij,nj,nkj->nik", turn, axes**2, turn)
    widths = np.sqrt(covariance[:, [0, 1], [0, 1]])
    correlation = covariance[:, 0, 1] / widths.prod(axis=1)
    return offset, np.hypot(*normal.T), widths, correlation


def on_sky(alt, az, width, seed=0):
    """Predictions around a direction, truth drawn from their ellipses, distances."""
    offset, distance, widths, correlation = draw(width, seed)
    rng = np.random.default_rng(seed + 1)
    alt, az = alt + rng.uniform(-0.3, 0.3, N), az + rng.uniform(-0.3, 0.3, N)
    predictions = {
        "alt": alt,
        "az": az % 360,
        "alt_uncert": widths[:, 1],
        "az_uncert": widths[:, 0] / np.cos(np.deg2rad(alt)),
        "alt_az_correlation": correlation,
        "ang_distance_uncert": np.full(N, np.nan),
    }
    angle = np.arctan2(*offset.T)
    true_az, true_alt = offset_by(
        *np.deg2rad([az, alt]), angle, np.deg2rad(np.linalg.norm(offset, axis=1))
    )
    events = {"true_alt": true_alt.to("deg"), "true_az": true_az.to("deg")}
    return rows(predictions), Table(events), distance


def rows(predictions):
    return {name: values[np.newaxis] for name, values in predictions.items()}


@pytest.mark.parametrize("width", [0.01, 0.3])
@pytest.mark.parametrize(("alt", "az"), [(70, 180), (50, 0), (20, 359.9), (89, 77)])
def test_directions_drawn_from_ellipses(alt, az, width):
    """Also at north, 1° from the zenith, and for errors of several degrees."""
    predictions, events, distance = on_sky(alt, az, width)
    (pull,) = DIRECTION.pull(predictions, events)
    np.testing.assert_allclose(pull * RADIUS[2], distance, rtol=1e-5)
    assert np.mean(pull < 1) == pytest.approx(CONTAINMENT, abs=4 * 0.47 / np.sqrt(N))
    wrong = predictions | {
        name: predictions[name] / 2 for name in ("alt_uncert", "az_uncert")
    }
    np.testing.assert_allclose(DIRECTION.pull(wrong, events)[0], 2 * pull)


def test_the_correlation_has_its_sign():
    predictions, events, distance = on_sky(60, 0, 0.1)
    wrong = predictions | {"alt_az_correlation": -predictions["alt_az_correlation"]}
    (pull,) = DIRECTION.pull(wrong, events)
    # Known to 0.02.
    assert np.quantile(pull, CONTAINMENT) > 1.15
    assert np.quantile(distance, CONTAINMENT) / RADIUS[2] < 1.07


def test_a_direction_without_an_ellipse_has_a_circle():
    predictions, events, _ = on_sky(60, 0, 0.1)
    predictions["ang_distance_uncert"] = np.full((1, N), 0.5)
    for name in ("alt_uncert", "az_uncert", "alt_az_correlation"):
        (pull,) = DIRECTION.pull(predictions | {name: np.full((1, N), np.nan)}, events)
        separation = DIRECTION.compare(predictions, events)[0]
        np.testing.assert_allclose(pull, separation / 0.5)
    assert (DIRECTION.uncertainty(predictions) == 0.5).all()


def test_impact_points_drawn_from_ellipses():
    offset, distance, widths, correlation = draw(20.0)
    predictions = {
        "core_x": np.full(N, 30.0),
        "core_y": np.full(N, -70.0),
        "core_uncert_x": widths[:, 0],
        "core_uncert_y": widths[:, 1],
        "core_correlation": correlation,
    }
    events = {"true_core_x": 30 + offset[:, 0], "true_core_y": -70 + offset[:, 1]}
    predictions, events = rows(predictions), Table(events)
    (pull,) = IMPACT.pull(predictions, events)
    np.testing.assert_allclose(pull * RADIUS[2], distance)
    # Each circle holds as much as the ellipse.
    (radius,) = IMPACT.uncertainty(predictions)
    inside = np.linalg.norm(offset, axis=1) < radius
    assert np.mean(inside) == pytest.approx(CONTAINMENT, abs=4 * 0.47 / np.sqrt(N))


@pytest.mark.parametrize("width", [0.05, 1.0])
def test_energies_drawn_in_their_logarithm(width):
    normal = np.random.default_rng(1).normal(size=N)
    energy = np.geomspace(0.01, 100, N)
    # Half of what lies between the ends of ±1 standard deviation.
    ends = energy * 10**width, energy / 10**width
    predictions = rows({"energy": energy, "energy_uncert": (ends[0] - ends[1]) / 2})
    events = Table({"true_energy": energy * 10 ** (width * normal)})
    (pull,) = ENERGY.pull(predictions, events)
    np.testing.assert_allclose(pull, -normal, atol=1e-9)
    assert kstest(pull, "norm").pvalue > 0.001
    np.testing.assert_allclose(ENERGY.uncertainty(predictions), width)


def test_heights():
    normal = np.random.default_rng(1).normal(size=N)
    predictions = rows({"h_max": np.full(N, 9000.0), "h_max_uncert": np.full(N, 700.0)})
    events = Table({"true_h_max": 9000 - 700 * normal})
    np.testing.assert_allclose(H_MAX.pull(predictions, events)[0], normal)
    assert (H_MAX.uncertainty(predictions) == 700).all()


@pytest.mark.filterwarnings("ignore:(invalid|divide):RuntimeWarning")
@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, -1.0])
def test_what_is_no_width_is_not_known(value):
    ones = np.ones((1, 3))
    truths = ("energy", "alt", "az", "core_x", "core_y", "h_max")
    events = Table({f"true_{name}": np.full(3, 1.1) for name in truths})
    for task in (ENERGY, DIRECTION, IMPACT, H_MAX):
        names = [*task.columns, *task.uncertainties]
        predictions = {name: 0.5 * ones for name in names}
        assert np.isfinite(task.pull(predictions, events)).all()
        assert np.isfinite(task.uncertainty(predictions)).all()
        unknown = predictions | {name: value * ones for name in task.uncertainties}
        assert np.isnan(task.pull(unknown, events)).all()
        assert np.isnan(task.uncertainty(unknown)).all()


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_correlation_of_1_is_no_ellipse(sign):
    """Two members are on a line, whose determinant is 0 only to rounding."""
    rng = np.random.default_rng(8)
    predictions = {
        name: 10 ** rng.uniform(-3, 3, (1, 200))
        for name in [*IMPACT.columns, *IMPACT.uncertainties]
    }
    predictions["core_correlation"] = np.full((1, 200), float(sign))
    events = Table({f"true_{name}": np.full(200, 1.1) for name in IMPACT.columns})
    assert np.isnan(IMPACT.pull(predictions, events)).all()
