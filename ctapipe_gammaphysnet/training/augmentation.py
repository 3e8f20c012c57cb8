"""Augmentation: training images made noisier, broken or turned, as real ones may be.

Simulations have one night sky, one set of working pixels and few directions. What is
drawn here widens them, on images as they come from the DL1 files, before anything that
the network's input needs. Everything is off unless asked for.
"""

from copy import copy

import astropy.units as u
import numpy as np
from ctapipe.coordinates import CameraFrame, TelescopeFrame
from ctapipe.core import Component, ToolConfigurationError
from ctapipe.core.traits import Bool, List
from scipy.spatial import KDTree
from scipy.special import ndtri

from ..configuration.traits import FiniteFloat
from ..events.preparation import present_pixels
from ..model.telescope import POSITION_TOLERANCE
from ..tasks import TASKS
from ..tasks.metric import CONTAINMENT
from ..tasks.task import turn_matrix

__all__ = [
    "Augmentation",
    "add_night_sky",
    "find_turns",
    "kill_pixels",
    "noise_level",
    "turn_images",
    "turn_targets",
]

#: Ends of the central 68 % of a distribution, as shares of it.
_LOW, _HIGH = (1 - CONTAINMENT) / 2, (1 + CONTAINMENT) / 2
#: Gaussian numbers, as many as 16 bits can choose from: faster than drawing new ones.
_GAUSSIAN = ndtri((np.arange(2**16) + 0.5) / 2**16).astype(np.float32)
#: Stands in for a focal length that is not known: none changes what a turn does to the
#: camera, and this one is long enough for no pixel to be too far off-axis for a sky.
_ANY_FOCAL_LENGTH = 100 * u.m


class Augmentation(Component):
    """What is done to the training images of one camera, anew for each batch.

    First images are turned, then the night sky is made brighter, then pixels die.

    Parameters
    ----------
    geometry : ctapipe.instrument.CameraGeometry
        The camera, in the CameraFrame or the TelescopeFrame; not modified.
    **kwargs
        Configuration: ``parent``, ``config``, or the traits themselves.

    Raises
    ------
    ctapipe.core.ToolConfigurationError
        If images are to be turned and no turn by a multiple of 60° takes the camera's
        pixels to each other.
    """

    noise_pe = List(
        FiniteFloat(min=0),
        maxlen=2,
        help=(
            "Add light of the night sky until the charge in pixels without signal has"
            " this standard deviation in p.e. Of two values each image draws its own"
            " between them. An image that is noisier already stays as it is. Empty: no"
            " light is added."
        ),
    ).tag(config=True)

    dead_pixel_fraction = FiniteFloat(
        0,
        min=0,
        max=1,
        help=(
            "Each image draws its share of dead pixels between 0 and this, and each"
            " pixel is dead with that probability."
        ),
    ).tag(config=True)

    rotate = Bool(
        False,
        help=(
            "Turn each image about the camera's centre by a random multiple of 60°"
            " that takes the pixels to each other, with direction and impact. Air"
            " showers look the same after it only up to what the geomagnetic field and"
            " the zenith angle do to them: less so the larger either is. Each"
            " telescope's image is turned by itself, so not for stereo training."
        ),
    ).tag(config=True)

    def __init__(self, geometry, **kwargs):
        super().__init__(**kwargs)
        self._turns, self._pixels = find_turns(geometry)
        if self.rotate and len(self._turns) == 1:
            raise ToolConfigurationError(
                f"images of {geometry.name} cannot be turned: no multiple of 60° takes "
                "its pixels to each other. Set 'Augmentation.rotate' to False."
            )

    def __call__(self, image, peak_time, mask, targets, rng):
        """Augment a batch.

        Parameters
        ----------
        image : numpy.ndarray
            Charge in p.e., shape (n, n_pixels), float32.
        peak_time : numpy.ndarray
            Peak time in ns, shape (n, n_pixels), float32.
        mask : numpy.ndarray
            True for pixels that survived the image cleaning, shape (n, n_pixels),
            bool.
        targets : dict of str to numpy.ndarray
            What the network learns, as `turn_targets` takes it.
        rng : numpy.random.Generator
            Source of randomness.

        Returns
        -------
        image, peak_time, mask : numpy.ndarray
            The augmented batch: new arrays, or the given ones where nothing is done to
            them.
        targets : dict of str to numpy.ndarray
            Its targets.
        """
        n_images = len(image)
        if self.rotate:
            drawn = rng.integers(len(self._turns), size=n_images)
            pixels = self._pixels[drawn]
            image, peak_time, mask = (
                turn_images(values, pixels) for values in (image, peak_time, mask)
            )
            targets = turn_targets(targets, self._turns[drawn])
        if self.noise_pe:
            level = rng.uniform(min(self.noise_pe), max(self.noise_pe), n_images)
            image, peak_time = add_night_sky(image, peak_time, mask, level, rng)
        if self.dead_pixel_fraction > 0:
            share = rng.uniform(0, self.dead_pixel_fraction, n_images)
            image, peak_time, mask = kill_pixels(image, peak_time, mask, share, rng)
        return image, peak_time, mask, targets


