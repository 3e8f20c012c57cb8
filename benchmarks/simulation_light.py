"""Whether telescopes see as much light as those of CTAO's simulations, link by link.

The links: photoelectrons per photon by wavelength; photons of gamma rays, once their
first interaction is put where that of the official shower was; photoelectrons of these
photons; what dark pixels hold. `simulation_physics` runs these checks.
"""

from dataclasses import dataclass

import numpy as np
from checks import Check, around
from ctapipe.image.extractor import LocalPeakWindowSum, NeighborPeakWindowSum

from ctapipe_gammaphysnet.simulation.atmosphere import ATMOSPHERES, overburden
from ctapipe_gammaphysnet.simulation.camera import make_camera, pixel_hits, waveforms
from ctapipe_gammaphysnet.simulation.cherenkov import (
    YIELD_STEP_M,
    Targets,
    photoelectron_yield,
)
from ctapipe_gammaphysnet.simulation.efficiency import FACTORS, efficiency
from ctapipe_gammaphysnet.simulation.electromagnetic import draw_pair
from ctapipe_gammaphysnet.simulation.extinction import transmission
from ctapipe_gammaphysnet.simulation.hadrons import load_hadron_table
from ctapipe_gammaphysnet.simulation.instruments import SITES, make_subarray
from ctapipe_gammaphysnet.simulation.optics import MIRRORS, pointing_axes, reflect
from ctapipe_gammaphysnet.simulation.particles import Particle
from ctapipe_gammaphysnet.simulation.shower import simulate
from ctapipe_gammaphysnet.simulation.state import Air
from ctapipe_gammaphysnet.simulation.vectors import from_altaz

LST = MIRRORS["LST"]
SPHERE_M = 12.5  # in which official files count the photons of an LST
NEW_MIRRORS = 1 / FACTORS["LSTCam"].degradation

# CTAO's sixth production: in percent, quantum efficiency of LST 2 to 4, reflectivity of
# the mirror, transmission of the window; optical depth to 10 km, rounded as shown.
WAVELENGTH_NM = [300, 320, 400, 500]
QUANTUM, REFLECTED, WINDOW = (
    [34.8, 39.6, 41.8, 25.4],
    [86.4, 89.9, 93.1, 91.2],
    [71.4, 83.7, 91.3, 91.9],
)
DEPTH_TO_10_KM = {
    "la_palma": [0.80, 0.51, 0.216, 0.101],
    "paranal": [0.86, 0.56, 0.261, 0.137],
}
DEPTH_ROUNDING = [0.005, 0.005, 0.0005, 0.0005]

# Photoelectrons per photon of 240 to 900 nm in the sphere, by site, zenith angle in deg
# and height in km of the light. First, those of CTAO's fifth and sixth production; the
# mirrors of the latter are of LST-2, which reflect 1 % less. Then, the curves above and
# the official profiles of the air, with the extinction fitted to the official tables.
PER_PHOTON = [
    ("la_palma", 20, 10, 0.0672 / NEW_MIRRORS, "5th production of CTAO"),
    ("la_palma", 20, 12, 0.0510 / 0.99, "6th production of CTAO"),
    ("la_palma", 0, 6, 0.06172, "official curves and profile"),
    ("la_palma", 0, 10, 0.05494, "official curves and profile"),
    ("la_palma", 0, 14, 0.05136, "official curves and profile"),
    ("paranal", 0, 6, 0.05870, "official curves and profile"),
    ("paranal", 0, 10, 0.05236, "official curves and profile"),
    ("paranal", 0, 14, 0.04905, "official curves and profile"),
]


def ground_m(site):
    """Height of a site above the sea."""
    return SITES[site].location.height.to_value("m")


def check_efficiency():
    """Photoelectrons per photon by wavelength, from 10 km, and of all light."""
    nm, ours = efficiency("LSTCam", LST.radius_m)
    constant = 0.828 * 0.960 * 0.80 * 364.8 / (np.pi * LST.radius_m**2)
    for site, depths in DEPTH_TO_10_KM.items():
        for i, wavelength in enumerate(WAVELENGTH_NM):
            curves = QUANTUM[i] * REFLECTED[i] * WINDOW[i] * 1e-6
            share = transmission(site, 10e3, ground_m(site), float(wavelength), 1.0)
            yield around(
                f"{site}: p.e. per photon of {wavelength} nm from 10 km",
                share * np.interp(wavelength, nm, ours),
                curves * constant * np.exp(-depths[i]),
                0.01 + DEPTH_ROUNDING[i],
                "models of CTAO, 1 % and rounding",
            )
    for site, zenith_deg, height_km, expected, reference in PER_PHOTON:
        yield around(
            f"{site}, {zenith_deg} deg: p.e. per photon from {height_km} km",
            per_photon(site, np.cos(np.radians(zenith_deg)), height_km),
            expected,
            0.01,
            reference,
        )
    yield check_nectarcam()


