"""The observation example on toys: an ideal instrument gives the planted truth back."""

import json
import os
import subprocess
import sys
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
import tables
import yaml
from astropy.coordinates import TETE, AltAz, EarthLocation, SkyCoord, angular_separation
from astropy.io import fits
from astropy.table import QTable, vstack
from astropy.time import Time
from ctapipe.coordinates import TelescopeFrame
from ctapipe.io import EventSource
from ctapipe.irf import OptimizationResult

pytest.importorskip("gammapy", reason="the example analyses events with gammapy")
import toy_sky

FOLDER = Path(__file__).absolute().parents[1] / "examples" / "observation"
SAMPLE = FOLDER.parent / "data/sample_gamma.dl1.h5"
sys.path.insert(0, str(FOLDER))
import analyse  # noqa: E402
import judge  # noqa: E402
import make_event_lists  # noqa: E402
import make_observation  # noqa: E402
import night  # noqa: E402
import nights  # noqa: E402
import sky  # noqa: E402
import template  # noqa: E402
from gammapy.data import EventList  # noqa: E402
from pyirf.io import (  # noqa: E402
    create_aeff2d_hdu,
    create_background_2d_hdu,
    create_energy_dispersion_hdu,
    create_psf_table_hdu,
    create_rad_max_hdu,
)

PLACE = EarthLocation.from_geodetic(-17.892 * u.deg, 28.762 * u.deg, 2158 * u.m)
NAMES = make_event_lists.Names("ToyEnergy", "ToyGeometry", "ToyClassifier")
N_BRIGHT = 60
#: Time of the source's culmination, from its right ascension and sidereal time.
CULMINATION = Time("2026-01-14T23:07:19", scale="utc")


@pytest.fixture
def rng():
    return np.random.default_rng(1)


def horizontal(alt, az):
    return SkyCoord(alt=alt * u.deg, az=az * u.deg, frame=AltAz())


def make_night(source=0.02, background=2e-4, seed=5):
    """The night of the example, with other normalisations."""
    settings = night.read_night(FOLDER / "night.yaml")
    normalisations = {0: source, 1: background, 101: background}
    return settings._replace(normalisations=normalisations, seed=seed)


def make_pools(rng, n_gammas=20_000, n_protons=60_000):
    """Pools of the toy's showers, prepared for many nights."""
    made = {
        "source_1": toy_sky.gammas(n_gammas, 60 * u.deg, rng, run=1),
        "source_2": toy_sky.gammas(n_gammas, 240 * u.deg, rng, run=2),
        "proton": toy_sky.protons(n_protons, rng, run=3),
    }
    pools = [
        night.Pool(name, 101 if name == "proton" else 0, *made[name]) for name in made
    ]
    return [nights.prepare_pool(pool, [cuts()], NAMES) for pool in pools]


def cuts(gammaness=0.5, lowest=0.01 * u.TeV):
    """A cut that all events of the toy pass."""
    return OptimizationResult(
        valid_energy_min=lowest,
        valid_energy_max=100 * u.TeV,
        valid_offset_min=0 * u.deg,
        valid_offset_max=5 * u.deg,
        gh_cuts=QTable(
            {
                "low": u.Quantity([lowest]),
                "high": [100] * u.TeV,
                "center": [1] * u.TeV,
                "cut": [gammaness],
            }
        ),
        clf_prefix="ToyClassifier",
        quality_query=[("valid", "ToyClassifier_is_valid")],
    )


@pytest.fixture(scope="module")
def pools():
    return make_pools(np.random.default_rng(2))


# Directions


def test_offsets_are_those_of_the_telescope_frame(rng):
    pointing = horizontal(65, 130)
    direction = horizontal(rng.uniform(63, 67, 20), rng.uniform(126, 134, 20))
    lon, lat = sky.offsets(direction, pointing)
    frame = TelescopeFrame(telescope_pointing=pointing.frame)
    expected = direction.transform_to(frame)
    np.testing.assert_allclose(lon.value, expected.fov_lon.to_value("deg"), atol=1e-9)
    np.testing.assert_allclose(lat.value, expected.fov_lat.to_value("deg"), atol=1e-9)


