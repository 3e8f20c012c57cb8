"""Does the truth come back? Many nights, drawn from the DL2 of simulated showers.

    python nights.py --pool pool/sky --irf-gammas pool/irf/gamma.dl2.h5 \
        --config irf.yaml --classes irf/all --output-dir nights

Each night is drawn as in `make_observation.py`, and analysed as in `analyse.py`, with
the instrument response made of other showers. The pull of a fitted value is its
difference from the truth over its error on that side. With few events the fit itself
has pulls whose mean is not 0: that of ideal nights, drawn from the response, is
subtracted. As many nights are without a source; their significances must be those of
chance. `nights.ecsv` has all nights, `summary.json` what follows from them.
"""

import argparse
import json
from pathlib import Path

import astropy.units as u
import numpy as np
from analyse import ENERGY, ON_RADIUS, PIVOT, fit_position
from astropy.coordinates.erfa_astrom import ErfaAstromInterpolator, erfa_astrom
from astropy.table import QTable, Table, vstack
from ctapipe.instrument import SubarrayDescription
from ctapipe.irf import OptimizationResult
from gammapy.data import FixedPointingInfo, Observation, Observations
from gammapy.irf import EffectiveAreaTable2D, EnergyDispersion2D
from gammapy.stats import WStatCountsStatistic
from judge import summarise
from make_event_lists import REFERENCE, is_selected, read_names
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
    source_offset,
)
from sky import (
    directions_at,
    horizontal,
    offsets,
    pointing_with_source_at,
    seen_from,
    to_icrs,
)
from template import count, expected_signal, fit, make_template


def read_response(path):
    """Read the instrument response to gamma rays.

    Parameters
    ----------
    path : pathlib.Path
        File of ctapipe-compute-irf.

    Returns
    -------
    dict
        As gammapy has it in its observations.
    """
    return {
        "aeff": EffectiveAreaTable2D.read(path, hdu="EFFECTIVE AREA"),
        "edisp": EnergyDispersion2D.read(path, hdu="ENERGY DISPERSION"),
    }


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
    """Note what classes events are in, and where in the camera they were reconstructed.

    Events in no class stay, so that the same nights are drawn for any reconstruction.

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
        With the columns ``classes``, shape (n, n_classes), bool, and ``lon`` and
        ``lat`` in deg, nan for events in no class.
    """
    classes = np.column_stack([is_selected(pool.events, each, names) for each in cuts])
    events = pool.events.copy()
    events["classes"] = classes
    selected = classes.any(axis=1)
    places = seen_offsets(events[selected], names)
    for name, values in zip(("lon", "lat"), places, strict=True):
        events[name] = np.full(len(events), np.nan) * u.deg
        events[name][selected] = values
    return pool._replace(events=events)


def empty_runs(responses, night, pools, location):
    """Make gammapy's runs of a night, without events.

    Parameters
    ----------
    responses : list of dict
        Instrument response for each class of events, as gammapy reads it.
    night : Night
        The night.
    pools : list of Pool
        For the places of the source in the camera.
    location : astropy.coordinates.EarthLocation
        Where the telescopes are.

    Returns
    -------
    list of gammapy.data.Observations
        One for each class.
    """
    stores = [Observations() for _ in responses]
    for run in night.runs:
        middle = (run.start + run.duration / 2)[np.newaxis]
        alt, az = run_pointing(run, middle, night, pools, location)
        pointing = FixedPointingInfo(
            fixed_icrs=to_icrs(alt, az, middle, location)[0].icrs
        )
        for store, irfs in zip(stores, responses, strict=True):
            store.append(
                Observation.create(
                    pointing,
                    location=location,
                    obs_id=run.obs_id,
                    tstart=run.start,
                    tstop=run.start + run.duration,
                    irfs=irfs,
                    reference_time=REFERENCE,
                )
            )
    return stores


