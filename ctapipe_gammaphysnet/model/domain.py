"""What lies outside of the conditions that a network was trained in.

Outside of them, predictions can be far off, and nothing in them shows it.
"""

from collections import Counter
from typing import NamedTuple

import numpy as np
from ctapipe.core import ToolConfigurationError

from ..events.background import Background

__all__ = [
    "BACKGROUND_NOT_COMPARED",
    "BACKGROUND_OUTSIDE",
    "POINTING_OUTSIDE",
    "Departure",
    "DomainWatch",
    "OutsideDomainError",
    "WatchedPreparation",
    "find_departures",
    "find_other_processing",
    "is_pointing_inside",
    "processing_of",
]

#: Names of the counts of images.
BACKGROUND_OUTSIDE = "background outside the training's"
BACKGROUND_NOT_COMPARED = "background not compared with the training's"
POINTING_OUTSIDE = "pointing outside the training's"
#: Outside begins this far from the 5 % and 95 % quantiles of the training images.
PEDESTAL_TOLERANCE_PE = 0.1
NOISE_TOLERANCE = 0.1  # relative
MISSING_TOLERANCE = 0.05
#: Outside begins this far from the nearest altitude of the training.
ALTITUDE_TOLERANCE_DEG = 5
#: Images of a telescope after which the next comparison is made. Fewer, at the end of a
#: file, are not compared.
_STEP = 10
#: Steps whose medians are compared: the new one, and the one before if there is one. A
#: median of so many images scatters by less than a fifth of the tolerances, and bright
#: showers do not move it.
_STEPS = 2


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
    medians = (_medians(values[np.newaxis])[0] for values in background)
    return _departures(network, Background(*medians))


def _departures(network, medians):
    """Departures of the medians of images, as in `find_departures`."""
    checks = _check_pedestal, _check_noise, _check_missing
    found = (check(network, medians) for check in checks)
    return [departure for departure in found if departure is not None]


def _check_pedestal(network, background):
    if network.input.charge_reference == "background":
        return None
    low, _, high = network.domain.pedestal_pe
    pedestal = background.pedestal_pe
    # It is not a number without any pixel, which the noise tells.
    if not (
        pedestal < low - PEDESTAL_TOLERANCE_PE
        or pedestal > high + PEDESTAL_TOLERANCE_PE
    ):
        return None
    return Departure(
        "pedestal",
        f"the median charge of pixels without signal is {pedestal:.2f} p.e., in "
        f"training {low:.2f} to {high:.2f} p.e. Use the training's image extractor and "
        "pedestal, or a network trained with "
        "InputTransformation.charge_reference=background",
    )


def _check_noise(network, background):
    low, _, high = network.domain.noise_pe
    noise = background.noise_pe
    if low / (1 + NOISE_TOLERANCE) <= noise <= high * (1 + NOISE_TOLERANCE):
        return None
    if not noise > 0:
        text = "pixels without signal have no noise: zero-suppressed images?"
    else:
        text = (
            f"the noise of pixels without signal is {noise:.2f} p.e., in training "
            f"{low:.2f} to {high:.2f} p.e. {_noise_advice(network.input)}"
        )
    return Departure("noise", text)


def _noise_advice(card):
    if card.charge_unit == "noise":
        return (
            "Another gain would not matter to this network, another night sky does: "
            "Augmentation.noise_pe"
        )
    return (
        "If it is the gain, use a network trained with Augmentation.gain or "
        "InputTransformation.charge_unit=noise; if it is the night sky, with "
        "Augmentation.noise_pe"
    )


def _check_missing(network, background):
    high = network.domain.missing_pixels[-1]
    if background.missing <= high + MISSING_TOLERANCE:
        return None
    return Departure(
        "missing pixels",
        f"{100 * background.missing:.0f} % of the pixels are missing, in training up "
        f"to {100 * high:.0f} %. Use a network trained with "
        "Augmentation.dead_pixel_fraction or dead_modules",
    )