def test_directions_have_their_offsets(rng):
    pointing = horizontal(rng.uniform(40, 85, 20), rng.uniform(0, 360, 20))
    lon, lat = rng.uniform(-2, 2, (2, 20)) * u.deg
    alt, az = sky.directions_at(lon, lat, pointing)
    np.testing.assert_allclose(
        angular_separation(az, alt, pointing.az, pointing.alt).to_value("deg"),
        np.arccos(np.cos(lon) * np.cos(lat)).to_value("deg"),
        rtol=1e-6,
    )
    back = sky.offsets(SkyCoord(alt=alt, az=az, frame=AltAz()), pointing)
    np.testing.assert_allclose(back[0].value, lon.value, atol=1e-9)
    np.testing.assert_allclose(back[1].value, lat.value, atol=1e-9)


@pytest.mark.parametrize(("lon", "lat"), [(0.4, 0.3), (-0.4, 0.3), (0.5, -0.2), (0, 0)])
def test_telescopes_point_so_that_the_source_is_at_its_place(rng, lon, lat):
    source = horizontal(rng.uniform(30, 85, 10), rng.uniform(0, 360, 10))
    alt, az = sky.pointing_with_source_at(lon * u.deg, lat * u.deg, source)
    seen = sky.offsets(source, SkyCoord(alt=alt, az=az, frame=AltAz()))
    np.testing.assert_allclose(seen[0].value, lon, atol=1e-9)
    np.testing.assert_allclose(seen[1].value, lat, atol=1e-9)


def test_the_zenith_is_at_sidereal_time_and_latitude():
    time = CULMINATION + [0, 3] * u.hour
    up = sky.to_icrs([90, 90] * u.deg, [0, 0] * u.deg, time, PLACE)
    of_date = up.transform_to(TETE(obstime=time, location=PLACE))
    expected = time.sidereal_time("apparent", PLACE.lon)
    np.testing.assert_allclose(of_date.ra.deg, expected.deg, atol=1e-3)
    np.testing.assert_allclose(of_date.dec.deg, PLACE.lat.deg, atol=1e-3)


def test_horizontal_coordinates_and_sky_are_inverse(rng):
    source = SkyCoord(83 * u.deg, 9 * u.deg)
    time = CULMINATION + rng.uniform(-2, 2, 10) * u.hour
    seen = sky.seen_from(source, time, PLACE)
    back = sky.to_icrs(seen.alt, seen.az, time, PLACE)
    assert (back.separation(source) < 1e-3 * u.arcsec).all()
    # West of the meridian after the culmination, in the south.
    assert ((seen.az > 180 * u.deg) == (time > CULMINATION)).all()


# Weights and chance


@pytest.mark.parametrize("view_cone", [0, 2] * u.deg)
def test_expected_counts_are_flux_times_area_and_time(rng, view_cone):
    n = 20_000
    is_source = view_cone == 0
    events = QTable({"true_energy": toy_sky.energies(n, rng) * u.TeV})
    particle = 0 if is_source else 101
    pool = night.Pool("all", particle, events, toy_sky.simulated(n, view_cone))
    settings = make_night(source=0.5, background=0.1)
    expected = night.expected_counts(pool, settings, 2 * u.min).sum()

    # Integrals of the power laws, written out.
    norm, index = (2.83e-11, -2.62) if is_source else (9.8e-6, -2.62)
    low, high = 0.04 ** (index + 1), 10 ** (index + 1)
    per_area_and_time = norm * (high - low) / (index + 1)
    solid_angle = 1 if is_source else 2 * np.pi * (1 - np.cos(view_cone).value)
    area, seconds = np.pi * 30_000**2, 120
    truth = (
        (0.5 if is_source else 0.1) * per_area_and_time * solid_angle * area * seconds
    )
    assert expected == pytest.approx(truth, rel=0.02)


