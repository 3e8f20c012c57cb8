"""The impact point of a gamma, as its offset from the telescope."""

import numpy as np

from .axis import known_on_line
from .ellipse import (
    RADIUS,
    containment_radius,
    correlation,
    distance_in_ellipse,
    known_width,
    matrix_from_widths,
)
from .frames import ground_from_tilted, radians, shower_axis, tilted_from_ground
from .metric import distance_metric, resolution
from .task import Movement, Output, Task, turn_vectors

__all__ = [
    "IMPACT",
    "core_columns",
    "impact_distance",
    "impact_from_ground",
    "impact_from_target",
    "impact_to_target",
]


def impact_to_target(core_x, core_y, position, pointing_alt, pointing_az):
    """Convert impact points to their offsets from the telescope.

    Parameters
    ----------
    core_x, core_y : astropy.units.Quantity
        Impact point in the GroundFrame, at z = 0, shape (n,).
    position : astropy.units.Quantity
        Telescope in the GroundFrame, shape (n, 3).
    pointing_alt, pointing_az : astropy.units.Quantity
        Pointing of the telescope, shape (n,).

    Returns
    -------
    numpy.ndarray
        Impact point minus telescope in the TiltedGroundFrame of the pointing, in km,
        shape (n, 2).
    """
    core = np.column_stack(
        [core_x.to_value("m"), core_y.to_value("m"), np.zeros(len(core_x))]
    )
    offset = core - position.to_value("m")
    pointing = radians(pointing_alt), radians(pointing_az)
    return tilted_from_ground(offset, *pointing) / 1000


def impact_from_target(target, position, pointing_alt, pointing_az):
    """Convert offsets from the telescope back to impact points.

    Parameters
    ----------
    target : numpy.ndarray
        Impact point minus telescope in the TiltedGroundFrame of the pointing, in km,
        shape (n, 2).
    position : numpy.ndarray
        Telescope in the GroundFrame in m, shape (n, 3).
    pointing_alt, pointing_az : numpy.ndarray
        Pointing of the telescope in rad, shape (n,).

    Returns
    -------
    core : numpy.ndarray
        x and y of the impact point in the GroundFrame, at z = 0, in m, shape (n, 2).
    core_tilted : numpy.ndarray
        x and y in the TiltedGroundFrame of the pointing, in m, shape (n, 2).
    """
    pointing = pointing_alt, pointing_az
    tilted = tilted_from_ground(position, *pointing) + 1000 * target
    return ground_from_tilted(tilted, *pointing), tilted


def impact_from_ground(target, pointing_alt, pointing_az, position):
    """Convert offsets on the ground to those in the tilted frame.

    Parameters
    ----------
    target : numpy.ndarray
        Impact point minus telescope, x and y in the GroundFrame, in km, shape (n, 2).
    pointing_alt, pointing_az, position : astropy.units.Quantity
        As in `impact_to_target`.

    Returns
    -------
    numpy.ndarray
        As from `impact_to_target`.
    """
    import astropy.units as u

    core = position[:, :2] + u.Quantity(target, u.km)
    return impact_to_target(*core.T, position, pointing_alt, pointing_az)


def impact_distance(alt, az, core, position):
    """Compute the distance of telescopes from the axes of showers.

    Parameters
    ----------
    alt, az : numpy.ndarray
        Direction of the showers in rad, shape (n,).
    core : numpy.ndarray
        x and y of their impact points in the GroundFrame, at z = 0, in m, shape (n, 2).
    position : numpy.ndarray
        Telescope in the GroundFrame in m, shape (n, 3) or (3,).

    Returns
    -------
    numpy.ndarray
        The distance as ctapipe defines it, in m, shape (n,).
    """
    north, west, up = shower_axis(alt, az).T
    x, y, z = np.transpose(position)
    x, y = x - core[:, 0], y - core[:, 1]
    # The length of the cross product: numpy's takes several times as long.
    squares = (y * up - z * west) ** 2, (z * north - x * up) ** 2
    return np.sqrt(sum(squares, (x * west - y * north) ** 2))


def core_columns(core, tilted, on_ground=None, in_tilted=None):
    """Compute the columns that describe an impact point and its error.

    Parameters
    ----------
    core, tilted : numpy.ndarray
        Impact point in the GroundFrame and in the TiltedGroundFrame, in m, shape
        (n, 2).
    on_ground, in_tilted : numpy.ndarray, optional
        Covariances of these in m², shape (n, 2, 2).

    Returns
    -------
    dict of str to numpy.ndarray
        The columns in m, and with covariances ``core_correlation``, shape (n,).
    """
    columns = {} if on_ground is None else {"core_correlation": correlation(on_ground)}
    for name, points, ellipses in (
        ("core", core, on_ground),
        ("core_tilted", tilted, in_tilted),
    ):
        for index, axis in enumerate("xy"):
            columns[f"{name}_{axis}"] = points[:, index]
            if ellipses is not None:
                columns[f"{name}_uncert_{axis}"] = np.sqrt(ellipses[:, index, index])
    return columns


def _projection(pointing_alt, pointing_az):
    """Matrices from the TiltedGroundFrame to the ground, shape (n, 2, 2)."""
    cos, sin = np.cos(pointing_az), np.sin(pointing_az)
    along = 1 / np.sin(pointing_alt)
    rows = [cos * along, sin, -sin * along, cos]
    return np.stack(rows, axis=-1).reshape(-1, 2, 2)