def processing_of(tool, tel_id):
    """Find the components with which a running tool makes a telescope's images.

    Parameters
    ----------
    tool : ctapipe.core.Tool or None
        The tool.
    tel_id : int
        The telescope.

    Returns
    -------
    dict of str to str
        As for `find_other_processing`; empty for tools other than ``ctapipe-process``.
    """
    used = {}
    if getattr(tool, "should_calibrate", False):
        used["image extractor"] = tool.calibrate.image_extractor_type.tel[tel_id]
    if getattr(tool, "should_compute_dl1", False):
        used["image cleaner"] = tool.process_images.image_cleaner_type
    return used


def find_other_processing(domain, used):
    """Compare how images are made with how the training's were.

    Parameters
    ----------
    domain : DomainCard
        Conditions of the training.
    used : dict of str to str
        Names of the running ``image extractor`` and ``image cleaner``, as far as they
        make the images.

    Returns
    -------
    list of Departure
        What differs; components that are not known on both sides are left out.
    """
    trained = {
        "image extractor": (domain.image_extractors, "CameraCalibrator"),
        "image cleaner": (domain.image_cleaners, "ImageProcessor"),
    }
    return [
        Departure(
            cause,
            f"its {cause} is {used[cause]}, that of the training was "
            f"{' or '.join(known)}. Set {section}.{cause.replace(' ', '_')}_type to "
            "it, or use a network that was trained on such images",
        )
        for cause, (known, section) in trained.items()
        if known and used.get(cause, known[0]) not in known
    ]


