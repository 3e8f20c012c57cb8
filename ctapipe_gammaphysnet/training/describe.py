"""Describe a training for the model card."""

import hashlib
import json
import platform
from importlib.metadata import version

import numpy as np

from ..events.showers import describe_showers
from .stream import read_images

__all__ = [
    "describe_data",
    "describe_results",
    "describe_settings",
    "describe_software",
    "digest",
    "list_differences",
]

#: The noise is measured in this many stretches of the index, of so many images each.
_STRETCHES, _STRETCH = 10, 50


def describe_data(paths, training, validation):
    """Describe the training images.

    Parameters
    ----------
    paths : sequence of pathlib.Path
        The files, in the order of their numbers in the indices.
    training, validation : EventIndex
        The images.

    Returns
    -------
    dict of str to JSON value
        Numbers of images, ranges of energy and pointing, noise of the pixels that the
        image cleaning left out, and the showers.
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
    """Compute a hash of a JSON value.

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


def describe_settings(
    recipe, augmentation, precision, files, selection, validation_fraction
):
    """Describe how networks are trained, and how images are selected.

    Parameters
    ----------
    recipe : Recipe
        Epochs, batch size, learning rates, weight decay.
    augmentation : Augmentation
        Changes to the images.
    precision : {"float32", "bfloat16"}
        Precision of the convolutions.
    files : dict of str to list of pathlib.Path
        ``"signal"`` and, unless the class is left out, ``"background"``.
    selection : astropy.table.Table
        As returned by `ImageQualityQuery.to_table` with ``functions=True``.
    validation_fraction : float
        Share of the showers kept for validation.

    Returns
    -------
    dict of str to JSON value
        The settings; files by their names, and each criterion of the selection with the
        number of images that pass it and all before it.
    """
    return {
        "recipe": _settings(recipe),
        "augmentation": _settings(augmentation),
        "precision": precision,
        "files": {
            name: [path.name for path in files.get(name, [])]
            for name in ("signal", "background")
        },
        "selection": [
            f"{row['criteria']} ({row['func']}): {row['cumulative_counts']}"
            for row in selection
        ],
        "validation fraction of showers": validation_fraction,
    }


def _settings(component):
    """Configuration of a component, as JSON values."""
    names = component.trait_names(config=True)
    return json.loads(json.dumps({name: getattr(component, name) for name in names}))


def describe_results(history, is_complete):
    """Describe how the training of a member ended.

    Parameters
    ----------
    history : list of dict of str to float
        The metrics after each epoch.
    is_complete : bool
        Whether it is fully trained.

    Returns
    -------
    dict of str to JSON value
        Whether it is complete, its number of epochs, and the last metrics.
    """
    return {
        "complete": is_complete,
        "epochs": len(history),
        # A card has no infinite numbers.
        "after the last epoch": {
            metric: value if np.isfinite(value) else None
            for metric, value in (history[-1] if history else {}).items()
        },
    }


def describe_software():
    """Describe the software of a training.

    Returns
    -------
    dict of str to str
        Versions of Python and of the packages that affect the weights.
    """
    packages = ("ctapipe_gammaphysnet", "ctapipe", "torch", "lightning", "numpy")
    return {
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }


def list_differences(before, now, name=""):
    """Describe the settings that differ, one by one.

    Parameters
    ----------
    before, now : JSON value
        The values to compare.
    name : str
        Their name, followed by the names of nested settings.

    Yields
    ------
    str
        Name and both values of a setting.
    """
    if isinstance(before, dict) and isinstance(now, dict):
        for key in before | now:
            yield from list_differences(
                before.get(key), now.get(key), f"{name}.{key}" if name else key
            )
    elif before != now:
        yield f"{name} was {before}, is {now}"