def test_the_simulated_flux_counts_each_use_of_a_shower():
    runs = QTable(
        {
            "n_showers": [100, 100],
            "shower_reuse": [5, 5],
            "energy_range_min": [0.04, 0.04] * u.TeV,
            "energy_range_max": [10, 10] * u.TeV,
            "max_scatter_range": [300, 300] * u.m,
            "spectral_index": [-2.0, -2.0],
            "min_viewcone_radius": [0.5, 0.5] * u.deg,
            "max_viewcone_radius": [0.5, 0.5] * u.deg,
        }
    )
    flux, expected = night.simulated_flux(runs), toy_sky.simulated(1000)
    assert u.isclose(flux(1 * u.TeV), expected(1 * u.TeV))


def test_events_are_drawn_as_often_as_expected(rng):
    shower = rng.integers(0, 300, 1000)
    expected = rng.uniform(0, 0.02, 1000)
    counts = np.zeros(1000)
    totals = []
    for _ in range(2000):
        drawn = night.draw_events(shower, expected, rng)
        assert len(np.unique(shower[drawn])) == len(drawn)
        counts[drawn] += 1
        totals.append(len(drawn))
    pulls = (counts - 2000 * expected) / np.sqrt(2000 * expected + 0.1)
    assert abs(pulls.mean()) < 4 / np.sqrt(1000)
    assert pulls.std() == pytest.approx(1, abs=0.1)
    # Poisson, but for showers that would have come twice: 3 % less.
    assert np.var(totals) == pytest.approx(np.mean(totals), rel=0.15)


def test_a_shower_that_would_come_twice_is_refused():
    with pytest.raises(ValueError, match=r"expected 0\.5 times.*normalisation by 0\.6"):
        night.draw_events(np.array([7, 7, 8]), np.array([0.3, 0.2, 0.1]), None)


def test_a_night_has_the_expected_events_at_random_times(pools):
    settings = make_night()
    drawn = [
        night.draw_night(pools, settings, np.random.default_rng(seed))
        for seed in range(20)
    ]
    everything = vstack(drawn)
    for number, pool in enumerate(pools):
        runs = [r.obs_id for r in settings.runs if pool.name in (r.source, "proton")]
        events = everything[everything["pool"] == number]
        assert set(events["obs_id"]) == set(runs)
        expected = (
            night.expected_counts(pool, settings, len(runs) * 290 * u.s).sum() * 20
        )
        assert len(events) == pytest.approx(expected, abs=4 * np.sqrt(expected))
        mean = 290 / np.sqrt(12 * len(events))
        assert events["seconds"].mean() == pytest.approx(145, abs=4 * mean)
        assert 0 < events["seconds"].min() < events["seconds"].max() < 290
    for one in drawn:
        assert (np.diff(one["obs_id"]) >= 0).all()
        for run in settings.runs:
            own = one[one["obs_id"] == run.obs_id]
            assert (np.diff(own["seconds"]) > 0).all()
            np.testing.assert_array_equal(own["event_id"], np.arange(1, len(own) + 1))


def test_the_source_keeps_its_place_in_the_camera(pools):
    settings = make_night()
    for run in settings.runs:
        time = run.start + [0, 100, 290] * u.s
        alt, az = night.run_pointing(run, time, settings, pools, PLACE)
        source = sky.seen_from(settings.source, time, PLACE)
        lon, lat = sky.offsets(
            SkyCoord(alt=source.alt, az=source.az, frame=AltAz()),
            SkyCoord(alt=alt, az=az, frame=AltAz()),
        )
        angle = np.deg2rad({"source_1": 60, "source_2": 240}[run.source])
        np.testing.assert_allclose(lon.value, 0.5 * np.sin(angle), atol=1e-4)
        np.testing.assert_allclose(lat.value, 0.5 * np.cos(angle), atol=1e-4)


