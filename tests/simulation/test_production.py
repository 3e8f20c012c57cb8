"""Events of a card are what telescopes see of showers, and the same every time."""

import dataclasses

import astropy.units as u
import numpy as np
import pytest
from ctapipe.image import hillas_parameters, tailcuts_clean
from ctapipe.instrument import SubarrayDescription

from ctapipe_gammaphysnet.simulation import production as production_module
from ctapipe_gammaphysnet.simulation.card import AirShowerCard
from ctapipe_gammaphysnet.simulation.conditions import draw_conditions
from ctapipe_gammaphysnet.simulation.instruments import ARRAYS, make_subarray
from ctapipe_gammaphysnet.simulation.primaries import Primary, draw_primary
from ctapipe_gammaphysnet.simulation.production import Production
from ctapipe_gammaphysnet.simulation.vectors import from_altaz

C = 0.299792458  # m/ns
ALTITUDE_DEG, AZIMUTH_DEG = 70.0, 180.0


def make_production(altitude=ALTITUDE_DEG, azimuth=AZIMUTH_DEG, **values):
    card = AirShowerCard(
        **{
            "particle": "gamma",
            "showers": 8,
            "seed": 3,
            "reuse": 2,
            "energy_min": 100 * u.GeV,
            "energy_max": 500 * u.GeV,
            "scatter_radius": 200 * u.m,
            "array": "lst4",
            "pointing": {"altitude": altitude * u.deg, "azimuth": azimuth * u.deg},
        }
        | values
    )
    return Production(card, make_subarray(card.array, card.site))


@pytest.fixture(scope="module")
def production():
    return make_production()


@pytest.fixture(scope="module")
def events(production):
    events = list(production.events(1))
    assert len(events) > 5
    return events


@pytest.fixture
def fix_showers(monkeypatch):
    """Let all showers be the same but for their random numbers."""

    def fix(energy_gev, *cores_m, alt_deg=ALTITUDE_DEG, az_deg=AZIMUTH_DEG):
        cores = np.array(cores_m, float).T
        primary = Primary(energy_gev, np.radians(alt_deg), np.radians(az_deg), *cores)

        def draw(card, run, shower):
            return primary, np.random.default_rng([card.seed, run, shower])

        monkeypatch.setattr(production_module, "draw_primary", draw)

    return fix


def assert_equal_events(one, other):
    for field in dataclasses.fields(one):
        if field.name != "telescopes":
            assert getattr(one, field.name) == getattr(other, field.name)
    assert list(one.telescopes) == list(other.telescopes)
    for tel_id, telescope in one.telescopes.items():
        for name, value in dataclasses.asdict(telescope).items():
            other_value = getattr(other.telescopes[tel_id], name)
            np.testing.assert_array_equal(value, other_value)


def positions_m(subarray):
    return {i: p.to_value(u.m) for i, p in subarray.positions.items()}


def test_events_are_the_same_whatever_comes_first(production, events):
    other = make_production(showers=4)
    later_run = list(other.events(2))
    fewer = list(other.events(1))
    assert 0 < len(fewer) < len(events)
    for one, again in zip(fewer, events, strict=False):
        assert_equal_events(one, again)
    for one, again in zip(later_run, production.events(2), strict=False):
        assert_equal_events(one, again)
    assert later_run[0].energy_gev != fewer[0].energy_gev


def test_another_seed_makes_other_events(events):
    other = next(make_production(seed=4).events(1))
    assert other.energy_gev != events[0].energy_gev


