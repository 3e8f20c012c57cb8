"""What the axis of an image adds to the direction and the impact point."""

import astropy.units as u
import numpy as np
import pytest
import toy_sample
from astropy.table import QTable, vstack
from ctapipe.io import EventSource

from ctapipe_gammaphysnet.dl2.columns import telescope_columns
from ctapipe_gammaphysnet.events.axes import axes_in_table, axes_of_event
from ctapipe_gammaphysnet.events.opening import open_events
from ctapipe_gammaphysnet.events.quality import ImageQualityQuery
from ctapipe_gammaphysnet.events.telescope_events import telescope_events
from ctapipe_gammaphysnet.tasks.axis import ImageAxes, image_axes, known_on_line
from ctapipe_gammaphysnet.tasks.direction import DIRECTION
from ctapipe_gammaphysnet.tasks.impact import IMPACT

#: Bright, so that the axis is known well; off the zenith, south and north-west.
POINTINGS = {"south": (70.0, 180.0), "north-west": (55.0, 305.0)}


@pytest.fixture(scope="module", params=POINTINGS)
def bright(request, tmp_path_factory):
    """Bright toy gammas, with their axes."""
    altitude, azimuth = POINTINGS[request.param]
    path = toy_sample.write_toy_file(
        tmp_path_factory.mktemp("axes") / "gamma.dl1.h5",
        "gamma",
        60,
        min_energy=5.0,
        max_energy=50.0,
        altitude=altitude,
        azimuth=azimuth,
    )
    query = ImageQualityQuery(
        quality_criteria=[
            ("bright", "hillas_intensity > 800"),
            ("not truncated", "leakage_intensity_width_2 < 0.05"),
            ("long", "hillas_length > 2 * hillas_width"),
        ]
    )
    with open_events(path) as reader:
        tel_ids = reader.subarray.tel_ids
        return vstack(list(telescope_events(reader, tel_ids, query, 100, axes=True)))


def axes_of(events):
    return ImageAxes(*(np.asarray(events[f"axis_{n}"]) for n in ImageAxes._fields))


def ellipses(n, rng):
    """Covariances of any size and direction."""
    shape = rng.normal(size=(n, 2, 2))
    return shape @ np.swapaxes(shape, 1, 2) + 0.01 * np.eye(2)


@pytest.mark.parametrize(("task", "size"), [(DIRECTION, 1.0), (IMPACT, 0.2)])
def test_showers_are_on_the_axes_of_their_images(bright, task, size):
    """A vague prediction moves to the truth, across the axis."""
    rng, truth = np.random.default_rng(0), task.to_target(bright)
    vague = np.tile(size**2 * np.eye(2), (len(truth), 1, 1))
    guess = truth + size * rng.normal(size=truth.shape) / 4
    axes = axes_of(bright)
    values, covariance = task.with_axes(guess, vague, axes)
    length = np.sqrt(np.linalg.eigvalsh(covariance))
    assert len(truth) > 30
    np.testing.assert_allclose(length[:, 1], size)
    assert (length[:, 0] < size / 3).all()
    # Across the axis, the truth is as far off as predicted.
    inverse = np.linalg.inv(covariance)
    pull = np.einsum("ni,nij,nj->n", values - truth, inverse, values - truth)
    assert np.quantile(pull, 0.9) < 4
    before = np.linalg.norm(guess - truth, axis=1)
    assert np.median(np.linalg.norm(values - truth, axis=1)) < 0.8 * np.median(before)


def test_turned_images_have_turned_predictions(bright):
    rng, axes = np.random.default_rng(1), axes_of(bright)
    n = len(bright)
    angle = rng.uniform(0, 2 * np.pi, n)
    centre = DIRECTION.turn(np.column_stack([axes.fov_lon, axes.fov_lat]), angle)
    turned_axes = ImageAxes(*centre.T, axes.psi + angle, axes.error)
    for task in (DIRECTION, IMPACT):
        values, covariance = rng.normal(size=(n, 2)), ellipses(n, rng)
        columns = task.turn(np.eye(2)[0] * np.ones((n, 1)), angle)
        rows = task.turn(np.eye(2)[1] * np.ones((n, 1)), angle)
        turn = np.stack([columns, rows], axis=-1)
        turned = (
            task.turn(values, angle),
            turn @ covariance @ np.swapaxes(turn, 1, 2),
        )
        expected, ellipse = task.with_axes(values, covariance, axes)
        found, found_ellipse = task.with_axes(*turned, turned_axes)
        np.testing.assert_allclose(found, task.turn(expected, angle), atol=1e-12)
        np.testing.assert_allclose(
            found_ellipse, turn @ ellipse @ np.swapaxes(turn, 1, 2), atol=1e-12
        )