def test_ctapipe_reads_the_events_of_a_night(pools, tmp_path):
    settings, path = make_night(), tmp_path / "night.dl1.h5"
    with EventSource(SAMPLE) as source:
        subarray = source.subarray
        old = {event.index.event_id: intensities(event) for event in source}
    drawn = sorted(old)[::3]
    keys = {(1, name): (2, n, 10.0 * n) for n, name in enumerate(drawn, 1)}
    with tables.open_file(path, "w") as file:
        make_observation.copy_instrument(SAMPLE, file)
        make_observation.write_events([SAMPLE], [keys], settings.runs, file)
        make_observation.write_pointing(settings, pools, subarray, file)
    make_observation.write_runs(settings, pools, subarray.reference_location, path)
    start = settings.runs[1].start
    with EventSource(path) as source:
        assert not source.is_simulation
        events = {e.index.event_id: (e.trigger.time, intensities(e)) for e in source}
    assert [*events] == [*range(1, len(drawn) + 1)]
    for n, name in enumerate(drawn, 1):
        time, found = events[n]
        assert abs((time - start).to_value("s") - 10 * n) < 1e-6
        np.testing.assert_equal(found, old[name])


def intensities(event):
    """Of the images of an event, by telescope."""
    return {t: c.parameters.hillas.intensity for t, c in event.dl1.tel.items()}


def test_a_source_that_is_elsewhere_is_refused(pools):
    settings = make_night()
    late = settings.runs[0]._replace(start=CULMINATION + 1 * u.hour)
    with pytest.raises(ValueError, match="choose other times"):
        night.run_pointing(late, late.start[np.newaxis], settings, pools, PLACE)


def test_showers_of_the_response_are_refused(pools):
    with pytest.raises(ValueError, match="source_2 has showers that"):
        nights.check_is_split(pools, pools[1])
    nights.check_is_split(pools[:1], pools[1])


def test_cuts_are_applied_to_energies_and_quality(rng):
    events, _ = toy_sky.gammas(3000, 60 * u.deg, rng)
    events["ToyClassifier_prediction"] = rng.random(len(events))
    events["ToyClassifier_is_valid"] = rng.random(len(events)) < 0.9
    selected = make_event_lists.is_selected(events, cuts(0.3, 0.1 * u.TeV), NAMES)
    expected = (
        events["ToyClassifier_is_valid"]
        & (events["ToyClassifier_prediction"] >= 0.3)
        & (events["ToyEnergy_energy"] >= 0.1)
    )
    np.testing.assert_array_equal(selected, expected)
    assert 100 < selected.sum() < len(events) - 100


def write_response(path, radii):
    """A response to events within these radii, as ctapipe-compute-irf writes it."""
    energies, theta = [0.04, 0.4, 10] * u.TeV, [0, 1] * u.deg
    migra, distance = np.array([0, 0.5, 1.5, 3]), np.linspace(0, 1, 5) * u.deg
    binning = {"true_energy_bins": energies, "fov_offset_bins": theta}
    flat = np.ones((2, 1, 1)) / distance[-1].to("rad") ** 2 / np.pi
    background = np.full((2, 1), 1e-3) * u.Unit("MeV-1 s-1 sr-1")
    hdus = [
        create_aeff2d_hdu(np.full((2, 1), 1e4) * u.m**2, **binning, point_like=True),
        create_energy_dispersion_hdu(
            np.full((2, 3, 1), 1 / 3), **binning, migration_bins=migra, point_like=True
        ),
        create_psf_table_hdu(np.repeat(flat, 4, axis=1), energies, distance, theta),
        create_background_2d_hdu(background, energies, theta),
        create_rad_max_hdu(np.reshape(radii, (2, 1)) * u.deg, energies, theta),
    ]
    names = ("EFFECTIVE AREA", "ENERGY DISPERSION", "PSF", "BACKGROUND", "RAD_MAX")
    for hdu, name in zip(hdus, names, strict=True):
        hdu.name = name
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path)