def noise_level(image, background):
    """Measure the noise of images.

    Half of the range that holds the central 68 % of the charges: as good as the
    standard deviation where there is only noise, whose skewness cancels in it, and not
    misled by the few pixels with faint light of the shower.

    Parameters
    ----------
    image : numpy.ndarray
        Charge in p.e., shape (n, n_pixels).
    background : numpy.ndarray
        True for the pixels to look at, shape (n, n_pixels), bool.

    Returns
    -------
    numpy.ndarray
        Standard deviation of the noise in p.e., shape (n,); NaN where there are no
        pixels to look at.
    """
    # Sorting puts NaN last.
    charge = np.sort(np.where(background, image, np.nan), axis=1)
    last = np.maximum(background.sum(axis=1) - 1, 0)
    row = np.arange(len(image))
    low, high = (charge[row, np.rint(q * last).astype(int)] for q in (_LOW, _HIGH))
    return (high - low) / 2


def add_night_sky(image, peak_time, mask, level, rng):
    """Add light of the night sky, up to a level of noise.

    The charge gets what a Poisson-distributed number of photoelectrons varies around
    its mean, which is zero after the subtraction of the pedestal. Its variance is what
    the image's own noise lacks to the level; its skewness is Poisson's. It is drawn as
    a Gaussian bent to that skewness (the Cornish-Fisher expansion), not in whole
    photoelectrons, which a camera does not resolve.

    The peak finder goes where most light is: where the added charge exceeds the one
    that was there, the peak time becomes that of another pixel, drawn from the pixels
    of the same image that the cleaning left out. Where the shower is brighter, its
    time stays as it is.

    Left out: brighter skies shift the charge of pixels without signal if the extractor
    searches the peak, and can move the peak to noise outside of the integrated window;
    more noise blurs the times of bright pixels, too; an image cleaning of the new
    image would keep other pixels than the mask.

    Parameters
    ----------
    image : numpy.ndarray
        Charge in p.e., shape (n, n_pixels), float32; NaN stays NaN.
    peak_time : numpy.ndarray
        Peak time in ns, shape (n, n_pixels), float32; NaN stays NaN.
    mask : numpy.ndarray
        True for pixels that survived the image cleaning, shape (n, n_pixels), bool.
    level : numpy.ndarray
        Standard deviation in p.e. of the charge outside the mask to reach, shape (n,).
        Images that are noisier, or without pixels outside the mask, stay as they are.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    image, peak_time : numpy.ndarray
        New arrays, as the given ones.
    """
    present = present_pixels(image, peak_time)
    background = present & ~mask
    # Unlike maximum, fmax takes the number where the other is NaN.
    variance = np.fmax(level**2 - noise_level(image, background) ** 2, 0)
    added = _skewed_noise(variance, image.shape, rng)

    redrawn = present & (added > np.maximum(image, 0))
    # The pixels outside the mask, image by image, and where each image's begin.
    pool, size = peak_time[background], background.sum(axis=1)
    n_redrawn = redrawn.sum(axis=1)
    first, size = (np.repeat(n, n_redrawn) for n in (np.cumsum(size) - size, size))
    drawn = first + (rng.random(len(size)) * size).astype(int)
    new_time = peak_time.copy()
    np.put(new_time, np.flatnonzero(redrawn), pool[drawn])
    return image + added, new_time


