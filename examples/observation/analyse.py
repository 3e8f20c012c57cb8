"""Analyse a night with gammapy: significance, theta-squared, excess map, spectrum.

    python analyse.py dl3/all --position "83 deg" "8.743 deg" --output-dir figures

Several data stores are classes of events of the same night, which are fitted together::

    python analyse.py dl3/small_errors dl3/large_errors --position ...
"""

import argparse
import json
from pathlib import Path
from typing import NamedTuple

import astropy.units as u
import matplotlib.pyplot as plt
import numpy as np
from astropy.coordinates import SkyCoord
from gammapy.data import DataStore
from gammapy.datasets import Datasets, MapDataset, SpectrumDataset
from gammapy.estimators import ExcessMapEstimator, FluxPointsEstimator
from gammapy.makers import (
    MapDatasetMaker,
    ReflectedRegionsBackgroundMaker,
    RingBackgroundMaker,
    SpectrumDatasetMaker,
)
from gammapy.makers.utils import make_theta_squared_table
from gammapy.maps import MapAxis, RegionGeom, WcsGeom
from gammapy.modeling import Fit
from gammapy.modeling.models import PowerLawSpectralModel, SkyModel
from gammapy.stats import WStatCountsStatistic
from gammapy.visualization import plot_theta_squared_table
from regions import CircleSkyRegion

ON_RADIUS = 0.2 * u.deg  # that of the response, in irf.yaml
POSITION_RADIUS = 0.3 * u.deg  # of the circle whose events tell the position
FIELD = 1 * u.deg  # of the map, around the pointing
#: gammapy takes the effective area as 0 below the centre of its lowest bin, 46 GeV. Of
#: the gammas that seem to be above 60 GeV, 4 % would be missing, above 80 GeV 0.9 %.
ENERGY = MapAxis.from_energy_bounds("0.08 TeV", "10 TeV", nbin=5, per_decade=True)
#: The simulated energies: gammapy takes the response as 0 elsewhere.
TRUE_ENERGY = MapAxis.from_energy_bounds(
    "0.04 TeV", "10 TeV", nbin=16, per_decade=True, name="energy_true"
)
#: Energy at which the flux is given.
PIVOT = 0.3 * u.TeV


class Spectrum(NamedTuple):
    """A power law that was fitted, with its errors."""

    amplitude: u.Quantity  # at the pivot energy
    amplitude_error: u.Quantity
    index: float  # positive for falling spectra
    index_error: float
    sqrt_ts: float  # against no source


class Position(NamedTuple):
    """Where events come from, on average."""

    centre: SkyCoord
    error: u.Quantity  # of each coordinate


def read_observations(folder):
    """Open a folder of event lists.

    Parameters
    ----------
    folder : pathlib.Path
        As written by `make_event_lists.py`.

    Returns
    -------
    gammapy.data.Observations
        All runs.
    """
    return DataStore.from_dir(folder).get_observations(required_irf="point-like")


def on_off_datasets(observations, position):
    """Count events at a position, and at reflected regions around the pointings.

    Parameters
    ----------
    observations : gammapy.data.Observations
        Runs.
    position : astropy.coordinates.SkyCoord
        Centre of the region.

    Returns
    -------
    gammapy.datasets.SpectrumDatasetOnOff
        The sum of the runs.

    Raises
    ------
    ValueError
        If there is no event in the reflected regions: gammapy could not add up the
        runs.
    """
    region = CircleSkyRegion(position, ON_RADIUS)
    empty = SpectrumDataset.create(
        RegionGeom.create(region, axes=[ENERGY]), energy_axis_true=TRUE_ENERGY
    )
    spectrum = SpectrumDatasetMaker(
        selection=["counts", "exposure", "edisp"],
        use_region_center=True,
    )
    background = ReflectedRegionsBackgroundMaker()
    runs = Datasets()
    for observation in observations:
        run = spectrum.run(empty.copy(name=str(observation.obs_id)), observation)
        runs.append(background.run(run, observation))
    if not any(run.counts_off.data.any() for run in runs):
        raise ValueError(
            f"no event between {ENERGY.edges[0]} and {ENERGY.edges[-1]} in the "
            "reflected regions: simulate more of the background, or raise its "
            "normalisations"
        )
    return runs.stack_reduce(name="night")


def li_ma(dataset):
    """Compute the significance of the excess, all energies together (Li & Ma 1983).

    Parameters
    ----------
    dataset : gammapy.datasets.SpectrumDatasetOnOff
        Counts.

    Returns
    -------
    gammapy.stats.WStatCountsStatistic
        ``n_on``, ``n_off``, ``alpha``, ``n_sig`` (the excess) and ``sqrt_ts`` (the
        significance).
    """
    totals = dataset.info_dict()
    return WStatCountsStatistic(totals["counts"], totals["counts_off"], totals["alpha"])


