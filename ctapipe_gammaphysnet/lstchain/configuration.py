"""What ctapipe keeps of observations and simulations, from lstchain's files."""

import astropy.units as u
import numpy as np
from ctapipe.containers import (
    CoordinateFrameType,
    ObservationBlockContainer,
    SchedulingBlockContainer,
    SimulatedShowerDistribution,
    SimulationConfigContainer,
)

__all__ = [
    "make_observation",
    "make_schedule",
    "read_distributions",
    "read_simulations",
]


def make_schedule(obs_id):
    """Describe an observation as a scheduling block.

    Parameters
    ----------
    obs_id : int
        The observation.

    Returns
    -------
    ctapipe.containers.SchedulingBlockContainer
        The block, with the number of the observation.
    """
    return SchedulingBlockContainer(sb_id=np.uint64(obs_id), producer_id="lstchain")


def make_observation(obs_id, altitude, azimuth):
    """Describe an observation.

    Parameters
    ----------
    obs_id : int
        The observation.
    altitude, azimuth : astropy.units.Quantity
        The pointing of its first event.

    Returns
    -------
    ctapipe.containers.ObservationBlockContainer
        The observation.
    """
    return ObservationBlockContainer(
        obs_id=np.uint64(obs_id),
        sb_id=np.uint64(obs_id),
        producer_id="lstchain",
        subarray_pointing_lat=altitude.to(u.deg),
        subarray_pointing_lon=azimuth.to(u.deg),
        subarray_pointing_frame=CoordinateFrameType.ALTAZ,
    )


def read_simulations(file):
    """Read how each run was simulated.

    Parameters
    ----------
    file : LSTChainFile
        The file.

    Returns
    -------
    dict of int to ctapipe.containers.SimulationConfigContainer
        The settings by the number of the run; empty for observations.
    """
    if not file.is_simulation:
        return {}
    runs = file.read_runs()
    known = {*SimulationConfigContainer.fields} & {*runs.colnames}
    return {
        int(run["obs_id"]): SimulationConfigContainer(
            run_number=np.int32(run["obs_id"]), **{name: run[name] for name in known}
        )
        for run in runs
    }


def read_distributions(file):
    """Read the number of simulated showers by energy and core distance.

    Parameters
    ----------
    file : LSTChainFile
        The file.

    Returns
    -------
    dict of int to ctapipe.containers.SimulatedShowerDistribution
        The histograms by the number of the run; empty if the file has none.
    """
    showers = file.read_showers() if file.is_simulation else None
    if showers is None:
        return {}
    return {
        int(row["obs_id"]): SimulatedShowerDistribution(
            obs_id=int(row["obs_id"]),
            hist_id=int(row["hist_id"]),
            n_entries=int(row["num_entries"]),
            bins_energy=u.Quantity(row["bins_energy"], u.TeV),
            bins_core_dist=u.Quantity(row["bins_core_dist"], u.m),
            histogram=np.asarray(row["histogram"]),
        )
        for row in showers
    }
