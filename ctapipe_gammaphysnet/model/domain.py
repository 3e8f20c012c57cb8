"""What lies outside of the conditions that a network was trained in.

Outside of them, predictions can be far off, and nothing in them shows it.
"""

from typing import NamedTuple

import numpy as np
from ctapipe.core import ToolConfigurationError

from ..events.background import Background

__all__ = [
    "BACKGROUND_OUTSIDE",
    "POINTING_OUTSIDE",
    "Departure",
    "DomainWatch",
    "OutsideDomainError",
    "WatchedPreparation",
    "find_departures",
    "is_pointing_inside",
]

#: Names of the counts of images.
BACKGROUND_OUTSIDE = "background outside the training's"
POINTING_OUTSIDE = "pointing outside the training's"
#: Outside begins this far from the 5 % and 95 % quantiles of the training images.
PEDESTAL_TOLERANCE_PE = 0.1
NOISE_TOLERANCE = 0.1  # relative
MISSING_TOLERANCE = 0.05
#: Outside begins this far from the nearest altitude of the training.
ALTITUDE_TOLERANCE_DEG = 5
#: Images of a telescope whose medians are compared. A median of so many scatters by
#: less than a fifth of the tolerances, and one bright shower does not move it.
_IMAGES = 50


class OutsideDomainError(ToolConfigurationError):
    """Images or pointing are not as in the training of the network."""


class Departure(NamedTuple):
    """A condition that is outside of what the training saw.

    Attributes
    ----------
    cause : str
        Name of the condition.
    text : str
        What it is, what it was in training, and what to do.
    """

    cause: str
    text: str


def find_departures(network, background):
    """Compare the background of images with the training's.

    Parameters
    ----------
    network : NetworkCard
        Card of the network, with its domain.
    background : Background
        Of images of one telescope, shape (n,).

    Returns
    -------
    list of Departure
        The conditions whose medians are outside. What the network's input does not
        depend on is left out.
    """
    checks = [_check_noise, _check_missing]
    if network.input.charge_reference == "none":
        checks.insert(0, _check_pedestal)
    medians = Background(*(_median(values) for values in background))
    found = (check(network.domain, medians) for check in checks)
    return [departure for departure in found if departure is not None]


def _check_pedestal(domain, background):
    low, _, high = domain.pedestal_pe
    pedestal = background.pedestal_pe
    if low - PEDESTAL_TOLERANCE_PE <= pedestal <= high + PEDESTAL_TOLERANCE_PE:
        return None
    return Departure(
        "pedestal",
        f"the median charge of pixels without signal is {pedestal:.2f} p.e., in "
        f"training {low:.2f} to {high:.2f} p.e. Use the training's image extractor and "
        "pedestal, or a network trained with "
        "InputTransformation.charge_reference=background",
    )


def _check_noise(domain, background):
    low, _, high = domain.noise_pe
    noise = background.noise_pe
    if low / (1 + NOISE_TOLERANCE) <= noise <= high * (1 + NOISE_TOLERANCE):
        return None
    return Departure(
        "noise",
        f"the noise of pixels without signal is {noise:.2f} p.e., in training "
        f"{low:.2f} to {high:.2f} p.e.: another gain, night sky or image extractor. "
        "Use a network trained on such images, or with Augmentation.noise_pe",
    )


def _check_missing(domain, background):
    high = domain.missing_pixels[-1]
    if background.missing <= high + MISSING_TOLERANCE:
        return None
    return Departure(
        "missing pixels",
        f"{100 * background.missing:.0f} % of the pixels are missing, in training up "
        f"to {100 * high:.0f} %. Use a network trained with "
        "Augmentation.dead_pixel_fraction or dead_modules",
    )


def _median(values):
    """Median of the known values; NaN, which is outside of everything, without any."""
    values = values[np.isfinite(values)]
    return np.median(values) if len(values) > 0 else np.nan


