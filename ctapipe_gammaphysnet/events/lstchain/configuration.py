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
    "describe_observations",
    "describe_schedules",
    "read_distributions",
    "read_simulations",
]

_PRODUCER = "lstchain"


def describe_schedules(reader):
    """Describe each observation as a scheduling block.

    Parameters
    ----------
    reader : LSTChainReader
        The file.

    Returns
    -------
    dict of int to ctapipe.containers.SchedulingBlockContainer
        The blocks by the number of the observation, which is theirs, too.
    """
    return {
        obs_id: SchedulingBlockContainer(sb_id=np.uint64(obs_id), producer_id=_PRODUCER)
        for obs_id in reader.obs_ids
    }


def describe_observations(reader):
    """Describe each observation, with the pointing of its first event.

    Parameters
    ----------
    reader : LSTChainReader
        The file.

    Returns
    -------
    dict of int to ctapipe.containers.ObservationBlockContainer
        The observations by their number.
    """
    first = np.unique(reader.obs_id, return_index=True)[1]
    observations = {}
    for number in np.sort(first):
        obs_id = int(reader.obs_id[number])
        altitude, azimuth = (
            angle[reader.events.of_array[number]] for angle in reader.pointing
        )
        observations[obs_id] = ObservationBlockContainer(
            obs_id=np.uint64(obs_id),
            sb_id=np.uint64(obs_id),
            producer_id=_PRODUCER,
            subarray_pointing_lat=altitude.to(u.deg),
            subarray_pointing_lon=azimuth.to(u.deg),
            subarray_pointing_frame=CoordinateFrameType.ALTAZ,
        )
    return observations


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