def _width_along(offset, covariance):
    """Half width of the length of offsets: that of the component along them.

    This is right to first order in the error over the length.
    """
    length = np.linalg.norm(offset, axis=1, keepdims=True)
    unit = np.divide(
        offset, length, out=np.full_like(offset, 0.5**0.5), where=length > 0
    )
    return np.sqrt(np.einsum("ni,nij,nj->n", unit, covariance, unit))


def _ellipse(predictions):
    """Covariance of the impact point on the ground in m², shape (..., 2, 2)."""
    return matrix_from_widths(
        known_width(predictions["core_uncert_x"]),
        known_width(predictions["core_uncert_y"]),
        predictions["core_correlation"],
    )


class _Impact(Task):
    """The impact point: where the shower's axis meets the ground."""

    name = "impact"
    has_axis = True
    needs_pointing = True
    meaning = "core - telescope / km, TiltedGroundFrame of the telescope pointing"
    other_targets = {"core - telescope / km, GroundFrame": impact_from_ground}
    colour = "#999933"
    validation_metrics = {
        "impact resolution / m": lambda predicted, true: resolution(
            1000 * np.linalg.norm(predicted - true, axis=1)
        )
    }
    columns = {
        "core_x": ("geometry", "core_x", "m"),
        "core_y": ("geometry", "core_y", "m"),
    }
    uncertainties = {
        "core_uncert_x": ("geometry", "core_uncert_x", "m"),
        "core_uncert_y": ("geometry", "core_uncert_y", "m"),
        "core_correlation": ("geometry", "core_correlation", ""),
    }
    compared = error = "impact"
    metrics = {
        "impact_resolution": distance_metric(
            "impact",
            "m",
            "Impact resolution",
            "68 % containment of the distance between reconstructed and true impact "
            "point on the ground",
        )
    }
    outputs = {
        "impact_x": Output("impact", 0, "Impact x", "km"),
        "impact_y": Output("impact", 1, "Impact y", "km"),
    }
    movement = Movement(
        "impact",
        "Move of the impact point / m",
        lambda old, new: 1000 * np.linalg.norm(new - old, axis=-1),
    )

    def to_target(self, events):
        """Compute the offsets from the telescope."""
        return impact_to_target(
            events["true_core_x"],
            events["true_core_y"],
            events["position"],
            events["pointing_alt"],
            events["pointing_az"],
        )

    def turn(self, target, angle):
        """Turn the offset the other way, from y to x.

        A telescope sees the shower displaced from the source towards the impact point,
        and the axes of the TelescopeFrame and the TiltedGroundFrame are mirrored:
        fov_lon points to -y and fov_lat to -x.

        The ground is not perpendicular to the pointing. The turn neglects that an
        off-axis shower then reaches it earlier or later: 3 m for an impact distance of
        150 m, 1° off-axis, at a zenith angle of 30°.
        """
        return turn_vectors(target, -angle)

    def on_axes(self, values, covariance, axes, error):
        """Move the impact point to the line that the axis of the image shows.

        It goes through the telescope; for its angle see `turn`. That of an off-axis
        shower is turned by a little, which the calibration of the errors has.
        """
        telescope, angle = np.zeros_like(values), np.pi / 2 - axes.psi
        return known_on_line(values, covariance, telescope, angle, error)

    def kinds(self, tasks):
        """Return the impact distance if there is a direction, which it needs, too."""
        return {"impact"} if "direction" in tasks else set()

    def dl2(self, images):
        """Compute impact point and impact distance, with their errors."""
        if "direction" not in images.outputs:
            return {}
        offset = images.mean("impact")
        core, tilted = impact_from_target(offset, images.position, *images.pointing)
        direction = np.deg2rad(images.direction)
        impact = {"distance": impact_distance(*direction, core, images.position)}
        covariance, ellipses = images.covariance("impact"), ()
        if covariance is not None:
            in_tilted = 1e6 * covariance
            project = _projection(*images.pointing)
            ellipses = project @ in_tilted @ np.swapaxes(project, 1, 2), in_tilted
            impact["distance_uncert"] = _width_along(offset, in_tilted)
        return {"geometry": core_columns(core, tilted, *ellipses), "impact": impact}

    def compare(self, predictions, events):
        """Compute the distance from the true impact point on the ground in m."""
        distance = np.hypot(
            predictions["core_x"] - np.asarray(events["true_core_x"]),
            predictions["core_y"] - np.asarray(events["true_core_y"]),
        )
        return np.where(np.isfinite(distance), distance, np.nan)

    def uncertainty(self, predictions):
        """Compute the radius that holds 68.27 % of the ellipse."""
        return known_width(containment_radius(_ellipse(predictions)))

    def pull(self, predictions, events):
        """Compute the distance of the true impact point in the ellipse."""
        offset = np.stack(
            [
                np.asarray(events[f"true_{name}"]) - predictions[name]
                for name in self.columns
            ],
            axis=-1,
        )
        return distance_in_ellipse(offset, _ellipse(predictions)) / RADIUS[2]

    def fact(self, output, error):
        """Describe the error of the impact point."""
        return f"{error:.0f} m off the true impact point" if np.isfinite(error) else ""


IMPACT = _Impact()
