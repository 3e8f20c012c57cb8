"""How predictions and heatmaps move when images are disturbed."""

from dataclasses import replace

import numpy as np
from astropy.table import Table

from ..events.background import measure_background
from ..events.preparation import present_pixels
from ..tasks import class_first
from ..training.augmentation import add_night_sky, kill_pixels, shift_pedestal

__all__ = [
    "DISTURBANCES",
    "disturb",
    "list_settings",
    "measure_movements",
    "movements",
    "summarise_movements",
]

#: Disturbances of images: label for figures, values.
DISTURBANCES = {
    "night_sky": ("Added night-sky noise / p.e.", (0.0, 0.5, 1.0, 2.0, 3.0, 4.0)),
    "brightness": ("Night sky / the image's own", (1.0, 1.5, 2.0, 3.0, 5.0)),
    "pedestal": ("Added pedestal / p.e.", (-0.5, -0.2, 0.0, 0.2, 0.5)),
    "dead_pixels": ("Share of dead pixels", (0.0, 0.01, 0.02, 0.05, 0.1, 0.2)),
    "gain": ("Factor of the charge", (0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3)),
    "time": ("Shift of the peak times / ns", (-5.0, -2.0, -1.0, 0.0, 1.0, 2.0, 5.0)),
}


def disturb(batch, disturbance, value, rng):
    """Disturb images.

    Parameters
    ----------
    batch : Batch
        The images.
    disturbance : str
        One of the `DISTURBANCES`. ``"night_sky"`` adds noise, whose standard deviation
        in p.e. adds to the image's own in quadrature; ``"brightness"`` adds noise until
        its variance is this many times the image's own, as under a night sky that is as
        many times as bright; ``"pedestal"`` shifts the charge of the pixels outside the
        mask, in p.e.; ``"dead_pixels"`` kills pixels with this probability, as in
        `kill_pixels`; ``"gain"`` multiplies the charge; ``"time"`` shifts the peak
        times, in ns.
    value : float
        Strength of the disturbance.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    Batch
        The disturbed images; the cleaning mask changes at dead pixels only.
    """
    image = batch.image.astype(np.float32)
    time = batch.peak_time.astype(np.float32)
    mask = batch.image_mask
    if disturbance in ("night_sky", "brightness"):
        # As `add_night_sky` measures it.
        background = present_pixels(image, time) & ~mask
        _, noise = measure_background(image, background)
        is_sum = disturbance == "night_sky"
        level = np.hypot(noise, value) if is_sum else noise * np.sqrt(value)
        if (level > noise).any():
            image, time = add_night_sky(image, time, mask, level, rng)
    elif disturbance == "pedestal":
        image = shift_pedestal(image, mask, value)
    elif disturbance == "dead_pixels":
        share = np.full(len(image), value)
        image, time, mask = kill_pixels(image, time, mask, share, rng)
    elif disturbance == "gain":
        image = image * np.float32(value)
    elif disturbance == "time":
        time = time + np.float32(value)
    return replace(batch, image=image, peak_time=time, image_mask=mask)


def movements(before, after):
    """Compute how far predictions and heatmaps have moved.

    Parameters
    ----------
    before, after : Maps
        Of the same images, undisturbed and disturbed.

    Returns
    -------
    dict of str to numpy.ndarray
        The `Movement` of each of the network's tasks: difference of the gammaness,
        relative difference of the energy, angle between the directions in deg,
        distance of the impact points in the tilted ground frame in m. For each output
        ``heatmap_`` and its name: cosine similarity of the heatmaps, NaN if one is 0
        everywhere. Shape (n_members, n).
    """
    old, new = before.predictions, after.predictions
    moved = {
        task.movement.name: task.movement.compute(
            *(task.split(predictions[name])[0] for predictions in (old, new))
        )
        for name, task in class_first().items()
        if name in old
    }
    for name, maps in before.heatmaps.items():
        moved[f"heatmap_{name}"] = _similarity(maps, after.heatmaps[name])
    return moved


def _similarity(one, other):
    product = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
    return (one * other).sum(axis=-1) / np.where(product > 0, product, np.nan)


def list_settings():
    """List the disturbances of each image.

    Returns
    -------
    list of tuple of str and float
        Disturbance and value.
    """
    return [
        (disturbance, value)
        for disturbance, (_, values) in DISTURBANCES.items()
        for value in values
    ]


def measure_movements(batches, models, rng, progress):
    """Disturb images, and measure how predictions and heatmaps move.

    Parameters
    ----------
    batches : iterable of Batch
        The images.
    models : dict of str to dict of str to Explainer
        For each model its explainers, by telescope type.
    rng : numpy.random.Generator
        Source of randomness.
    progress : callable
        Called with the number of disturbed images that a model has explained.

    Returns
    -------
    dict of (str, str, float) to dict of str to numpy.ndarray
        By model, disturbance and value the result of `movements` for all images.
    """
    settings = list_settings()
    found = {(name, *setting): [] for name in models for setting in settings}
    for batch in batches:
        of_type = {name: of_model[batch.type] for name, of_model in models.items()}
        before = {name: e.explain(batch) for name, e in of_type.items()}
        for setting in settings:
            disturbed = disturb(batch, *setting, rng)
            for name, explainer in of_type.items():
                after = explainer.explain(disturbed)
                found[name, *setting].append(movements(before[name], after))
                progress(len(batch))
    return {
        key: {k: np.concatenate([p[k] for p in parts], axis=1) for k in parts[0]}
        for key, parts in found.items()
    }


def summarise_movements(found):
    """Average movements over images, and describe them over members.

    Parameters
    ----------
    found : dict of (str, str, float) to dict of str to numpy.ndarray
        As `measure_movements` returns them.

    Returns
    -------
    astropy.table.Table
        A row for each model, disturbance, value and quantity. ``mean`` is the mean over
        the images, then over the members; ``members_std`` its standard deviation over
        the members (NaN with a single one); ``images_std`` the standard deviation over
        the images, averaged over the members. ``empty`` is the share of heatmaps that
        are 0 everywhere and do not count; if all are, ``mean`` is NaN.
    """
    rows = []
    for (model, disturbance, value), moved in found.items():
        for quantity, values in moved.items():
            members = [row[np.isfinite(row)] for row in values]
            members = [row for row in members if len(row) > 0]
            means = [row.mean() for row in members]
            rows.append(
                {
                    "model": model,
                    "disturbance": disturbance,
                    "value": value,
                    "quantity": quantity,
                    "n_images": values.shape[1],
                    "mean": np.mean(means) if means else np.nan,
                    "members_std": np.std(means, ddof=1) if len(means) > 1 else np.nan,
                    "images_std": (
                        np.mean([row.std() for row in members]) if members else np.nan
                    ),
                    "empty": 1 - np.isfinite(values).mean(),
                }
            )
    return Table(rows)
