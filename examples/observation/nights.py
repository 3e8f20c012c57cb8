"""Does the truth come back? Many nights, drawn from the DL2 of simulated showers.

    python nights.py --pool pool/sky --irf-gammas pool/irf/gamma.dl2.h5 \
        --config irf.yaml --classes irf/all --output-dir nights

Each night is drawn as in `make_observation.py`, and analysed as in `analyse.py`, with
the instrument response made of other showers. The pull of a fitted value is its
difference from the truth over its error. As many nights are without a source; their
significances must be those of chance. `nights.ecsv` has all nights, `summary.json` what
follows from them.
"""

import argparse
import json
from pathlib import Path

import astropy.units as u
import numpy as np
from analyse import (
    ENERGY,
    ON_RADIUS,
    PIVOT,
    fit_position,
    fit_spectrum,
    li_ma,
    on_off_datasets,
)
from astropy.table import QTable, Table, vstack
from ctapipe.instrument import SubarrayDescription
from ctapipe.irf import OptimizationResult
from gammapy.data import EventList, FixedPointingInfo, Observation, Observations
from gammapy.irf import load_irf_dict_from_file
from judge import judge_chance, judge_pulls
from make_event_lists import REFERENCE, event_table, header, is_selected, read_names
from make_observation import pool_paths, times_of
from night import (
    GAMMA,
    SPECTRA,
    draw_night,
    expected_counts,
    read_night,
    read_pool,
    run_pointing,
    simulated_pointing,
)
from sky import directions_at, horizontal, offsets, to_icrs

from ctapipe_gammaphysnet.events.showers import shower_numbers


def seen_offsets(events, names):
    """Find where in the camera events were reconstructed.

    Parameters
    ----------
    events : astropy.table.Table
        Simulated events with DL2, n rows.
    names : Names
        The prefixes of the columns.

    Returns
    -------
    lon, lat : astropy.units.Quantity
        Offsets from the pointing in the telescope frame, shape (n,), in deg.
    """
    alt, az = (
        u.Quantity(events[f"{names.geometry}_{angle}"]) for angle in ("alt", "az")
    )
    return offsets(horizontal(alt, az), simulated_pointing(events))


def prepare_pool(pool, cuts, names):
    """Leave out events that are in no class, and note what the others' classes are.

    Parameters
    ----------
    pool : Pool
        With DL2.
    cuts : list of ctapipe.irf.OptimizationResult
        For each class.
    names : Names
        The prefixes of the columns.

    Returns
    -------
    Pool
        With the columns ``lon`` and ``lat``, where in the camera events were
        reconstructed, in deg, and ``classes``, shape (n, n_classes), bool.
    """
    classes = np.column_stack([is_selected(pool.events, each, names) for each in cuts])
    events = pool.events[classes.any(axis=1)]
    events["classes"] = classes[classes.any(axis=1)]
    events["lon"], events["lat"] = seen_offsets(events, names)
    return pool._replace(events=events)


def observations_of(drawn, pools, responses, night, names, location):
    """Make the runs of a night, for each class of events.

    Parameters
    ----------
    drawn : astropy.table.Table
        As `draw_night` returns it.
    pools : list of Pool
        From `prepare_pool`.
    responses : list of dict
        Instrument response for each class, as gammapy reads it.
    night : Night
        The night.
    names : Names
        The prefixes of the columns.
    location : astropy.coordinates.EarthLocation
        Where the telescopes are.

    Returns
    -------
    list of gammapy.data.Observations
        One for each class.
    """
    stores = [Observations() for _ in responses]
    for run in night.runs:
        events = events_of_run(
            drawn[drawn["obs_id"] == run.obs_id], pools, night, names
        )
        alt, az = run_pointing(run, events["time"], night, pools, location)
        alt, az = directions_at(events["lon"], events["lat"], horizontal(alt, az))
        directions = to_icrs(alt, az, events["time"], location)
        table = event_table(events, directions, names)
        for number, (store, irfs) in enumerate(zip(stores, responses, strict=True)):
            own = table[events["classes"][:, number]]
            store.append(observation_of(own, run, irfs, night, pools, location))
    return stores


def events_of_run(drawn, pools, night, names):
    """Collect the drawn events of a run.

    Parameters
    ----------
    drawn : astropy.table.Table
        Events of one run, n rows, as `draw_night` returns them.
    pools : list of Pool
        From `prepare_pool`.
    night : Night
        The night.
    names : Names
        The prefixes of the columns.

    Returns
    -------
    astropy.table.QTable
        n rows, with the times and numbers of the night.
    """
    columns = [
        f"{names.energy}_energy", f"{names.classifier}_prediction", "lon", "lat", "classes"
    ]  # fmt: skip
    parts = [
        pool.events[columns][drawn["row"][drawn["pool"] == number]]
        for number, pool in enumerate(pools)
    ]
    events = QTable(vstack(parts, metadata_conflicts="silent"))
    order = np.argsort(drawn["pool"], kind="stable")
    events["event_id"] = drawn["event_id"][order]
    events["time"] = times_of(
        drawn["obs_id"][order], drawn["seconds"][order], night.runs
    )
    return events