def test_gammapy_counts_the_events_of_an_event_list(tmp_path):
    """Twelve events at the source, five beside the pointing, three of low energy."""
    write_response(tmp_path / "irf.fits", [0.2, 0.2])
    source = SkyCoord(83 * u.deg, 8.743 * u.deg)
    pointing = source.directional_offset_by(60 * u.deg, 0.5 * u.deg)
    other = pointing.directional_offset_by(60 * u.deg, 0.5 * u.deg)
    directions = SkyCoord([source] * 12 + [other] * 5 + [source] * 3)
    n, stop = len(directions), CULMINATION + 5 * u.min
    table = QTable(
        {
            "EVENT_ID": np.arange(n),
            "TIME": CULMINATION.tt + np.arange(n) * u.s,
            "RA": directions.ra,
            "DEC": directions.dec,
            "ENERGY": ([0.5] * 17 + [0.05] * 3) * u.TeV,
        }
    )
    table.meta = make_event_lists.header(7, CULMINATION, stop, pointing, PLACE)
    path = tmp_path / "run_0007.fits.gz"
    make_event_lists.write_run(path, table, CULMINATION, stop, tmp_path / "irf.fits")
    make_event_lists.write_index(tmp_path, [path])
    counts = analyse.li_ma(
        analyse.on_off_datasets(analyse.read_observations(tmp_path), source)
    )
    assert (counts.n_on, counts.n_off) == (12, 5)
    assert counts.alpha == pytest.approx(1 / 6)  # regions 0.5 deg off, 0.2 deg wide


def test_a_radius_that_depends_on_energy_is_refused(tmp_path):
    write_response(tmp_path / "irf.fits", [0.2, 0.1])
    with pytest.raises(ValueError, match="0.1 to 0.2 deg; set one radius"):
        make_event_lists.response_of(tmp_path / "irf.fits")


# The truth comes back


def short_night(source=0.0, background=4e-4):
    """A night of two runs, one at each side of the source."""
    settings = make_night(source, background)
    return settings._replace(runs=settings.runs[:2])


def template_of(pools, settings, response):
    stores = nights.empty_runs([response], settings, pools, PLACE)
    return template.make_template(stores, settings.source)


def draw(pools, settings, response, n_nights):
    common = template_of(pools, settings, response)
    return nights.run_nights(n_nights, pools, common, settings, NAMES, PLACE)


@pytest.fixture(scope="module")
def bright(pools):
    """Nights with a bright source, analysed with the right response."""
    return draw(pools, short_night(source=0.3), toy_sky.response(), N_BRIGHT)


def test_flux_index_and_position_are_the_planted_ones(pools, bright):
    settings = short_night(source=0.3)
    # Both pools have the same number of showers; the toy's response is exact.
    errors = np.array([nights.pool_errors(pool, settings, NAMES) for pool in pools[:2]])
    common = np.hypot(*errors) / 2
    assert (common < [0.015, 0.025, 0.001]).all()
    for name, truth, error, shared in (
        ("flux", 1, "flux_error", common[0]),
        ("index", 2.62, "index_error", common[1]),
        ("lon", 0, "position_error", common[2]),
        ("lat", 0, "position_error", common[2]),
    ):
        judged = judge.judge_pulls(bright[name], truth, bright[error], shared)
        expected = np.hypot(judged["mean_error_of_simulation"], N_BRIGHT**-0.5)
        assert abs(judged["mean"]) < 3.5 * expected, name
        assert abs(judged["width"] - 1) < 3.5 * (2 * N_BRIGHT) ** -0.5, name


def test_errors_are_those_of_counts(pools, bright):
    """Errors of a power law that is fitted to counts without background.

    Background and the errors of energies add less than a fifth.
    """
    excess = bright["n_on"] - bright["background"]
    events = vstack([pool.events for pool in pools[:2]])
    energy = np.log(events["ToyEnergy_energy"] / analyse.PIVOT.to_value("TeV"))
    lowest = analyse.ENERGY.edges[0].to_value("TeV")
    weight = events["true_energy"] ** (2 - 2.62) * (events["ToyEnergy_energy"] > lowest)
    mean = np.average(energy, weights=weight)
    variance = np.average((energy - mean) ** 2, weights=weight)
    for name, expected in (
        ("flux_error", np.sqrt(1 + mean**2 / variance)),
        ("index_error", np.sqrt(1 / variance)),
        ("position_error", 0.05),
    ):
        ratio = np.median(bright[name] * np.sqrt(excess)) / expected
        assert 0.95 < ratio < 1.2, name


