"""The direction of a gamma, as its offset from the pointing."""

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
from .frames import (
    horizontal_from_offset,
    offset_from_horizontal,
    offset_on_sky,
    radians,
    turn_to_horizontal,
)
from .metric import distance_metric, resolution
from .task import Movement, Output, Task, turn_vectors

__all__ = [
    "DIRECTION",
    "direction_errors",
    "direction_from_target",
    "direction_to_target",
    "offsets_from_differences",
]


def direction_to_target(alt, az, pointing_alt, pointing_az):
    """Convert directions to their offsets from the pointing.

    Parameters
    ----------
    alt, az : astropy.units.Quantity
        Direction on the sky, shape (n,).
    pointing_alt, pointing_az : astropy.units.Quantity
        Pointing of the telescope, shape (n,) or ().

    Returns
    -------
    numpy.ndarray
        fov_lon, fov_lat in the TelescopeFrame in deg, shape (n, 2).
    """
    angles = (radians(angle) for angle in (alt, az, pointing_alt, pointing_az))
    return np.rad2deg(np.column_stack(offset_from_horizontal(*angles)))


def direction_from_target(target, pointing_alt, pointing_az):
    """Convert offsets from the pointing back to directions.

    Parameters
    ----------
    target : numpy.ndarray
        fov_lon, fov_lat in the TelescopeFrame in deg, shape (n, 2).
    pointing_alt, pointing_az : numpy.ndarray
        Pointing of the telescope in rad, shape (n,) or ().

    Returns
    -------
    alt, az : numpy.ndarray
        Direction on the sky in deg, shape (n,); NaN for offsets beyond 180° in
        fov_lon or 90° in fov_lat.
    """
    # A network can predict any number.
    on_sky = (np.abs(target) <= [180, 90]).all(axis=1)
    lon, lat = np.deg2rad(np.where(on_sky, np.asarray(target, float).T, np.nan))
    alt, az = horizontal_from_offset(lon, lat, pointing_alt, pointing_az)
    return np.rad2deg(alt), np.rad2deg(az)


def offsets_from_differences(target, pointing_alt, pointing_az):
    """Convert differences of altitude and azimuth to offsets from the pointing.

    Parameters
    ----------
    target : numpy.ndarray
        Altitude and azimuth minus those of the pointing in rad, shape (n, 2).
    pointing_alt, pointing_az : astropy.units.Quantity
        Pointing of the telescope, shape (n,).

    Returns
    -------
    numpy.ndarray
        fov_lon, fov_lat in the TelescopeFrame in deg, shape (n, 2); NaN for altitudes
        beyond 180°. Altitudes from 90° to 180° lie on the other side of the zenith.
    """
    import astropy.units as u

    alt, az = np.rad2deg(target).T
    alt = alt + pointing_alt.to_value(u.deg)
    az = az + pointing_az.to_value(u.deg)
    on_sky = (np.abs(alt) <= 180) & np.isfinite(az)
    alt, az = np.where(on_sky, [alt, az], np.nan)
    beyond = np.abs(alt) > 90
    alt = np.where(beyond, np.copysign(180, alt) - alt, alt)
    az = np.where(beyond, az + 180, az)
    return direction_to_target(
        u.Quantity(alt, u.deg), u.Quantity(az, u.deg), pointing_alt, pointing_az
    )


def _resolution(predicted, true):
    from astropy.coordinates import angular_separation

    separation = angular_separation(
        *np.deg2rad(np.concatenate([predicted, true], axis=1)).T
    )
    return resolution(np.rad2deg(separation))


def direction_errors(alt, ellipse):
    """Compute the columns that describe the error of a direction.

    Parameters
    ----------
    alt : numpy.ndarray
        Altitude of the direction in rad, shape (n,).
    ellipse : numpy.ndarray
        Covariance there along azimuth and altitude, both as angles on the sky, in deg²,
        shape (n, 2, 2).

    Returns
    -------
    dict of str to numpy.ndarray
        ``alt_uncert``, ``az_uncert`` and ``ang_distance_uncert`` in deg, and
        ``alt_az_correlation``, shape (n,).
    """
    alt_width, az_width = np.sqrt([ellipse[:, 1, 1], ellipse[:, 0, 0]])
    return {
        "alt_uncert": alt_width,
        "az_uncert": az_width / np.cos(alt),
        "alt_az_correlation": correlation(ellipse),
        "ang_distance_uncert": containment_radius(ellipse),
    }


