"""Gammas and protons of an ideal instrument, whose response is known exactly.

A share of the showers triggers, whatever their energy. Energies are reconstructed with
a normal distribution around the truth, directions with one around the true direction.
"""

import astropy.units as u
import numpy as np
from astropy.coordinates import AltAz, SkyCoord
from astropy.table import Table
from gammapy.irf import EffectiveAreaTable2D, EnergyDispersion2D
from gammapy.maps import MapAxis
from pyirf.simulations import SimulatedEventsInfo
from pyirf.spectral import PowerLaw

POINTING = SkyCoord(alt=70 * u.deg, az=180 * u.deg, frame=AltAz())
RADIUS = 300 * u.m
ENERGY_MIN, ENERGY_MAX = 0.04 * u.TeV, 10 * u.TeV
SHARE = 0.5  # of the showers triggers
ENERGY_ERROR, DIRECTION_ERROR = 0.15, 0.05 * u.deg
SOURCE_OFFSET, VIEW_CONE = 0.5 * u.deg, 2 * u.deg


def energies(n, rng, index=-2.0):
    """True energies of a power law."""
    low, high = (e.to_value(u.TeV) ** (index + 1) for e in (ENERGY_MIN, ENERGY_MAX))
    return (low + rng.random(n) * (high - low)) ** (1 / (index + 1))


def simulated(n, view_cone=0 * u.deg):
    """The flux that gives n showers in a second."""
    info = SimulatedEventsInfo(
        n_showers=n,
        energy_min=ENERGY_MIN,
        energy_max=ENERGY_MAX,
        max_impact=RADIUS,
        spectral_index=-2.0,
        viewcone_min=0 * u.deg,
        viewcone_max=view_cone,
    )
    return PowerLaw.from_simulation(info, obstime=1 * u.s)


def _events(n, lon, lat, particle, first_run, rng):
    """DL2 of the showers that trigger, from these offsets from the pointing."""
    frame = POINTING.skyoffset_frame()
    true = SkyCoord(lon, lat, frame=frame).transform_to(POINTING.frame)
    reco = SkyCoord(
        lon + rng.normal(0, 1, n) * DIRECTION_ERROR,
        lat + rng.normal(0, 1, n) * DIRECTION_ERROR,
        frame=frame,
    ).transform_to(POINTING.frame)
    events = Table()
    events["obs_id"] = np.full(n, first_run)
    events["event_id"] = np.arange(1, n + 1) * 100
    events["shower"] = 1_000_000 * first_run + np.arange(n)
    events["true_energy"] = energies(n, rng) * u.TeV
    events["true_alt"], events["true_az"] = true.alt.to(u.deg), true.az.to(u.deg)
    events["true_shower_primary_id"] = np.full(n, particle)
    events["subarray_pointing_lat"] = np.full(n, POINTING.alt.deg) * u.deg
    events["subarray_pointing_lon"] = np.full(n, POINTING.az.deg) * u.deg
    events["ToyEnergy_energy"] = events["true_energy"] * rng.normal(1, ENERGY_ERROR, n)
    events["ToyGeometry_alt"], events["ToyGeometry_az"] = (
        reco.alt.to(u.deg),
        reco.az.to(u.deg),
    )
    events["ToyClassifier_prediction"] = np.ones(n)
    events["ToyClassifier_is_valid"] = np.ones(n, bool)
    return events[rng.random(n) < SHARE]


def gammas(n, position_angle, rng, run=1):
    """Events and simulated flux of a point source."""
    lon, lat = (
        SOURCE_OFFSET * np.sin(position_angle),
        SOURCE_OFFSET * np.cos(position_angle),
    )
    events = _events(
        n, np.full(n, lon) * lon.unit, np.full(n, lat) * lat.unit, 0, run, rng
    )
    return events, simulated(n)


def protons(n, rng, run=1):
    """Events and simulated flux of the background."""
    distance = np.arccos(1 - rng.random(n) * (1 - np.cos(VIEW_CONE)))
    angle = rng.uniform(0, 2 * np.pi, n) * u.rad
    lon = np.arctan(np.tan(distance) * np.sin(angle))
    lat = np.arcsin(np.sin(distance) * np.cos(angle))
    return _events(n, lon, lat, 101, run, rng), simulated(n, VIEW_CONE)


def response(area=1.0, energy=1.0):
    """The instrument response as gammapy has it.

    With ``area`` and ``energy`` other than 1 it is wrong by these factors.
    """
    true = MapAxis.from_energy_bounds(
        ENERGY_MIN, ENERGY_MAX, nbin=16, per_decade=True, name="energy_true"
    )
    offset = MapAxis.from_edges([0, 1] * u.deg, name="offset")
    migra = MapAxis.from_edges(np.linspace(0, 3, 301), name="migra")
    collected = area * SHARE * np.pi * RADIUS**2
    aeff = EffectiveAreaTable2D(
        axes=[true, offset],
        data=np.full((true.nbin, 1), collected.to_value("m2")),
        unit="m2",
    )
    edisp = EnergyDispersion2D.from_gauss(
        energy_axis_true=true,
        migra_axis=migra,
        offset_axis=offset,
        bias=energy - 1,
        sigma=ENERGY_ERROR,
    )
    # All events are within the region: 99.97 % are in 0.2 deg.
    return {"aeff": aeff, "edisp": edisp}