# The same gamma ray as `NEW_MIRROR_GAMMA`: photons in spheres of 8.6 m, and
# photoelectrons, of the four NectarCams within 200 m of its core. The mirrors of all
# telescopes are new.
NECTARCAM_PHOTONS = [67382, 45775, 36803, 32652]
NECTARCAM_PHOTOELECTRONS = [2602, 1700, 1293, 1205]


def check_nectarcam():
    """Photoelectrons per photon of a NectarCam relative to an LST."""
    official = np.sum(NECTARCAM_PHOTOELECTRONS) / np.sum(NECTARCAM_PHOTONS)
    official /= np.sum(NEW_MIRROR_GAMMA.photoelectrons) / np.sum(
        NEW_MIRROR_GAMMA.photons
    )
    cos_zenith = np.cos(np.radians(20))
    i = round(10e3 / YIELD_STEP_M)
    mst = yield_of_telescopes("la_palma", cos_zenith, "NectarCam", 8.6)
    lst = yield_of_telescopes("la_palma", cos_zenith, "LSTCam", SPHERE_M) * NEW_MIRRORS
    return around(
        "NectarCam: p.e. per photon relative to an LST with new mirrors",
        mst[i] / lst[i],
        official,
        0.05,
        "5th production of CTAO",
    )


def per_photon(site, cos_zenith, height_km):
    """Photoelectrons of an LST per photon of 240 to 900 nm in its sphere."""
    made = yield_of_telescopes(site, cos_zenith)
    emitted = yield_of_photons(site, cos_zenith, (240, 900))
    i = round(height_km * 1e3 / YIELD_STEP_M)
    return LST.radius_m**2 / SPHERE_M**2 * made[i] / emitted[i]


def yield_of_telescopes(site, cos_zenith, camera="LSTCam", radius_m=LST.radius_m):
    """Photoelectrons per m of track of photons that hit a disc, by height."""
    curve = efficiency(camera, radius_m)
    return photoelectron_yield(ground_m(site), cos_zenith, *curve, site=site)


def yield_of_photons(site, cos_zenith, band_nm):
    """Photons of a band per m of track, by height, none of them lost."""
    nm = np.arange(band_nm[0], band_nm[1] + 1.0)
    return photoelectron_yield(ground_m(site), cos_zenith, nm, np.ones_like(nm))


NORTH_M = [(-70.9, -52.1, 43), (-35.3, 66.1, 32), (75.3, 50.5, 28.7), (30.9, -64.5, 32)]
SOUTH_M = [(-20.6, -64.8, 34), (80.0, -0.8, 29), (-19.4, 65.2, 31), (-105.1, 1.2, 33)]


@dataclass(frozen=True)
class GammaRay:
    """A gamma ray of a public file of CTAO (CORSIKA and sim_telarray)."""

    core_m: tuple
    first_interaction_km: float
    photons: tuple
    """In the sphere of each LST, before any is lost."""

    photoelectrons: tuple = ()
    """In each LST."""

    energy_gev: float = 100.0
    alt_deg: float = 50.0
    az_deg: float = 180.0
    pointing_deg: tuple = (50.0, 180.0)
    site: str = "paranal"
    band_nm: tuple = (240, 1000)
    telescopes_m: tuple = tuple(SOUTH_M)
    mirrors: float = 1.0
    """Reflectivity of the mirrors relative to ours."""


def northern(*values, **others):
    """Describe a gamma ray at La Palma."""
    common = {"alt_deg": 70.0, "pointing_deg": (70.0, 180.0), "site": "la_palma"}
    return GammaRay(*values, **(common | {"telescopes_m": tuple(NORTH_M)} | others))