def _skewed_noise(variance, shape, rng):
    """Noise with mean zero and the third moment of Poisson's, float32.

    ``a z + b (z² - 1)`` has the variance ``a² + 2b²`` and the third moment
    ``6a²b + 8b³``. With b = 1/6 the latter is the variance but for 0.02 p.e.³; noise of
    less than 1/18 p.e.² cannot have so much.
    """
    bend = np.minimum(1 / 6, np.sqrt(variance / 2))
    linear = np.sqrt(np.maximum(variance - 2 * bend**2, 0))
    bend, linear = (c[:, np.newaxis].astype(np.float32) for c in (bend, linear))
    drawn = rng.integers(len(_GAUSSIAN), size=shape, dtype=np.uint16)
    z = np.take(_GAUSSIAN, drawn)
    return (linear + bend * z) * z - bend


def kill_pixels(image, peak_time, mask, share, rng):
    """Kill pixels at random: they are missing, as broken ones of a real camera are.

    Each pixel dies by itself; in real cameras modules of several fail together, too.

    Parameters
    ----------
    image, peak_time : numpy.ndarray
        Charge in p.e. and peak time in ns, shape (n, n_pixels), float32.
    mask : numpy.ndarray
        True for pixels that survived the image cleaning, shape (n, n_pixels), bool.
    share : numpy.ndarray
        Probability for a pixel to be dead, shape (n,).
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    image, peak_time, mask : numpy.ndarray
        New arrays, as the given ones: NaN for dead pixels, which are outside the mask.
    """
    dead = rng.random(image.shape, dtype=np.float32) < share[:, np.newaxis]
    missing = np.float32(np.nan)
    image, peak_time = (
        np.where(dead, missing, values) for values in (image, peak_time)
    )
    return image, peak_time, mask & ~dead


def find_turns(geometry):
    """Find the turns about the camera's centre that take pixels to pixels.

    Parameters
    ----------
    geometry : ctapipe.instrument.CameraGeometry
        The camera, in the CameraFrame or the TelescopeFrame; not modified.

    Returns
    -------
    turns : numpy.ndarray
        How many times 60° from fov_lon to fov_lat of the TelescopeFrame, shape (m,),
        from 0 to 5; always with 0.
    pixels : numpy.ndarray
        For each turn and pixel the pixel that comes there, to within a tenth of the
        pixel pitch, shape (m, n_pixels).
    """
    positions = _sky_positions(geometry)
    tree = KDTree(positions)
    pitch = np.median(tree.query(positions, k=2)[0][:, 1])
    distance, pixels = tree.query(positions @ turn_matrix(np.arange(6) * np.pi / 3))
    allowed = distance.max(axis=1) < POSITION_TOLERANCE * pitch
    return np.flatnonzero(allowed), pixels[allowed]


def _sky_positions(geometry):
    """Pixels in fov_lon and fov_lat, shape (n_pixels, 2), in an arbitrary scale."""
    if not isinstance(geometry.frame, TelescopeFrame):
        geometry = copy(geometry)
        if geometry.frame is None:
            geometry.frame = CameraFrame()
        if geometry.frame.focal_length == 0:
            geometry.frame = geometry.frame.replicate_without_data(
                focal_length=_ANY_FOCAL_LENGTH
            )
        geometry = geometry.transform_to(TelescopeFrame())
    return np.column_stack(
        [geometry.pix_x.to_value(u.deg), geometry.pix_y.to_value(u.deg)]
    )


def turn_images(values, pixels):
    """Turn images.

    Parameters
    ----------
    values : numpy.ndarray
        A value for each pixel, shape (n, n_pixels).
    pixels : numpy.ndarray
        For each image and pixel the pixel that comes there, of `find_turns`, shape
        (n, n_pixels).

    Returns
    -------
    numpy.ndarray
        The turned images, shape (n, n_pixels).
    """
    return np.take_along_axis(values, pixels, axis=1)


def turn_targets(targets, turns):
    """Turn what the network learns along with the images.

    The turn is about the pointing. What it leaves out, the tasks say.

    Parameters
    ----------
    targets : dict of str to numpy.ndarray
        Targets by the names of their tasks, shape (n, n_outputs).
    turns : numpy.ndarray
        How many times 60°, of `find_turns`, shape (n,).

    Returns
    -------
    dict of str to numpy.ndarray
        The targets; those that no turn changes are the same arrays.
    """
    angle = turns * np.pi / 3
    return {name: TASKS[name].turn(target, angle) for name, target in targets.items()}