def _medians(values):
    """Medians of the known values of each row.

    Without any they are NaN, which is outside of everything.
    """
    known = np.isfinite(values)
    ordered = np.sort(np.where(known, values, np.nan), axis=1)
    n_known, row = known.sum(axis=1), np.arange(len(values))
    return (ordered[row, (n_known - 1) // 2] + ordered[row, n_known // 2]) / 2


def _last(values, stops, size):
    """Values before each stop, shape (n_stops, size); NaN before the first one."""
    padded = np.concatenate([np.full(size, np.nan, values.dtype), values])
    return padded[np.asarray(stops)[:, np.newaxis] + np.arange(size)]


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
    """Prepares images for a network, and measures their background if it is used.

    Parameters
    ----------
    preparation : InputPreparation
        Makes the network's input of images.
    is_watched : bool
        Whether the background is compared with the training's.
    needs_noise : bool
        Whether the network has the noise as a condition.

    Attributes
    ----------
    needs_mask : bool
        Whether images need the mask of the image cleaning.
    n_pixels : int
        As that of the preparation.
    """

    def __init__(self, preparation, is_watched, needs_noise=False):
        self._preparation = preparation
        self._measures = is_watched or needs_noise
        self.needs_mask = preparation.needs_mask or needs_noise
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
            Of the images; None without a mask, which says where the signal is, or if
            it is not used.
        """
        if not self._measures or image_mask is None:
            return *self._preparation(image, peak_time, image_mask), None
        return self._preparation.with_background(image, peak_time, image_mask)


class DomainWatch:
    """Watches whether the images of telescopes are as those of the training.

    Parameters
    ----------
    report : callable
        Called with a text, once for each file, network and cause.
    count : callable
        Called with the name of a count, such as `BACKGROUND_OUTSIDE`, and a number of
        images to add to it.
    network_of : dict of int to str
        Name of each telescope's network.
    """

    def __init__(self, report, count, network_of):
        self._report, self._count = report, count
        self._network_of = network_of
        self._n_telescopes = Counter(network_of.values())
        self._recent = {}
        self._reported = set()
        self._altitudes = {}
        self._processing = set()
        self._outside = {}

    def check_processing(self, tel_id, network, used):
        """Check how the images of a telescope are made, the first time.

        Parameters
        ----------
        tel_id : int
            The telescope.
        network : NetworkCard
            As for `check_background`.
        used : callable
            Returns the components for a tel_id, as for `find_other_processing`.
        """
        if tel_id in self._processing:
            return
        self._processing.add(tel_id)
        for cause, text in find_other_processing(network.domain, used(tel_id)):
            self._tell(None, tel_id, cause, text)

    def check_background(self, tel_id, network, background, path=None):
        """Check images of a telescope.

        Every 10 images of a file, the medians of the last 20 are compared. Images after
        the last comparison are counted as `BACKGROUND_NOT_COMPARED`.

        Parameters
        ----------
        tel_id : int
            The telescope.
        network : NetworkCard
            Card of its network, with its domain.
        background : Background
            Of its images, shape (n,).
        path : pathlib.Path, optional
            Their file, which the report names.
        """
        self._count(BACKGROUND_NOT_COMPARED, len(background.missing))
        parts, compared = self._recent.get((path, tel_id), ([], 0))
        parts = [*parts, background]
        n_images = sum(len(part.missing) for part in parts)
        stops = range(compared + _STEP, n_images + 1, _STEP)
        if len(stops) == 0:
            self._recent[path, tel_id] = parts, compared
            return
        background = Background(*map(np.concatenate, zip(*parts, strict=True)))
        size = _STEPS * _STEP
        medians = (_medians(_last(values, stops, size)) for values in background)
        for stop, *block in zip(stops, *medians, strict=True):
            medians = Background(*block)
            self._check_block(tel_id, network, medians, min(stop, size), path)
        compared += len(stops) * _STEP
        kept = max(compared - (_STEPS - 1) * _STEP, 0)
        recent = [background.of(slice(kept, None))]
        self._recent[path, tel_id] = recent, compared - kept

    def _check_block(self, tel_id, network, medians, n_images, path):
        self._count(BACKGROUND_NOT_COMPARED, -_STEP)
        found = _departures(network, medians)
        if found:
            self._count(BACKGROUND_OUTSIDE, _STEP)
        for cause, text in found:
            self._tell(path, tel_id, cause, f"in {n_images} images, {text}")

    def check_pointing(self, tel_id, network, altitude_deg, path=None):
        """Check the pointing of a telescope at some events.

        Parameters
        ----------
        tel_id : int
            The telescope.
        network : NetworkCard
            As for `check_background`.
        altitude_deg : numpy.ndarray
            Altitude of its pointing in deg, shape (n,).
        path : pathlib.Path, optional
            As for `check_background`.
        """
        if tel_id not in self._altitudes:
            known = {altitude for altitude, _ in network.domain.pointings_deg}
            self._altitudes[tel_id] = np.array(sorted(known))
        known = self._altitudes[tel_id]
        outside = ~is_pointing_inside(known, altitude_deg)
        if not outside.any():
            return
        self._count(POINTING_OUTSIDE, outside.sum())
        altitude = altitude_deg[outside][0]
        nearest = known[np.abs(known - altitude).argmin()]
        self._tell(
            path,
            tel_id,
            "pointing",
            f"it points to an altitude of {altitude:.1f} deg, the nearest in training "
            f"is {nearest:.1f} deg. Use a network trained at such altitudes",
        )

    def _tell(self, path, tel_id, cause, text):
        name = self._network_of[tel_id]
        self._outside.setdefault((name, cause), set()).add(tel_id)
        if (path, name, cause) in self._reported:
            return
        self._reported.add((path, name, cause))
        where = "" if path is None else f"{path}: "
        n_telescopes = self._n_telescopes[name]
        others = (
            f" (the first of {n_telescopes} of type {name}; the others are not named)"
            if n_telescopes > 1
            else ""
        )
        self._report(
            f"{where}telescope {tel_id}{others} is outside of what its network was "
            f"trained for: {text}. Its predictions may be far off"
        )

    def describe(self):
        """Describe how many telescopes were outside.

        Returns
        -------
        list of str
            One text for each network and cause.
        """
        return [
            f"{cause}: {len(tel_ids)} of {self._n_telescopes[name]} telescopes of type "
            f"{name} ({', '.join(map(str, sorted(tel_ids)))})"
            for (name, cause), tel_ids in self._outside.items()
        ]
