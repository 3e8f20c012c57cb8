"""The camera trigger: sums of signals over neighbouring pixels.

In LSTCam a module has 7 pixels, and the analogue signals of three neighbouring modules
are summed, each pixel clipped so that afterpulses do not trigger. The threshold is the
same all over the camera; a night sky of 0.24 photoelectrons per ns alone triggers at
about 1 kHz.

In NectarCam three pixels that touch each other must be above a threshold for some time.
That is a sum, too: of three pixels, clipped at a third of the threshold.
"""

from typing import NamedTuple

import numpy as np

from .compiled import compiled

__all__ = [
    "REGIONS",
    "THRESHOLD",
    "TriggerRegions",
    "majority_regions",
    "may_trigger",
    "sum_regions",
    "trigger_time",
    "under_night_sky",
]

MODULE_PIXELS = 7
THRESHOLD = 26.0  # photoelectrons that arrive at once
CLIP = 6.0  # photoelectrons that count in a pixel at most

# Of the majority trigger: 28.6 mV, for 2 ns, where a photoelectron has 6.8 mV, in
# public simulation files of CTAO's sixth production.
PIXEL_THRESHOLD = 4.2  # photoelectrons that arrive at once
PIXEL_SAMPLES = 2  # in a row, which all signals of 2 ns have

# Up to this night sky, two thirds of a threshold are at least four standard deviations
# of its light in a region.
_DARK_PER_NS = 0.4


class TriggerRegions(NamedTuple):
    """The groups of pixels that are summed, and the threshold."""

    module: np.ndarray
    """Module of each pixel, or the pixel if modules are single ones, shape
    (n_pixels,)."""

    triples: np.ndarray
    """Three modules that touch each other in each region, shape (n_regions, 3)."""

    threshold: float
    """Threshold of the sum, in photoelectrons per sample."""

    clip: float
    """Largest value of a pixel, in photoelectrons per sample."""

    samples: int
    """Number of samples in a row that must be above the threshold."""

    fewest: float
    """Photoelectrons of a shower in a region, without which it does not trigger."""


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


def sum_regions(geometry, pulse):
    """
    Describe the trigger of LSTCam.

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
    peak = _peak(pulse)
    return TriggerRegions(
        module,
        _triples(touch),
        threshold=THRESHOLD * peak,
        clip=CLIP * peak,
        samples=1,
        fewest=THRESHOLD / 3,
    )


def majority_regions(geometry, pulse):
    """
    Describe the trigger of NectarCam.

    Parameters
    ----------
    geometry : ctapipe.instrument.CameraGeometry
        Of hexagonal pixels.
    pulse : numpy.ndarray
        Samples of a pulse of one photoelectron, shape (n_phases, n).

    Returns
    -------
    TriggerRegions
        All triples of pixels that touch each other.
    """
    clip = PIXEL_THRESHOLD * _peak(pulse)
    return TriggerRegions(
        np.arange(geometry.n_pixels),
        _triples(geometry.neighbor_matrix),
        # Just below what three clipped pixels have, so that all of them must.
        threshold=clip * (3 - 1e-3),
        clip=clip,
        samples=PIXEL_SAMPLES,
        fewest=PIXEL_THRESHOLD,
    )


def under_night_sky(regions, night_sky_per_ns):
    """
    Count on the light that a bright night sky adds to that of a shower.

    Parameters
    ----------
    regions : TriggerRegions
        The trigger regions under a dark sky, of which a third of the threshold must be
        the shower's light.
    night_sky_per_ns : float
        Photoelectrons from the night sky per ns in each pixel.

    Returns
    -------
    TriggerRegions
        The same regions. Of the shower they need less, since the night sky may bring
        more: as many of its standard deviations as under the brightest dark sky.
    """
    from_sky = 2 * regions.fewest * max(1, night_sky_per_ns / _DARK_PER_NS) ** 0.5
    return regions._replace(fewest=max(1.0, 3 * regions.fewest - from_sky))


def _peak(pulse):
    """Largest sample of a pulse, on average over its phases."""
    return pulse.max(axis=1).mean()


def _triples(touch):
    """Find all triples that touch each other, from a symmetric matrix of pairs."""
    return np.array(
        [
            (i, j, k)
            for i in range(len(touch))
            for j in np.flatnonzero(touch[i, i + 1 :]) + i + 1
            for k in np.flatnonzero(touch[i, j + 1 :] & touch[j, j + 1 :]) + j + 1
        ]
    )


#: Function that describes the trigger of each camera.
REGIONS = {"LSTCam": sum_regions, "NectarCam": majority_regions}


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
        False if no region has enough of the shower's light: the rest would be four or
        more standard deviations of the night sky.
    """
    counts = np.zeros(_n_modules(regions), np.int64)
    for p in pixel:
        if not 0 <= p < regions.module.shape[0]:
            raise ValueError("no such pixel")
        counts[regions.module[p]] += 1
    for i in range(regions.triples.shape[0]):
        first, second, third = _modules_of(regions, i)
        if counts[first] + counts[second] + counts[third] >= regions.fewest:
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
        First sample at which a sum has been above the threshold for as long as it must;
        -1 if there is none.
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
        above = 0  # samples in a row
        for k in range(earliest):
            total = sums[first, k] + sums[second, k] + sums[third, k]
            above = above + 1 if total > regions.threshold else 0
            if above == regions.samples:
                earliest = k
                break
    return earliest if earliest < n_samples else -1