def events_of_night(drawn, pools, night, names, rng):
    """Collect the drawn events of a night that are in a class.

    The same background showers are in many nights, so the places where they are in the
    camera would be brighter in all of them. So each one is turned around the pointing
    by a random angle. What differs around the pointing in reality, by the places of the
    telescopes and the altitude, is not seen then.

    Parameters
    ----------
    drawn : astropy.table.Table
        n rows, as `draw_night` returns them.
    pools : list of Pool
        From `prepare_pool`.
    night : Night
        The night.
    names : Names
        The prefixes of the columns.
    rng : numpy.random.Generator
        Random numbers.

    Returns
    -------
    astropy.table.QTable
        With the runs and times of the night.
    """
    parts = []
    for number, pool in enumerate(pools):
        own = drawn[drawn["pool"] == number]
        columns = [f"{names.energy}_energy", "lon", "lat", "classes"]
        events = QTable(pool.events[columns][own["row"]])
        if pool.particle != GAMMA:
            angle = rng.uniform(0, 2 * np.pi, len(own)) * u.rad
            distance = np.hypot(events["lon"], events["lat"])
            events["lon"], events["lat"] = (
                distance * np.sin(angle),
                distance * np.cos(angle),
            )
        events["obs_id"] = own["obs_id"]
        events["time"] = times_of(own["obs_id"], own["seconds"], night.runs)
        parts.append(events[events["classes"].any(axis=1)])
    return vstack(parts, metadata_conflicts="silent")


def directions_of(events, pools, night, location):
    """Find where on the sky events come from.

    Parameters
    ----------
    events : astropy.table.QTable
        From `events_of_night`, n rows.
    pools : list of Pool
        For the places of the source in the camera.
    night : Night
        The night.
    location : astropy.coordinates.EarthLocation
        Where the telescopes are.

    Returns
    -------
    astropy.coordinates.SkyCoord
        Shape (n,), ICRS.
    """
    time = events["time"]
    places = {p.name: source_offset(p) for p in pools if p.particle == GAMMA}
    of_run = {run.obs_id: u.Quantity(places[run.source]) for run in night.runs}
    lon, lat = u.Quantity([of_run[run] for run in events["obs_id"]]).T
    source = seen_from(night.source, time, location)
    pointing = horizontal(*pointing_with_source_at(lon, lat, source))
    return to_icrs(
        *directions_at(events["lon"], events["lat"], pointing), time, location
    )


def analyse_night(events, directions, template, night, names):
    """Analyse a night.

    Parameters
    ----------
    events : astropy.table.QTable
        From `events_of_night`, n rows.
    directions : astropy.coordinates.SkyCoord
        Where they come from, shape (n,).
    template : Template
        Regions and response.
    night : Night
        For the truth.
    names : Names
        The prefixes of the columns.

    Returns
    -------
    dict
        Counts and the significance of all events together (Li & Ma); with a source,
        also the counts ``on`` and ``off``, fitted values and their errors.
    """
    energy = u.Quantity(events[f"{names.energy}_energy"])
    on, off = count(template, events["obs_id"], directions, energy, events["classes"])
    counts = WStatCountsStatistic(on.sum(), off.sum(), template.alpha)
    background = float(counts.n_bkg)
    result = {
        "n_on": int(on.sum()),
        "background": background,
        "sigma": float(counts.sqrt_ts),
    }
    scale = night.normalisations[GAMMA]
    if scale == 0:
        return result
    crab = SPECTRA[GAMMA]
    fitted = fit(template, on, off, scale * crab(PIVOT), -crab.index)
    result |= {"on": on, "off": off, **fitted._asdict()}
    in_range = (ENERGY.edges[0] < energy) & (energy < ENERGY.edges[-1])
    place = fit_position(directions[in_range], night.source, background)
    seen = place.centre.transform_to(night.source.skyoffset_frame())
    lon, lat = seen.lon.wrap_at(180 * u.deg), seen.lat
    result["lon"], result["lat"] = lon.to_value("deg"), lat.to_value("deg")
    result["position_error"] = place.error.to_value("deg")
    return result