def test_events_tell_shower_and_use_and_their_truth(production, events):
    ids = [event.event_id for event in events]
    assert ids == sorted(set(ids))
    assert {i % 100 for i in ids} == {0, 1}
    for event in events:
        shower, use = divmod(event.event_id, 100)
        primary, _ = draw_primary(production.card, 1, shower)
        assert event.energy_gev == primary.energy_gev
        assert (event.alt_rad, event.az_rad) == (primary.alt_rad, primary.az_rad)
        assert event.core_x_m == primary.core_x_m[use]
        assert event.core_y_m == primary.core_y_m[use]
        assert 5e3 < event.h_first_interaction_m < 60e3
        assert 100 < event.x_max_g_cm2 < 600
    by_shower = {}
    for event in events:
        by_shower.setdefault(event.event_id // 100, set()).add(event.x_max_g_cm2)
    assert all(len(depths) == 1 for depths in by_shower.values())


def test_events_have_at_least_the_demanded_telescopes():
    faint = {"energy_min": 20 * u.GeV, "energy_max": 60 * u.GeV, "showers": 15}
    every = list(make_production(**faint, multiplicity=1).events(1))
    counts = np.array([len(event.telescopes) for event in every])
    assert set(counts) == {1, 2, 3, 4}
    for multiplicity in (2, 4):
        some = list(make_production(**faint, multiplicity=multiplicity).events(1))
        assert len(some) == (counts >= multiplicity).sum()
        expected = (e for e in every if len(e.telescopes) >= multiplicity)
        for one, other in zip(some, expected, strict=True):
            assert_equal_events(one, other)


def test_true_images_count_and_waveforms_have_the_cameras_shape(production, events):
    subarray = make_subarray("lst4", "la_palma")
    for event in events:
        for tel_id, telescope in event.telescopes.items():
            camera = subarray.tel[tel_id].camera
            shape = (camera.geometry.n_pixels, camera.readout.n_samples)
            assert telescope.waveforms.shape == shape
            assert telescope.waveforms.dtype == np.float32
            assert telescope.true_image.shape == shape[:1]
            assert telescope.true_image.dtype == np.int32
            assert telescope.true_image.min() == 0
            # what triggers is about 26 photoelectrons at once
            assert telescope.true_image.sum() > 15


@pytest.mark.parametrize("rate_ghz", [0.0, 0.24, 1.0])
def test_waveforms_add_up_to_true_photoelectrons(fix_showers, rate_ghz):
    production = make_production(showers=4, night_sky_rate=rate_ghz * u.GHz)
    fix_showers(700.0, (0, 0))
    charge, true, dark = 0, 0, []
    for event in production.events(1):
        for telescope in event.telescopes.values():
            sums = telescope.waveforms.sum(axis=1)
            bright = telescope.true_image > 30
            charge += sums[bright].sum()
            true += telescope.true_image[bright].sum()
            dark.append(sums[telescope.true_image == 0].mean())
    assert true > 5000
    assert charge / true == pytest.approx(1, abs=0.03)
    assert np.mean(dark) == pytest.approx(0, abs=0.02 + 0.1 * rate_ghz)


def test_without_night_sky_dark_pixels_are_quiet():
    quiet, dark = (
        next(make_production(night_sky_rate=rate * u.GHz).events(1))
        for rate in (0, 0.5)
    )
    noise = []
    for event in (quiet, dark):
        telescope = next(iter(event.telescopes.values()))
        noise.append(telescope.waveforms[telescope.true_image == 0].std())
    assert 0 < noise[0] < 0.12
    assert noise[1] > 2 * noise[0]


def test_each_run_has_its_own_night_sky():
    production = make_production(
        night_sky_rate=["0.1 GHz", "1 GHz"], showers=20, energy_min=200 * u.GeV
    )
    ratios = []
    for run in (1, 2, 3):
        event = next(production.events(run))
        rate = draw_conditions(production.card, run).night_sky_rate.to_value("1/ns")
        telescope = next(iter(event.telescopes.values()))
        dark = telescope.waveforms[telescope.true_image == 0]
        # Of sums of 40 samples: that of Poisson's law, with amplitudes spread by 0.35,
        # and of the noise.
        expected = 40 * (rate * (1 + 0.35**2) + 0.08**2)
        ratios.append(dark.sum(axis=1).var() / expected)
    assert ratios == pytest.approx([1] * 3, abs=0.12)


def test_telescopes_look_where_their_run_points():
    """Showers from the pointing are at the centres of the cameras."""
    production = make_production(
        pointing={"altitude": ["40 deg", "80 deg"], "azimuth": ["0 deg", "360 deg"]},
        scatter_radius=50 * u.m,
        energy_min=400 * u.GeV,
    )
    geometry = make_subarray("lst4", "la_palma").tel[1].camera.geometry
    for run in (1, 2, 3):
        images = [
            telescope.true_image
            for event in production.events(run)
            for telescope in event.telescopes.values()
        ]
        x, y = np.average(
            [geometry.pix_x.value, geometry.pix_y.value], 1, np.sum(images, axis=0)
        )
        assert len(images) > 4
        assert np.hypot(x, y) < 0.4  # m; 0.8 deg


def test_far_showers_do_not_trigger(fix_showers):
    production = make_production(showers=10, multiplicity=1)
    fix_showers(300.0, (3000, 0), (0, -3000), (0, 0))
    assert {event.event_id % 100 for event in production.events(1)} == {2}


def mean_x_max(production):
    x_max = [event.x_max_g_cm2 for event in production.events(1)]
    assert len(x_max) == production.card.showers
    return np.mean(x_max)


def test_x_max_grows_with_energy_and_is_vertical(fix_showers):
    """Radiation lengths in the slant depth, about 80 g/cm² per decade."""
    depths = {}
    for energy_gev, altitude, showers in ((80, 70, 50), (800, 70, 12), (250, 45, 30)):
        core_m = 0, 0
        fix_showers(energy_gev, core_m, alt_deg=altitude)
        production = make_production(altitude, showers=showers, multiplicity=1)
        depths[energy_gev] = mean_x_max(production) / np.sin(np.deg2rad(altitude))
    for energy_gev, depth in depths.items():
        expected = 36.62 * np.log(energy_gev / 0.081)  # K. Greisen
        assert depth == pytest.approx(expected, abs=40)
    assert 40 < depths[800] - depths[80] < 130


def image_axes(image, geometry):
    """Centroid in the camera, direction of the major axis, and size."""
    clean = tailcuts_clean(geometry, image, picture_thresh=8, boundary_thresh=4)
    hillas = hillas_parameters(geometry[clean], image[clean])
    psi = hillas.psi.to_value(u.rad)
    return (
        np.array([hillas.x.to_value(u.m), hillas.y.to_value(u.m)]),
        np.array([np.cos(psi), np.sin(psi)]),
        hillas.intensity,
    )


@pytest.mark.parametrize(("altitude", "azimuth"), [(70.0, 180.0), (50.0, 75.0)])
def test_images_lie_on_the_side_of_the_core_and_point_to_the_source(
    fix_showers, altitude, azimuth
):
    """A camera's x grows with altitude, its y with azimuth. The shower's maximum,
    some kilometres up its axis, is seen from a telescope in the direction of the source
    plus the way to the core over that distance."""
    alt, az = np.radians([altitude, azimuth])
    sky = np.array(from_altaz(alt, az))
    up = (np.array(from_altaz(alt + 1e-5, az)) - sky) / 1e-5
    right = (np.array(from_altaz(alt, az + 1e-5)) - sky) / 1e-5 / np.cos(alt)
    core_m = np.array([20.0, 30.0, 0.0])
    production = make_production(altitude, azimuth, showers=12)
    fix_showers(500.0, core_m[:2], alt_deg=altitude, az_deg=azimuth)
    subarray = make_subarray("lst4", "la_palma")
    misses, distances = [], []
    for event in production.events(1):
        for tel_id, telescope in event.telescopes.items():
            geometry = subarray.tel[tel_id].camera.geometry
            focal_length = geometry.frame.focal_length.to_value(u.m)
            centroid, axis, _ = image_axes(telescope.true_image, geometry)
            to_core = core_m - positions_m(subarray)[tel_id]
            expected = np.array([to_core @ up, to_core @ right])
            angle = np.linalg.norm(centroid) / focal_length
            distances.append(np.linalg.norm(expected) / angle)
            across = (
                np.cross(np.append(centroid, 0), np.append(expected, 0))[2]
                / np.linalg.norm(expected)
                / np.linalg.norm(centroid)
            )
            assert centroid @ expected > 0
            misses.append(
                (np.degrees(abs(across)), abs(np.linalg.det([centroid, axis])))
            )
    assert len(misses) > 40
    off_deg, miss_m = np.median(misses, axis=0)
    assert off_deg < 12
    assert miss_m < 0.1  # 0.2°
    # of the shower's maximum, some 8 km above the ground
    assert 6e3 < np.median(distances) * np.sin(alt) < 11e3


@pytest.mark.parametrize(("altitude", "azimuth"), [(50.0, 40.0), (60.0, 270.0)])
def test_telescopes_trigger_when_light_reaches_them(fix_showers, altitude, azimuth):
    sky = from_altaz(*np.radians([altitude, azimuth]))
    core_m = np.array([10.0, -20.0, 0.0])
    fix_showers(800.0, core_m[:2], alt_deg=altitude, az_deg=azimuth)
    production = make_production(altitude, azimuth, showers=4)
    positions = positions_m(make_subarray("lst4", "la_palma"))
    events = list(production.events(1))
    assert len(events) == 4
    for event in events:
        expected = {i: -(p - core_m) @ sky / C for i, p in positions.items()}
        assert np.ptp(list(expected.values())) > 100
        for tel_id, telescope in event.telescopes.items():
            # after about 10 ns: the slowness of light in air, and the telescope
            assert abs(telescope.trigger_time_ns - expected[tel_id] - 5) < 10


@pytest.mark.parametrize("array", ARRAYS)
@pytest.mark.parametrize("particle", ["gamma", "electron", "proton"])
def test_every_array_sees_every_primary(array, particle):
    production = make_production(
        array=array,
        particle=particle,
        showers=15 if particle == "proton" else 4,
        reuse=6,
        multiplicity=1,
        energy_min=800 * u.GeV,
        energy_max=900 * u.GeV,
        view_cone=1 * u.deg,
        scatter_radius=(250 if array == "lst4_mst9" else 120) * u.m,
    )
    seen = {tel_id for event in production.events(1) for tel_id in event.telescopes}
    assert seen == set(ARRAYS[array])


def test_each_type_has_its_own_camera():
    production = make_production(array="lst4_mst9", energy_min=400 * u.GeV)
    subarray = make_subarray("lst4_mst9", "la_palma")
    types = set()
    for event in production.events(1):
        for tel_id, telescope in event.telescopes.items():
            camera = subarray.tel[tel_id].camera
            shape = (camera.geometry.n_pixels, camera.readout.n_samples)
            assert telescope.waveforms.shape == shape
            types.add(camera.name)
    assert types == {"LSTCam", "NectarCam"}


def test_medium_sized_telescopes_see_less(fix_showers):
    """An LST has 3.6 times the mirrors of an MST, but sees a smaller part of the sky;
    the light of both falls with the distance from the axis beyond 130 m."""
    production = make_production(70.0, 0.0, array="lst4_mst9", multiplicity=1)
    fix_showers(1000.0, (0.0, 0.0), az_deg=0.0)
    light = {tel_id: [] for tel_id in production._tel_ids}
    for event in production.events(1):
        for tel_id, telescope in event.telescopes.items():
            light[tel_id].append(telescope.true_image.sum())
    near = np.mean(light[1]) / np.mean(light[19])
    assert 2 < near < 8
    means = [np.mean(light[tel_id]) for tel_id in (10, 11, 14)]  # 203, 273, 353 m
    assert means[0] > means[1] > means[2] > 30


# Four gamma rays of 100 GeV at Paranal, 40 deg from the zenith: cores, and true
# photoelectrons in four LSTs, whose positions follow (CTAO's sixth production).
OFFICIAL_CORES_M = [
    (-21.14, -206.61),
    (-83.56, -290.95),
    (234.64, -70.98),
    (108.14, 59.30),
]
OFFICIAL_LIGHT = [
    (375, 173, 112, 186),
    (232, 103, 71, 161),
    (485, 335, 219, 164),
    (156, 206, 194, 195),
]
SOUTH_M = [
    (-20.63, -64.84, 34.0),
    (80.04, -0.77, 29.0),
    (-19.39, 65.22, 31.0),
    (-105.06, 1.15, 33.0),
]


def test_gamma_rays_make_the_light_of_official_ones(fix_showers, monkeypatch):
    """Each official one fluctuates by a quarter. Light counts without a trigger."""
    monkeypatch.setattr(production_module, "may_trigger", lambda *_: True)
    monkeypatch.setattr(production_module, "trigger_time", lambda *_: 0)
    lst4 = make_subarray("lst4", "paranal")
    south = SubarrayDescription(
        name="south",
        tel_positions={i + 1: SOUTH_M[i] * u.m for i in range(4)},
        tel_descriptions=lst4.tel,
        reference_location=lst4.reference_location,
    )
    fix_showers(100.0, *OFFICIAL_CORES_M, alt_deg=50)
    showers = 25
    card = make_production(
        altitude=50, site="paranal", showers=showers, multiplicity=1
    ).card
    light = np.zeros(4)
    for event in Production(card, south).events(1):
        for telescope in event.telescopes.values():
            light[event.event_id % 100] += telescope.true_image.sum() / showers
    official = np.sum(OFFICIAL_LIGHT, axis=1)
    np.testing.assert_allclose(np.log(light / official), 0, atol=0.6)
    assert light.sum() == pytest.approx(official.sum(), rel=0.25)