# Test data of pyeventio: gamma_prod6_lst_nectarcam (of the fifth production, by its own
# text), -camsettings, -names.
NEW_MIRROR_GAMMA = northern(
    (43.45, -51.33),
    41.76,
    (158876, 103689, 148448, 122923),
    (10289, 6737, 9931, 8651),
    energy_gev=1296.4,
    alt_deg=69.844,
    az_deg=358.255,
    pointing_deg=(70.0, 0.0),
    band_nm=(240, 900),
    mirrors=NEW_MIRRORS,
)
NORTHERN_GAMMAS = [
    northern(
        (17.95, -37.77),
        62.91,
        (20685, 10199, 10642, 17244),
        (1139, 526, 492, 892),
        energy_gev=200.0,
        band_nm=(240, 900),
    ),
    northern(
        (-76.02, -59.57),
        47.28,
        (4994, 4163, 3404, 4479),
        (235, 189, 160, 185),
        energy_gev=75.0,
    ),
]
# Test data of simtools, run 7: events 10, 15, 17 and 19, which triggered.
SOUTHERN_GAMMAS = [
    GammaRay((-21.14, -206.61), 18.19, (8508, 3880, 2566, 4742), (375, 173, 112, 186)),
    GammaRay((-83.56, -290.95), 20.85, (5260, 2351, 2491, 3465), (232, 103, 71, 161)),
    GammaRay((234.64, -70.98), 15.88, (10535, 6999, 5000, 3653), (485, 335, 219, 164)),
    GammaRay((108.14, 59.30), 31.22, (3625, 4511, 4511, 4975), (156, 206, 194, 195)),
]
# The first nine showers of that run, none of which triggered.
DARK_GAMMAS = [
    GammaRay((-353.37, 326.15), 21.01, (1136, 991, 2072, 2161)),
    GammaRay((579.70, -506.61), 30.68, (415, 419, 385, 331)),
    GammaRay((287.70, 486.34), 22.17, (618, 889, 975, 825)),
    GammaRay((-529.51, 2.41), 19.07, (1092, 883, 1380, 1793)),
    GammaRay((-438.72, -395.13), 28.27, (1015, 798, 593, 964)),
    GammaRay((-920.27, -263.40), 17.30, (386, 321, 606, 579)),
    GammaRay((-136.86, -318.36), 13.70, (4141, 1972, 2029, 2359)),
    GammaRay((663.79, -157.29), 26.59, (672, 869, 646, 464)),
    GammaRay((-662.67, -143.01), 32.00, (603, 445, 431, 670)),
]


def targets_of(gamma, radius_m, yield_per_m, focus_m):
    """Place the telescopes around the core of a gamma ray."""
    positions = np.array(gamma.telescopes_m) - [*gamma.core_m, 0]
    positions[:, 2] += ground_m(gamma.site)
    air = ATMOSPHERES[gamma.site]
    depths = np.array([overburden(air, z) for z in positions[:, 2]])
    each = np.ones(len(positions))
    return Targets(
        position_m=positions,
        overburden=depths,
        kind=np.zeros(len(positions), int),
        radius_m=radius_m * each,
        focus_m=focus_m * each,
        yield_per_m=yield_per_m[np.newaxis],
        photoelectrons_per_point=400.0,
    )


def forced_light(gamma, targets, seed):
    """Light of a gamma ray that makes a pair where the official one interacted.

    Yields target and rays of either half of the shower.
    """
    site = SITES[gamma.site]
    air = Air(
        ground_m(gamma.site),
        site.magnetic_field_ut,
        load_hadron_table(),
        ATMOSPHERES[gamma.site],
    )
    sky = from_altaz(np.radians(gamma.alt_deg), np.radians(gamma.az_deg))
    down = tuple(-component for component in sky)
    rng = np.random.default_rng(seed)
    electron_gev = gamma.energy_gev * draw_pair(rng, gamma.energy_gev)
    for particle, energy_gev in (
        (Particle.ELECTRON, electron_gev),
        (Particle.POSITRON, gamma.energy_gev - electron_gev),
    ):
        start_m = gamma.first_interaction_km * 1e3
        half = simulate(rng, air, targets, particle, energy_gev, down, start_m)
        yield half.photoelectrons.target, half.photoelectrons.ray, rng


def photons(gamma, n_showers):
    """Photons in the sphere of each telescope, shape (n_showers, 4)."""
    table = yield_of_photons(gamma.site, cos_zenith(gamma), gamma.band_nm)
    targets = targets_of(gamma, SPHERE_M, table, 1e9)
    counts = np.zeros((n_showers, 4))
    for i in range(n_showers):
        for target, _, _ in forced_light(gamma, targets, [1, i]):
            counts[i] += np.bincount(target, minlength=4)
    return counts


def cos_zenith(gamma):
    """Cosine of the zenith angle of the pointing."""
    return np.sin(np.radians(gamma.pointing_deg[0]))


