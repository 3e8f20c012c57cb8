"""The camera trigger: analogue sums over three neighbouring modules.

As in LSTCam, a module has 7 pixels, and the signals of 21 pixels are summed, each
clipped so that afterpulses do not trigger. The threshold is the same all over the
camera; a night sky of 0.24 photoelectrons per ns alone triggers at about 1 kHz.
"""

from typing import NamedTuple

import numpy as np

from .compiled import compiled

__all__ = [
    "THRESHOLD",
    "TriggerRegions",
    "may_trigger",
    "trigger_regions",
    "trigger_time",
]

MODULE_PIXELS = 7
THRESHOLD = 26.0  # photoelectrons that arrive at once
CLIP = 6.0  # photoelectrons that count in a pixel at most
_FEWEST = THRESHOLD / 3


class TriggerRegions(NamedTuple):
    """The modules that are summed, and the threshold."""

    module: np.ndarray
    """Module of each pixel, shape (n_pixels,)."""

    triples: np.ndarray
    """Three modules that touch each other in each region, shape (n_regions, 3)."""

    threshold: float
    """Threshold of the sum, in photoelectrons per sample."""

    clip: float
    """Largest value of a pixel, in photoelectrons per sample."""


def _modules(geometry):
    """Tile the camera, from its centre, with flowers of a pixel and its six neighbours;
    return the module of each pixel."""
    position = geometry.pix_x.to_value("m") + 1j * geometry.pix_y.to_value("m")
    position -= position[np.abs(position).argmin()]
    distance = np.abs(position)
    nearest = position[distance.argsort()[1]]
    turned = nearest * np.exp(1j * np.pi / 3)
    for step in (2 * nearest + turned, nearest + 2 * turned):  # either handedness
        # coordinates along a step and the one turned by 60°: whole where a centre is
        scaled = position / step
        second = scaled.imag / np.sin(np.pi / 3)
        first = scaled.real - second / 2
        off = np.maximum(abs(first - first.round()), abs(second - second.round()))
        centres = np.flatnonzero(off < 0.1)
        module = abs(position[:, np.newaxis] - position[centres]).argmin(axis=1)
        if (np.bincount(module) == MODULE_PIXELS).all():
            return module
    raise ValueError(
        f"{geometry.name} cannot be tiled with modules of {MODULE_PIXELS} pixels, "
        "which its trigger would sum."
    )


def trigger_regions(geometry, pulse):
    """
    Find the regions of a camera.

    Parameters
    ----------
    geometry : ctapipe.instrument.CameraGeometry
        Of hexagonal pixels that modules of 7 tile, one of them at the centre.
    pulse : numpy.ndarray
        Samples of a pulse of one photoelectron, shape (n_phases, n).

    Returns
    -------
    TriggerRegions
        All triples of modules that touch each other.

    Raises
    ------
    ValueError
        If modules do not tile the camera.
    """
    module = _modules(geometry)
    n_modules = module.max() + 1
    touch = np.zeros((n_modules, n_modules), bool)
    pixel, neighbour = geometry.neighbor_matrix.nonzero()
    touch[module[pixel], module[neighbour]] = True
    triples = [
        (i, j, k)
        for i in range(n_modules)
        for j in np.flatnonzero(touch[i, i + 1 :]) + i + 1
        for k in np.flatnonzero(touch[i, j + 1 :] & touch[j, j + 1 :]) + j + 1
    ]
    peak = pulse.max(axis=1).mean()
    return TriggerRegions(module, np.array(triples), THRESHOLD * peak, CLIP * peak)


@compiled
def _n_modules(regions):
    """Count the modules in the tables of pixels and of regions."""
    if regions.module.min() < 0 or regions.triples.min() < 0:
        raise ValueError("modules count from 0")
    return max(regions.module.max(), regions.triples.max()) + 1


@compiled
def _modules_of(regions, i):
    return regions.triples[i, 0], regions.triples[i, 1], regions.triples[i, 2]


@compiled
def may_trigger(pixel, regions):
    """
    Check whether it is worth simulating what a camera records.

    Parameters
    ----------
    pixel : numpy.ndarray
        Pixel of each photoelectron of the shower, shape (n,).
    regions : TriggerRegions
        The trigger regions.

    Returns
    -------
    bool
        False if no region has a third of the threshold: the rest would be five standard
        deviations of a dark night sky.
    """
    counts = np.zeros(_n_modules(regions), np.int64)
    for p in pixel:
        if not 0 <= p < regions.module.shape[0]:
            raise ValueError("no such pixel")
        counts[regions.module[p]] += 1
    for i in range(regions.triples.shape[0]):
        first, second, third = _modules_of(regions, i)
        if counts[first] + counts[second] + counts[third] >= _FEWEST:
            return True
    return False


@compiled
def trigger_time(waveforms, regions):
    """
    Find when a camera triggers.

    Parameters
    ----------
    waveforms : numpy.ndarray
        Photoelectrons per sample, shape (n_pixels, n_samples).
    regions : TriggerRegions
        The trigger regions.

    Returns
    -------
    int
        First sample in which a sum is above the threshold; -1 if there is none.
    """
    n_samples = waveforms.shape[1]
    if waveforms.shape[0] != regions.module.shape[0]:
        raise ValueError("waveforms are of another camera")
    sums = np.zeros((_n_modules(regions), n_samples), np.float32)
    for p in range(waveforms.shape[0]):
        for k in range(n_samples):
            sums[regions.module[p], k] += min(waveforms[p, k], regions.clip)
    earliest = n_samples
    for i in range(regions.triples.shape[0]):
        first, second, third = _modules_of(regions, i)
        for k in range(earliest):
            if sums[first, k] + sums[second, k] + sums[third, k] > regions.threshold:
                earliest = k
                break
    return earliest if earliest < n_samples else -1
