"""Augmentation: training images made noisier, broken or turned, as real ones may be.

Simulations have one night sky, one set of working pixels and few directions. Random
changes widen this range. They are applied to the images of the DL1 files, before the
preparation of the network's input. All are off by default.
"""

from copy import copy

import astropy.units as u
import numpy as np
from ctapipe.coordinates import CameraFrame, TelescopeFrame
from ctapipe.core import Component, ToolConfigurationError
from ctapipe.core.traits import Bool, Int, List
from scipy.spatial import KDTree
from scipy.special import ndtri

from ..configuration.traits import FiniteFloat
from ..events.background import measure_background
from ..events.preparation import present_pixels
from ..model.telescope import POSITION_TOLERANCE
from ..tasks import TASKS
from ..tasks.conditions import CONDITIONS
from ..tasks.task import turn_matrix

__all__ = [
    "Augmentation",
    "add_night_sky",
    "draw_modules",
    "find_turns",
    "kill_pixels",
    "remove_pixels",
    "shift_pedestal",
    "turn_images",
    "turn_targets",
]

#: Gaussian numbers, chosen by 16 random bits: faster than drawing new ones.
_GAUSSIAN = ndtri((np.arange(2**16) + 0.5) / 2**16).astype(np.float32)
#: Used if the focal length is unknown. Turns do not depend on it, and this one is long
#: enough to keep all pixels close to the axis.
_ANY_FOCAL_LENGTH = 100 * u.m


