"""What a camera records: pulses of photoelectrons, night sky and electronic noise.

Waveforms are in photoelectrons per sample, with the mean night sky subtracted: the sum
of a pulse is its number of photoelectrons. Left out: saturation, a second gain,
cross-talk, broken pixels, stars.
"""

import math
from typing import NamedTuple

import astropy.units as u
import numpy as np

from .compiled import compiled

__all__ = [
    "Camera",
    "densest_time",
    "make_camera",
    "pixel_hits",
    "reference_pulse",
    "waveforms",
]

# Pulses are Gaussian; their FWHM, 2.6 and 2.45 ns, are nearly those of the cameras.
_PULSE_SIGMA_NS = {"LSTCam": 1.1, "NectarCam": 1.04}
_PULSE_BEFORE, _PULSE_SAMPLES = 4, 10
_PHASES = 20  # of a photoelectron within a sample

_AMPLITUDE_SPREAD = 0.35  # of single photoelectrons, relative
_TRANSIT_TIME_SPREAD_NS = 0.6
_AFTERPULSE_PROBABILITY, _AFTERPULSE_MEAN = 5e-4, 3.0  # in photoelectrons
_ELECTRONIC_NOISE = 0.08  # standard deviation of a sample, in photoelectrons

_LIGHT_WINDOW_NS = 10  # the one with the most light is put into the readout window
_LONGEST_NS = 2000  # of light that is searched for it
_GRID_M = 2.5e-3


class Camera(NamedTuple):
    """A camera, for compiled code."""

    pixel_grid: np.ndarray
    """Pixel at a position, -1 where there is none, shape (n, n), int16."""

    half_width_m: float
    """Of the grid, which is centred on the camera."""

    n_pixels: int
    """Of the camera."""

    n_samples: int
    """Of 1 ns each, in the readout window."""

    signal_sample: float
    """Where the densest light is put in the readout window."""

    night_sky_per_ns: float
    """Rate of photoelectrons from the night sky in a pixel."""

    pulse: np.ndarray
    """Samples of a pulse of one photoelectron by its phase, shape (n_phases, n)."""


def reference_pulse(camera, step_ns):
    """
    Shape of the pulse of a photoelectron.

    Parameters
    ----------
    camera : str
        Name of the camera: LSTCam or NectarCam.
    step_ns : float
        Distance between its points.

    Returns
    -------
    numpy.ndarray
        Amplitudes from 4 ns before to 6 ns after the peak, which is 1; shape (n,),
        float64.
    """
    time_ns = np.arange(-_PULSE_BEFORE, _PULSE_SAMPLES - _PULSE_BEFORE, step_ns)
    return _pulse(camera, time_ns)


def _pulse(camera, time_ns):
    return np.exp(-0.5 * (time_ns / _PULSE_SIGMA_NS[camera]) ** 2)


def make_camera(geometry, n_samples, night_sky_per_ns):
    """
    Describe a camera for compiled code.

    Parameters
    ----------
    geometry : ctapipe.instrument.CameraGeometry
        Its pixels in the camera frame, and its name, for the pulse.
    n_samples : int
        Of 1 ns each, in the readout window.
    night_sky_per_ns : float
        Rate of photoelectrons from the night sky in a pixel.

    Returns
    -------
    Camera
        The camera.
    """
    x_m = geometry.pix_x.to_value("m")
    y_m = geometry.pix_y.to_value("m")
    half_width_m = max(np.abs(x_m).max(), np.abs(y_m).max()) + 0.05
    n = int(2 * half_width_m / _GRID_M)
    centres_m = ((np.arange(n) + 0.5) / n * 2 - 1) * half_width_m
    grid_x, grid_y = np.meshgrid(centres_m, centres_m, indexing="ij")
    grid = geometry.position_to_pix_index(grid_x.ravel() * u.m, grid_y.ravel() * u.m)
    phase_ns = (np.arange(_PHASES) + 0.5) / _PHASES
    time_ns = np.arange(_PULSE_SAMPLES) - _PULSE_BEFORE - phase_ns[:, np.newaxis]
    pulse = _pulse(geometry.name, time_ns)
    return Camera(
        pixel_grid=np.maximum(grid, -1).reshape(n, n).astype(np.int16),
        half_width_m=half_width_m,
        n_pixels=geometry.n_pixels,
        n_samples=n_samples,
        signal_sample=0.4 * n_samples,
        night_sky_per_ns=night_sky_per_ns,
        pulse=pulse / pulse.sum(axis=1, keepdims=True),
    )


