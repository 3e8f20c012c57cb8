"""The background of images: pedestal and noise of pixels without light of a shower."""

from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from ..tasks.metric import CONTAINMENT

__all__ = ["MIN_BACKGROUND_PIXELS", "Background", "measure_background", "noise_of"]

#: With fewer pixels, the noise is not known to 25 %.
MIN_BACKGROUND_PIXELS = 20
# Quantiles around both ends of the central 68 %, and around the median. Their means
# hardly depend on the steps in which files store charges.
_AROUND = np.linspace(-0.05, 0.05, 21)
_QUANTILES = np.array(
    [centre + _AROUND for centre in ((1 - CONTAINMENT) / 2, 0.5, (1 + CONTAINMENT) / 2)]
)
#: Half of the range between those means, for a normal distribution of unit width.
_HALF_RANGE = ndtri(_QUANTILES[-1]).mean()


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
        True for the pixels to look at, shape (n, n_pixels), bool.

    Returns
    -------
    pedestal, noise : numpy.ndarray
        Median and standard deviation of the charge in p.e., shape (n,); NaN without any
        pixel to look at.
    """
    # Sorting puts NaN last.
    charge = np.sort(np.where(background, image, np.nan), axis=1)
    last = np.maximum(background.sum(axis=1) - 1, 0)
    row = np.arange(len(image))[:, np.newaxis]
    ranks = np.rint(np.outer(last, _QUANTILES)).astype(int)
    around = charge[row, ranks].reshape(-1, *_QUANTILES.shape)
    low, middle, high = around.mean(axis=2).T
    return middle, (high - low) / np.float32(2 * _HALF_RANGE)