@pytest.mark.parametrize("wrong", [{"area": 1.3}, {"energy": 1.2}])
def test_a_wrong_response_is_seen(pools, wrong):
    settings = short_night(source=0.3)
    found = draw(pools, settings, toy_sky.response(**wrong), 10)
    judged = judge.judge_pulls(found["flux"], 1, found["flux_error"], 0.01)
    assert not judged["mean_is_right"]
    assert abs(judged["mean"]) > 1.5


def test_nights_are_fitted_as_gammapy_does(pools):
    """The fast analysis of many nights finds what the example's analysis finds."""
    settings = short_night(source=0.3)
    response = toy_sky.response()
    fast = template_of(pools, settings, response)
    rng = np.random.default_rng(7)
    drawn = night.draw_night(pools, settings, rng)
    events = nights.events_of_night(drawn, pools, settings, NAMES, rng)
    directions = nights.directions_of(events, pools, settings, PLACE)
    found = nights.analyse_night(events, directions, fast, settings, NAMES)

    stores = nights.empty_runs([response], settings, pools, PLACE)
    events["event_id"] = np.arange(len(events))
    events["ToyClassifier_prediction"] = 1.0
    for run in stores[0]:
        own = events["obs_id"] == int(run.obs_id)
        table = make_event_lists.event_table(events[own], directions[own], NAMES)
        run.events = EventList(table)
    expected, _ = analyse.analyse(stores, settings.source)
    assert found["n_on"] == expected["n_on"][0]
    assert found["sigma"] == pytest.approx(expected["li_ma_sigma"][0], rel=1e-3)
    assert found["sqrt_ts"] == pytest.approx(expected["fit_sigma"], rel=1e-3)
    assert found["index"] == pytest.approx(expected["index"], abs=3e-3)
    flux = 0.3 * night.SPECTRA[0](analyse.PIVOT).to_value("cm-2 s-1 TeV-1")
    amplitude = expected["amplitude_cm-2_s-1_TeV-1"] / flux
    assert found["flux"] == pytest.approx(amplitude, rel=3e-3)
    # One is from the curvature at the minimum, the other one from the contour.
    assert found["flux_error"] == pytest.approx(
        expected["amplitude_error"] / flux, rel=0.1
    )


def test_ideal_nights_are_those_of_the_response(pools):
    settings = short_night(source=0.3)
    common = template_of(pools, settings, toy_sky.response())
    off = np.full((1, analyse.ENERGY.nbin), 60.0)
    ideal = nights.run_ideal_nights(N_BRIGHT, off, common, settings)
    for name, truth in (("flux", 1), ("index", 2.62)):
        pulls = (ideal[name] - truth) / ideal[f"{name}_error"]
        assert abs(pulls.mean()) < 3.5 * N_BRIGHT**-0.5, name
        assert abs(pulls.std() - 1) < 3.5 * (2 * N_BRIGHT) ** -0.5, name


def test_nights_without_a_source_are_chance(pools):
    found = draw(pools, short_night(background=1.2e-3), toy_sky.response(), 60)
    assert found["n_on"].mean() > 10
    judged = judge.judge_chance(found["sigma"])
    assert judged["is_chance"]
    assert abs(judged["mean"]) < 3.5 / np.sqrt(60)
    assert abs(judged["width"] - 1) < 3.5 / np.sqrt(120)
    # A source that is thought to be dark is seen.
    assert not judge.judge_chance(found["sigma"] + 0.7)["is_chance"]


def test_pulls_are_judged(rng):
    errors = rng.uniform(1, 2, 300)
    right = 5 + rng.normal(0, 1, 300) * errors
    judged = judge.judge_pulls(right, 5, errors, 0)
    assert judged["mean_is_right"]
    assert judged["width_is_right"]
    biased = right + 0.5 * errors
    assert not judge.judge_pulls(biased, 5, errors, 0)["mean_is_right"]
    assert judge.judge_pulls(biased, 5, errors, 0, ideal=0.5)["mean_is_right"]
    assert not judge.judge_pulls(right, 5, errors, 0, ideal=0.5)["mean_is_right"]
    assert not judge.judge_pulls(right, 5, errors / 1.3, 0)["width_is_right"]


