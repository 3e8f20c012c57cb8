"""From DL1 images to the input of a network: charge and peak time of each pixel.

Only this module decides what a missing, broken or uncleaned pixel becomes. Networks are
trained and applied through the same function.
"""

import copy
from typing import NamedTuple

import numpy as np
from ctapipe.core import ToolConfigurationError
from numpy.typing import ArrayLike

from .background import MIN_BACKGROUND_PIXELS, Background, measure_background

__all__ = [
    "InputPreparation",
    "MissingImagesError",
    "UnfitImagesError",
    "present_pixels",
    "problem_of",
]

#: Peak time of pixels without one in gammalearn 0.15.
MISSING_PEAK_TIME_NS = np.float32(-20)


class MissingImagesError(ToolConfigurationError, ValueError):
    """There are no DL1 images to reconstruct."""


class UnfitImagesError(ToolConfigurationError, ValueError):
    """Images are from another camera, or do not hold charges and times."""


class _Pixels(NamedTuple):
    """Images in the camera's order of pixels, shape (n, n_pixels) each."""

    image: np.ndarray
    peak_time: np.ndarray
    present: np.ndarray
    mask: np.ndarray | None


class InputPreparation:
    """Turns images into a network's input, as the network's card describes.

    Parameters
    ----------
    card : InputCard
        What enters the network.
    lattice : CameraLattice
        The camera, with its order of pixels.

    Attributes
    ----------
    needs_mask : bool
        Whether images need the mask of the image cleaning.
    n_pixels : int
        Number of the camera's pixels.
    """

    def __init__(self, card, lattice):
        self._card = card
        self._neighbors = _neighbors(lattice.adjacency())
        self._order = slice(None)
        self.needs_mask = card.needs_mask
        self.n_pixels = len(lattice)

    def reordered(self, order: np.ndarray | slice) -> "InputPreparation":
        """Return the preparation of images with another order of pixels.

        Parameters
        ----------
        order : numpy.ndarray or slice
            Index of their pixels that puts them in the order of the camera's, shape
            (n_pixels,), int.

        Returns
        -------
        InputPreparation
            Takes images in that order; its results are in the order of the camera's.
        """
        preparation = copy.copy(self)
        preparation._order = order
        return preparation

    def __call__(
        self,
        image: ArrayLike,
        peak_time: ArrayLike,
        image_mask: ArrayLike | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Stack charge and peak time, with zeros for missing pixels.

        A pixel whose charge or peak time is not finite is missing: both become 0, or
        only the one that is not finite is replaced, as the model card says
        ("missing_pixels"). If charges are relative to the
        background of their image, and it is not known, all become 0.

        Parameters
        ----------
        image, peak_time : array_like
            Charge in p.e. and peak time in ns, shape (n, n_pixels).
        image_mask : array_like, optional
            True for pixels that survived the image cleaning, shape (n, n_pixels), bool.

        Returns
        -------
        inputs : numpy.ndarray
            Charge and peak time, shape (n, 2, n_pixels), float32.
        has_pixels : numpy.ndarray
            False for images whose pixels are all missing, or whose background is
            unknown if the network needs it, shape (n,), bool.

        Raises
        ------
        ValueError
            If the network needs the mask, and it is missing.
        UnfitImagesError
            If images have another number of pixels than the camera, or do not hold
            floating-point numbers, or masks do not hold booleans.
        """
        pixels = self._read(image, peak_time, image_mask if self.needs_mask else None)
        measured = self._measure(pixels) if self._card.needs_background else None
        return self._prepare(pixels, measured)

    def with_background(
        self, image: ArrayLike, peak_time: ArrayLike, image_mask: ArrayLike
    ) -> tuple[np.ndarray, np.ndarray, Background]:
        """Prepare images, and measure their background.

        Parameters
        ----------
        image, peak_time, image_mask : array_like
            As for a call of the preparation; the mask must be given.

        Returns
        -------
        inputs, has_pixels : numpy.ndarray
            As a call of the preparation returns them.
        background : Background
            Of the pixels that are neither missing nor in or near the mask.

        Raises
        ------
        UnfitImagesError
            As a call of the preparation.
        """
        pixels = self._read(image, peak_time, image_mask)
        measured = self._measure(pixels)
        return *self._prepare(pixels, measured), measured[0]

    def _read(self, image, peak_time, image_mask):
        """Check images, and put their pixels in the camera's order."""
        if self.needs_mask and image_mask is None:
            raise ValueError("the network needs cleaned images: no image mask is given")
        arrays = {"image": image, "peak_time": peak_time}
        if image_mask is not None:
            arrays["image_mask"] = image_mask
        arrays = {name: np.asarray(values) for name, values in arrays.items()}
        n = len(arrays["image"]) if arrays["image"].ndim > 0 else 0
        for name, values in arrays.items():
            problem = problem_of(name, values, (n, self.n_pixels))
            if problem is not None:
                raise UnfitImagesError(f"{problem}: images from another camera?")
        image, peak_time, *mask = map(self._ordered, arrays.values())
        image = image.astype(np.float32, copy=False)
        peak_time = peak_time.astype(np.float32, copy=False)
        present = present_pixels(image, peak_time)
        return _Pixels(image, peak_time, present, mask[0] & present if mask else None)

    def _measure(self, pixels):
        """Background, and whether it has enough pixels, shape (n,)."""
        near_mask = self._widened(pixels.mask, self._card.background_rings)
        background = pixels.present & ~near_mask
        pedestal, noise = measure_background(pixels.image, background)
        missing = 1 - pixels.present.mean(axis=1)
        is_known = background.sum(axis=1) >= MIN_BACKGROUND_PIXELS
        return Background(pedestal, noise, missing), is_known

    def _prepare(self, pixels, measured):
        """Input of the network; ``measured`` is only needed for relative charges."""
        image, peak_time, present, mask = pixels
        has_pixels = present.any(axis=1)
        entering = mask if self._card.image == "cleaned" else present
        if self._card.needs_background:
            image, has_background = self._relate(image, mask, *measured)
            has_pixels &= has_background
            entering = entering & has_background[:, np.newaxis]
        charge, time, entering = self._without_missing(image, peak_time, entering)
        time = self._scale_peak_time(time, charge, mask, entering)
        return np.stack([self._scale_charge(charge), time], axis=1), has_pixels

    def _ordered(self, values):
        """Put pixels in the camera's order."""
        # Contiguous, so that sums over pixels are rounded alike in any order.
        return np.ascontiguousarray(values[:, self._order])

    def _without_missing(self, image, peak_time, entering):
        """Charge and peak time without missing values, and the pixels that enter."""
        if self._card.missing_pixels == "separate":
            charge = np.where(np.isfinite(image), image, np.float32(0))
            time = np.where(np.isfinite(peak_time), peak_time, MISSING_PEAK_TIME_NS)
            return charge, time, np.ones_like(entering)
        charge = np.where(entering, image, np.float32(0))
        return charge, np.where(entering, peak_time, np.float32(0)), entering

    def _relate(self, image, mask, background, is_known):
        """Charges relative to the background; whether it is known, shape (n,)."""
        pedestal, noise, _ = background
        if self._card.charge_reference == "background":
            # Extractors that search for a peak find the highest noise of pixels without
            # light, but the pulse in the others.
            shift = np.where(is_known, pedestal, 0)[:, np.newaxis]
            image = np.where(mask, image, image - shift)
        if self._card.charge_unit == "noise":
            is_known = is_known & (noise > 0)
            image = image / np.where(is_known, noise, 1)[:, np.newaxis]
        return image, is_known

    def _scale_charge(self, charge):
        scaled = charge / np.float32(self._card.charge_scale)
        return np.arcsinh(scaled) if self._card.charge == "arcsinh" else scaled

    def _scale_peak_time(self, time, charge, mask, entering):
        if self._card.peak_time_reference == "image":
            time = time - _mean_peak_time(time, charge, mask)
        if self._card.peak_time_pixels == "cleaned":
            entering = entering & self._widened(mask, self._card.peak_time_rings)
        return np.where(entering, time, 0) / np.float32(self._card.peak_time_scale)

    def _widened(self, mask, rings):
        """Add rings of neighbouring pixels to masks."""
        for _ in range(rings):
            # One index for image and pixel is found faster than two.
            index = np.flatnonzero(mask)
            pixel = index % self.n_pixels
            first = (index - pixel)[:, np.newaxis]
            mask = mask.copy()
            mask.reshape(-1)[first + self._neighbors[pixel]] = True
        return mask


def _neighbors(adjacency):
    """Neighbours of each pixel, and the pixel itself where it has fewer than others.

    Shape (n_pixels, most neighbours), int.
    """
    n_neighbors = np.diff(adjacency.indptr)
    pixel = np.repeat(np.arange(len(n_neighbors)), n_neighbors)
    column = np.arange(len(pixel)) - np.repeat(adjacency.indptr[:-1], n_neighbors)
    table = np.tile(np.arange(len(n_neighbors)), (n_neighbors.max(), 1)).T.copy()
    table[pixel, column] = adjacency.indices
    return table


def present_pixels(image, peak_time):
    """Find the pixels that are not missing.

    Parameters
    ----------
    image, peak_time : numpy.ndarray
        Charge in p.e. and peak time in ns, shape (n, n_pixels), float.

    Returns
    -------
    numpy.ndarray
        True where charge and peak time are finite, shape (n, n_pixels), bool.
    """
    return np.isfinite(image) & np.isfinite(peak_time)


def problem_of(name, values, shape):
    """Check shape and type of images.

    Parameters
    ----------
    name : {"image", "peak_time", "image_mask"}
        Their column.
    values : numpy.ndarray
        The images.
    shape : tuple of int
        The shape that they must have.

    Returns
    -------
    str or None
        The problem, or None.
    """
    if values.shape != shape:
        return f"{name} has the shape {values.shape}, but the camera needs {shape}"
    kind = "b" if name == "image_mask" else "f"
    if values.dtype.kind != kind:
        wanted = "booleans" if kind == "b" else "floating-point numbers"
        return f"{name} holds {values.dtype}, not {wanted}"
    return None


def _mean_peak_time(time, charge, mask):
    """Mean over the mask, weighted by charge, shape (n, 1); 0 without charge."""
    weight = np.where(mask, np.maximum(charge, 0), 0)
    total = weight.sum(axis=1, keepdims=True)
    mean = (weight * time).sum(axis=1, keepdims=True) / np.where(total > 0, total, 1)
    return mean.astype(np.float32)
