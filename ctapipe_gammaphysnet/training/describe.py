"""What a model card says of a training."""

import hashlib
import json

import numpy as np

from .showers import describe_showers
from .stream import read_images

__all__ = ["describe_data", "digest"]

#: Images of which the noise is measured: that many stretches of the index.
_STRETCHES, _STRETCH = 10, 50


def describe_data(paths, training, validation):
    """Describe the images that networks are trained on.

    Parameters
    ----------
    paths : sequence of pathlib.Path
        The files, by their numbers in the indices.
    training, validation : EventIndex
        The images.

    Returns
    -------
    dict of str to JSON value
        Numbers of images, the ranges of energy and pointing, the noise of the pixels
        that the image cleaning left out, and the showers.
    """
    is_gamma = training.label == 0
    noise = _noise(paths, training)
    return {
        "images": {
            "training signal": int(is_gamma.sum()),
            "training background": int((~is_gamma).sum()),
            "validation signal": int((validation.label == 0).sum()),
            "validation background": int((validation.label == 1).sum()),
        },
        "energy range of gammas / TeV": _range(10.0 ** training.energy[is_gamma]),
        "pointing altitude range / deg": _range(training.pointing[:, 0]),
        "pointing azimuth range / deg": _range(training.pointing[:, 1]),
        "noise / p.e. (5 %, median, 95 % of images)": (
            np.quantile(noise, [0.05, 0.5, 0.95]).tolist() if len(noise) > 0 else None
        ),
        "seen in training": describe_showers(training.shower),
    }


def _range(values):
    return [float(np.min(values)), float(np.max(values))] if len(values) else None


def _noise(paths, index):
    """Standard deviation of the charge outside the cleaned pixels, of some images."""
    starts = np.linspace(0, max(len(index) - _STRETCH, 0), _STRETCHES).astype(int)
    rows = np.unique(
        np.concatenate(
            [np.arange(s, min(s + _STRETCH, len(index))) for s in np.unique(starts)]
        )
    )
    images = read_images(paths, index, rows)
    outside = [
        image[~mask & np.isfinite(image)]
        for image, mask in zip(images.image, images.image_mask, strict=True)
    ]
    return np.array([charge.std() for charge in outside if len(charge) > 0])


def digest(value):
    """Shorten a JSON value to what tells it from others.

    Parameters
    ----------
    value : object
        JSON value.

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    text = json.dumps(value, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
