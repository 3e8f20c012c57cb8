"""From a card to triggered array events: showers, light, cameras, trigger."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .atmosphere import ATMOSPHERES, overburden
from .camera import Camera, densest_time, make_camera, pixel_hits, waveforms
from .cherenkov import Targets, photoelectron_yield
from .conditions import draw_conditions
from .efficiency import efficiency
from .hadrons import load_hadron_table
from .instruments import SITES
from .optics import MIRRORS, Mirror, pointing_axes, reflect
from .particles import Particle
from .primaries import draw_primary
from .shower import simulate
from .state import DEPTH_BIN, Air
from .trigger import (
    REGIONS,
    TriggerRegions,
    may_trigger,
    trigger_time,
    under_night_sky,
)
from .vectors import from_altaz

__all__ = ["ArrayEvent", "Production", "TelescopeEvent"]

# Light that is emitted at one point of a track; bright showers have more points than
# needed.
_PHOTOELECTRONS_PER_POINT = 30.0
_BRIGHT_GEV, _BRIGHTEST = 300.0, 4.0


@dataclass(frozen=True)
class TelescopeEvent:
    """What a triggered telescope has recorded."""

    waveforms: np.ndarray
    """Photoelectrons per sample without the mean of the night sky, shape (n_pixels,
    n_samples), float32."""

    true_image: np.ndarray
    """Photoelectrons of the shower, shape (n_pixels,), int32."""

    trigger_time_ns: float
    """Counted from when light along the shower's axis reaches the ground."""


@dataclass(frozen=True)
class ArrayEvent:
    """A shower seen by at least as many telescopes as the card requires."""

    event_id: int
    energy_gev: float
    alt_rad: float
    az_rad: float
    core_x_m: float
    core_y_m: float
    h_first_interaction_m: float
    """Above sea level; NaN if there was none."""
    x_max_g_cm2: float
    """Vertical depth at which most electrons and positrons radiate, as sim_telarray
    has it; NaN if none do."""
    telescopes: dict
    """`TelescopeEvent` by tel_id: telescopes that triggered."""


class _Instrument(NamedTuple):
    """A type of telescope, for compiled code."""

    mirror: Mirror
    camera: Camera
    regions: TriggerRegions

    efficiency: tuple
    """Wavelengths, and `efficiency` at them."""


class _Night(NamedTuple):
    """What the conditions of a run are for compiled code."""

    axes: np.ndarray
    """Axes of the telescopes, from `pointing_axes`."""

    instruments: tuple
    """`_Instrument` of each type, under the night sky."""

    yield_per_m: np.ndarray
    """Light of one metre of track for each type, from `photoelectron_yield`."""