def pool_errors(pool, night, names):
    """Find what the number of simulated gammas allows to know.

    The same showers are in all nights, or in the response that is used for all nights.
    So their fluctuations shift all fluxes, indices and positions together.

    Parameters
    ----------
    pool : Pool
        Gammas, from `prepare_pool`.
    night : Night
        For the spectrum.
    names : Names
        The prefixes of the columns.

    Returns
    -------
    flux, index, position : float
        Relative error of the flux, error of the index, and error of each coordinate of
        the position in deg.
    """
    events = pool.events
    true = horizontal(u.Quantity(events["true_alt"]), u.Quantity(events["true_az"]))
    place = offsets(true, simulated_pointing(events))
    shifts = [
        u.Quantity(events["lon"]) - place[0],
        u.Quantity(events["lat"]) - place[1],
    ]
    reco = u.Quantity(events[f"{names.energy}_energy"])
    near = np.hypot(*shifts) < ON_RADIUS  # not those in no class
    near &= (ENERGY.edges[0] < reco) & (reco < ENERGY.edges[-1])
    weight = expected_counts(pool, night, 1 * u.s)[near]
    energy = np.log(u.Quantity(events["true_energy"][near]).to_value(u.TeV))
    distance = energy - np.average(energy, weights=weight)
    # Events of a shower fluctuate together.
    _, shower = np.unique(events["shower"][near], return_inverse=True)

    sums = [weight, weight * distance]
    sums += [weight * shift[near].to_value(u.deg) for shift in shifts]
    flux, slope, *position = (
        np.sqrt((np.bincount(shower, each) ** 2).sum()) for each in sums
    )
    return (
        flux / weight.sum(),
        slope / (weight * distance**2).sum(),
        np.hypot(*position) / np.sqrt(2) / weight.sum(),
    )


def run_nights(n_nights, pools, template, night, names, location):
    """Draw and analyse nights.

    Parameters
    ----------
    n_nights : int
        How many.
    pools : list of Pool
        From `prepare_pool`.
    template : Template
        From `make_template`.
    night : Night
        The night.
    names : Names
        The prefixes of the columns.
    location : astropy.coordinates.EarthLocation
        Where the telescopes are.

    Returns
    -------
    astropy.table.Table
        A row for each night, with the keys of `analyse_night`.
    """
    rows = []
    with erfa_astrom.set(ErfaAstromInterpolator(5 * u.min)):  # exact to microarcseconds
        for number in range(n_nights):
            rng = np.random.default_rng([night.seed, number])
            drawn = draw_night(pools, night, rng)
            events = events_of_night(drawn, pools, night, names, rng)
            directions = directions_of(events, pools, night, location)
            rows.append(analyse_night(events, directions, template, night, names))
    return Table(rows)


def run_ideal_nights(n_nights, off, template, night):
    """Draw nights from the response itself, and fit them: what the fit alone does.

    Parameters
    ----------
    n_nights : int
        How many.
    off : numpy.ndarray
        Expected counts in the regions off the source, shape (n_classes, n_energy).
    template : Template
        Regions and response.
    night : Night
        For the truth and the seed.

    Returns
    -------
    astropy.table.Table
        A row for each night, with the values of `template.Fitted`.
    """
    rng = np.random.default_rng([night.seed, n_nights])  # the nights have those below
    crab = SPECTRA[GAMMA]
    truth = night.normalisations[GAMMA] * crab(PIVOT), -crab.index
    signal = expected_signal(template, *truth)
    rows = []
    for _ in range(n_nights):
        counts = (rng.poisson(n) for n in (signal + template.alpha * off, off))
        rows.append(fit(template, *counts, *truth)._asdict())
    return Table(rows)


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
    response = gammas.events["shower"]
    for pool in pools:
        if np.isin(pool.events["shower"], response).any():
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
    responses = [read_response(folder / "irf.fits.gz") for folder in args.classes]
    paths = pool_paths(args.pool, night, ".dl2.h5")
    location = SubarrayDescription.from_hdf(paths[0]).reference_location
    pools = [prepare_pool(read_pool(path, dl2=True), cuts, names) for path in paths]
    gammas = prepare_pool(read_pool(args.irf_gammas, dl2=True), cuts, names)
    check_is_split(pools, gammas)
    source = merged([pool for pool in pools if pool.particle == GAMMA])
    common = np.array(pool_errors(source, night, names))
    common[:2] = np.hypot(common[:2], pool_errors(gammas, night, names)[:2])

    stores = empty_runs(responses, night, pools, location)
    template = make_template(stores, night.source)
    with_source = run_nights(args.nights, pools, template, night, names, location)
    dark = night._replace(
        normalisations={**night.normalisations, GAMMA: 0.0}, seed=night.seed + 1
    )
    without = run_nights(args.nights, pools, template, dark, names, location)
    off = np.mean(with_source["off"], axis=0)
    ideal = run_ideal_nights(args.nights, off, template, night)
    with_source.write(args.output_dir / "nights.ecsv", overwrite=True)
    without.write(args.output_dir / "without_source.ecsv", overwrite=True)
    text = json.dumps(summarise(with_source, without, ideal, night, common), indent=1)
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
