"""What the axis of an image adds to the direction and the impact point."""

import astropy.units as u
import numpy as np
import pytest
import toy_sample
from astropy.table import QTable, vstack
from ctapipe.containers import CameraHillasParametersContainer
from ctapipe.io import EventSource

from ctapipe_gammaphysnet.dl2.columns import telescope_columns
from ctapipe_gammaphysnet.evaluation.networks import to_quantities
from ctapipe_gammaphysnet.events.axes import axes_in_table, axes_of_event
from ctapipe_gammaphysnet.events.opening import open_events
from ctapipe_gammaphysnet.events.quality import ImageQualityQuery
from ctapipe_gammaphysnet.events.telescope_events import telescope_events
from ctapipe_gammaphysnet.model.calibration_card import AxisCard, CalibrationCard
from ctapipe_gammaphysnet.tasks import TASKS
from ctapipe_gammaphysnet.tasks.axis import (
    ImageAxes,
    image_axes,
    known_on_line,
    with_axes,
)
from ctapipe_gammaphysnet.tasks.direction import DIRECTION, direction_to_target
from ctapipe_gammaphysnet.tasks.ellipse import RADIUS, matrix_from_columns
from ctapipe_gammaphysnet.tasks.impact import IMPACT
from ctapipe_gammaphysnet.training.calibration import calibrate

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
    values, covariance = task.on_axes(guess, vague, axes, np.full(len(guess), 0.05))
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
    turned_axes = ImageAxes(*centre.T, axes.psi + angle, axes.noise)
    error = rng.uniform(0.01, 1, n)
    for task in (DIRECTION, IMPACT):
        values, covariance = rng.normal(size=(n, 2)), ellipses(n, rng)
        columns = task.turn(np.eye(2)[0] * np.ones((n, 1)), angle)
        rows = task.turn(np.eye(2)[1] * np.ones((n, 1)), angle)
        turn = np.stack([columns, rows], axis=-1)
        turned = (
            task.turn(values, angle),
            turn @ covariance @ np.swapaxes(turn, 1, 2),
        )
        expected, ellipse = task.on_axes(values, covariance, axes, error)
        found, found_ellipse = task.on_axes(*turned, turned_axes, error)
        np.testing.assert_allclose(found, task.turn(expected, angle), atol=1e-12)
        np.testing.assert_allclose(
            found_ellipse, turn @ ellipse @ np.swapaxes(turn, 1, 2), atol=1e-12
        )


