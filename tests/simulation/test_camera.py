"""Cameras record light in the pixel and at the time where and when it lands."""

from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from ctapipe.instrument import CameraGeometry

from ctapipe_gammaphysnet.simulation.camera import (
    densest_time,
    make_camera,
    pixel_hits,
    reference_pulse,
    waveforms,
)

ROOT = Path(__file__).parents[2]
DATA = ROOT / "ctapipe_gammaphysnet/simulation/data"
CAMERAS = {
    "LSTCam": DATA / "LSTCam.camgeom.fits.gz",
    "NectarCam": DATA / "NectarCam.camgeom.fits.gz",
}
NIGHT_SKY = 0.24


@pytest.fixture(scope="module", params=CAMERAS)
def geometry(request):
    return CameraGeometry.from_table(CAMERAS[request.param])


@pytest.fixture(scope="module")
def camera(geometry):
    return make_camera(geometry, 40, NIGHT_SKY)


@pytest.fixture(scope="module")
def small():
    """100 dark pixels in a row of LSTCam's."""
    geometry = CameraGeometry.from_table(CAMERAS["LSTCam"])
    return make_camera(geometry, 40, 0.0)._replace(n_pixels=100)


def centres(geometry):
    return np.column_stack([geometry.pix_x.to_value("m"), geometry.pix_y.to_value("m")])


def hits(positions_m, camera):
    """Pixel of each position, -1 for none, and check that its time comes along."""
    landed = np.column_stack([positions_m, np.arange(len(positions_m))])
    pixel, time = pixel_hits(landed, camera)
    found = np.full(len(positions_m), -1)
    found[time.astype(int)] = pixel
    return found


def record(camera, pixel, sample, seed=0):
    return waveforms(
        np.random.default_rng(seed), np.array(pixel), np.array(sample, float), camera
    )


def test_the_centre_of_each_pixel_is_in_it(geometry, camera):
    np.testing.assert_array_equal(
        hits(centres(geometry), camera), np.arange(geometry.n_pixels)
    )


@pytest.mark.parametrize("azimuth", np.linspace(0, 2 * np.pi, 7)[:-1] + 0.1)
def test_positions_well_within_a_pixel_are_in_it(geometry, camera, azimuth):
    off = 0.43 * geometry.pixel_width[0].to_value("m")
    positions = centres(geometry) + off * np.array([np.cos(azimuth), np.sin(azimuth)])
    np.testing.assert_array_equal(hits(positions, camera), np.arange(geometry.n_pixels))


def test_positions_are_in_the_pixels_that_ctapipe_finds(geometry, camera):
    positions = np.random.default_rng(0).uniform(-1.3, 1.3, (20000, 2))
    found = geometry.position_to_pix_index(*(positions.T * u.m))
    assert np.mean(hits(positions, camera) == np.maximum(found, -1)) > 0.95


def test_light_beside_the_camera_is_in_no_pixel(camera):
    edge = camera.half_width_m
    aside = np.array([[edge, 0], [0, -edge - 1e-3], [5, 5], [-9, 0], [np.nan, np.nan]])
    assert (hits(aside, camera) == -1).all()
    corners = 0.99 * edge * np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]])
    assert (hits(corners, camera) == -1).all()


def test_pixels_are_as_large_as_they_are(geometry, camera):
    """By the area of what each of them catches."""
    area = np.bincount(camera.pixel_grid[camera.pixel_grid >= 0])
    area = area * (2 * camera.half_width_m / camera.pixel_grid.shape[0]) ** 2
    spacing = np.sort(np.linalg.norm(centres(geometry) - centres(geometry)[0], axis=1))
    cell = spacing[1] ** 2 * np.sqrt(3) / 2
    inside = np.array([len(n) == 6 for n in geometry.neighbors])
    assert np.median(area[inside]) == pytest.approx(cell, rel=0.03)


def test_a_pulse_is_of_one_photoelectron_at_any_phase(camera):
    np.testing.assert_allclose(camera.pulse.sum(axis=1), 1, rtol=1e-12)
    n_phases, n_samples = camera.pulse.shape
    centre = camera.pulse @ np.arange(n_samples)
    np.testing.assert_allclose(np.diff(centre), 1 / n_phases, rtol=0.01)


def test_the_reference_pulse_is_that_of_the_waveforms(geometry, camera):
    fine = reference_pulse(geometry.name, 1e-3)
    time_ns = np.arange(len(fine)) * 1e-3
    assert fine.max() == 1
    above = time_ns[fine >= 0.5]
    width_ns = {"LSTCam": 2.6, "NectarCam": 2.45}[geometry.name]
    assert np.ptp(above) == pytest.approx(width_ns, abs=0.02)
    width = np.sqrt(np.average((time_ns - 4) ** 2, weights=fine))
    sampled = np.arange(camera.pulse.shape[1])
    variance = np.array(
        [
            np.average(sampled**2, weights=pulse)
            - np.average(sampled, weights=pulse) ** 2
            for pulse in camera.pulse
        ]
    )
    assert np.sqrt(variance).mean() == pytest.approx(width, rel=0.01)


@pytest.mark.parametrize("sample", [12.0, 15.5, 20.25, 30.9])
def test_photoelectrons_have_their_charge_and_time(small, sample):
    n = 2000
    recorded = record(small, [17] * n, [sample] * n)
    pixel = recorded[17]
    charge = pixel.sum()
    assert charge == pytest.approx(n, abs=4 * np.sqrt(0.35**2 * n))
    time = np.average(np.arange(40), weights=pixel)
    assert time == pytest.approx(sample, abs=0.08)
    width = np.sqrt(np.average((np.arange(40) - time) ** 2, weights=pixel))
    assert width == pytest.approx(np.hypot(1.1, 0.6), rel=0.05)
    # nothing but noise elsewhere
    others = np.delete(recorded, 17, axis=0)
    assert abs(others).max() < 0.6