def test_the_position_is_not_pulled_by_background(rng):
    centre = SkyCoord(83 * u.deg, 9 * u.deg)
    source = centre.directional_offset_by(40 * u.deg, 0.05 * u.deg)
    directions = _planted(source, 2000, centre, 3000, rng)
    background = 3000 * analyse.ON_RADIUS.to_value("deg") ** 2
    found = analyse.fit_position(directions, centre, background)
    assert found.centre.separation(source) < 3.5 * found.error
    assert found.error < 0.005 * u.deg


def _planted(source, n_source, centre, n_flat, rng):
    """Directions around a source, and flat ones within 1 deg of the centre."""
    signal = source.directional_offset_by(
        rng.uniform(0, 360, n_source) * u.deg, rng.rayleigh(0.05, n_source) * u.deg
    )
    flat = centre.directional_offset_by(
        rng.uniform(0, 360, n_flat) * u.deg, np.sqrt(rng.random(n_flat)) * u.deg
    )
    return SkyCoord(np.append(signal.ra, flat.ra), np.append(signal.dec, flat.dec))


# The whole chain

#: Simulated showers, in one run for each card.
FEW = {
    "sky/source_1": 200,
    "sky/source_2": 200,
    "sky/electron": 1600,
    "sky/proton": 300,
    "irf/gamma": 400,
    "irf/electron": 300,
    "irf/proton": 300,
}
FAINT = {
    "source_normalisation": 0.008,
    "electron_normalisation": 0.14,
    "proton_normalisation": 1.5e-5,
}


def write_settings(folder):
    """The example's cards and night with few showers, and as little flux."""
    for name, showers in FEW.items():
        card = yaml.safe_load((FOLDER / f"{name}.airshower.yaml").read_text())
        card.update(showers=showers, runs=1)
        if name.endswith("electron"):
            # Fainter ones are not in the spectrum, but would soon come twice.
            card["energy_min"] = "100 GeV"
        path = folder / f"{name}.airshower.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(card))
    settings = yaml.safe_load((FOLDER / "night.yaml").read_text())
    (folder / "night.yaml").write_text(yaml.safe_dump(settings | FAINT))


@pytest.mark.slow
def test_the_source_is_found_from_images_on(tmp_path):
    write_settings(tmp_path / "settings")
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(
        [FOLDER / "observe.sh", tmp_path / "out", tmp_path / "settings"],
        env={**os.environ, "PATH": programs, "NIGHTS": "3", "PROCESSES": "1"},
        check=True,
    )
    settings = night.read_night(tmp_path / "settings/night.yaml")
    flux = FAINT["source_normalisation"] * night.SPECTRA[0](analyse.PIVOT)
    for name in ("all", "two_classes"):
        figures = tmp_path / "out/figures" / name
        found = json.loads((figures / "result.json").read_text())
        # The response is of some 300 gammas near the source: its error is 10 %.
        amplitude = found["amplitude_cm-2_s-1_TeV-1"] / flux.to_value("cm-2 s-1 TeV-1")
        error = found["amplitude_error"] / flux.to_value("cm-2 s-1 TeV-1")
        assert abs(amplitude - 1) < 3.5 * np.hypot(error, 0.1), name
        assert abs(found["index"] - 2.62) < 3.5 * np.hypot(found["index_error"], 0.1)
        place = SkyCoord(found["ra_deg"], found["dec_deg"], unit="deg")
        distance = place.separation(settings.source).deg
        assert distance < 4 * found["position_error_deg"], name
        assert found["fit_sigma"] > 3
        for figure in ("theta2", "map", "spectrum"):
            assert (figures / f"{figure}.png").stat().st_size > 5000
        summary = tmp_path / "out/nights" / name / "summary.json"
        assert json.loads(summary.read_text())["nights"] == 3
