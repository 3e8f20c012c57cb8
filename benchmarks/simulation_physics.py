"""Whether simulated air showers are right: a table of quantities with references.

Each quantity has a tolerance; the exit status is 1 if one of them is outside::

    python benchmarks/simulation_physics.py

Takes about fifteen minutes on one core; ``--only`` and ``--skip`` choose groups.
"""

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.coordinates import angular_separation
from checks import Check, around, print_checks, print_header
from ctapipe.image import ImageProcessor, hillas_parameters, tailcuts_clean
from ctapipe.image.muon import kundu_chaudhuri_circle_fit
from ctapipe.reco import ShowerProcessor
from simulation_arrays import check_types
from simulation_light import (
    check_dark_pixels,
    check_efficiency,
    check_photons,
    check_telescope,
)
from simulation_official import check_official
from traitlets.config import Config

from ctapipe_gammaphysnet.simulation.atmosphere import (
    ATMOSPHERES,
    overburden,
    refractivity,
)
from ctapipe_gammaphysnet.simulation.card import AirShowerCard
from ctapipe_gammaphysnet.simulation.cherenkov import Targets, photoelectron_yield
from ctapipe_gammaphysnet.simulation.conditions import draw_conditions
from ctapipe_gammaphysnet.simulation.hadrons import load_hadron_table
from ctapipe_gammaphysnet.simulation.instruments import SITES, make_subarray
from ctapipe_gammaphysnet.simulation.particles import MASS_GEV, Particle
from ctapipe_gammaphysnet.simulation.primaries import Primary
from ctapipe_gammaphysnet.simulation.production import Production
from ctapipe_gammaphysnet.simulation.shower import simulate
from ctapipe_gammaphysnet.simulation.source import AirShowerEventSource
from ctapipe_gammaphysnet.simulation.state import Air, Ledger

GROUND_M = 2158.0
RADIUS_M = 11.5
EFFECTIVE_M = 29.237  # focal length, with coma
AIR = ATMOSPHERES["la_palma"]
DOWN = (0.0, 0.0, -1.0)
#: Image cleaning, thresholds in photoelectrons.
CLEANING = {
    "picture_thresh": 8,
    "boundary_thresh": 4,
    "min_number_picture_neighbors": 2,
}


def make_air():
    """Describe the air and the field at La Palma."""
    field_ut = SITES["la_palma"].magnetic_field_ut
    return Air(GROUND_M, field_ut, load_hadron_table(), AIR)


def ring_of_targets(distances_m, site=None):
    """Place discs of 11.5 m radius that count photons, four at each distance.

    Without a site, the air takes no light away.
    """
    wavelength_nm = np.linspace(300, 600, 151)
    angle = np.arange(4) * np.pi / 2
    positions = np.array(
        [(r * np.cos(a), r * np.sin(a), GROUND_M) for r in distances_m for a in angle]
    )
    return Targets(
        position_m=positions,
        overburden=np.full(len(positions), overburden(AIR, GROUND_M)),
        kind=np.zeros(len(positions), int),
        radius_m=np.full(len(positions), RADIUS_M),
        focus_m=np.full(len(positions), 1e9),
        yield_per_m=photoelectron_yield(
            GROUND_M, 1.0, wavelength_nm, np.ones_like(wavelength_nm), site
        )[np.newaxis],
        photoelectrons_per_point=100.0,
    )


def mean_shower(particle, energy_gev, n_showers, targets):
    """Simulate vertical showers; return their mean profile, light and energy."""
    air = make_air()
    profile, light, energy = 0, 0, 0
    for i in range(n_showers):
        rng = np.random.default_rng([int(particle), int(energy_gev), i])
        cascade = simulate(rng, air, targets, particle, energy_gev, DOWN)
        profile = profile + cascade.radiating_electrons
        energy = energy + cascade.energy_gev
        light = light + np.bincount(
            cascade.photoelectrons.target, minlength=len(targets.position_m)
        )
    per_m2 = light.reshape(-1, 4).mean(axis=1) / (np.pi * RADIUS_M**2)
    return profile / n_showers, per_m2 / n_showers, energy / n_showers


def greisen_hillas(energy_gev):
    """Number of electrons above the Cherenkov threshold at shower maximum.

    K. Greisen, Prog. Cosmic Ray Phys. 3 (1956) 1, times the share above 35 MeV of
    A. M. Hillas, J. Phys. G 8 (1982) 1461, at age 1.
    """
    ratio = energy_gev / 0.081
    electrons = 0.31 / np.sqrt(np.log(ratio)) * ratio
    threshold_mev, scale_mev = 35.0, 40.4
    share = (0.89 * scale_mev - 1.2) / (scale_mev + threshold_mev)
    return electrons * share / (1 + 1e-4 * threshold_mev) ** 2


