"""Checks of the truth of simulated showers."""

import astropy.units as u
import numpy as np

from ..files.input_file import DL1FileError

__all__ = ["TRUTH", "check_particles", "check_truth", "labels_of"]

#: Particle id of gammas in ctapipe's simulated showers, as in sim_telarray.
_GAMMA_ID = 0
#: Columns of truth that must be known, and the units in which they are used.
TRUTH = {
    "true_energy": u.TeV,
    "true_alt": u.deg,
    "true_az": u.deg,
    "true_core_x": u.m,
    "true_core_y": u.m,
}
#: Above the energy of any simulated shower. float32 can hold it.
_MAX_ENERGY = 1e6 * u.TeV
#: No visible shower is further from the array.
_MAX_DISTANCE = 100 * u.km


def labels_of(primary_id):
    """Label gammas and other particles.

    Parameters
    ----------
    primary_id : numpy.ndarray
        Kind of the particles, shape (n,), int.

    Returns
    -------
    numpy.ndarray
        0 for gammas and 1 for others, shape (n,), int64.
    """
    return (np.asarray(primary_id) != _GAMMA_ID).astype(np.int64)


def check_particles(path, primary_id, label):
    """Check that the particles of a file agree with its label.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    primary_id : numpy.ndarray
        Kind of the particles, shape (n,), int.
    label : {0, 1}
        0 if all must be gammas, 1 if none may be a gamma.

    Raises
    ------
    DL1FileError
        If they do not.
    """
    particles = np.unique(primary_id)
    is_gamma = particles == _GAMMA_ID
    if label == 0 and not is_gamma.all():
        raise DL1FileError(
            f"{path} was given as signal, but has particles with the ids "
            f"{particles[~is_gamma].tolist()}; gammas have {_GAMMA_ID}"
        )
    if label == 1 and is_gamma.any():
        raise DL1FileError(f"{path} was given as background, but has gammas")


def check_truth(path, showers):
    """Check that the truth of showers is known.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    showers : astropy.table.QTable
        Simulated showers, n rows.

    Raises
    ------
    DL1FileError
        If a value is not finite or not possible; the message names event and limits.
    """
    for name in TRUTH:
        values = u.Quantity(showers[name])
        good, allowed = np.isfinite(values), ""
        if name == "true_energy":
            good &= (values.value > 0) & (values <= _MAX_ENERGY)
            allowed = f", not above 0 and up to {_MAX_ENERGY:g}"
        if name == "true_alt":
            good &= np.abs(values) <= 90 * u.deg
        if name in ("true_core_x", "true_core_y"):
            good &= np.abs(values) < _MAX_DISTANCE
            allowed = f", not within {_MAX_DISTANCE:g}"
        if not good.all():
            row = np.flatnonzero(~good)[0]
            raise DL1FileError(
                f"{path}: event {showers['event_id'][row]} of observation "
                f"{showers['obs_id'][row]} has the {name} {values[row]}{allowed}: "
                "leave the file out, or simulate it again"
            )
