"""What is the same in all nights: regions on the sky and the instrument response.

gammapy prepares both here once, as in `analyse.py`. A night is then its counts, and the
minimum of the same likelihood (WStat) for a power law: milliseconds instead of seconds.
"""

from typing import NamedTuple

import numpy as np
from analyse import ENERGY, ON_RADIUS, PIVOT, TRUE_ENERGY
from astropy.coordinates import SkyCoord
from gammapy.datasets import Datasets, SpectrumDataset
from gammapy.makers import ReflectedRegionsFinder, SpectrumDatasetMaker
from gammapy.maps import RegionGeom
from gammapy.modeling.models import PowerLawSpectralModel
from gammapy.stats import wstat
from iminuit import Minuit
from regions import CircleSkyRegion


class Template(NamedTuple):
    """Regions and response of a night; each run has n_off regions off the source."""

    regions: dict  # by run: centres, shape (1 + n_off,), that of the source first
    folds: list  # for each class of events, cm2 s, shape (n_true_energy, n_energy)

    @property
    def alpha(self):
        """Ratio of the areas on and off the source."""
        return 1 / (len(next(iter(self.regions.values()))) - 1)


class Fitted(NamedTuple):
    """A power law that was fitted; errors are those on the side of the truth."""

    flux: float  # at the pivot energy, in units of the truth
    flux_error: float
    index: float  # positive for falling spectra
    index_error: float
    sqrt_ts: float  # against no source


def make_template(stores, position):
    """Find regions and response of a night.

    Parameters
    ----------
    stores : list of gammapy.data.Observations
        The runs, for each class of events; their events don't matter.
    position : astropy.coordinates.SkyCoord
        Where the source is thought to be.

    Returns
    -------
    Template
        What the nights have in common.

    Raises
    ------
    ValueError
        If runs have different numbers of regions.
    """
    region = CircleSkyRegion(position, ON_RADIUS)
    regions = {}
    for run in stores[0]:
        pointing = run.get_pointing_icrs(run.tmid)
        reflected, _ = ReflectedRegionsFinder().run(region, pointing)
        centres = [position, *(each.center for each in reflected)]
        regions[run.obs_id] = SkyCoord([centre.icrs for centre in centres])
    numbers = {len(centres) for centres in regions.values()}
    if len(numbers) > 1 or min(numbers) < 2:
        raise ValueError(
            f"runs have {sorted(n - 1 for n in numbers)} reflected regions, not the "
            "same number; simulate the source at one distance from the pointing"
        )
    return Template(regions, [_fold(runs, region) for runs in stores])


def _fold(runs, region):
    empty = SpectrumDataset.create(
        RegionGeom.create(region, axes=[ENERGY]), energy_axis_true=TRUE_ENERGY
    )
    maker = SpectrumDatasetMaker(
        selection=["exposure", "edisp"],
        use_region_center=True,
    )
    datasets = [maker.run(empty.copy(name=str(run.obs_id)), run) for run in runs]
    night = Datasets(datasets).stack_reduce(name="night")
    exposure = night.exposure.quantity.to_value("cm2 s")[:, 0, 0]
    kernel = night.edisp.get_edisp_kernel(energy_axis=ENERGY).data
    return exposure[:, np.newaxis] * kernel


def count(template, obs_id, directions, energy, classes):
    """Count events on and off the source.

    Parameters
    ----------
    template : Template
        For the regions.
    obs_id : numpy.ndarray
        Run of each event, shape (n,), int.
    directions : astropy.coordinates.SkyCoord
        Where they come from, shape (n,).
    energy : astropy.units.Quantity
        Shape (n,).
    classes : numpy.ndarray
        The classes that each event is in, shape (n, n_classes), bool.

    Returns
    -------
    on, off : numpy.ndarray
        Shape (n_classes, n_energy), float.
    """
    edges = ENERGY.edges.to_value("TeV")
    is_on, n_off = np.zeros((2, len(obs_id)))
    for run, centres in template.regions.items():
        own = obs_id == run
        distances = directions[own, np.newaxis].separation(centres)
        is_on[own] = distances[:, 0] < ON_RADIUS
        n_off[own] = (distances[:, 1:] < ON_RADIUS).sum(axis=1)
    return tuple(
        np.array(
            [
                np.histogram(energy.to_value("TeV"), edges, weights=weight * own)[0]
                for own in classes.T
            ]
        )
        for weight in (is_on, n_off)
    )


def expected_signal(template, amplitude, index):
    """Compute the counts that are expected from a power law.

    Parameters
    ----------
    template : Template
        For the response.
    amplitude : astropy.units.Quantity
        Flux at the pivot energy.
    index : float
        Index.

    Returns
    -------
    numpy.ndarray
        Of each class of events, shape (n_classes, n_energy), float.
    """
    edges = TRUE_ENERGY.edges
    flux = PowerLawSpectralModel.evaluate_integral(
        edges[:-1], edges[1:], index, amplitude, PIVOT
    )
    return flux.to_value("cm-2 s-1") @ np.array(template.folds)


def fit(template, on, off, amplitude, index):
    """Fit a power law to the counts of all classes of events.

    Parameters
    ----------
    template : Template
        For the response.
    on, off : numpy.ndarray
        Counts, shape (n_classes, n_energy), float.
    amplitude : astropy.units.Quantity
        True flux at the pivot energy.
    index : float
        True index.

    Returns
    -------
    Fitted
        The result; its errors are nan where the likelihood has no limit on that side.
    """

    def _stat(flux, index):
        expected = expected_signal(template, flux * amplitude, index)
        return wstat(on, off, template.alpha, expected).sum()

    minuit = Minuit(_stat, flux=1, index=index)
    minuit.errordef = Minuit.LEAST_SQUARES
    minuit.limits["flux"] = (0, None)
    minuit.migrad()
    minuit.minos()
    errors = []
    for name, truth in (("flux", 1), ("index", index)):
        minos = minuit.merrors[name]
        above = minuit.values[name] < truth
        right = minos.upper_valid if above else minos.lower_valid
        errors.append(abs(minos.upper if above else minos.lower) if right else np.nan)
    difference = _stat(0, index) - minuit.fval
    return Fitted(
        minuit.values["flux"],
        errors[0],
        minuit.values["index"],
        errors[1],
        float(np.sqrt(max(difference, 0))),
    )