def check_cascades():
    """Electrons, light density, energy conservation, protons and gammas."""
    distances_m = np.array([20.0, 50.0, 100.0, 120.0, 150.0, 250.0])
    # Photons per m² at 100 m without absorption, from CHASM, a numerical integration of
    # the Greisen profile (I. Buckland and D. Bergman, JINST 18 (2023) P09036).
    chasm = {100.0: 20.4, 1000.0: 255.0}
    for energy_gev, n_showers in ((100.0, 150), (1000.0, 25)):
        title = f"{energy_gev:g} GeV gamma"
        profile, light, energy = mean_shower(
            Particle.GAMMA, energy_gev, n_showers, ring_of_targets(distances_m)
        )
        yield around(
            f"{title}: radiating electrons at maximum",
            profile.max(),
            greisen_hillas(energy_gev),
            0.25,
            "Greisen x Hillas",
        )
        yield around(
            f"{title}: photons/m2 at 100 m, 300-600 nm, clear",
            light[2],
            chasm[energy_gev],
            0.30,
            "CHASM + Greisen",
        )
        yield Check(
            f"{title}: density at 250 m over that at 100 m",
            light[-1] / light[2],
            0.1,
            0.4,
            "falls beyond the ring at 120 m",
        )
        yield Check(
            f"{title}: energy unaccounted for, relative",
            abs(energy.sum() / energy_gev - 1),
            0.0,
            1e-9,
            "conservation",
        )
    _, gamma, _ = mean_shower(
        Particle.GAMMA, 100.0, 150, ring_of_targets(distances_m, "la_palma")
    )
    yield Check(
        "100 GeV gamma: photons/m2 at 100 m, 300-600 nm, absorbed",
        gamma[2],
        7.0,
        15.0,
        "about 10",
    )
    _, gamma, _ = mean_shower(
        Particle.GAMMA, 1000.0, 25, ring_of_targets(distances_m, "la_palma")
    )
    _, proton, energy = mean_shower(
        Particle.PROTON, 1000.0, 150, ring_of_targets(distances_m, "la_palma")
    )
    yield Check(
        "1 TeV proton: light within 150 m over that of a gamma",
        np.average(proton[:5] / gamma[:5], weights=distances_m[:5]),
        0.25,
        0.6,
        "one third to one half",
    )
    yield Check(
        "1 TeV proton: energy unaccounted for, relative",
        abs(energy.sum() / 1000.0 - 1),
        0.0,
        1e-9,
        "conservation",
    )
    yield Check(
        "1 TeV proton: share of energy lost in nuclear collisions",
        energy[Ledger.NUCLEAR] / 1000.0,
        0.0,
        0.2,
        "fragments, slow particles",
    )


class Telescope:
    """An array of one telescope that observes given showers."""

    def __init__(self, array):
        self.card = AirShowerCard(particle="gamma", showers=1, seed=1, array=array)
        self.subarray = make_subarray(array, "la_palma")
        (self.tel_id,) = self.subarray.tel
        self.production = Production(self.card, self.subarray)
        self.night = self.production._night(draw_conditions(self.card, 1))
        self.geometry = self.subarray.tel[self.tel_id].camera.geometry

    def images(self, energy_gev, distance_m, n_showers, seed):
        """Simulate showers from the pointing; yield what the telescope records."""
        position = self.subarray.positions[self.tel_id].to_value(u.m)
        pointing = self.card.pointing
        for i in range(n_showers):
            angle = 2 * np.pi * i / n_showers
            primary = Primary(
                energy_gev,
                pointing.altitude.to_value(u.rad),
                pointing.azimuth.to_value(u.rad),
                np.array([position[0] + distance_m * np.cos(angle)]),
                np.array([position[1] + distance_m * np.sin(angle)]),
            )
            rng = np.random.default_rng([seed, i])
            for event in self.production._shower_events(self.night, 1, primary, rng):
                yield event.telescopes[self.tel_id]


def local_peak(waveforms):
    """Charge in 7 samples around each pixel's peak, and its mean time."""
    peak = np.clip(waveforms.argmax(axis=1), 3, waveforms.shape[1] - 4)
    window = peak[:, np.newaxis] + np.arange(-3, 4)
    charge = np.take_along_axis(waveforms, window, axis=1).clip(0)
    mean = (charge * window).sum(axis=1) / np.maximum(charge.sum(axis=1), 1e-6)
    return charge.sum(axis=1), mean