def test_single_photoelectrons_vary(small):
    recorded = record(small, np.arange(100), np.full(100, 20.0))
    charge = recorded[:, 13:28].sum(axis=1)
    noise = 0.08 * np.sqrt(15)
    assert charge.mean() == pytest.approx(1, abs=4 * 0.5 / 10)
    assert charge.std() == pytest.approx(np.hypot(0.35, noise), rel=0.25)


@pytest.mark.parametrize("sample", [-1000.0, -8.0, 47.0, 1e9])
def test_light_outside_of_the_window_is_not_recorded(small, sample):
    dark = record(small, np.zeros(0, int), np.zeros(0))
    recorded = record(small, [3] * 1000, [sample] * 1000)
    assert recorded[3].sum() == pytest.approx(0, abs=5 * 0.08 * np.sqrt(40))
    assert recorded.shape == dark.shape == (100, 40)
    assert recorded.dtype == np.float32


@pytest.mark.parametrize(("sample", "edge"), [(-0.5, 0), (39.5, 39)])
def test_light_just_outside_of_the_window_reaches_into_it(small, sample, edge):
    """With half of its pulse."""
    recorded = record(small, [3] * 4000, [sample] * 4000)[3]
    assert recorded.argmax() == edge
    assert recorded.sum() == pytest.approx(2000, rel=0.03)


def test_electronic_noise_is_white(small):
    dark = record(small, np.zeros(0, int), np.zeros(0))
    assert dark.mean() == pytest.approx(0, abs=4 * 0.08 / np.sqrt(4000))
    assert dark.std() == pytest.approx(0.08, rel=0.05)
    neighbouring = np.mean(dark[:, 1:] * dark[:, :-1]) / dark.var()
    assert neighbouring == pytest.approx(0, abs=4 / np.sqrt(4000))


@pytest.mark.parametrize("rate", [0.24, 1.0])
def test_the_night_sky_is_that_of_campbells_theorem(small, rate):
    """Mean and variance of what independent pulses add up to, at the edges, too."""
    camera = small._replace(n_pixels=1800, night_sky_per_ns=rate)
    recorded = np.concatenate(
        [record(camera, np.zeros(0, int), np.zeros(0), seed) for seed in range(4)]
    )
    n = len(recorded)
    amplitude2 = 1 + 0.35**2 + 2 * 5e-4 * (3 + 3**2)
    pulse = reference_pulse("LSTCam", 0.01)
    pulse = pulse / (pulse.sum() * 0.01)
    variance = rate * amplitude2 * np.sum(pulse**2) * 0.01 + 0.08**2
    mean_error = np.sqrt(variance / n)
    np.testing.assert_allclose(recorded.mean(axis=0), 0, atol=4.5 * mean_error)
    np.testing.assert_allclose(recorded.var(axis=0), variance, rtol=0.15)
    assert recorded.var() == pytest.approx(variance, rel=0.03)
    # Charges of longer times vary as those of independent photoelectrons do.
    charge = recorded[:, 5:35].sum(axis=1, dtype=float)
    expected = rate * amplitude2 * (30 - 2 * 1.1 / np.sqrt(np.pi)) + 30 * 0.08**2
    assert charge.var() == pytest.approx(expected, rel=0.06)
    assert charge.mean() == pytest.approx(0, abs=4 * np.sqrt(expected / n) + 0.002 * 30)


def test_night_sky_and_showers_add_up(small):
    camera = small._replace(n_pixels=400, night_sky_per_ns=0.5)
    n_lit = 200
    pixel = np.arange(n_lit).repeat(50)
    recorded = record(camera, pixel, np.full(len(pixel), 20.0))
    charge = recorded.sum(axis=1)
    assert charge[:n_lit].mean() == pytest.approx(50, abs=2)
    assert charge[n_lit:].mean() == pytest.approx(0, abs=2)


def test_the_same_seed_records_the_same(small):
    camera = small._replace(night_sky_per_ns=0.3)
    one, same, other = (record(camera, [5], [20.0], seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("start", [-1234.5, 0.0, 5e5])
def test_the_densest_light_is_found(start):
    """Among others that are fewer, or as many but farther apart."""
    rng = np.random.default_rng(0)
    cluster = 700 + rng.uniform(0, 8, 200)
    times = np.concatenate(
        [[0.0], cluster, rng.uniform(0, 1900, 300), 300 + rng.uniform(0, 50, 300)]
    )
    rng.shuffle(times)
    found = densest_time(start + times) - start
    assert abs(cluster - found).max() < 5.5
    inside = abs(times - found) <= 5
    grid = np.arange(0, 1900, 0.25)[:, np.newaxis]
    best = (abs(times - grid) <= 5).sum(axis=1).max()
    assert inside.sum() >= best - 5


def test_the_middle_of_the_densest_light_is_found():
    times = 50 + np.linspace(0, 9.99, 500)
    assert densest_time(np.append(times, 40.0)) == pytest.approx(55, abs=1)


@pytest.mark.parametrize("duration_ns", [0.1, 4.0])
def test_a_flash_is_in_the_middle_of_its_window(duration_ns):
    times = np.concatenate([[0.0], 100.3 + np.linspace(0, duration_ns, 50)])
    assert densest_time(times) == pytest.approx(100.3 + duration_ns / 2, abs=1.1)


def test_light_too_late_does_not_count():
    times = np.concatenate([[0.0, 1.0, 2.0], np.full(1000, 2500.0)])
    assert densest_time(times) < 10
