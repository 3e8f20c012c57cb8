"""Describe a training for the model card."""

import hashlib
import json
import platform
from importlib.metadata import version

import numpy as np
from pydantic import ValidationError

from ..events.preparation import present_pixels
from ..events.showers import describe_showers, merge_descriptions
from ..model.card import DomainCard, ParentCard
from ..model.parent_card import MAX_ANCESTORS, MAX_NOTE, ShowersCard
from .index import TrainingDataError
from .stream import read_images

__all__ = [
    "describe_data",
    "describe_parent",
    "describe_results",
    "describe_settings",
    "describe_software",
    "digest",
    "list_differences",
    "measure_domain",
]

#: The domain is measured in this many stretches of the index, of so many images each.
_STRETCHES, _STRETCH = 10, 50
#: Different pointings that a card lists exactly.
_POINTINGS = 1000


def describe_data(training, validation):
    """Describe the training images.

    Parameters
    ----------
    training, validation : EventIndex
        The images.

    Returns
    -------
    dict of str to JSON value
        Numbers of images, and the showers.
    """
    is_gamma = training.label == 0
    return {
        "images": {
            "training signal": int(is_gamma.sum()),
            "training background": int((~is_gamma).sum()),
            "validation signal": int((validation.label == 0).sum()),
            "validation background": int((validation.label == 1).sum()),
        },
        "seen in training": describe_showers(training.shower),
    }


def measure_domain(
    paths, index, prepare, augmentation, needs_noise=False, **processing
):
    """Measure the conditions of the images that networks are trained on.

    Parameters
    ----------
    paths : sequence of pathlib.Path
        The files, by their numbers in the index.
    index : EventIndex
        The images. Pedestal, noise and the like are measured on some hundreds.
    prepare : InputPreparation
        Makes the network's input of images.
    augmentation : Augmentation
        What is done to the images before.
    needs_noise : bool
        Whether the noise is one of the network's conditions.
    **processing : list of str
        ``image_extractors`` and ``image_cleaners`` of the files, which they do not say.

    Returns
    -------
    DomainCard or None
        The conditions; None if no image has pixels without signal.

    Raises
    ------
    TrainingDataError
        If the network's input or conditions need a background that the images don't
        have.
    """
    images = read_images(paths, index, _some_rows(len(index)))
    image, peak_time, mask, _ = augmentation(*images[1:], {}, np.random.default_rng(0))
    _, is_usable, background = prepare.with_background(image, peak_time, mask)
    if needs_noise:
        is_usable &= background.noise_pe > 0
    if not is_usable.any():
        raise TrainingDataError(
            "no image has noise in the pixels outside the image cleaning's mask, in "
            "which InputTransformation.charge_unit and charge_reference measure, and "
            "the condition noise. Use images that are not zero-suppressed, or leave "
            "these options out"
        )
    is_known = np.isfinite(background.pedestal_pe)
    if not is_known.any():
        return None
    present = present_pixels(image, peak_time)
    times = np.where(present & ~mask, peak_time, np.nan)[is_known]
    intensity = np.where(present & mask, image, 0).sum(axis=1)
    return DomainCard(
        pedestal_pe=_quantiles(background.pedestal_pe[is_known]),
        noise_pe=_quantiles(background.noise_pe[is_known]),
        missing_pixels=_quantiles(background.missing),
        peak_time_spread_ns=_quantiles(np.nanstd(times, axis=1)),
        intensity_pe=_quantiles(intensity),
        energy_tev=_range(10.0 ** index.energy[index.label == 0]),
        pointings_deg=_pointings(index),
        **{name: tuple(components) for name, components in processing.items()},
    )


def _pointings(index):
    """Altitudes and azimuths in deg, to 0.1 deg, or to 1 deg and 10 deg if many."""
    known = index.pointing[np.isfinite(index.pointing).all(axis=1)].astype(float)
    different = np.unique(np.round(known, 1), axis=0)
    if len(different) > _POINTINGS:
        different = np.unique(np.round(different / [1, 10]) * [1, 10], axis=0)
    return tuple(map(tuple, different.tolist()))


def _some_rows(n):
    """Choose stretches of rows over all of an index."""
    starts = np.linspace(0, max(n - _STRETCH, 0), _STRETCHES).astype(int)
    stretches = [np.arange(s, min(s + _STRETCH, n)) for s in np.unique(starts)]
    return np.unique(np.concatenate(stretches))


def _quantiles(values):
    return tuple(np.quantile(values, [0.05, 0.5, 0.95]).tolist())


def _range(values):
    return float(np.min(values)), float(np.max(values))


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
            f"{row['criteria']}{_in_brackets(row['func'])}: {row['cumulative_counts']}"
            for row in selection
        ],
        "validation fraction of showers": validation_fraction,
    }


def _in_brackets(text):
    return f" ({text})" if text else ""


def _settings(component):
    """Configuration of a component, as JSON values."""
    names = component.trait_names(config=True)
    return json.loads(json.dumps({name: getattr(component, name) for name in names}))


def describe_parent(path, sha256, card, old):
    """Describe a network for the cards of those whose training begins with it.

    Parameters
    ----------
    path : pathlib.Path
        Its model file.
    sha256 : str
        The SHA-256 of the file, in hexadecimal digits.
    card : ModelCard
        The card of the file.
    old : NetworkCard
        The card of the network.

    Returns
    -------
    ParentCard
        What it is, and what it and all networks before it have seen.

    Raises
    ------
    TrainingDataError
        If its card does not describe the showers of its training as it should.
    """
    before, own = old.parent, _own_showers(path, old)
    known = [own, before and before.showers]
    known = [showers.description for showers in known if showers is not None]
    merged = merge_descriptions(known) if known else None
    ancestors = () if before is None else (before.sha256, *before.before)
    return ParentCard(
        type=old.telescope.type,
        sha256=sha256,
        created=card.created,
        note=card.note[:MAX_NOTE],
        seeds=tuple(member.seed for member in old.members),
        domain=old.domain,
        showers=merged and _showers_card(merged),
        knows_all_showers=own is not None
        and (before is None or before.knows_all_showers),
        before=ancestors[:MAX_ANCESTORS],
    )


def _own_showers(path, old):
    """Showers that a network was trained on itself; None if its card does not say."""
    description = old.training.get("seen in training")
    if description is None:
        return None
    try:
        return _showers_card(description)
    except (KeyError, TypeError, ValidationError) as error:
        raise TrainingDataError(
            f"{path}: its card does not describe the showers of its training as it "
            "should, so that no test on them could be refused. Ask who wrote the file"
        ) from error


def _showers_card(description):
    return ShowersCard(
        showers=description["showers"],
        smallest_numbers=description["smallest numbers"],
    )


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
