"""Error ellipses and their scale: planted covariances, turns and limits."""

import numpy as np
import pytest
import torch
from astropy import units as u
from scipy.linalg import expm
from with_units import direction_from_target, impact_from_target, telescope_columns

from ctapipe_gammaphysnet.tasks import TASKS
from ctapipe_gammaphysnet.tasks.direction import direction_to_target
from ctapipe_gammaphysnet.tasks.ellipse import (
    RADIUS,
    containment_radius,
    correlation,
    covariance_of_members,
    matrix_from_columns,
    matrix_from_widths,
)
from ctapipe_gammaphysnet.tasks.frames import turn_to_horizontal
from ctapipe_gammaphysnet.tasks.metric import CONTAINMENT
from ctapipe_gammaphysnet.tasks.scale import (
    covariance_from_scale,
    negative_log_likelihood,
    normal_covariance,
)
from ctapipe_gammaphysnet.tasks.task import turn_matrix

RNG = np.random.default_rng(3)


def random_ellipses(n, size=1.0):
    axes = RNG.normal(scale=size, size=(n, 2, 2))
    return axes @ np.swapaxes(axes, 1, 2)


def columns_of(covariance):
    return np.stack([covariance[..., i, j] for i, j in ((0, 0), (1, 1), (0, 1))], -1)


def raw(log_scale):
    """What a network has to say for a scale: its logarithm, bent towards the limits."""
    return 6 * np.arctanh(np.asarray(log_scale) / 6)


def log_matrix(a, c, d):
    return np.array([[a + c, d], [d, a - c]])


@pytest.mark.parametrize("ratio", [0, 0.01, 0.2, 0.5, 1])
def test_the_radius_holds_its_share(ratio):
    points = RNG.normal(size=(400_000, 2)) * [0.3, 0.3 * ratio]
    turned = points @ turn_matrix(np.array([0.7]))[0].T
    radius = containment_radius(np.cov(turned.T))
    share = np.mean(np.hypot(*turned.T) < radius)
    assert share == pytest.approx(CONTAINMENT, abs=0.004)


def test_radii_of_a_line_and_of_a_circle_are_known():
    assert containment_radius(np.diag([4.0, 0.0])) == pytest.approx(2, rel=1e-4)
    assert containment_radius(np.eye(2)) == pytest.approx(1.51517, rel=1e-5)
    assert containment_radius(np.zeros((2, 2))) == 0
    assert np.isnan(containment_radius(np.full((2, 2), np.nan)))


def test_an_ellipse_is_its_widths_and_its_correlation():
    ellipses = random_ellipses(50)
    x, y = np.sqrt(ellipses[:, 0, 0]), np.sqrt(ellipses[:, 1, 1])
    back = matrix_from_widths(x, y, correlation(ellipses))
    np.testing.assert_allclose(back, ellipses)
    np.testing.assert_array_equal(matrix_from_columns(columns_of(ellipses)), ellipses)
    assert correlation(np.zeros((2, 2))) == 0


def test_members_add_their_covariance_to_their_errors():
    values, errors = RNG.normal(size=(3, 4, 2)), np.stack([random_ellipses(4)] * 3)
    errors *= np.array([1, 2, 3])[:, np.newaxis, np.newaxis, np.newaxis]
    total = covariance_of_members(values, errors)
    for row in range(4):
        expected = np.cov(values[:, row].T) + errors[:, row].mean(axis=0)
        np.testing.assert_allclose(total[row], expected)
    np.testing.assert_allclose(covariance_of_members(values[:1], errors[:1]), errors[0])
    assert covariance_of_members(values[:1], None) is None


def test_the_likelihood_is_that_of_the_matrix():
    scale = RNG.normal(size=(30, 3))
    # Not near the limits, beyond which a scale is bent.
    scale *= 0.05
    deviation = RNG.normal(size=(30, 2))
    loss = negative_log_likelihood(*map(torch.from_numpy, (deviation, scale)))
    covariance = matrix_from_columns(normal_covariance(scale))
    for row in range(30):
        matrix = expm(log_matrix(*scale[row]))
        length = np.linalg.norm(np.linalg.solve(matrix, deviation[row]))
        expected = length + np.log(np.linalg.det(matrix))
        assert loss[row].item() == pytest.approx(expected, rel=1e-3)
        np.testing.assert_allclose(covariance[row], matrix @ matrix, rtol=1e-3)


def test_a_scale_of_1_is_the_loss_of_the_paper():
    deviation = torch.from_numpy(RNG.normal(size=(20, 1)))
    loss = negative_log_likelihood(deviation, torch.zeros(20, 1))
    torch.testing.assert_close(loss, deviation.abs()[:, 0])
    both = torch.from_numpy(RNG.normal(size=(20, 2)))
    loss = negative_log_likelihood(both, torch.zeros(20, 3, dtype=torch.float64))
    torch.testing.assert_close(loss, both.norm(dim=1))


