"""The energy of a gamma."""

import numpy as np

from .ellipse import known_width
from .metric import Metric, containment, resolution, weighted_quantile
from .task import Movement, Output, Task

__all__ = ["ENERGY", "energy_from_target", "energy_to_target"]


def energy_to_target(energy):
    """Convert energies to targets.

    Parameters
    ----------
    energy : astropy.units.Quantity
        Energy, shape (n,).

    Returns
    -------
    numpy.ndarray
        log10(E / TeV), shape (n, 1).
    """
    import astropy.units as u

    return np.log10(energy.to_value(u.TeV))[:, np.newaxis]


def energy_from_target(target):
    """Convert the network's output back to energies.

    Parameters
    ----------
    target : numpy.ndarray
        log10(E / TeV), shape (..., 1).

    Returns
    -------
    numpy.ndarray
        Energy in TeV, shape (...).
    """
    return 10 ** target[..., 0]


def _deviation(predicted, true):
    # Factors beyond 10^10 are all equally wrong, but could overflow.
    return 10 ** np.clip(predicted - true, -10, 10) - 1


def _resolution(reconstructed, energy, is_gamma, weights, cut):
    return containment(np.abs(reconstructed / energy - 1), weights)


def _bias(reconstructed, energy, is_gamma, weights, cut):
    return weighted_quantile(reconstructed / energy - 1, 0.5, weights)


class _Energy(Task):
    """The energy, roughly proportional to the light of the whole image."""

    name = "energy"
    path = "global"
    meaning = "log10(E/TeV)"
    colour = "#332288"
    validation_metrics = {
        "energy resolution": lambda *of: resolution(np.abs(_deviation(*of))),
        "energy bias": lambda *of: float(np.median(_deviation(*of))),
    }
    columns = {"energy": ("energy", "energy", "TeV")}
    uncertainties = {"energy_uncert": ("energy", "energy_uncert", "TeV")}
    needed = True
    compared = error = "energy"
    metrics = {
        "energy_resolution": Metric(
            "energy",
            "",
            "Energy resolution",
            "68 % containment of |E/E_true - 1|",
            _resolution,
        ),
        "energy_bias": Metric(
            "energy", "", "Energy bias", "median of E/E_true - 1", _bias
        ),
    }
    outputs = {"energy": Output("energy", 0, "Energy", "log10(E / TeV)")}
    movement = Movement(
        "energy",
        "Energy / undisturbed energy − 1",
        lambda old, new: 10 ** (new - old)[..., 0] - 1,
    )

    def to_target(self, events):
        """Take the logarithm of the true energy."""
        return energy_to_target(events["true_energy"])

    def dl2(self, images):
        """Compute the energy of the mean logarithm, and the half width of its error."""
        # An exponent out of range gives infinity or 0, neither of which is an energy.
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            energy = energy_from_target(images.mean("energy"))
            columns = {"energy": np.where(energy > 0, energy, np.nan)}
            covariance = images.covariance("energy")
            if covariance is not None:
                relative = np.sinh(np.sqrt(covariance[:, 0, 0]) * np.log(10))
                columns["energy_uncert"] = columns["energy"] * relative
        return {"energy": columns}

    def compare(self, predictions, events):
        """Keep finite and positive energies."""
        energy = predictions["energy"]
        return np.where(np.isfinite(energy) & (energy > 0), energy, np.nan)

    def uncertainty(self, predictions):
        """Compute the standard deviation of log10 of the energy.

        The half width of energies between those of ±1 standard deviation is the energy
        times a hyperbolic sine.
        """
        relative = known_width(predictions["energy_uncert"]) / predictions["energy"]
        return known_width(np.arcsinh(relative) / np.log(10))

    def pull(self, predictions, events):
        """Compare logarithms of the energy."""
        true = np.asarray(events["true_energy"])
        deviation = np.log10(self.compare(predictions, events) / true)
        return deviation / self.uncertainty(predictions)

    def error_of(self, compared, events):
        """Compute the relative deviation from the true energy."""
        import astropy.units as u

        return np.abs(compared / events["true_energy"].to_value(u.TeV) - 1)

    def fact(self, output, error):
        """Describe the energy."""
        return f"{10 ** output[:, 0].mean():.3g} TeV"


ENERGY = _Energy()