@compiled
def pixel_hits(landed, camera):
    """
    Find the pixels that light hits.

    Parameters
    ----------
    landed : numpy.ndarray
        Camera x and y in m and time in ns, shape (n, 3); NaN hits no pixel.
    camera : Camera
        The camera.

    Returns
    -------
    pixel : numpy.ndarray
        Pixels, shape (m,), int64; light that hits none is left out.
    time_ns : numpy.ndarray
        Its times, shape (m,).
    """
    n = camera.pixel_grid.shape[0]
    if landed.shape[1] != 3 or camera.pixel_grid.shape[1] != n:
        raise ValueError("landed light has 3 columns, the grid is square")
    scale = n / (2 * camera.half_width_m)
    pixel = np.empty(landed.shape[0], np.int64)
    time_ns = np.empty(landed.shape[0])
    hits = 0
    for i in range(landed.shape[0]):
        x = (landed[i, 0] + camera.half_width_m) * scale
        y = (landed[i, 1] + camera.half_width_m) * scale
        if not (0 <= x < n and 0 <= y < n):
            continue
        p = camera.pixel_grid[int(x), int(y)]
        if p >= 0:
            pixel[hits] = p
            time_ns[hits] = landed[i, 2]
            hits += 1
    return pixel[:hits], time_ns[:hits]


@compiled
def densest_time(time_ns):
    """
    Find the 10 ns with the most light.

    Parameters
    ----------
    time_ns : numpy.ndarray
        Times of photoelectrons, at least one; those more than 2 µs after the first do
        not count.

    Returns
    -------
    float
        Middle of these 10 ns; if several in a row have the same light, the middle of
        the first such stretch.
    """
    if time_ns.shape[0] == 0:
        raise ValueError("there are no times")
    first = time_ns.min()
    counts = np.zeros(_LONGEST_NS, np.int64)
    for t in time_ns:
        if t - first < _LONGEST_NS:  # False if one of them is NaN
            counts[int(t - first)] += 1
    best, begin, end, inside = 0, 0, 0, 0
    for k in range(_LONGEST_NS):
        inside += counts[k]
        if k >= _LIGHT_WINDOW_NS:
            inside -= counts[k - _LIGHT_WINDOW_NS]
        if inside > best:
            best, begin, end = inside, k, k
        elif inside == best and k == end + 1:
            end = k
    return first + 0.5 * (begin + end) + 1 - 0.5 * _LIGHT_WINDOW_NS


@compiled
def _add_pulse(waveform, sample, amplitude, pulse):
    """Add a pulse that peaks at a fractional sample; samples outside are lost."""
    if not -_PULSE_SAMPLES <= sample < waveform.shape[0] + _PULSE_SAMPLES:
        return
    first = int(math.floor(sample))
    shape = pulse[min(int((sample - first) * pulse.shape[0]), pulse.shape[0] - 1)]
    first -= _PULSE_BEFORE
    for k in range(max(0, -first), min(shape.shape[0], waveform.shape[0] - first)):
        waveform[first + k] += amplitude * shape[k]


@compiled
def _amplitude(rng):
    return max(1 + _AMPLITUDE_SPREAD * rng.standard_normal(), 0.0)


@compiled
def waveforms(rng, pixel, sample, camera):
    """
    Record what a camera sees in its readout window.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    pixel : numpy.ndarray
        Pixel of each photoelectron of the shower, shape (n,).
    sample : numpy.ndarray
        Their times in samples since the start of the window, shape (n,); from outside,
        only the flanks of pulses reach into the window.
    camera : Camera
        The camera.

    Returns
    -------
    numpy.ndarray
        Photoelectrons per sample, shape (n_pixels, n_samples), float32.
    """
    if pixel.shape[0] != sample.shape[0]:
        raise ValueError("there must be as many pixels as times")
    recorded = np.zeros((camera.n_pixels, camera.n_samples), np.float32)
    for i in range(pixel.shape[0]):
        if not 0 <= pixel[i] < camera.n_pixels:
            raise ValueError("no such pixel")
        late = _TRANSIT_TIME_SPREAD_NS * rng.standard_normal()
        _add_pulse(recorded[pixel[i]], sample[i] + late, _amplitude(rng), camera.pulse)
    # Night sky from before and after the window also reaches into it.
    span = camera.n_samples + _PULSE_SAMPLES
    begin = _PULSE_BEFORE - _PULSE_SAMPLES
    for p in range(camera.n_pixels):
        waveform = recorded[p]
        for _ in range(rng.poisson(camera.night_sky_per_ns * span)):
            amplitude = _amplitude(rng)
            if rng.random() < _AFTERPULSE_PROBABILITY:
                amplitude -= _AFTERPULSE_MEAN * math.log(1 - rng.random())
            at = begin + span * rng.random()
            _add_pulse(waveform, at, amplitude, camera.pulse)
        for k in range(camera.n_samples):
            noise = _ELECTRONIC_NOISE * rng.standard_normal()
            waveform[k] += noise - camera.night_sky_per_ns
    return recorded
