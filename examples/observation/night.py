"""Which showers come in a night: physical spectra, live time and chance.

A pool is a file of simulated showers. Each of its events is expected some small number
of times in a night: the flux of its particle over the flux that was simulated (pyirf),
times the normalisation of `night.yaml`. Whether it comes, and when, is left to chance.
"""

from pathlib import Path
from typing import NamedTuple

import astropy.units as u
import numpy as np
import yaml
from astropy.coordinates import SkyCoord
from astropy.table import QTable, Table, vstack
from astropy.time import Time
from ctapipe.io import TableLoader
from pyirf.simulations import SimulatedEventsInfo
from pyirf.spectral import (
    CRAB_HEGRA,
    IRFDOC_ELECTRON_SPECTRUM,
    IRFDOC_PROTON_SPECTRUM,
    PowerLaw,
    calculate_event_weights,
)
from sky import horizontal, offsets, pointing_with_source_at, seen_from

from ctapipe_gammaphysnet.events.showers import shower_numbers

GAMMA, ELECTRON, PROTON = 0, 1, 101  # primary particles, as sim_telarray counts them
SPECTRA = {
    GAMMA: CRAB_HEGRA,
    ELECTRON: IRFDOC_ELECTRON_SPECTRUM,
    PROTON: IRFDOC_PROTON_SPECTRUM,
}
#: What `night.yaml` calls them.
NAMES = {GAMMA: "source", ELECTRON: "electron", PROTON: "proton"}
#: A shower that is expected more often would have to come twice in some nights.
MAX_EXPECTED = 0.3
#: Images cannot be turned: telescopes must look about where they were simulated.
MAX_TURN, MAX_RISE = 10 * u.deg, 1 * u.deg


class Run(NamedTuple):
    """A run of the night."""

    obs_id: int
    start: Time
    duration: u.Quantity
    source: str  # name of the pool with the source at its place in the camera


class Night(NamedTuple):
    """A night, as described in `night.yaml`."""

    source: SkyCoord
    normalisations: dict  # of the flux, by the primary particle's number
    seed: int
    runs: tuple


class Pool(NamedTuple):
    """The simulated events of a file."""

    name: str
    particle: int
    events: Table  # columns of `ctapipe.io.TableLoader`, and "shower", its number
    simulated: PowerLaw  # the flux that gives these showers in one second


def read_night(path):
    """Read the settings of a night.

    Parameters
    ----------
    path : str or pathlib.Path
        A file such as `night.yaml`.

    Returns
    -------
    Night
        The settings.
    """
    settings = yaml.safe_load(Path(path).read_text())
    duration = u.Quantity(settings["run_duration"])
    runs = tuple(
        Run(number, Time(run["start"], scale="utc"), duration, run["source"])
        for number, run in enumerate(settings["runs"], 1)
    )
    return Night(
        SkyCoord(**settings["source"]),
        {
            particle: float(settings[f"{name}_normalisation"])
            for particle, name in NAMES.items()
        },
        settings["seed"],
        runs,
    )


def simulated_flux(runs):
    """Find the flux that would give the simulated showers in one second.

    Parameters
    ----------
    runs : astropy.table.Table
        Simulation configuration of each run, as `ctapipe.io.TableLoader` reads it.

    Returns
    -------
    pyirf.spectral.PowerLaw
        For a view cone, per solid angle.
    """
    first = QTable(runs[:1])
    info = SimulatedEventsInfo(
        n_showers=int((runs["n_showers"] * runs["shower_reuse"]).sum()),
        energy_min=first["energy_range_min"][0],
        energy_max=first["energy_range_max"][0],
        max_impact=first["max_scatter_range"][0],
        spectral_index=float(first["spectral_index"][0]),
        viewcone_min=first["min_viewcone_radius"][0],
        viewcone_max=first["max_viewcone_radius"][0],
    )
    return PowerLaw.from_simulation(info, obstime=1 * u.s)


def read_pool(path, dl2=False):
    """Read the events of a file of one particle.

    Parameters
    ----------
    path : str or pathlib.Path
        A simulated DL1 or DL2 file.
    dl2 : bool
        Whether to read what was reconstructed.

    Returns
    -------
    Pool
        Its name is the file's up to the first dot.
    """
    with TableLoader(path) as loader:
        events = loader.read_subarray_events(
            dl2=dl2, simulated=True, observation_info=True
        )
        runs = loader.read_simulation_configuration()
    events["shower"] = shower_numbers(QTable(events))
    (particle,) = np.unique(events["true_shower_primary_id"])
    return Pool(
        Path(path).name.split(".")[0], int(particle), events, simulated_flux(runs)
    )


def expected_counts(pool, night, live_time):
    """Find how often each event of a pool is expected.

    Parameters
    ----------
    pool : Pool
        n events.
    night : Night
        For its normalisations.
    live_time : astropy.units.Quantity
        How long it is observed.

    Returns
    -------
    numpy.ndarray
        Expected number of times, shape (n,), float.
    """
    per_second = calculate_event_weights(
        u.Quantity(pool.events["true_energy"]).to(u.TeV),
        SPECTRA[pool.particle],
        pool.simulated,
    )
    return night.normalisations[pool.particle] * per_second * live_time.to_value(u.s)


