"""The background of images: pedestal and noise of pixels without light of a shower."""

from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from ..tasks.metric import CONTAINMENT
from .kernels import as_compiled, measure_images

__all__ = [
    "MIN_BACKGROUND_PIXELS",
    "NORMAL_RANGE",
    "QUANTILES",
    "Background",
    "measure_background",
    "noise_of",
]

#: With fewer pixels, the noise is not known to 25 %.
MIN_BACKGROUND_PIXELS = 20
_AROUND = np.linspace(-0.05, 0.05, 21)
#: Quantiles around both ends of the central 68 %, and around the median. Their means
#: hardly depend on the steps in which files store charges. Shape (3, 21).
QUANTILES = np.array(
    [centre + _AROUND for centre in ((1 - CONTAINMENT) / 2, 0.5, (1 + CONTAINMENT) / 2)]
)
#: Range between the outer means, for a normal distribution of unit width.
NORMAL_RANGE = 2 * ndtri(QUANTILES[-1]).mean()


class Background(NamedTuple):
    """Pixels without light of a shower, in some images.

    Attributes
    ----------
    pedestal_pe, noise_pe : numpy.ndarray
        Median and standard deviation of their charge in p.e., as `measure_background`
        estimates them, shape (n,); NaN without any such pixel.
    missing : numpy.ndarray
        Share of the camera's pixels that are missing, shape (n,).
    """

    pedestal_pe: np.ndarray
    noise_pe: np.ndarray
    missing: np.ndarray

    def of(self, rows):
        """Select images.

        Parameters
        ----------
        rows : slice
            Which of them.

        Returns
        -------
        Background
            Of these images.
        """
        return Background(*(values[rows] for values in self))


def noise_of(backgrounds):
    """Join the noise of images.

    Parameters
    ----------
    backgrounds : sequence of Background or None
        Of some images each.

    Returns
    -------
    numpy.ndarray or None
        Noise in p.e., shape (n,); None if that of some images is not measured.
    """
    if any(background is None for background in backgrounds):
        return None
    return np.concatenate([background.noise_pe for background in backgrounds])


def measure_background(image, background):
    """Measure pedestal and noise of images.

    The pedestal is the mean of the quantiles from 45 % to 55 %. The noise is half of
    the range that holds the central 68 % of the charges, whose ends are means of
    quantiles, too: as good as the standard deviation of pure noise, whose skewness
    cancels in it, and not misled by the few pixels with faint light of the shower.

    Parameters
    ----------
    image : numpy.ndarray
        Charge in p.e., shape (n, n_pixels).
    background : numpy.ndarray
        True for the pixels to look at, shape (n, n_pixels), bool. Those whose charge
        is not finite do not count.

    Returns
    -------
    pedestal, noise : numpy.ndarray
        Median and standard deviation of the charge in p.e., shape (n,), float32; NaN
        without any pixel to look at.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if image.ndim != 2 or image.shape != background.shape:
        raise ValueError(
            f"images of shape {image.shape} with pixels of shape {background.shape}"
        )
    pedestal, noise = np.empty((2, len(image)), np.float32)
    image, background = as_compiled(image, np.float32), as_compiled(background, bool)
    measure_images(image, background, QUANTILES, NORMAL_RANGE, pedestal, noise)
    return pedestal, noise