class Augmentation(Component):
    """Random changes to the training images of one camera, drawn anew for each batch.

    Images are turned first, then charges get another gain and pedestal, then the night
    sky is made brighter, then pixels and modules die.

    Parameters
    ----------
    geometry : ctapipe.instrument.CameraGeometry
        The camera, in the CameraFrame or the TelescopeFrame; not modified.
    **kwargs
        Configuration: ``parent``, ``config``, or the traits themselves.

    Raises
    ------
    ctapipe.core.ToolConfigurationError
        If images are to be turned, but no turn by a multiple of 60° maps the camera's
        pixels onto each other.
    """

    noise_pe = List(
        FiniteFloat(min=0),
        maxlen=2,
        help=(
            "Add light of the night sky until the charge in pixels without signal has"
            " this standard deviation in p.e. With two values, each image draws its own"
            " between them. Images that are already noisier do not change. Empty: no"
            " light is added."
        ),
    ).tag(config=True)

    gain = List(
        FiniteFloat(min=1e-3),
        maxlen=2,
        help=(
            "Each image draws a factor of all its charges between these two values."
            " Empty: charges stay as they are."
        ),
    ).tag(config=True)

    pedestal_pe = List(
        FiniteFloat(),
        maxlen=2,
        help=(
            "Each image draws a charge in p.e. between these two values, which is added"
            " to its pixels outside the image cleaning's mask. Bright pixels stay as"
            " they are: what moves the others is where an image extractor searches the"
            " pulse. Empty: nothing is added."
        ),
    ).tag(config=True)

    dead_pixel_fraction = FiniteFloat(
        0,
        min=0,
        max=1,
        help=(
            "Each image draws a probability between 0 and this value, with which each"
            " of its pixels is dead."
        ),
    ).tag(config=True)

    dead_modules = Int(
        0,
        min=0,
        help=(
            "Each image draws between 0 and this number of dead modules: a random pixel"
            " and its neighbours, seven with hexagonal pixels."
        ),
    ).tag(config=True)

    rotate = Bool(
        False,
        help=(
            "Turn each image, with direction and impact point, about the camera's"
            " centre by a random multiple of 60° that maps the pixels onto each other."
            " This is an approximation: the geomagnetic field and the zenith angle"
            " distinguish directions, more so the larger they are. As a condition, the"
            " field is turned, too. Each telescope's"
            " image is turned independently, which does not suit stereo training."
        ),
    ).tag(config=True)

    def __init__(self, geometry, **kwargs):
        super().__init__(**kwargs)
        self._turns, self._pixels = find_turns(geometry)
        self._modules = geometry.neighbor_matrix | np.eye(geometry.n_pixels, dtype=bool)
        if self.rotate and len(self._turns) == 1:
            raise ToolConfigurationError(
                f"images of {geometry.name} cannot be turned: no multiple of 60° maps "
                "its pixels onto each other. Set 'Augmentation.rotate' to False."
            )

    def __call__(self, image, peak_time, mask, targets, rng):
        """Augment a batch.

        Parameters
        ----------
        image, peak_time, mask : numpy.ndarray
            As in `add_night_sky`.
        targets : dict of str to numpy.ndarray
            What the network learns, and its conditions, as in `turn_targets`.
        rng : numpy.random.Generator
            Source of randomness.

        Returns
        -------
        image, peak_time, mask : numpy.ndarray
            The augmented batch: new arrays, or the given ones if they do not change.
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
        if self.gain:
            image = image * _draw(self.gain, n_images, rng)
        if self.pedestal_pe:
            image = shift_pedestal(image, mask, _draw(self.pedestal_pe, n_images, rng))
        if self.noise_pe:
            level = rng.uniform(min(self.noise_pe), max(self.noise_pe), n_images)
            image, peak_time = add_night_sky(image, peak_time, mask, level, rng)
        if self.dead_pixel_fraction > 0:
            share = rng.uniform(0, self.dead_pixel_fraction, n_images)
            image, peak_time, mask = kill_pixels(image, peak_time, mask, share, rng)
        if self.dead_modules > 0:
            number = rng.integers(self.dead_modules, size=n_images, endpoint=True)
            dead = draw_modules(self._modules, number, rng)
            image, peak_time, mask = remove_pixels(image, peak_time, mask, dead)
        return image, peak_time, mask, targets


def _draw(bounds, n_images, rng):
    """Draw a number for each image between bounds, shape (n, 1), float32."""
    drawn = rng.uniform(min(bounds), max(bounds), (n_images, 1))
    return drawn.astype(np.float32)


def shift_pedestal(image, mask, shift):
    """Shift the charge of pixels outside the mask, as another pedestal does.

    Parameters
    ----------
    image : numpy.ndarray
        Charge in p.e., shape (n, n_pixels), float32.
    mask : numpy.ndarray
        True for pixels that survived the image cleaning, shape (n, n_pixels), bool.
    shift : numpy.ndarray or float
        Charge to add in p.e., shape (n, 1) or ().

    Returns
    -------
    numpy.ndarray
        The shifted charge, shape (n, n_pixels), float32.
    """
    return np.where(mask, image, image + np.float32(shift))


def add_night_sky(image, peak_time, mask, level, rng):
    """Add light of the night sky, up to a level of noise.

    The added charge is a Poisson-distributed number of photoelectrons minus its mean,
    since the pedestal is subtracted. Its variance raises the image's own noise to the
    level. It is drawn as a Gaussian bent to the skewness of a Poisson distribution
    (the Cornish-Fisher expansion), not in whole photoelectrons, which cameras do not
    resolve.

    The peak finder follows the brighter light. If the added charge exceeds the old one,
    the peak time is replaced by that of another pixel, drawn from those pixels of the
    same image that the cleaning left out. Otherwise the peak time does not change.

    Not modelled: if the extractor searches for the peak, brighter skies shift the
    charge of pixels without signal, and can move the peak to noise outside of the
    integrated window; more noise also blurs the times of bright pixels; and the image
    cleaning would keep other pixels of the new image than the mask has.

    Parameters
    ----------
    image, peak_time : numpy.ndarray
        Charge in p.e. and peak time in ns, shape (n, n_pixels), float32; NaN stays NaN.
    mask : numpy.ndarray
        True for pixels that survived the image cleaning, shape (n, n_pixels), bool.
    level : numpy.ndarray
        Standard deviation in p.e. of the charge outside the mask to reach, shape (n,).
        Images that are noisier, or have no pixels outside the mask, do not change.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    image, peak_time : numpy.ndarray
        New arrays of the same shape.
    """
    present = present_pixels(image, peak_time)
    background = present & ~mask
    # Unlike maximum, fmax ignores NaN.
    _, noise = measure_background(image, background)
    variance = np.fmax(level**2 - noise**2, 0)
    added = _skewed_noise(variance, image.shape, rng)

    redrawn = present & (added > np.maximum(image, 0))
    # The times outside the mask, image by image, and the start of each image.
    pool, size = peak_time[background], background.sum(axis=1)
    n_redrawn = redrawn.sum(axis=1)
    first, size = (np.repeat(n, n_redrawn) for n in (np.cumsum(size) - size, size))
    drawn = first + (rng.random(len(size)) * size).astype(int)
    new_time = peak_time.copy()
    np.put(new_time, np.flatnonzero(redrawn), pool[drawn])
    return image + added, new_time


def _skewed_noise(variance, shape, rng):
    """Noise with mean zero and the third moment of a Poisson distribution, float32.

    ``a z + b (z² - 1)`` has the variance ``a² + 2b²`` and the third moment
    ``6a²b + 8b³``. With b = 1/6, the latter equals the variance up to 0.02 p.e.³; a
    variance below 1/18 p.e.² needs a smaller b.
    """
    bend = np.minimum(1 / 6, np.sqrt(variance / 2))
    linear = np.sqrt(np.maximum(variance - 2 * bend**2, 0))
    bend, linear = (c[:, np.newaxis].astype(np.float32) for c in (bend, linear))
    drawn = rng.integers(len(_GAUSSIAN), size=shape, dtype=np.uint16)
    z = np.take(_GAUSSIAN, drawn)
    return (linear + bend * z) * z - bend


def kill_pixels(image, peak_time, mask, share, rng):
    """Kill pixels at random: they are missing, like broken pixels of a real camera.

    Each pixel dies independently; in real cameras whole modules fail, too.

    Parameters
    ----------
    image, peak_time, mask : numpy.ndarray
        As in `add_night_sky`.
    share : numpy.ndarray
        Probability for a pixel to be dead, shape (n,).
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    image, peak_time, mask : numpy.ndarray
        New arrays: NaN for dead pixels, which are outside the mask.
    """
    dead = rng.random(image.shape, dtype=np.float32) < share[:, np.newaxis]
    return remove_pixels(image, peak_time, mask, dead)


def draw_modules(modules, number, rng):
    """Draw the dead pixels of images with dead modules.

    Parameters
    ----------
    modules : numpy.ndarray
        For each pixel those that die with it, shape (n_pixels, n_pixels), bool.
    number : numpy.ndarray
        Number of dead modules of each image; some may overlap, shape (n,), int.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    numpy.ndarray
        True for dead pixels, shape (n, n_pixels), bool.
    """
    dead = np.zeros((len(number), len(modules)), dtype=bool)
    image = np.repeat(np.arange(len(number)), number)
    centre = rng.integers(len(modules), size=len(image))
    np.logical_or.at(dead, image, modules[centre])
    return dead


def remove_pixels(image, peak_time, mask, dead):
    """Make pixels missing.

    Parameters
    ----------
    image, peak_time : numpy.ndarray
        Charge in p.e. and peak time in ns, shape (n, n_pixels), float32.
    mask : numpy.ndarray
        True for pixels that survived the image cleaning, shape (n, n_pixels), bool.
    dead : numpy.ndarray
        True for the pixels to remove, shape (n, n_pixels), bool.

    Returns
    -------
    image, peak_time, mask : numpy.ndarray
        New arrays, as the given ones: NaN for dead pixels, which are outside the mask.
    """
    missing = np.float32(np.nan)
    image, peak_time = (
        np.where(dead, missing, values) for values in (image, peak_time)
    )
    return image, peak_time, mask & ~dead


def find_turns(geometry):
    """Find the turns about the camera's centre that map pixels onto pixels.

    Parameters
    ----------
    geometry : ctapipe.instrument.CameraGeometry
        The camera, in the CameraFrame or the TelescopeFrame; not modified.

    Returns
    -------
    turns : numpy.ndarray
        Turns in units of 60°, from fov_lon to fov_lat of the TelescopeFrame, from 0 to
        5, shape (m,); 0 is always included.
    pixels : numpy.ndarray
        For each turn and pixel, the pixel that is moved there, to within a tenth of the
        pixel pitch, shape (m, n_pixels).
    """
    positions = _sky_positions(geometry)
    tree = KDTree(positions)
    pitch = np.median(tree.query(positions, k=2)[0][:, 1])
    distance, pixels = tree.query(positions @ turn_matrix(np.arange(6) * np.pi / 3))
    allowed = distance.max(axis=1) < POSITION_TOLERANCE * pitch
    return np.flatnonzero(allowed), pixels[allowed]


def _sky_positions(geometry):
    """Pixels in fov_lon and fov_lat, shape (n_pixels, 2), on an arbitrary scale."""
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
        For each image and pixel, the pixel that is moved there, from `find_turns`,
        shape (n, n_pixels).

    Returns
    -------
    numpy.ndarray
        The turned images, shape (n, n_pixels).
    """
    return np.take_along_axis(values, pixels, axis=1)


def turn_targets(targets, turns):
    """Turn what the network learns, and its conditions, along with the images.

    The turn is about the pointing. See the tasks for its approximations.

    Parameters
    ----------
    targets : dict of str to numpy.ndarray
        Targets by the names of their tasks, and conditions by theirs, shape (n, any).
    turns : numpy.ndarray
        Turns in units of 60°, from `find_turns`, shape (n,).

    Returns
    -------
    dict of str to numpy.ndarray
        The targets; the same arrays if turns do not change them.
    """
    angle = turns * np.pi / 3
    known = TASKS | CONDITIONS
    return {name: known[name].turn(target, angle) for name, target in targets.items()}
