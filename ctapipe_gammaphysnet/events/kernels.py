"""The preparation of images, pixel by pixel, compiled for the processor.

NumPy makes an array of all images for each step, and sorts all charges. Here an image
passes through all steps in the processor's cache, and only the charges around the
quantiles are sorted.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from ..numba_cache import keep_compiled

__all__ = ["EVERYWHERE", "Steps", "as_compiled", "measure_images", "prepare_images"]

#: Ring of pixels that are in no ring around the mask; as a limit, no limit.
EVERYWHERE = 255
#: Peak time of pixels without one in gammalearn 0.15.
_MISSING_PEAK_TIME_NS = np.float32(-20)
#: Buckets into which charges are sorted.
_N_BUCKETS = 1024
#: Half of their range in standard deviations: the quantiles are within.
_RANGE = 2.5
#: Charges from which mean and standard deviation are estimated for that.
_N_SAMPLED = 64

_keep = keep_compiled(
    "Compiling the preparation of images for this machine: a few seconds"
)
_compiled = njit(nogil=True, error_model="numpy")
#: Compiled as a part of the function that calls them, which takes less time.
_part = njit(nogil=True, error_model="numpy", inline="always")


class Steps(NamedTuple):
    """What becomes of the pixels, as in `InputCard`.

    Attributes
    ----------
    separate : bool
        Whether charge and peak time of a pixel are missing each on its own.
    background_rings : int
        Rings around the mask that are not background.
    charge_rings, peak_time_rings : int
        Rings around the mask in which charges, and peak times, are used; or
        `EVERYWHERE`.
    min_background : int
        Background pixels without which the background is not known.
    subtract, divide : bool
        Whether charges are relative to the pedestal, and in units of the noise.
    charge_scale, peak_time_scale : numpy.float32
        Divisors.
    center : bool
        Whether peak times count from their mean in the mask.
    """

    separate: bool
    background_rings: int
    charge_rings: int
    peak_time_rings: int
    min_background: int
    subtract: bool
    divide: bool
    charge_scale: np.float32
    peak_time_scale: np.float32
    center: bool


def as_compiled(values, dtype):
    """Lay out an array as the functions here take it.

    Each layout would be compiled on its own, as would be arrays that are read-only.

    Parameters
    ----------
    values : numpy.ndarray
        Any array.
    dtype : numpy.dtype
        The type of its numbers.

    Returns
    -------
    numpy.ndarray
        The array, or a copy of it. It is not to be written to.
    """
    return np.require(values, dtype, ["C", "A", "W"])


@_part
def _find_rings(mask, present, neighbors, n_rings, ring, found):
    """Number the rings of neighbours around the mask, which is ring 0.

    ``found`` gets the pixels, those in the mask first; return how many these are.
    """
    for pixel in range(len(ring)):
        ring[pixel] = EVERYWHERE
    n_found = 0
    for pixel in range(len(mask)):
        if mask[pixel] and present[pixel]:
            ring[pixel] = 0
            found[n_found] = pixel
            n_found += 1
    n_mask, first = n_found, 0
    for number in range(1, n_rings + 1):
        last = n_found
        for index in range(first, last):
            pixel = found[index]
            for column in range(neighbors.shape[1]):
                neighbor = neighbors[pixel, column]
                if ring[neighbor] == EVERYWHERE:
                    ring[neighbor] = number
                    found[n_found] = neighbor
                    n_found += 1
        first = last
    return n_mask


@_part
def _fill_buckets(charge, bucket, ends, ordered):
    """Put charges into the order of their buckets; find the end of each bucket."""
    total, squares, n_sampled = 0.0, 0.0, 0
    for index in range(0, len(charge), max(len(charge) // _N_SAMPLED, 1)):
        value = np.float64(charge[index])
        total += value
        squares += value * value
        n_sampled += 1
    mean = total / n_sampled
    spread = np.sqrt(max(squares / n_sampled - mean * mean, 0.0))
    low = mean - _RANGE * spread
    per_charge = _N_BUCKETS / (2 * _RANGE * spread) if spread > 0 else 0.0
    last = _N_BUCKETS - 1
    for index in range(len(charge)):
        position = (charge[index] - low) * per_charge
        # Not a number is in the first one, too.
        position = position if position > 0.0 else 0.0
        bucket[index] = int(min(position, float(last)))
    for index in range(_N_BUCKETS):
        ends[index] = 0
    for index in range(len(charge)):
        ends[bucket[index]] += 1
    start = 0
    for index in range(_N_BUCKETS):
        ends[index], start = start, start + ends[index]
    # Starts become ends.
    for index in range(len(charge)):
        ordered[ends[bucket[index]]] = charge[index]
        ends[bucket[index]] += 1


@_part
def _sort(values, start, stop):
    """Sort a range of values (Shell 1959), fast if they are nearly sorted."""
    gap = 1
    while 9 * gap < stop - start:
        gap = 3 * gap + 1
    while gap > 0:
        for index in range(start + gap, stop):
            value, place = values[index], index
            while place >= start + gap and values[place - gap] > value:
                values[place] = values[place - gap]
                place -= gap
            values[place] = value
        gap //= 3


@_part
def _measure(charge, quantiles, normal_range, bucket, ends, ordered):
    """Pedestal and noise of finite charges."""
    if len(charge) == 0:
        return np.float32(np.nan), np.float32(np.nan)
    _fill_buckets(charge, bucket, ends, ordered)
    last, n_quantiles = len(charge) - 1, quantiles.shape[1]
    low, middle, high = 0.0, 0.0, 0.0
    bucket_of_rank, end = 0, np.int64(0)
    for number in range(3):
        total = 0.0
        for column in range(n_quantiles):
            rank = int(np.rint(last * quantiles[number, column]))
            while end <= rank:
                start, end = end, np.int64(ends[bucket_of_rank])
                bucket_of_rank += 1
                if end > rank:
                    _sort(ordered, start, end)
            total += ordered[rank]
        low, middle, high = middle, high, total / n_quantiles
    return np.float32(middle), np.float32((high - low) / normal_range)


@_keep
@_compiled
def measure_images(image, background, quantiles, normal_range, pedestal, noise):
    """Measure pedestal and noise of images.

    Parameters
    ----------
    image : numpy.ndarray
        Charge in p.e., shape (n, n_pixels), float32.
    background : numpy.ndarray
        Pixels to look at, if their charge is finite, shape (n, n_pixels), bool.
    quantiles : numpy.ndarray
        Probabilities around the lower end of the range, the median and the upper end,
        in order, shape (3, n_quantiles).
    normal_range : float
        The range of a normal distribution of unit width.
    pedestal, noise : numpy.ndarray
        Where to write them in p.e., shape (n,), float32; NaN without pixels.
    """
    charge, ordered = np.empty((2, image.shape[1]), np.float32)
    bucket, ends = np.empty(image.shape[1], np.int32), np.empty(_N_BUCKETS, np.int32)
    for row in range(len(image)):
        n_charges = 0
        for pixel in range(image.shape[1]):
            if background[row, pixel] and np.isfinite(image[row, pixel]):
                charge[n_charges] = image[row, pixel]
                n_charges += 1
        pedestal[row], noise[row] = _measure(
            charge[:n_charges], quantiles, normal_range, bucket, ends, ordered
        )


@_part
def _find_present(image, peak_time, present):
    """Find pixels whose charge and peak time are finite; return how many these are."""
    n_present = 0
    for pixel in range(len(image)):
        present[pixel] = np.isfinite(image[pixel]) and np.isfinite(peak_time[pixel])
        n_present += present[pixel]
    return n_present


@_part
def _find_background(image, present, ring, rings, charge):
    """Collect the charges of pixels beyond some rings; return how many these are."""
    n_charges = 0
    for pixel in range(len(image)):
        charge[n_charges] = image[pixel]
        n_charges += present[pixel] and ring[pixel] > rings
    return n_charges


@_part
def _fill_separately(image, peak_time, steps, inputs):
    """Write charges and peak times, without those that are missing."""
    for pixel in range(len(image)):
        charge, time = image[pixel], peak_time[pixel]
        charge = charge if np.isfinite(charge) else np.float32(0)
        time = time if np.isfinite(time) else _MISSING_PEAK_TIME_NS
        inputs[0, pixel] = charge / steps.charge_scale
        inputs[1, pixel] = time / steps.peak_time_scale


@_part
def _fill_charges(image, present, ring, steps, pedestal, noise, charges):
    """Write charges relative to the background, 0 where they are not used."""
    for pixel in range(len(image)):
        # Extractors that search for a peak find the highest noise of pixels without
        # light, but the pulse in the others.
        charge = image[pixel] - (pedestal if ring[pixel] > 0 else np.float32(0))
        charge = charge / noise
        enters = present[pixel] and ring[pixel] <= steps.charge_rings
        charges[pixel] = (charge if enters else np.float32(0)) / steps.charge_scale


@_part
def _fill_peak_times(peak_time, present, ring, steps, mean, times):
    """Write peak times from their mean on, 0 where they are not used."""
    rings = min(steps.charge_rings, steps.peak_time_rings)
    for pixel in range(len(peak_time)):
        time = peak_time[pixel] - mean
        enters = present[pixel] and ring[pixel] <= rings
        times[pixel] = (time if enters else np.float32(0)) / steps.peak_time_scale


@_part
def _mean_peak_time(image, peak_time, found):
    """Mean over some pixels, weighted by charge; 0 without charge."""
    total, mean = 0.0, 0.0
    for index in range(len(found)):
        weight = max(np.float64(image[found[index]]), 0.0)
        total += weight
        mean += weight * peak_time[found[index]]
    return np.float32(mean / total) if total > 0 else np.float32(0)


@_keep
@_compiled
def prepare_images(
    image, peak_time, mask, neighbors, steps, measure, quantiles, normal_range,
    inputs, has_pixels, pedestal, noise, missing,
):  # fmt: skip
    """Make a network's input of images, and measure their background.

    Parameters
    ----------
    image, peak_time : numpy.ndarray
        Charge in p.e. and peak time in ns, shape (n, n_pixels), float32.
    mask : numpy.ndarray
        True for pixels that survived the image cleaning, shape (n, n_pixels), bool;
        (n, 0) if it is not needed.
    neighbors : numpy.ndarray
        Neighbours of each pixel, or itself, shape (n_pixels, n_neighbors), int64.
    steps : Steps
        What becomes of the pixels.
    measure : bool
        Whether to measure the background, which needs the mask.
    quantiles, normal_range : numpy.ndarray, float
        As in `measure_images`.
    inputs : numpy.ndarray
        Where to write charge and peak time, shape (n, 2, n_pixels), float32.
    has_pixels : numpy.ndarray
        Where to write whether there are pixels, and the background that is needed,
        shape (n,), bool.
    pedestal, noise, missing : numpy.ndarray
        Where to write what `Background` has, shape (n,): the first two, float32, if
        the background is measured, and the share of missing pixels, float64.
    """
    n_pixels = image.shape[1]
    charge, ordered = np.empty(n_pixels, np.float32), np.empty(n_pixels, np.float32)
    bucket, ends = np.empty(n_pixels, np.int32), np.empty(_N_BUCKETS, np.int32)
    present, ring = np.empty(n_pixels, np.bool_), np.empty(n_pixels, np.uint8)
    found = np.empty(n_pixels, np.int32)
    n_rings = steps.background_rings
    if steps.peak_time_rings != EVERYWHERE:
        n_rings = max(n_rings, steps.peak_time_rings)
    for pixel in range(n_pixels):
        ring[pixel] = EVERYWHERE
    for row in range(len(image)):
        n_present = _find_present(image[row], peak_time[row], present)
        missing[row] = 1 - n_present / n_pixels
        is_known, n_mask = n_present > 0, 0
        shift, unit = np.float32(0), np.float32(1)
        if mask.shape[1] > 0:
            n_mask = _find_rings(mask[row], present, neighbors, n_rings, ring, found)
        if measure:
            n_charges = _find_background(
                image[row], present, ring, steps.background_rings, charge
            )
            pedestal[row], noise[row] = _measure(
                charge[:n_charges], quantiles, normal_range, bucket, ends, ordered
            )
            if steps.subtract or steps.divide:
                is_known = is_known and n_charges >= steps.min_background
            if steps.subtract:
                shift = pedestal[row]
            if steps.divide:
                unit = noise[row]
                is_known = is_known and unit > 0
        has_pixels[row] = is_known
        if steps.separate:
            _fill_separately(image[row], peak_time[row], steps, inputs[row])
        elif is_known:
            _fill_charges(image[row], present, ring, steps, shift, unit, inputs[row, 0])
            mean = np.float32(0)
            if steps.center:
                mean = _mean_peak_time(image[row], peak_time[row], found[:n_mask])
            _fill_peak_times(peak_time[row], present, ring, steps, mean, inputs[row, 1])
        else:
            for pixel in range(n_pixels):
                inputs[row, 0, pixel] = inputs[row, 1, pixel] = 0