def is_pointing_inside(known_deg, altitude_deg):
    """Check whether the training saw showers at such altitudes.

    The azimuth changes only what the geomagnetic field does to showers, and is not
    compared.

    Parameters
    ----------
    known_deg : numpy.ndarray
        Altitudes of the training in deg, shape (n_known,); if empty, all are inside.
    altitude_deg : numpy.ndarray
        Altitude of the pointing in deg, shape (n,); NaN counts as inside.

    Returns
    -------
    numpy.ndarray
        Whether the training has an altitude within the tolerance, shape (n,), bool.
    """
    distance = np.abs(altitude_deg[:, np.newaxis] - known_deg)
    distance = distance.min(axis=1, initial=np.inf if len(known_deg) > 0 else 0)
    return ~(distance > ALTITUDE_TOLERANCE_DEG)


class WatchedPreparation:
    """Prepares images for a network, and measures their background if it is watched.

    Parameters
    ----------
    preparation : InputPreparation
        Makes the network's input of images.
    is_watched : bool
        Whether to measure.

    Attributes
    ----------
    needs_mask, n_pixels
        As those of the preparation.
    """

    def __init__(self, preparation, is_watched):
        self._preparation, self._is_watched = preparation, is_watched
        self.needs_mask = preparation.needs_mask
        self.n_pixels = preparation.n_pixels

    def __call__(self, image, peak_time, image_mask=None):
        """Prepare and measure.

        Parameters
        ----------
        image, peak_time, image_mask : array_like
            As for the preparation.

        Returns
        -------
        inputs, has_pixels : numpy.ndarray
            As the preparation returns them.
        background : Background or None
            Of the images; None without a mask, which says where the signal is.
        """
        prepared = self._preparation(image, peak_time, image_mask)
        if not self._is_watched or image_mask is None:
            return *prepared, None
        return *prepared, self._preparation.background(image, peak_time, image_mask)


class DomainWatch:
    """Watches whether the images of telescopes are as those of the training.

    Parameters
    ----------
    report : callable
        Called with a text, once for each telescope and cause.
    count : callable
        Called with `BACKGROUND_OUTSIDE` or `POINTING_OUTSIDE` and a number of images.
    """

    def __init__(self, report, count):
        self._report, self._count = report, count
        self._seen = {}
        self._reported = set()
        self._altitudes = {}

    def check_background(self, tel_id, network, background):
        """Check images of a telescope.

        Parameters
        ----------
        tel_id : int
            The telescope.
        network : NetworkCard
            Card of its network, with its domain.
        background : Background
            Of its images, shape (n,).
        """
        seen = self._seen.setdefault(tel_id, [])
        seen.append(background)
        n_images = sum(len(part.missing) for part in seen)
        if n_images < _IMAGES:
            return
        del self._seen[tel_id]
        joined = Background(
            *(np.concatenate(parts) for parts in zip(*seen, strict=True))
        )
        found = find_departures(network, joined)
        if found:
            self._count(BACKGROUND_OUTSIDE, n_images)
        for cause, text in found:
            self._tell(tel_id, cause, f"in {n_images} images, {text}")

    def check_pointing(self, tel_id, network, altitude_deg):
        """Check the pointing of a telescope at some events.

        Parameters
        ----------
        tel_id : int
            The telescope.
        network : NetworkCard
            As for `check_background`.
        altitude_deg : numpy.ndarray
            Altitude of its pointing in deg, shape (n,).
        """
        if tel_id not in self._altitudes:
            known = {altitude for altitude, _ in network.domain.pointings_deg}
            self._altitudes[tel_id] = np.array(sorted(known))
        known = self._altitudes[tel_id]
        outside = ~is_pointing_inside(known, altitude_deg)
        if not outside.any():
            return
        self._count(POINTING_OUTSIDE, outside.sum())
        self._tell(
            tel_id,
            "pointing",
            f"it points to an altitude of {altitude_deg[outside][0]:.1f} deg, in "
            f"training {_describe(known)} deg. Use a network trained at such altitudes",
        )

    def _tell(self, tel_id, cause, text):
        if (tel_id, cause) not in self._reported:
            self._reported.add((tel_id, cause))
            self._report(
                f"telescope {tel_id} is outside of what its network was trained for: "
                f"{text}. Its predictions may be far off"
            )


def _describe(altitudes):
    if len(altitudes) == 1:
        return f"{altitudes[0]:.1f}"
    return f"{altitudes[0]:.1f} to {altitudes[-1]:.1f}"