@pytest.mark.parametrize("n", [1, 2])
def test_gradients_are_those_of_finite_differences(n):
    deviation = torch.from_numpy(RNG.normal(size=(6, n))).requires_grad_()
    scale = torch.from_numpy(RNG.normal(size=(6, n * (n + 1) // 2))).requires_grad_()
    assert torch.autograd.gradcheck(negative_log_likelihood, (deviation, scale))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [0, 1, 1e3, 1e6])
def test_no_scale_is_0_infinite_or_not_positive(dtype, size):
    scale = (size * torch.randn(500, 3)).to(dtype).requires_grad_()
    deviation = torch.randn(500, 2).to(dtype)
    deviation[:3] = 0
    loss = negative_log_likelihood(deviation, scale)
    loss.sum().backward()
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss).all()
    assert torch.isfinite(scale.grad).all()
    covariance = normal_covariance(scale.detach().double().numpy())
    assert (np.linalg.eigvalsh(matrix_from_columns(covariance)) > 0).all()
    assert np.isfinite(covariance).all()


def test_the_likelihood_finds_the_planted_ellipse():
    """Elliptical Laplace noise: its matrix is where the likelihood is largest."""
    matrix = expm(log_matrix(-1.0, 0.4, -0.3))
    direction = RNG.uniform(0, 2 * np.pi, 20_000)
    radius = RNG.gamma(2, size=20_000)
    points = (radius * [np.cos(direction), np.sin(direction)]).T @ matrix
    scale = torch.zeros(1, 3, requires_grad=True)
    optimiser = torch.optim.LBFGS([scale], line_search_fn="strong_wolfe")
    points_of = torch.from_numpy(points)

    def closure():
        optimiser.zero_grad()
        repeated = scale.expand(len(points), 3)
        loss = negative_log_likelihood(points_of, repeated).mean()
        loss.backward()
        return loss

    for _ in range(5):
        optimiser.step(closure)
    found = scale.detach().double().numpy()
    expected = columns_of(matrix @ matrix)
    np.testing.assert_allclose(normal_covariance(found)[0], expected, rtol=0.03)
    # And its 68.27 % region holds that share.
    ellipse = matrix_from_columns(covariance_from_scale(found))[0]
    inside = np.einsum("ni,ij,nj->n", points, np.linalg.inv(ellipse), points)
    assert np.mean(inside < RADIUS[2] ** 2) == pytest.approx(CONTAINMENT, abs=0.01)


def test_one_dimension_holds_its_share():
    points = RNG.laplace(scale=0.2, size=100_000)
    variance = covariance_from_scale(raw(np.log([[0.2]])))[0, 0]
    inside = np.mean(np.abs(points) < np.sqrt(variance))
    assert inside == pytest.approx(CONTAINMENT, abs=0.006)


def test_a_turn_turns_the_scale_by_twice_the_angle():
    angle = np.array([0.4, -1.3, 3.0])
    deviation, scale = RNG.normal(size=(3, 2)), RNG.normal(size=(3, 3))
    turn = turn_matrix(angle)
    turned = np.einsum("nij,nj->ni", turn, deviation)
    twice = np.einsum("nij,nj->ni", turn_matrix(2 * angle), scale[:, 1:])
    turned_scale = np.column_stack([scale[:, 0], twice])
    before = negative_log_likelihood(*map(torch.from_numpy, (deviation, scale)))
    after = negative_log_likelihood(*map(torch.from_numpy, (turned, turned_scale)))
    torch.testing.assert_close(before, after)
    covariance = matrix_from_columns(normal_covariance(scale))
    np.testing.assert_allclose(
        matrix_from_columns(normal_covariance(turned_scale)),
        turn @ covariance @ np.swapaxes(turn, 1, 2),
        rtol=1e-9,
    )


def test_a_calibration_is_interpolated_and_constant_beyond():
    scale = raw([[-5.0], [-2.0], [-1.5], [-1.0], [3.0]])
    curve = (-2.0, -1.0), np.log([2.0, 3.0])
    found = np.sqrt(covariance_from_scale(scale, curve)[:, 0])
    factor = found / np.sqrt(normal_covariance(scale)[:, 0])
    np.testing.assert_allclose(factor, [2, 2, 6**0.5, 3, 3], rtol=1e-9)


@pytest.mark.parametrize("alt", [20, 70, 89.7])
@pytest.mark.parametrize("az", [0.05, 180, 359.9])
def test_ellipses_are_turned_to_the_sky(alt, az):
    """Small steps from a direction, across north and near the zenith."""
    offset = RNG.uniform(-2, 2, (20, 2))
    pointing = np.full(20, alt) * u.deg, np.full(20, az) * u.deg
    turn = turn_to_horizontal(*np.deg2rad(offset).T, np.full(20, np.deg2rad(alt)))
    start = direction_from_target(offset, *pointing)
    for step in np.eye(2):
        length = [1e-5 / np.cos(np.deg2rad(offset[:, 1])), np.full(20, 1e-5)]
        end = direction_from_target(offset + step * np.transpose(length), *pointing)
        moved_az = (end[1] - start[1] + 180 * u.deg) % (360 * u.deg) - 180 * u.deg
        on_sky = np.stack([moved_az * np.cos(start[0]), end[0] - start[0]], axis=1)
        expected = turn @ step * 1e-5
        np.testing.assert_allclose(on_sky.value, expected, atol=3e-9)


@pytest.mark.parametrize("alt", [40, 89.5])
@pytest.mark.parametrize("az", [0.0, 120.0])
def test_planted_ellipses_come_back_in_dl2(alt, az):
    """Truths drawn around the prediction: their spread in DL2's columns is as said."""
    n = 20_000
    pointing = np.full(1, alt) * u.deg, np.full(1, az) * u.deg
    position = np.array([[30.0, -50.0, 10.0]]) * u.m
    ellipses = {
        "direction": random_ellipses(1, 0.01),
        "impact": random_ellipses(1, 3e-3),
    }
    centres = {"direction": np.array([[0.8, -0.5]]), "impact": np.array([[0.1, 0.15]])}
    outputs = {
        task: np.concatenate([centres[task], columns_of(ellipses[task])], axis=1)[None]
        for task in ellipses
    } | {"energy": np.array([[[-0.3, 0.04]]])}
    columns = telescope_columns(outputs, *pointing, position)
    geometry = columns["geometry"]
    true = {
        t: RNG.multivariate_normal(centres[t][0], ellipses[t][0], n) for t in centres
    }
    near = [np.tile(angle, n) for angle in pointing]
    alts, azs = direction_from_target(true["direction"], *near)
    off_az = (azs - geometry["az"] + 180 * u.deg) % (360 * u.deg) - 180 * u.deg
    core, tilted = impact_from_target(true["impact"], np.tile(position, (n, 1)), *near)
    for name, values in {
        "alt_uncert": alts - geometry["alt"],
        "az_uncert": off_az,
        "core_uncert_x": core[:, 0],
        "core_uncert_y": core[:, 1],
        "core_tilted_uncert_x": tilted[:, 0],
        "core_tilted_uncert_y": tilted[:, 1],
    }.items():
        ratio = float(geometry[name][0] / values.std())
        assert ratio == pytest.approx(1, abs=0.03), name
    for name, pair in {
        "alt_az_correlation": (alts.value, off_az.value),
        "core_correlation": core.value.T,
    }.items():
        expected = np.corrcoef(*pair)[0, 1]
        assert geometry[name][0] == pytest.approx(expected, abs=0.03), name
    centre = geometry["alt"], geometry["az"]
    off = direction_to_target(alts, azs, *centre)
    radius = geometry["ang_distance_uncert"][0].value
    assert np.mean(np.hypot(*off.T) < radius) == pytest.approx(CONTAINMENT, abs=0.012)
    energy = columns["energy"]
    ratio = float(energy["energy_uncert"][0] / energy["energy"][0])
    assert ratio == pytest.approx((10**0.2 - 10**-0.2) / 2)


def test_a_calibrated_class_without_outputs_is_not_a_number():
    output = np.array([[1.0, -1.0], [np.nan, np.nan]])
    found = TASKS["class"].finish(output, (0.5, 0.1))
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1]).all()


def test_the_class_keeps_its_odds_among_backgrounds():
    logits = RNG.normal(size=(10, 3)) * 5
    before = TASKS["class"].finish(logits)
    after = TASKS["class"].finish(logits, (0.5, 1.0))
    np.testing.assert_allclose(after.sum(axis=1), 1)
    np.testing.assert_allclose(after[:, 1] / after[:, 2], before[:, 1] / before[:, 2])
    odds = [np.log(p[:, 0] / (1 - p[:, 0])) for p in (before, after)]
    np.testing.assert_allclose(odds[1], 0.5 * odds[0] + 1)
    extreme = TASKS["class"].finish(np.array([[900.0, -900.0], [-900.0, 900.0]]))
    np.testing.assert_array_equal(extreme, [[1, 0], [0, 1]])