def photoelectrons(gamma, n_showers):
    """Photoelectrons in the camera of each telescope, shape (n_showers, 4)."""
    table = yield_of_telescopes(gamma.site, cos_zenith(gamma)) * gamma.mirrors
    targets = targets_of(gamma, LST.radius_m, table, LST.focus_m)
    axes = pointing_axes(*np.radians(gamma.pointing_deg))
    camera = lst_camera()
    counts = np.zeros((n_showers, 4))
    for i in range(n_showers):
        for target, rays, rng in forced_light(gamma, targets, [2, i]):
            for k in range(4):
                landed = reflect(rng, rays[target == k], axes, LST)
                counts[i, k] += len(pixel_hits(landed, camera)[0])
    return counts


def lst_camera():
    """Describe the camera of an LST, without night sky."""
    camera = make_subarray("lst1", "la_palma").tel[1].camera
    return make_camera(camera.geometry, camera.readout.n_samples, 0.0)


def n_showers(gamma):
    """How many of our showers stand against one official one."""
    return 40 if gamma.energy_gev > 500 else 150


def check_photons():
    """Photons at the telescopes, with the first interaction where it was."""
    every = [NEW_MIRROR_GAMMA, *NORTHERN_GAMMAS, *SOUTHERN_GAMMAS, *DARK_GAMMAS]
    differences, spreads = [], []
    for gamma in every:
        ours = np.log(np.maximum(photons(gamma, n_showers(gamma)), 0.5)).mean(axis=1)
        differences.append(ours.mean() - np.log(gamma.photons).mean())
        spreads.append(ours.std(ddof=1))
    weights = 1 / np.square(spreads)
    mean = np.average(differences, weights=weights)
    error = np.sqrt(1 / weights.sum())
    yield around(
        f"{len(every)} gamma rays of CTAO: our photons over theirs",
        np.exp(mean),
        1.0,
        0.05,
        f"statistical error {error:.2f}",
    )


def check_telescope():
    """Photoelectrons per photon at the telescopes, showers as in `check_photons`."""
    for title, gammas in (
        ("La Palma, 20 deg, new mirrors", [NEW_MIRROR_GAMMA]),
        ("La Palma, 20 deg", NORTHERN_GAMMAS),
        ("Paranal, 40 deg", SOUTHERN_GAMMAS),
    ):
        made = sum(np.sum(gamma.photoelectrons) for gamma in gammas)
        expected = 0
        for gamma in gammas:
            n = n_showers(gamma)
            ours = photoelectrons(gamma, n).sum() / photons(gamma, n).sum()
            expected += np.sum(gamma.photons) * ours
        yield around(
            f"LST: p.e. per photon relative to CTAO's, {title}",
            expected / made,
            1.0,
            0.03 + 2 / np.sqrt(made),
            "3 % and two standard errors",
        )


# Mean and standard deviation of dark pixels in photoelectrons, lowest and highest of
# the 20 images of LSTCam and 29 of NectarCam in public files of CTAO's fifth and sixth
# production, whose night sky is 0.21 to 0.25 GHz.
DARK_PIXELS = {
    ("lst1", LocalPeakWindowSum): ((1.55, 1.94), (1.18, 1.49)),
    ("lst1", NeighborPeakWindowSum): ((-0.15, 0.06), (1.17, 1.45)),
    ("nectarcam1", LocalPeakWindowSum): ((1.83, 2.09), (1.08, 1.37)),
    ("nectarcam1", NeighborPeakWindowSum): ((-0.08, 0.06), (1.08, 1.31)),
}


def check_dark_pixels():
    """Pedestal and noise of images of the night sky, by both image extractors."""
    for (array, extractor), ranges in DARK_PIXELS.items():
        images = night_sky_images(array, extractor, 20)
        title = f"{array}, {extractor.__name__}: dark pixels"
        for name, value, limits in zip(
            ("mean", "deviation"), (images.mean(), images.std()), ranges, strict=True
        ):
            yield Check(f"{title}, {name} in p.e.", value, *limits, "images of CTAO")


def night_sky_images(array, extractor, n_images):
    """Images without a shower at the default rate, shape (n_images, n_pixels)."""
    subarray = make_subarray(array, "la_palma")
    (tel_id,) = subarray.tel
    camera = subarray.tel[tel_id].camera
    ours = make_camera(camera.geometry, camera.readout.n_samples, 0.24)
    extract = extractor(subarray)
    rng = np.random.default_rng(1)
    no_light = np.zeros(0, int), np.zeros(0)
    first_gain = np.zeros(ours.n_pixels, np.int8)
    none_broken = np.zeros((1, ours.n_pixels), bool)
    images = []
    for _ in range(n_images):
        recorded = waveforms(rng, *no_light, ours)[np.newaxis]
        images.append(extract(recorded, tel_id, first_gain, none_broken).image)
    return np.array(images).reshape(n_images, -1)
