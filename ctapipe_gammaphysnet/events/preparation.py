"""From DL1 images to the input of a network: charge and peak time of each pixel.

Only this module decides what a missing, broken or uncleaned pixel becomes. Networks are
trained and applied through the same function.
"""

import copy

import numpy as np
from ctapipe.core import ToolConfigurationError
from numpy.typing import ArrayLike

from .background import MIN_BACKGROUND_PIXELS, NORMAL_RANGE, QUANTILES, Background
from .kernels import EVERYWHERE, Steps, as_compiled, prepare_images

__all__ = [
    "InputPreparation",
    "MissingImagesError",
    "UnfitImagesError",
    "present_pixels",
    "problem_of",
]


class MissingImagesError(ToolConfigurationError, ValueError):
    """There are no DL1 images to reconstruct."""


class UnfitImagesError(ToolConfigurationError, ValueError):
    """Images are from another camera, or do not hold charges and times."""


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
        self._steps = _steps(card)
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
        images = self._read(image, peak_time, image_mask if self.needs_mask else None)
        inputs, has_pixels, _ = self._prepare(images, self._card.needs_background)
        return inputs, has_pixels

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
        return self._prepare(self._read(image, peak_time, np.asarray(image_mask)), True)

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
        arrays.setdefault("image_mask", np.empty((n, 0), bool))
        return [self._ordered(name, values) for name, values in arrays.items()]

    def _ordered(self, name, values):
        """Put pixels in the camera's order."""
        if values.shape[1] > 0:
            values = values[:, self._order]
        return as_compiled(values, bool if name == "image_mask" else np.float32)

    def _prepare(self, images, measure):
        """Input of the network, whether there are pixels; background if measured."""
        n = len(images[0])
        inputs = np.empty((n, 2, self.n_pixels), np.float32)
        has_pixels = np.empty(n, bool)
        background = Background(*np.empty((2, n), np.float32), np.empty(n))
        how = self._neighbors, self._steps, measure, QUANTILES, NORMAL_RANGE
        prepare_images(*images, *how, inputs, has_pixels, *background)
        if self._card.charge == "arcsinh":
            charge = inputs[:, 0]
            # NumPy computes many at once.
            np.arcsinh(charge, out=charge)
        return inputs, has_pixels, background


def _steps(card):
    """What becomes of the pixels, as a card says."""
    cleaned_times = card.peak_time_pixels == "cleaned"
    return Steps(
        separate=card.missing_pixels == "separate",
        background_rings=card.background_rings,
        charge_rings=0 if card.image == "cleaned" else EVERYWHERE,
        peak_time_rings=card.peak_time_rings if cleaned_times else EVERYWHERE,
        min_background=MIN_BACKGROUND_PIXELS,
        subtract=card.charge_reference == "background",
        divide=card.charge_unit == "noise",
        charge_scale=np.float32(card.charge_scale),
        peak_time_scale=np.float32(card.peak_time_scale),
        center=card.peak_time_reference == "image",
    )


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