def fit_spectrum(datasets):
    """Fit a power law.

    Parameters
    ----------
    datasets : list of gammapy.datasets.SpectrumDatasetOnOff
        One for each class of events.

    Returns
    -------
    Spectrum
        The result.
    gammapy.datasets.Datasets
        The data with the fitted model.
    """
    power_law = PowerLawSpectralModel(
        amplitude="1e-11 cm-2 s-1 TeV-1", index=2.5, reference=PIVOT
    )
    datasets = Datasets(
        [dataset.copy(name=str(n)) for n, dataset in enumerate(datasets)]
    )
    datasets.models = [SkyModel(power_law, name="source")]
    Fit().run(datasets)
    with_source = datasets.stat_sum()
    amplitude = power_law.amplitude.value
    power_law.amplitude.value = 0
    without = datasets.stat_sum()
    power_law.amplitude.value = amplitude
    spectrum = Spectrum(
        power_law.amplitude.quantity,
        power_law.amplitude.error * power_law.amplitude.unit,
        power_law.index.value,
        power_law.index.error,
        float(np.sqrt(max(without - with_source, 0))),
    )
    return spectrum, datasets


def directions_of(observations):
    """Collect the directions of the events in the range of energies.

    Parameters
    ----------
    observations : list of gammapy.data.Observation
        Runs.

    Returns
    -------
    astropy.coordinates.SkyCoord
        Shape (n,).
    """
    bounds = ENERGY.edges[[0, -1]]
    radec = [run.events.select_energy(bounds).radec for run in observations]
    return SkyCoord(
        np.concatenate([each.ra for each in radec]),
        np.concatenate([each.dec for each in radec]),
    )


def fit_position(directions, start, background):
    """Find where the excess comes from: the mean of the directions around it.

    A flat background around the centre of the circle pulls the mean to the centre, but
    not away from it, so the centre moves until it is the mean.

    Parameters
    ----------
    directions : astropy.coordinates.SkyCoord
        Of the events, shape (n,).
    start : astropy.coordinates.SkyCoord
        First guess, good to a fraction of a degree.
    background : float
        Number of background events in the region around the source.

    Returns
    -------
    Position
        Centre and error.
    """
    frame = start.skyoffset_frame()
    seen = directions[directions.separation(start) < 2 * POSITION_RADIUS]
    seen = seen.transform_to(frame)
    offsets = np.array([seen.lon.wrap_at(180 * u.deg).deg, seen.lat.deg])
    background = background * (POSITION_RADIUS / ON_RADIUS).to_value("") ** 2
    centre = np.zeros((2, 1))
    for _ in range(30):
        distances = offsets - centre
        is_near = np.hypot(*distances) < POSITION_RADIUS.to_value("deg")
        excess = max(is_near.sum() - background, 1)
        centre = centre + distances[:, is_near].sum(axis=1, keepdims=True) / excess
    error = np.sqrt((distances[:, is_near] ** 2).sum() / 2) / excess
    found = SkyCoord(*(centre[:, 0] * u.deg), frame=frame).icrs
    return Position(found, error * u.deg)


def theta_squared(observations, position):
    """Count events by their squared distance from a position, and from its reflections.

    Parameters
    ----------
    observations : gammapy.data.Observations
        Runs.
    position : astropy.coordinates.SkyCoord
        The position.

    Returns
    -------
    astropy.table.Table
        As `gammapy.makers.utils.make_theta_squared_table` has it.
    """
    axis = MapAxis.from_edges(np.linspace(0, 0.2, 21), name="theta2", unit="deg2")
    return make_theta_squared_table(observations, axis, position)


def excess_map(observations, position):
    """Make maps of excess and significance, with a ring as background.

    Events near the pointing are used, where background is about flat.

    Parameters
    ----------
    observations : gammapy.data.Observations
        Runs.
    position : astropy.coordinates.SkyCoord
        Centre of the map.

    Returns
    -------
    gammapy.estimators.FluxMaps
        With ``npred_excess`` and ``sqrt_ts``.
    """
    axis = MapAxis.from_energy_edges(ENERGY.edges[[0, -1]])
    geom = WcsGeom.create(skydir=position, width="3 deg", binsz=0.02, axes=[axis])
    empty = MapDataset.create(geom, energy_axis_true=TRUE_ENERGY)
    not_source = geom.to_image().region_mask(
        [CircleSkyRegion(position, 0.3 * u.deg)], inside=False
    )
    ring = RingBackgroundMaker(
        r_in="0.4 deg", width="0.3 deg", exclusion_mask=not_source
    )
    maker = MapDatasetMaker(selection=["counts"])
    runs = Datasets()
    for observation in observations:
        run = maker.run(empty.copy(), observation)
        pointing = observation.get_pointing_icrs(observation.tmid)
        field = geom.region_mask([CircleSkyRegion(pointing, FIELD)])
        run.counts *= field
        run.mask_safe = field
        run.background = field * 1.0  # its shape: flat
        runs.append(ring.run(run))
    total = runs.stack_reduce(name="night")
    return ExcessMapEstimator(
        correlation_radius=0.1 * u.deg, selection_optional=[]
    ).run(total)