def time_gradient(geometry, time_ns, mask, hillas, metres_per_degree):
    """Time gradient along the major axis in ns/deg, without its sign."""
    along = (geometry.pix_x - hillas.x) * np.cos(hillas.psi) + (
        geometry.pix_y - hillas.y
    ) * np.sin(hillas.psi)
    along_deg = along.to_value(u.m)[mask] / metres_per_degree
    return abs(np.polyfit(along_deg, time_ns[mask], 1)[0])


def check_images():
    """Size, length, width and time gradient of LST images."""
    telescope = Telescope("lst1")
    geometry = telescope.geometry
    metres_per_degree = np.radians(1) * EFFECTIVE_M
    gradient = {}
    for energy_gev, distance_m, n_showers in (
        (100.0, 100.0, 60),
        (1000.0, 100.0, 20),
        (1000.0, 200.0, 20),
    ):
        figures = []
        for image in telescope.images(energy_gev, distance_m, n_showers, 1):
            charge, time_ns = local_peak(image.waveforms)
            mask = tailcuts_clean(geometry, charge, **CLEANING)
            if mask.sum() < 5:
                continue
            hillas = hillas_parameters(geometry[mask], charge[mask])
            figures.append(
                (
                    hillas.intensity,
                    hillas.length.to_value(u.m) / metres_per_degree,
                    hillas.width.to_value(u.m) / metres_per_degree,
                    time_gradient(geometry, time_ns, mask, hillas, metres_per_degree),
                )
            )
        intensity, length, width, gradient[energy_gev, distance_m] = np.median(
            figures, axis=0
        )
        if energy_gev == 100.0:
            title = "100 GeV gamma at 100 m in an LST"
            yield Check(
                f"{title}: cleaned p.e.", intensity, 300, 600, "300-600 in simulations"
            )
            yield Check(f"{title}: length in deg", length, 0.12, 0.28, "LST-like")
            yield Check(f"{title}: width in deg", width, 0.05, 0.11, "LST-like")
    near, far = gradient[1000.0, 100.0], gradient[1000.0, 200.0]
    yield Check("1 TeV gamma: ns/deg at 200 m", far, 2.0, 6.0, "rises with impact")
    yield Check("... over that at 100 m", far / near, 1.5, 20.0, "rises with impact")
    yield check_muon_ring(telescope)
    yield check_muon_ring(Telescope("nectarcam1"))


def check_muon_ring(telescope):
    """Radius of the ring of a muon that hits the mirror, compared with its formula."""
    energy_gev = 20.0
    height_m = 400.0  # above the telescope
    position = telescope.subarray.positions[telescope.tel_id].to_value(u.m)
    position = position + [0, 0, GROUND_M]
    focal_length_m = telescope.geometry.frame.focal_length.to_value(u.m)
    production, night = telescope.production, telescope.night
    radii_deg = []
    for i in range(20):
        rng = np.random.default_rng([20, i])
        rays = muon_light(rng, production, night, position, energy_gev, height_m)
        event = production._observe(rng, rays, night, 0)
        if event is None:
            continue
        x, y = telescope.geometry.pix_x.value, telescope.geometry.pix_y.value
        fit = kundu_chaudhuri_circle_fit(x, y, event.true_image)
        radii_deg.append(np.degrees(fit[0] / focal_length_m))
    n = 1 + refractivity(AIR, position[2] + height_m / 2)
    beta = np.sqrt(1 - (MASS_GEV[Particle.MUON_MINUS] / energy_gev) ** 2)
    return around(
        f"20 GeV muon: radius of its ring in {telescope.geometry.name}, deg",
        np.median(radii_deg),
        np.degrees(np.arccos(1 / (n * beta))),
        0.02,
        "arccos(1 / n beta)",
    )


def muon_light(rng, production, night, position, energy_gev, height_m):
    """Follow a muon that starts above the telescope and hits its mirror."""
    targets = Targets(
        position_m=position[np.newaxis] - [*position[:2], 0],
        overburden=np.array([overburden(AIR, position[2])]),
        kind=np.zeros(1, int),
        radius_m=np.array([night.instruments[0].mirror.radius_m]),
        focus_m=np.array([1e9]),
        yield_per_m=night.yield_per_m,
        photoelectrons_per_point=10.0,
    )
    air = production._air._replace(observation_height_m=position[2])
    direction = tuple(-night.axes[2])
    cascade = simulate(
        rng,
        air,
        targets,
        Particle.MUON_MINUS,
        energy_gev,
        direction,
        start_m=position[2] + height_m,
    )
    return cascade.photoelectrons.ray