class Production:
    """
    The simulation that a card describes.

    Parameters
    ----------
    card : AirShowerCard
        What to simulate.
    subarray : ctapipe.instrument.SubarrayDescription
        The telescopes.
    """

    def __init__(self, card, subarray):
        self.card = card
        site = SITES[card.site]
        self._air = Air(
            site.location.height.to_value("m"),
            site.magnetic_field_ut,
            load_hadron_table(),
            ATMOSPHERES[card.site],
        )
        self._tel_ids = list(subarray.tel_ids)
        positions_m = [subarray.positions[i].to_value("m") for i in self._tel_ids]
        self._positions_m = np.array(positions_m)
        telescopes = [subarray.tel[i] for i in self._tel_ids]
        types = {telescope.camera.name: telescope for telescope in telescopes}
        kinds = {name: kind for kind, name in enumerate(types)}
        self._kind = np.array([kinds[t.camera.name] for t in telescopes])
        self._instruments = tuple(map(_instrument, types.values()))

    def events(self, run):
        """
        Simulate a run.

        Parameters
        ----------
        run : int
            Its number.

        Yields
        ------
        ArrayEvent
            Events that triggered, in the order of their event_id.
        """
        night = self._night(draw_conditions(self.card, run))
        for shower in range(1, self.card.showers + 1):
            primary, rng = draw_primary(self.card, run, shower)
            yield from self._shower_events(night, shower, primary, rng)

    def _night(self, conditions):
        """Point the telescopes under a night sky."""
        alt_rad = conditions.altitude.to_value("rad")
        night_sky_per_ns = float(conditions.night_sky_rate.to_value("1/ns"))
        instruments = tuple(
            instrument._replace(
                camera=instrument.camera._replace(night_sky_per_ns=night_sky_per_ns),
                regions=under_night_sky(instrument.regions, night_sky_per_ns),
            )
            for instrument in self._instruments
        )
        yields = [
            photoelectron_yield(
                self._air.observation_height_m,
                np.sin(alt_rad),
                *instrument.efficiency,
                site=self.card.site,
            )
            for instrument in instruments
        ]
        axes = pointing_axes(alt_rad, conditions.azimuth.to_value("rad"))
        return _Night(axes, instruments, np.array(yields))

    def _shower_events(self, night, shower, primary, rng):
        towards_sky = from_altaz(primary.alt_rad, primary.az_rad)
        cascade = simulate(
            rng,
            self._air,
            self._targets(night, primary),
            Particle[self.card.particle.upper()],
            primary.energy_gev,
            tuple(-component for component in towards_sky),
        )
        ground = overburden(self._air.atmosphere, self._air.observation_height_m)
        x_max = _x_max(cascade.radiating_electrons, ground)
        targets = cascade.photoelectrons.target
        n_telescopes = len(self._tel_ids)
        n_targets = len(primary.core_x_m) * n_telescopes
        edges = np.searchsorted(targets, np.arange(n_targets + 1))
        for reuse in range(len(primary.core_x_m)):
            telescopes = {}
            for i, tel_id in enumerate(self._tel_ids):
                target = reuse * n_telescopes + i
                rays = cascade.photoelectrons.ray[edges[target] : edges[target + 1]]
                event = self._observe(rng, rays, night, self._kind[i])
                if event is not None:
                    telescopes[tel_id] = event
            if len(telescopes) < self.card.multiplicity:
                continue
            yield ArrayEvent(
                event_id=100 * shower + reuse,
                energy_gev=primary.energy_gev,
                alt_rad=primary.alt_rad,
                az_rad=primary.az_rad,
                core_x_m=primary.core_x_m[reuse],
                core_y_m=primary.core_y_m[reuse],
                h_first_interaction_m=cascade.first_interaction_m[0],
                x_max_g_cm2=x_max,
                telescopes=telescopes,
            )

    def _targets(self, night, primary):
        """All telescopes around the core of every use of the shower."""
        cores = np.column_stack(
            [primary.core_x_m, primary.core_y_m, np.zeros(len(primary.core_x_m))]
        )
        positions = (self._positions_m - cores[:, np.newaxis]).reshape(-1, 3)
        positions[:, 2] += self._air.observation_height_m
        mirrors = [self._instruments[kind].mirror for kind in self._kind]
        uses = len(primary.core_x_m)
        brightness = np.clip(primary.energy_gev / _BRIGHT_GEV, 1, _BRIGHTEST)
        return Targets(
            position_m=positions,
            overburden=np.array(
                [overburden(self._air.atmosphere, z) for z in positions[:, 2]]
            ),
            kind=np.tile(self._kind, uses),
            radius_m=np.tile([mirror.radius_m for mirror in mirrors], uses),
            focus_m=np.tile([mirror.focus_m for mirror in mirrors], uses),
            yield_per_m=night.yield_per_m,
            photoelectrons_per_point=_PHOTOELECTRONS_PER_POINT * brightness,
        )

    def _observe(self, rng, rays, night, kind):
        """Record the light in a telescope; None if it does not trigger."""
        mirror, camera, regions, _ = night.instruments[kind]
        landed = reflect(rng, rays, night.axes, mirror)
        pixel, time_ns = pixel_hits(landed, camera)
        if not may_trigger(pixel, regions):
            return None
        # The camera's clock is not synchronised with the light.
        start_ns = densest_time(time_ns) - camera.signal_sample + rng.uniform(-0.5, 0.5)
        recorded = waveforms(rng, pixel, time_ns - start_ns, camera)
        sample = trigger_time(recorded, regions)
        if sample < 0:
            return None
        true_image = np.bincount(pixel, minlength=camera.n_pixels).astype(np.int32)
        return TelescopeEvent(recorded, true_image, start_ns + sample)


def _instrument(telescope):
    """Describe a type of telescope in the dark."""
    geometry, readout = telescope.camera.geometry, telescope.camera.readout
    camera = make_camera(geometry, readout.n_samples, night_sky_per_ns=0.0)
    mirror = MIRRORS[telescope.optics.name]
    return _Instrument(
        mirror,
        camera,
        REGIONS[telescope.camera.name](geometry, camera.pulse),
        efficiency(telescope.camera.name, mirror.radius_m),
    )


def _x_max(radiating_electrons, ground_g_cm2):
    """Vertical depth in g/cm² of the maximum of a profile, by a parabola at its top."""
    profile = radiating_electrons[: int(ground_g_cm2 / DEPTH_BIN)]
    if not profile.any():
        return np.nan
    window = np.ones(5)
    # Only bins above the ground, so that the lack of air makes no maximum.
    bins = np.convolve(np.ones_like(profile), window, mode="same")
    smooth = np.convolve(profile, window, mode="same") / bins
    i = int(np.clip(smooth.argmax(), 1, len(smooth) - 2))
    left, middle, right = smooth[i - 1 : i + 2]
    curvature = left - 2 * middle + right
    shift = np.clip(0.5 * (left - right) / curvature, -1, 1) if curvature < 0 else 0.0
    return (i + 0.5 + shift) * DEPTH_BIN
