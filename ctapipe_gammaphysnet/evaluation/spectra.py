"""Weights of simulated events, for the spectrum of a source or of cosmic rays."""

from dataclasses import replace

import astropy.units as u
import numpy as np
from pyirf import spectral
from pyirf.simulations import SimulatedEventsInfo

from ..events.opening import open_events
from .events import EvaluationError

__all__ = ["read_simulations", "spectral_weights", "weight_events"]


def read_simulations(path):
    """Read how the showers of a file were simulated.

    Parameters
    ----------
    path : pathlib.Path
        A file of simulations.

    Returns
    -------
    list of pyirf.simulations.SimulatedEventsInfo
        One for each run, as if all showers came from a point and fell on the same
        area: neither matters for spectra.

    Raises
    ------
    EvaluationError
        If the file does not say, or the spectrum is not a power law.
    DL1FileError
        If the file cannot be read.
    """
    with open_events(path, "EQUIVALENT", needed=()) as reader:
        runs = reader.read_runs()
    if runs is None:
        raise EvaluationError(f"{path} does not say how its showers were simulated")
    simulations = []
    for run in runs:
        index = float(run["spectral_index"])
        if index == -1:
            # pyirf divides by the index + 1: this is near enough.
            index = -1 - 1e-6
        try:
            simulations.append(
                SimulatedEventsInfo(
                    n_showers=int(run["n_showers"] * run["shower_reuse"]),
                    energy_min=run["energy_range_min"],
                    energy_max=run["energy_range_max"],
                    max_impact=1 * u.m,
                    spectral_index=index,
                    viewcone_min=0 * u.deg,
                    viewcone_max=0 * u.deg,
                )
            )
        except ValueError as error:
            raise EvaluationError(
                f"{path}: the spectrum of run {run['obs_id']} cannot be weighted: "
                f"{error}"
            ) from error
    return simulations


def spectral_weights(energy, simulations, spectrum):
    """Weight events to a spectrum.

    Parameters
    ----------
    energy : numpy.ndarray
        True energy of the events in TeV, shape (n,).
    simulations : list of pyirf.simulations.SimulatedEventsInfo
        All runs of the events.
    spectrum : str
        Name of a spectrum of `pyirf.spectral`.

    Returns
    -------
    numpy.ndarray
        Weights of mean 1, since only the spectrum's shape matters, shape (n,).

    Raises
    ------
    EvaluationError
        If an event has an energy that no run has simulated.
    """
    energy = u.Quantity(energy, u.TeV)
    simulated = 0
    for simulation in simulations:
        power_law = spectral.PowerLaw.from_simulation(simulation, obstime=1 * u.s)
        # Rounding must not push events at the very edge out of their run.
        is_within = (energy >= simulation.energy_min * (1 - 1e-5)) & (
            energy <= simulation.energy_max * (1 + 1e-5)
        )
        simulated = simulated + np.where(is_within, power_law(energy), 0)
    outside = np.broadcast_to(u.Quantity(simulated).value == 0, energy.shape)
    if outside.any():
        raise EvaluationError(
            f"an event has a true energy of {energy[outside][0]:.4g}, which no run has "
            f"simulated according to its file: it cannot be weighted to {spectrum}"
        )
    flux = getattr(spectral, spectrum)(energy).value
    weights = flux / u.Quantity(simulated).value
    return weights / weights.mean() if len(weights) > 0 else weights


def weight_events(sample, files, spectra):
    """Weight gammas and background to spectra.

    Parameters
    ----------
    sample : Sample
        The events.
    files : list of (pathlib.Path, int)
        Files of the events, and their labels: 0 for gammas, 1 for background.
    spectra : sequence of (str or None)
        Names of the spectra of gammas and of background in `pyirf.spectral`; None for
        that of the simulation.

    Returns
    -------
    Sample
        The same events, with their weights.

    Raises
    ------
    EvaluationError
        If they cannot be weighted.
    """
    weights = sample.weights.copy()
    for label, spectrum in enumerate(spectra):
        if spectrum is None:
            continue
        simulations = [
            run for path, of in files if of == label for run in read_simulations(path)
        ]
        of_class = np.asarray(sample.events["label"]) == label
        energy = np.asarray(sample.events["true_energy"])[of_class]
        weights[of_class] = spectral_weights(energy, simulations, spectrum)
    return replace(sample, weights=weights)