# Angular resolution (68 % containment) of two 17 m telescopes at low zenith angles, in
# deg, read off at the middle of each range (MAGIC; J. Aleksić et al., Astropart. Phys.
# 72 (2016) 76: 0.16 at 95 GeV, 0.1 at 300 GeV, 0.07 at 1 TeV).
MAGIC_DEG = {(80, 200): 0.145, (200, 600): 0.10, (600, 3000): 0.07}

CARD = """\
particle: gamma
showers: {showers}
seed: 5
energy_min: 80 GeV
energy_max: 3 TeV
array: {array}
scatter_radius: 150 m
reuse: 2
view_cone: 1 deg
pointing:
  altitude: 70 deg
  azimuth: {azimuth} deg
"""


def reconstruct(card):
    """Run ctapipe's own stereo reconstruction on an array."""
    source = AirShowerEventSource(card, dl1_images=True)
    profile = source.atmosphere_density_profile
    cleaner = {
        "picture_threshold_pe": 8,
        "boundary_threshold_pe": 4,
        "min_picture_neighbors": 2,
    }
    process_image = ImageProcessor(
        subarray=source.subarray,
        config=Config({"ImageProcessor": {"TailcutsImageCleaner": cleaner}}),
    )
    process_shower = ShowerProcessor(
        subarray=source.subarray,
        atmosphere_profile=profile,
        reconstructor_types=["HillasReconstructor"],
    )
    rows = []
    for event in source:
        process_image(event)
        process_shower(event)
        reco = event.dl2.stereo.geometry["HillasReconstructor"]
        true = event.simulation.shower
        seen = sum(
            dl1.parameters.hillas.intensity > 80 for dl1 in event.dl1.tel.values()
        )
        if not reco.is_valid or seen < 3:
            continue
        off = angular_separation(true.az, true.alt, reco.az, reco.alt)
        delta_az = (reco.az - true.az).wrap_at(180 * u.deg)
        true_height = profile.height_from_overburden(true.x_max)
        rows.append(
            (
                true.energy.to_value(u.GeV),
                off.to_value(u.deg),
                (reco.alt - true.alt).to_value(u.deg),
                (delta_az * np.cos(true.alt)).to_value(u.deg),
                (reco.core_x - true.core_x).to_value(u.m),
                (reco.core_y - true.core_y).to_value(u.m),
                (reco.h_max - true_height).to_value(u.m),
            )
        )
    return np.array(rows)


def check_reconstruction(showers=400):
    """ctapipe's HillasReconstructor on four LSTs at three azimuths, and with MSTs."""
    for array, azimuth in (
        ("lst4", 0),
        ("lst4", 90),
        ("lst4", 180),
        ("lst4_mst9", 180),
    ):
        with tempfile.TemporaryDirectory() as directory:
            card = Path(directory) / "stereo.airshower.yaml"
            card.write_text(CARD.format(showers=showers, array=array, azimuth=azimuth))
            rows = reconstruct(card)
        title = f"{array}, azimuth {azimuth}"
        for (low, high), magic in MAGIC_DEG.items():
            inside = (rows[:, 0] >= low) & (rows[:, 0] < high)
            yield Check(
                f"{title}: direction, 68 %, {low}-{high} GeV, deg",
                np.quantile(rows[inside, 1], 0.68),
                0.4 * magic,
                1.5 * magic,
                f"{magic:g} of two 17 m telescopes",
            )
        for column, name, limit in (
            (2, "altitude, deg", 0.02),
            (3, "azimuth on the sky, deg", 0.02),
            (4, "core x, m", 4.0),
            (5, "core y, m", 4.0),
            (6, "height of maximum, m", 1200.0),
        ):
            bias = np.median(rows[:, column])
            yield Check(f"{title}: bias of {name}", bias, -limit, limit, "no bias")


GROUPS = {
    "cascades": check_cascades,
    "images": check_images,
    "efficiency": check_efficiency,
    "photons": check_photons,
    "telescope": check_telescope,
    "dark-pixels": check_dark_pixels,
    "types": check_types,
    "reconstruction": check_reconstruction,
}


def main():
    """Run the checks and print their table; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument("--skip", nargs="+", choices=GROUPS, default=[])
    parser.add_argument(
        "--official",
        type=Path,
        metavar="FOLDER",
        help="with pairs of public files of CTAO, NAME.corsika.zst and "
        "NAME.simtel.zst, whose photons our telescope shall see, too",
    )
    args = parser.parse_args()
    groups = [GROUPS[name] for name in args.only if name not in args.skip]
    if args.official:
        groups.append(partial(check_official, args.official))
    print_header()
    failed = sum(print_checks(group()) for group in groups)
    print(f"\n{failed} outside their tolerance")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