def draw_events(shower, expected, rng):
    """Draw events, each shower once at most.

    A shower that is used at several impact points looks alike at all of them.

    Parameters
    ----------
    shower : numpy.ndarray
        Number of each event's shower, shape (n,), int.
    expected : numpy.ndarray
        How often each event is expected, shape (n,), float.
    rng : numpy.random.Generator
        Random numbers.

    Returns
    -------
    numpy.ndarray
        Indices of those that come, in ascending order, int. Their numbers are those of
        a Poisson process as far as a shower is expected much less than once.

    Raises
    ------
    ValueError
        If a shower is expected too often.
    """
    order = np.argsort(shower, kind="stable")
    _, first, inverse = np.unique(shower[order], return_index=True, return_inverse=True)
    # A shower's events share the numbers from 0 to 1: each one has its own part, and
    # most of the numbers have none.
    upper = np.cumsum(expected[order])
    before = (upper - expected[order])[first]
    upper -= before[inverse]
    lower = upper - expected[order]
    if len(upper) and upper.max() > MAX_EXPECTED:
        raise ValueError(
            f"a simulated shower is expected {upper.max():.2g} times in a night, more "
            f"than {MAX_EXPECTED}: simulate more showers, or lower the normalisation "
            f"by {MAX_EXPECTED / upper.max():.2g}"
        )
    number = rng.random(len(first))[inverse]
    return np.sort(order[(lower <= number) & (number < upper)])


def draw_night(pools, night, rng):
    """Draw all events of a night, and when they come.

    Parameters
    ----------
    pools : list of Pool
        Gammas are seen in the runs that name their pool, other particles in all runs.
    night : Night
        The night.
    rng : numpy.random.Generator
        Random numbers.

    Returns
    -------
    astropy.table.Table
        Events in the order of time: ``pool`` and ``row`` (where it is in that pool's
        events), ``obs_id``, ``event_id`` (counted in each run from 1) and ``seconds``
        since the start of the run.
    """
    parts = [_draw_pool(number, pool, night, rng) for number, pool in enumerate(pools)]
    events = vstack(parts)
    events.sort(["obs_id", "seconds"])
    events["event_id"] = 0
    for run in night.runs:
        is_here = events["obs_id"] == run.obs_id
        events["event_id"][is_here] = np.arange(1, is_here.sum() + 1)
    return events


def _draw_pool(number, pool, night, rng):
    runs = [r for r in night.runs if pool.particle != GAMMA or r.source == pool.name]
    durations = u.Quantity([0 * u.s, *(run.duration for run in runs)]).to_value(u.s)
    expected = expected_counts(pool, night, durations.sum() * u.s)
    rows = draw_events(pool.events["shower"], expected, rng)
    ends = np.cumsum(durations)
    seconds = rng.uniform(0, ends[-1], len(rows))
    run = np.searchsorted(ends, seconds, side="right") - 1
    return Table(
        {
            "pool": np.full(len(rows), number),
            "row": rows,
            "obs_id": np.array([r.obs_id for r in runs], dtype=int)[run],
            "seconds": seconds - ends[run],
        }
    )


def simulated_pointing(events):
    """Find where the telescopes pointed in the simulation.

    Parameters
    ----------
    events : astropy.table.Table
        Simulated events with the pointing of their observation.

    Returns
    -------
    astropy.coordinates.SkyCoord
        Horizontal coordinates, shape (n,).
    """
    return horizontal(
        u.Quantity(events["subarray_pointing_lat"]),
        u.Quantity(events["subarray_pointing_lon"]),
    )


def source_offset(pool):
    """Find where the source is in the camera.

    Parameters
    ----------
    pool : Pool
        Gammas of a point source.

    Returns
    -------
    lon, lat : astropy.units.Quantity
        Its offsets in the telescope frame, shape (), in deg.

    Raises
    ------
    ValueError
        If gammas come from several places.
    """
    events = pool.events[:100]  # as good as all
    true = horizontal(u.Quantity(events["true_alt"]), u.Quantity(events["true_az"]))
    lon, lat = offsets(true, simulated_pointing(events))
    if max(np.ptp(lon), np.ptp(lat)) > 1e-3 * u.deg:
        raise ValueError(
            f"{pool.name}: gammas come from several places in the camera; give the "
            "card one position_angle and one pointing"
        )
    return lon.mean(), lat.mean()


def run_pointing(run, time, night, pools, location):
    """Find where the telescopes point in a run.

    Parameters
    ----------
    run : Run
        The run.
    time : astropy.time.Time
        When, shape (n,).
    night : Night
        For the source.
    pools : list of Pool
        All pools; that of the run's source says where it is in the camera.
    location : astropy.coordinates.EarthLocation
        Where on Earth.

    Returns
    -------
    alt, az : astropy.units.Quantity
        Shape (n,), in deg.

    Raises
    ------
    ValueError
        If that is not where the telescopes pointed in the simulation.
    """
    (pool,) = (pool for pool in pools if pool.name == run.source)
    source = seen_from(night.source, time, location)
    alt, az = pointing_with_source_at(*source_offset(pool), source)
    simulated = simulated_pointing(pool.events[:1])
    turn = np.abs((az - simulated.az + 180 * u.deg) % (360 * u.deg) - 180 * u.deg)
    if (turn > MAX_TURN).any() or (np.abs(alt - simulated.alt) > MAX_RISE).any():
        raise ValueError(
            f"run {run.obs_id}: the telescopes would point to altitude {alt[0]:.1f}, "
            f"azimuth {az[0]:.1f}, but were simulated at {simulated.alt[0]:.1f}, "
            f"{simulated.az[0]:.1f}; choose other times, or another source"
        )
    return alt, az