def test_it_is_the_product_with_a_line():
    """A line is an ellipse that is infinitely long."""
    rng = np.random.default_rng(2)
    n, length = 50, 1e5
    values, point = rng.normal(size=(2, n, 2))
    covariance, error = ellipses(n, rng), rng.uniform(0.1, 3, n)
    angle = rng.uniform(0, np.pi, n)
    along = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    across = np.stack([-np.sin(angle), np.cos(angle)], axis=1)
    # Seen from the point, the error of the angle is that much.
    width = np.sum((values - point) * along, axis=1) ** 2
    width += np.einsum("ni,nij,nj->n", along, covariance, along)
    width = error * np.sqrt(width)
    line = np.einsum("ni,nj->nij", along, along) / length**2
    line += np.einsum("ni,nj->nij", across, across) / width[:, None, None] ** 2
    inverse = np.linalg.inv(covariance)
    ellipse = np.linalg.inv(inverse + line)
    mean = np.einsum(
        "nij,nj->ni",
        ellipse,
        np.einsum("nij,nj->ni", inverse, values) + np.einsum("nij,nj->ni", line, point),
    )
    found, found_ellipse = known_on_line(values, covariance, point, angle, error)
    np.testing.assert_allclose(found, mean, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found_ellipse, ellipse, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("distance", [0.0, 0.3, 1.0, 5.0])
def test_planted_errors_are_those_predicted(distance):
    """Truths are seen at an angle, from any distance: 68.27 % are inside."""
    rng = np.random.default_rng(3)
    n = 20_000
    point, angle = rng.normal(size=(n, 2)), rng.uniform(0, 2 * np.pi, n)
    along = np.column_stack([np.cos(angle), np.sin(angle)])
    truth = point + distance * along
    covariance = 0.3 * ellipses(n, rng)
    noise = np.linalg.cholesky(covariance) @ rng.normal(size=(n, 2, 1))
    error = rng.uniform(0.02, 0.2, n)
    measured = angle + error * rng.normal(size=n)
    values, ellipse = known_on_line(
        truth + noise[..., 0], covariance, point, measured, error
    )
    off = values - truth
    square = np.einsum("ni,nij,nj->n", off, np.linalg.inv(ellipse), off)
    inside = square < -2 * np.log(1 - 0.6827)
    # Near the point errors are too large: the line is as wide as for their own size,
    # since from there an angle says little.
    assert -0.03 < inside.mean() - 0.6827 < (0.04 if distance >= 1 else 0.2)


def test_unknown_axes_change_nothing():
    values, covariance = np.ones((2, 2)), np.tile(np.eye(2), (2, 1, 1))
    nan = np.full(2, np.nan)
    axes = ImageAxes(nan, nan, nan, nan)
    for task in (DIRECTION, IMPACT):
        found, ellipse = with_axes(task, values, covariance, axes, ([0], [0], [0]))
        np.testing.assert_array_equal(found, values)
        np.testing.assert_array_equal(ellipse, covariance)


def test_the_calibration_says_how_well_an_axis_is_known():
    """Errors are interpolated, and the region that holds 68.27 % is scaled."""
    noise = np.array([0.001, 0.01, 0.1])
    zero = np.zeros(3)
    axes = ImageAxes(zero, zero, zero, noise)
    # 100° from the centre, so that the errors of its distance do not matter.
    values = np.tile([100.0, 0.0], (3, 1))
    covariance = np.tile(np.diag([1.0, 1e6]), (3, 1, 1))
    knots = np.log([0.001, 0.1])
    curves = knots, np.log([0.03, 0.3]), np.log([1.515, 2 * 1.515])
    found, ellipse = with_axes(DIRECTION, values, covariance, axes, curves)
    np.testing.assert_array_equal(found, values)
    expected = np.sqrt([0.03 * 0.03, 0.03 * 0.3, 0.3 * 0.3]) * [1, 2**0.5, 2]
    across = np.sqrt(ellipse[:, 1, 1])
    np.testing.assert_allclose(across, 100 * expected, rtol=2e-3)


def test_noise_of_an_axis():
    """Less light, and rounder images, turn axes more."""
    n = 6
    intensity = np.array([100.0, 10_000.0, 1000.0, 1000.0, 0.0, 59.0])
    length = np.array([0.3, 0.3, 0.11, 0.1, 0.3, 0.1])
    # Three pixels in a row have a width of 0, but for rounding.
    width = np.array([0.1, 0.1, 0.1, 0.1, 0.1, 1e-8])
    zero = np.zeros(n)
    noise = image_axes(intensity, zero, zero, zero, length, width).noise
    assert noise[0] == pytest.approx(10 * noise[1])
    assert noise[0] == pytest.approx(0.1 * 0.3 / 0.08 / 10)
    assert noise[2] > 10 * noise[1]
    assert np.isnan(noise[3:]).all()


def test_axes_are_those_of_events_and_tables(toy_file):
    """Parameters in the camera frame, of old files, show none."""
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
    old = QTable({"hillas_psi": [1] * u.deg, "hillas_intensity": [100.0]})
    assert np.isnan(axes_in_table(old, [0]).noise).all()
    old["hillas_length"], old["hillas_width"] = [0.2] * u.m, [0.1] * u.m
    assert np.isnan(axes_in_table(old, [0]).noise).all()
    in_camera = CameraHillasParametersContainer(
        intensity=100.0, psi=1 * u.deg, length=0.2 * u.m, width=0.1 * u.m
    )
    event.dl1.tel[tel_ids[0]].parameters.hillas = in_camera
    assert np.isnan(axes_of_event(event, tel_ids).noise[0])


@pytest.fixture
def where(bright):
    """The telescopes of some images."""
    few = bright[:4]
    pointing = [few[f"pointing_{angle}"].to_value("rad") for angle in ("alt", "az")]
    return few, (*pointing, few["position"].to_value("m"))


def calibration(**radii):
    """An axis is known to 0.02 rad."""
    radii = {task: (np.log(radius),) for task, radius in radii.items()}
    card = AxisCard(log_noise=(0.0,), log_angle=(np.log(0.02),), log_radius=radii)
    return CalibrationCard(axis=card)


def test_networks_without_errors_do_not_use_axes(where):
    """What is certain to them is not known."""
    few, place = where
    outputs = {
        "direction": DIRECTION.to_target(few)[np.newaxis] + 0.1,
        "impact": IMPACT.to_target(few)[np.newaxis] + 0.1,
    }
    used = {"axes": axes_of(few), "calibrations": [calibration(direction=1.5)]}
    alone = telescope_columns(outputs, *place)["geometry"]
    both = telescope_columns(outputs, *place, **used)["geometry"]
    for name, values in alone.items():
        np.testing.assert_array_equal(both[name], values)


def test_each_member_uses_axes_as_it_is_calibrated(where):
    """The mean of a member with axes, and one without, is between them."""
    few, place = where
    errors = np.tile([0.04, 0.04, 0.0], (1, 4, 1))
    target = DIRECTION.to_target(few)[np.newaxis] + 0.1
    output = {"direction": np.concatenate([target, errors], axis=-1)}
    ensemble = {"direction": np.repeat(output["direction"], 2, axis=0)}
    axes, plain, own = axes_of(few), CalibrationCard(), calibration(direction=1.5)
    offsets = []
    for outputs, calibrations in (
        (output, [plain]),
        (output, [own]),
        (ensemble, [plain, own]),
    ):
        columns = telescope_columns(
            outputs, *place, axes=axes, calibrations=calibrations
        )
        geometry = columns["geometry"]
        offsets.append(
            direction_to_target(
                *(geometry[n] * u.deg for n in ("alt", "az")), *place[:2] * u.rad
            )
        )
    without, with_them, mean = offsets
    quantities = to_quantities(
        ensemble,
        *(place[:2] * u.rad),
        place[2] * u.m,
        axes=axes,
        calibrations=[plain, own],
    )
    # The evaluation has the mean, and each member.
    for row, expected in enumerate((mean, without, with_them)):
        angles = (quantities[name][row] * u.deg for name in ("alt", "az"))
        found = direction_to_target(*angles, *place[:2] * u.rad)
        np.testing.assert_allclose(found, expected, atol=1e-9)
    assert (np.linalg.norm(with_them - without, axis=1) > 1e-3).all()
    np.testing.assert_allclose(mean, (without + with_them) / 2, atol=1e-9)
    expected, _ = DIRECTION.on_axes(
        target[0], np.tile(0.04 * np.eye(2), (4, 1, 1)), axes, np.full(4, 0.02)
    )
    np.testing.assert_allclose(with_them, expected, atol=1e-9)


def planted(n, rng):
    """Outputs, targets and axes, whose angles are off by 20 times their noise."""
    centre, distance = rng.uniform(-1, 1, (n, 2)), rng.uniform(0.5, 1.5, n)
    noise = np.exp(rng.uniform(-7, -4, n))
    psi = rng.uniform(-np.pi, np.pi, n)
    true = psi + 20 * noise * rng.normal(size=n)
    along = np.column_stack([np.cos(true), np.sin(true)])
    targets = {
        "direction": centre + distance[:, np.newaxis] * along,
        # The line of the impact point is turned by 90 deg, and mirrored.
        "impact": 0.1 * distance[:, np.newaxis] * along[:, ::-1],
        "class": np.zeros(n, int),
    }
    outputs = {}
    for task, size, offset in (
        ("direction", 0.1, (0.2, -0.1)),
        ("impact", 0.02, (-0.03, 0.05)),
    ):
        scale = np.zeros((n, 3))
        scale[:, 0] = 6 * np.arctanh(np.log(size) / 6)
        values = targets[task] + size * rng.normal(size=(n, 2)) + offset
        outputs[task] = np.concatenate([values, scale], axis=1)
    return outputs, targets, ImageAxes(*centre.T, psi, noise)


def test_the_calibration_finds_planted_axes():
    rng = np.random.default_rng(4)
    outputs, targets, axes = planted(20_000, rng)
    card = calibrate(outputs, targets, axes)
    angle = np.exp(card.axis.log_angle)
    expected = 20 * np.exp(card.axis.log_noise)
    np.testing.assert_allclose(angle, expected, rtol=0.1)
    # Other images of the same kind: the share that is inside, and how near they are.
    outputs, targets, axes = planted(20_000, rng)
    for name in ("direction", "impact"):
        finished = TASKS[name].finish(outputs[name], card.of(name))
        values, errors = TASKS[name].split(finished)
        errors = matrix_from_columns(errors)
        values = values - card.offsets[name]
        found, ellipse = with_axes(
            TASKS[name], values, errors, axes, card.of_axis(name)
        )
        off = found - targets[name]
        square = np.einsum("ni,nij,nj->n", off, np.linalg.inv(ellipse), off)
        for part in np.array_split(np.argsort(axes.noise), 4):
            inside = square[part] < RADIUS[2] ** 2
            assert inside.mean() == pytest.approx(0.6827, abs=0.03)
        best = np.argsort(axes.noise)[:5000]
        before = np.linalg.norm((values - targets[name])[best], axis=1)
        after = np.linalg.norm(off[best], axis=1)
        assert np.quantile(after, 0.68) < 0.75 * np.quantile(before, 0.68)


def test_too_few_axes_are_not_calibrated():
    outputs, targets, axes = planted(400, np.random.default_rng(5))
    assert calibrate(outputs, targets, axes).axis is not None
    unknown = np.where(np.arange(400) < 200, axes.noise, np.nan)
    assert calibrate(outputs, targets, axes._replace(noise=unknown)).axis is None
    del outputs["direction"]
    assert calibrate(outputs, targets, axes).axis is None
    assert calibrate(outputs, targets).axis is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"log_radius": {"energy": (0.0,)}}, "says nothing of energy"),
        (
            {"log_radius": {"impact": (0.0, 1.0)}},
            "log_radius.impact must have the same",
        ),
        ({"log_angle": ()}, "log_noise and log_angle must have the same length"),
    ],
)
def test_wrong_cards_are_refused(change, message):
    card = {"log_noise": (0.0,), "log_angle": (0.0,), "log_radius": {"impact": (0.0,)}}
    AxisCard(**card)
    with pytest.raises(ValueError, match=message):
        AxisCard(**card | change)