def observation_of(table, run, irfs, night, pools, location):
    """Make gammapy's observation of a run.

    Parameters
    ----------
    table : astropy.table.Table
        Events, from `event_table`.
    run : Run
        The run.
    irfs : dict
        Instrument response.
    night, pools, location : Night, list of Pool, astropy.coordinates.EarthLocation
        For the pointing.

    Returns
    -------
    gammapy.data.Observation
        The run.
    """
    start, stop = run.start, run.start + run.duration
    middle = (start + run.duration / 2)[np.newaxis]
    alt, az = run_pointing(run, middle, night, pools, location)
    pointing = to_icrs(alt, az, middle, location)[0]
    table.meta = header(run.obs_id, start, stop, pointing, location)
    observation = Observation.create(
        FixedPointingInfo(fixed_icrs=pointing),
        location=location,
        obs_id=run.obs_id,
        tstart=start,
        tstop=stop,
        irfs=irfs,
        reference_time=REFERENCE,
    )
    observation.events = EventList(table)
    return observation


def analyse_night(stores, night):
    """Analyse a night.

    Parameters
    ----------
    stores : list of gammapy.data.Observations
        For each class of events.
    night : Night
        For the truth.

    Returns
    -------
    dict
        Counts and significances; with a source, also the fitted values, their errors and
        pulls.
    """
    position = night.source
    datasets = [on_off_datasets(observations, position) for observations in stores]
    counts = [li_ma(dataset) for dataset in datasets]
    n_on = sum(int(c.n_on) for c in counts)
    background = sum(float(c.n_bkg) for c in counts)
    result = {"n_on": n_on, "background": background, "sigma": float(counts[0].sqrt_ts)}
    if night.source_normalisation == 0:
        return result
    spectrum, _ = fit_spectrum(datasets)
    flux = night.source_normalisation * SPECTRA[GAMMA](PIVOT)
    result["fit_sigma"] = spectrum.sqrt_ts
    result["flux"] = (spectrum.amplitude / flux).to_value("")
    result["flux_error"] = (spectrum.amplitude_error / flux).to_value("")
    result["index"] = spectrum.index
    result["index_error"] = spectrum.index_error
    everything = [observation for store in stores for observation in store]
    radius = 0.3 * u.deg
    place = fit_position(
        everything,
        position,
        radius,
        background * (radius / ON_RADIUS).to_value("") ** 2,
    )
    seen = place.centre.transform_to(position.skyoffset_frame())
    lon, lat = seen.lon.wrap_at(180 * u.deg), seen.lat
    result["lon"], result["lat"] = lon.to_value("deg"), lat.to_value("deg")
    result["position_error"] = place.error.to_value("deg")
    return result


def pool_errors(pool, night, names):
    """Find what the number of simulated gammas allows to know.

    The same showers are in all nights, or in the response that is used for all nights.
    So their fluctuations shift all fluxes and indices together.

    Parameters
    ----------
    pool : Pool
        Gammas, from `prepare_pool`.
    night : Night
        For the spectrum.

    Returns
    -------
    flux, index : float
        Relative error of the flux, and error of the index.
    """
    events = pool.events
    true = horizontal(u.Quantity(events["true_alt"]), u.Quantity(events["true_az"]))
    lon, lat = offsets(true, simulated_pointing(events))
    reco = u.Quantity(events[f"{names.energy}_energy"])
    near = np.hypot(u.Quantity(events["lon"]) - lon, u.Quantity(events["lat"]) - lat)
    near = (near < ON_RADIUS) & (ENERGY.edges[0] < reco) & (reco < ENERGY.edges[-1])
    weight = expected_counts(pool, night, 1 * u.s)[near]
    energy = np.log(u.Quantity(events["true_energy"][near]).to_value(u.TeV))
    # Events of a shower fluctuate together.
    _, shower = np.unique(shower_numbers(QTable(events[near])), return_inverse=True)
    distance = energy - np.average(energy, weights=weight)
    slope = np.bincount(shower, weight * distance)
    return (
        np.sqrt((np.bincount(shower, weight) ** 2).sum()) / weight.sum(),
        np.sqrt((slope**2).sum()) / (weight * distance**2).sum(),
    )