def test_it_is_the_product_with_a_line():
    """A line is an ellipse that is infinitely long."""
    rng = np.random.default_rng(2)
    n, length = 50, 1e5
    values, point = rng.normal(size=(2, n, 2))
    covariance, width = ellipses(n, rng), rng.uniform(0.1, 3, n)
    angle = rng.uniform(0, np.pi, n)
    along = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    across = np.stack([-np.sin(angle), np.cos(angle)], axis=1)
    line = np.einsum("ni,nj->nij", along, along) / length**2
    line += np.einsum("ni,nj->nij", across, across) / width[:, None, None] ** 2
    inverse = np.linalg.inv(covariance)
    ellipse = np.linalg.inv(inverse + line)
    mean = np.einsum(
        "nij,nj->ni",
        ellipse,
        np.einsum("nij,nj->ni", inverse, values) + np.einsum("nij,nj->ni", line, point),
    )
    found, found_ellipse = known_on_line(values, covariance, point, angle, width)
    np.testing.assert_allclose(found, mean, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found_ellipse, ellipse, rtol=1e-6, atol=1e-6)


def test_planted_errors_are_those_predicted():
    """Truths are drawn, and measured by an ellipse and a line: 68.27 % are inside."""
    rng = np.random.default_rng(3)
    n = 20_000
    truth, point = rng.normal(size=(2, n, 2))
    covariance, angle = ellipses(n, rng), rng.uniform(0, np.pi, n)
    noise = np.linalg.cholesky(covariance) @ rng.normal(size=(n, 2, 1))
    width = rng.uniform(0.1, 3, n)
    across = np.stack([-np.sin(angle), np.cos(angle)], axis=1)
    # The line is where the truth is, but for its error.
    distance = np.sum((truth - point) * across, axis=1) + width * rng.normal(size=n)
    point = point + distance[:, np.newaxis] * across
    values, ellipse = known_on_line(
        truth + noise[..., 0], covariance, point, angle, width
    )
    off = values - truth
    square = np.einsum("ni,nij,nj->n", off, np.linalg.inv(ellipse), off)
    inside = square < -2 * np.log(1 - 0.6827)
    assert abs(inside.mean() - 0.6827) < 4 * np.sqrt(0.6827 * 0.3173 / n)


def test_unknown_axes_change_nothing():
    values, covariance = np.ones((2, 2)), np.tile(np.eye(2), (2, 1, 1))
    nan = np.full(2, np.nan)
    axes = ImageAxes(nan, nan, nan, nan)
    for task in (DIRECTION, IMPACT):
        found, ellipse = task.with_axes(values, covariance, axes)
        np.testing.assert_array_equal(found, values)
        np.testing.assert_array_equal(ellipse, covariance)


def test_the_error_of_an_axis():
    """It falls with the light to that of a shower, and grows for round images."""
    n = 5
    intensity = np.array([100.0, 1000.0, 1e6, 1000.0, 1000.0])
    length, width = np.array([0.3, 0.3, 0.3, 0.11, 0.1]), np.full(n, 0.1)
    zero = np.zeros(n)
    error = image_axes(intensity, zero, zero, zero, length, width).error
    faint, usual, bright, nearly_round, is_round = error
    assert faint > 5 * usual > 5 * bright
    assert bright == pytest.approx(0.03, rel=0.01)
    assert nearly_round > 10 * usual
    assert np.isnan(is_round)


def test_axes_are_those_of_events_and_tables(toy_file):
    """Also if only the file's parameters in the camera frame are known: unknown."""
    with open_events(toy_file) as reader, EventSource(toy_file) as source:
        (chunk,) = reader.chunks(1000)
        for number, event in enumerate(source):
            tel_ids = [t for t in chunk.event if number in chunk.event[t]]
            found = axes_of_event(event, tel_ids)
            rows = {t: np.flatnonzero(chunk.event[t] == number) for t in tel_ids}
            for place, tel_id in enumerate(tel_ids):
                in_table = axes_in_table(chunk.parameters[tel_id], rows[tel_id])
                for one, other in zip(found, in_table, strict=True):
                    np.testing.assert_allclose(one[place], other[0], rtol=1e-6)
    assert np.isnan(axes_in_table(QTable({"hillas_psi": [1] * u.deg}), [0]).error).all()


def test_networks_without_errors_do_not_use_them(bright):
    """What is certain to them is not known."""
    few = bright[:4]
    outputs = {
        "direction": DIRECTION.to_target(few)[np.newaxis] + 0.1,
        "impact": IMPACT.to_target(few)[np.newaxis] + 0.1,
    }
    pointing = [few[f"pointing_{angle}"].to_value("rad") for angle in ("alt", "az")]
    where = *pointing, few["position"].to_value("m")
    alone = telescope_columns(outputs, *where)
    both = telescope_columns(outputs, *where, axes=axes_of(few))
    np.testing.assert_array_equal(both["geometry"]["alt"], alone["geometry"]["alt"])
    errors = np.tile([0.04, 0.04, 0.0], (1, 4, 1))
    outputs = {task: np.concatenate([o, errors], -1) for task, o in outputs.items()}
    alone = telescope_columns(outputs, *where)
    both = telescope_columns(outputs, *where, axes=axes_of(few))
    for name in ("alt", "az", "core_x", "core_y", "ang_distance_uncert"):
        assert (both["geometry"][name] != alone["geometry"][name]).all(), name