def _on_sky(images, covariance):
    """Covariance along azimuth and altitude at the direction, deg², shape (n, 2, 2).

    ``covariance`` is that of fov_lon and fov_lat.
    """
    offset = images.mean("direction")
    lon, lat = np.deg2rad(offset).T
    stretch = np.stack([np.cos(lat), np.ones(len(lat))], axis=1)
    # Per degree on the sky, not of fov_lon.
    ellipse = covariance * np.einsum("ni,nj->nij", stretch, stretch)
    turn = turn_to_horizontal(lon, lat, images.pointing[0])
    return turn @ ellipse @ np.swapaxes(turn, 1, 2)


class _Direction(Task):
    """The direction: where the shower's axis meets the sky."""

    name = "direction"
    has_axis = True
    needs_pointing = True
    meaning = "fov_lon, fov_lat / deg, TelescopeFrame"
    other_targets = {
        "alt - pointing alt, az - pointing az / rad": (
            lambda target, alt, az, position: offsets_from_differences(target, alt, az)
        )
    }
    colour = "#117733"
    validation_metrics = {"angular resolution / deg": _resolution}
    columns = {"alt": ("geometry", "alt", "deg"), "az": ("geometry", "az", "deg")}
    uncertainties = {
        "ang_distance_uncert": ("geometry", "ang_distance_uncert", "deg"),
        "alt_uncert": ("geometry", "alt_uncert", "deg"),
        "az_uncert": ("geometry", "az_uncert", "deg"),
        "alt_az_correlation": ("geometry", "alt_az_correlation", ""),
    }
    needed = True
    compared = error = "separation"
    metrics = {
        "angular_resolution": distance_metric(
            "separation",
            "deg",
            "Angular resolution",
            "68 % containment of the angle between reconstructed and true direction",
        )
    }
    # The network predicts fov_lat and fov_lon, the offsets from the pointing along
    # altitude and azimuth.
    outputs = {
        "fov_lat": Output("direction", 1, "Altitude (fov_lat)", "deg"),
        "fov_lon": Output("direction", 0, "Azimuth (fov_lon)", "deg"),
    }
    # Offsets are small: the sky is flat enough.
    movement = Movement(
        "direction",
        "Move of the direction / deg",
        lambda old, new: np.linalg.norm(new - old, axis=-1),
    )

    def to_target(self, events):
        """Compute the offsets from the pointing."""
        return direction_to_target(
            events["true_alt"],
            events["true_az"],
            events["pointing_alt"],
            events["pointing_az"],
        )

    def turn(self, target, angle):
        """Turn the offset as the image is turned.

        It is turned in a plane. This neglects the curvature of the sky: 0.01° for a
        source 5° off-axis.
        """
        return turn_vectors(target, angle)

    def on_axes(self, values, covariance, axes, error):
        """Move the direction to the axis of the image."""
        centre = np.stack([axes.fov_lon, axes.fov_lat], axis=-1)
        return known_on_line(values, covariance, centre, axes.psi, error)

    def dl2(self, images):
        """Compute the direction of the mean offset, and the ellipse of its error."""
        alt, az = images.direction
        columns = {"alt": alt, "az": az}
        with np.errstate(invalid="ignore"):
            covariance = images.covariance("direction")
            if covariance is not None:
                ellipse = _on_sky(images, covariance)
                columns |= direction_errors(np.deg2rad(alt), ellipse)
        return {"geometry": columns}

    def compare(self, predictions, events):
        """Compute the angle from the true direction in deg."""
        from astropy.coordinates import angular_separation

        separation = angular_separation(
            np.deg2rad(predictions["az"]),
            np.deg2rad(predictions["alt"]),
            np.deg2rad(np.asarray(events["true_az"])),
            np.deg2rad(np.asarray(events["true_alt"])),
        )
        return np.rad2deg(separation)

    def uncertainty(self, predictions):
        """Return the radius that holds 68.27 %."""
        return known_width(predictions["ang_distance_uncert"])

    def pull(self, predictions, events):
        """Compute the distance of the true direction in the ellipse, or in a circle.

        Algorithms that predict no ellipse can predict the radius of a circle.
        """
        alt, az = np.deg2rad([predictions["alt"], predictions["az"]])
        offset = offset_on_sky(
            np.deg2rad(np.asarray(events["true_alt"])),
            np.deg2rad(np.asarray(events["true_az"])),
            alt,
            az,
        )
        ellipse = matrix_from_widths(
            known_width(predictions["az_uncert"]) * np.cos(alt),
            known_width(predictions["alt_uncert"]),
            predictions["alt_az_correlation"],
        )
        distance = distance_in_ellipse(np.rad2deg(offset), ellipse) / RADIUS[2]
        separation = self.compare(predictions, events)
        in_circle = separation / self.uncertainty(predictions)
        return np.where(np.isfinite(distance), distance, in_circle)

    def fact(self, output, error):
        """Describe the angular error."""
        return f"{error:.2f}° off the true direction" if np.isfinite(error) else ""


DIRECTION = _Direction()