def run_nights(n_nights, pools, responses, night, names, location):
    """Draw and analyse nights.

    Parameters
    ----------
    n_nights : int
        How many.
    pools, responses, night, names, location : object
        As in `observations_of`.

    Returns
    -------
    astropy.table.Table
        A row for each night, with the keys of `analyse_night`.
    """
    rows = []
    for number in range(n_nights):
        rng = np.random.default_rng([night.seed, number])
        drawn = draw_night(pools, night, rng)
        stores = observations_of(drawn, pools, responses, night, names, location)
        rows.append(analyse_night(stores, night))
    return Table(rows)


def summarise(with_source, without, night, common):
    """Judge the nights.

    Parameters
    ----------
    with_source, without : astropy.table.Table
        Nights with and without a source, from `run_nights`.
    night : Night
        For the truth.
    common : tuple of float
        Errors of flux and index that all nights share.

    Returns
    -------
    dict
        What `summary.json` has.
    """
    hours = sum(run.duration for run in night.runs).to_value(u.hour)
    sigma = np.asarray(with_source["fit_sigma"])
    index = -SPECTRA[GAMMA].index
    return {
        "nights": len(with_source),
        "source_normalisation": night.source_normalisation,
        "background_normalisation": night.background_normalisation,
        "hours": hours,
        "events_on": float(np.mean(with_source["n_on"])),
        "background_on": float(np.mean(with_source["background"])),
        "sigma_per_sqrt_hour": sigma.mean() / np.sqrt(hours),
        "sigma_per_sqrt_hour_error": sigma.std() / np.sqrt(len(sigma) * hours),
        "flux": judge_pulls(
            with_source["flux"], 1, with_source["flux_error"], common[0]
        ),
        "index": judge_pulls(
            with_source["index"], index, with_source["index_error"], common[1]
        ),
        **{
            angle: judge_pulls(with_source[angle], 0, with_source["position_error"], 0)
            for angle in ("lon", "lat")
        },
        "without_source": judge_chance(without["sigma"]),
    }


def check_is_split(pools, gammas):
    """Check that no shower of the response is in the nights, too.

    Parameters
    ----------
    pools : list of Pool
        Of the nights.
    gammas : Pool
        Of the response.

    Raises
    ------
    ValueError
        If there is such a shower.
    """
    response = shower_numbers(QTable(gammas.events))
    for pool in pools:
        if np.isin(shower_numbers(QTable(pool.events)), response).any():
            raise ValueError(
                f"{pool.name} has showers that the instrument response was made of; "
                "simulate them with another seed"
            )


def main():
    """Run the study, and print its summary."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    here = Path(__file__).parent
    parser.add_argument("--pool", type=Path, required=True, help="folder of DL2 files")
    parser.add_argument("--irf-gammas", type=Path, required=True)
    parser.add_argument("--night", type=Path, default=here / "night.yaml")
    parser.add_argument("--config", type=Path, nargs="+", default=[here / "irf.yaml"])
    parser.add_argument(
        "--classes", type=Path, nargs="+", required=True,
        help="folders with cuts.fits and irf.fits.gz",
    )  # fmt: skip
    parser.add_argument("--nights", type=int, default=300)
    parser.add_argument("--output-dir", type=Path, required=True)
    args = parser.parse_args()
    args.output_dir.mkdir(parents=True, exist_ok=True)

    night, names = read_night(args.night), read_names(args.config)
    cuts = [OptimizationResult.read(folder / "cuts.fits") for folder in args.classes]
    responses = [
        load_irf_dict_from_file(folder / "irf.fits.gz") for folder in args.classes
    ]
    paths = pool_paths(args.pool, night, ".dl2.h5")
    location = SubarrayDescription.from_hdf(paths[0]).reference_location
    pools = [prepare_pool(read_pool(path, dl2=True), cuts, names) for path in paths]
    gammas = prepare_pool(read_pool(args.irf_gammas, dl2=True), cuts, names)
    check_is_split(pools, gammas)
    source = merged([pool for pool in pools if pool.particle == GAMMA])
    common = np.hypot(
        pool_errors(gammas, night, names), pool_errors(source, night, names)
    )

    arguments = pools, responses, night, names, location
    with_source = run_nights(args.nights, *arguments)
    dark = night._replace(source_normalisation=0.0, seed=night.seed + 1)
    without = run_nights(args.nights, pools, responses, dark, names, location)
    with_source.write(args.output_dir / "nights.ecsv", overwrite=True)
    without.write(args.output_dir / "without_source.ecsv", overwrite=True)
    text = json.dumps(summarise(with_source, without, night, common), indent=1)
    (args.output_dir / "summary.json").write_text(text)
    print(text)


def merged(pools):
    """Put several pools of gammas together.

    Parameters
    ----------
    pools : list of Pool
        The same number of showers in each.

    Returns
    -------
    Pool
        All events.
    """
    events = vstack([pool.events for pool in pools], metadata_conflicts="silent")
    return pools[0]._replace(events=events)


if __name__ == "__main__":
    main()