def plot_theta_squared(table, path):
    """Draw a theta-squared histogram.

    Parameters
    ----------
    table : astropy.table.Table
        From `theta_squared`.
    path : pathlib.Path
        The figure.
    """
    plt.figure(figsize=(7, 6))
    plot_theta_squared_table(table)
    plt.savefig(path, bbox_inches="tight")
    plt.close()


def plot_map(maps, position, path):
    """Draw a map of significances.

    Parameters
    ----------
    maps : gammapy.estimators.FluxMaps
        From `excess_map`.
    position : Position
        Is marked.
    path : pathlib.Path
        The figure.
    """
    figure, axes = plt.subplots(
        1, 2, figsize=(12, 5), subplot_kw={"projection": maps.geom.wcs}
    )
    for ax, name in zip(axes, ("npred_excess", "sqrt_ts"), strict=True):
        getattr(maps, name).get_image_by_idx((0,)).plot(ax=ax, add_cbar=True)
        ax.plot(
            position.centre.ra.deg, position.centre.dec.deg, "wx",
            transform=ax.get_transform("icrs"),
        )  # fmt: skip
        ax.set_title(
            {"npred_excess": "excess within 0.1°", "sqrt_ts": "significance"}[name]
        )
    figure.savefig(path, bbox_inches="tight")
    plt.close(figure)


def plot_spectrum(datasets, path):
    """Draw the fitted spectrum and flux points.

    Parameters
    ----------
    datasets : gammapy.datasets.Datasets
        With the fitted model.
    path : pathlib.Path
        The figure.
    """
    edges = ENERGY.edges[::2]
    points = FluxPointsEstimator(
        energy_edges=edges, source="source", selection_optional=["ul"]
    ).run(datasets)
    figure, ax = plt.subplots(figsize=(7, 5))
    points.plot(ax=ax, sed_type="e2dnde")
    model = datasets.models["source"].spectral_model
    bounds = edges[[0, -1]]
    model.plot(energy_bounds=bounds, ax=ax, sed_type="e2dnde")
    model.plot_error(energy_bounds=bounds, ax=ax, sed_type="e2dnde")
    figure.savefig(path, bbox_inches="tight")
    plt.close(figure)


def analyse(stores, position):
    """Analyse the classes of events of a night.

    Parameters
    ----------
    stores : list of gammapy.data.Observations
        One for each class.
    position : astropy.coordinates.SkyCoord
        Where the source is thought to be.

    Returns
    -------
    dict
        Counts, significances, spectrum and position, as numbers in the units that their
        names say.
    gammapy.datasets.Datasets
        The counts with the fitted spectrum.
    """
    classes = [on_off_datasets(observations, position) for observations in stores]
    counts = [li_ma(dataset) for dataset in classes]
    spectrum, fitted = fit_spectrum(classes)
    result = {
        "n_on": [int(c.n_on) for c in counts],
        "n_off": [int(c.n_off) for c in counts],
        "alpha": [float(c.alpha) for c in counts],
        "excess": [float(c.n_sig) for c in counts],
        "li_ma_sigma": [float(c.sqrt_ts) for c in counts],
        "live_time_s": float(classes[0].gti.time_sum.to_value("s")),
        "fit_sigma": spectrum.sqrt_ts,
        "amplitude_cm-2_s-1_TeV-1": spectrum.amplitude.to_value("cm-2 s-1 TeV-1"),
        "amplitude_error": spectrum.amplitude_error.to_value("cm-2 s-1 TeV-1"),
        "pivot_TeV": PIVOT.to_value("TeV"),
        "index": spectrum.index,
        "index_error": spectrum.index_error,
    }
    return result, fitted


def main():
    """Analyse a night, print numbers and draw figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stores", type=Path, nargs="+", help="folders of event lists")
    parser.add_argument("--position", nargs=2, required=True, metavar=("RA", "DEC"))
    parser.add_argument("--output-dir", type=Path, required=True)
    args = parser.parse_args()
    args.output_dir.mkdir(parents=True, exist_ok=True)
    position = SkyCoord(*args.position)
    stores = [read_observations(folder) for folder in args.stores]
    result, fitted = analyse(stores, position)
    everything = [observation for store in stores for observation in store]
    background = sum(result["n_on"]) - sum(result["excess"])
    place = fit_position(directions_of(everything), position, background)
    result["ra_deg"], result["dec_deg"] = place.centre.ra.deg, place.centre.dec.deg
    result["position_error_deg"] = place.error.to_value("deg")
    text = json.dumps(result, indent=1)
    print(text)
    (args.output_dir / "result.json").write_text(text)
    plot_theta_squared(
        theta_squared(everything, position), args.output_dir / "theta2.png"
    )
    plot_map(excess_map(everything, position), place, args.output_dir / "map.png")
    plot_spectrum(fitted, args.output_dir / "spectrum.png")


if __name__ == "__main__":
    main()
