"""Make event lists for the science tools: from DL2 of a night, one file for each run.

    python make_event_lists.py --input night.dl2.h5 --config irf.yaml \
        --cuts cuts.fits --irf irf.fits.gz --output-dir dl3

The files are in the format of gamma-astro-data-formats (GADF): events with directions
on the sky (ICRS), times, energies, gammaness and errors; good time intervals; and the
response. ``hdu-index.fits.gz`` and ``obs-index.fits.gz`` make the folder a data store
for gammapy.
"""

import argparse
import operator
from pathlib import Path
from typing import NamedTuple

import astropy.units as u
import numpy as np
import yaml
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import QTable
from astropy.time import Time
from ctapipe.io import TableLoader, read_table
from ctapipe.io.hdf5dataformat import DL0_TEL_POINTING_GROUP, OBSERVATION_BLOCK_TABLE
from ctapipe.irf import OptimizationResult
from gammapy.data import GTI, DataStore
from pyirf.cuts import evaluate_binned_cut
from sky import to_icrs

#: Times are counted from here.
REFERENCE = Time("2000-01-01T00:00:00", scale="tt")
#: How gammapy names the kinds of response that ctapipe writes.
HDU_CLASSES = {"psf": "psf_table", "bkg": "bkg_2d"}
#: Where on Earth, in the header of events and of the index.
PLACE = ("GEOLON", "GEOLAT", "ALTITUDE")
#: The response in ctapipe's files, and how gammapy names it.
RESPONSES = {
    "EFFECTIVE AREA": "EFFECTIVE AREA",
    "ENERGY DISPERSION": "ENERGY DISPERSION",
    "PSF": "POINT SPREAD FUNCTION",
    "BACKGROUND": "BACKGROUND",
}


class Names(NamedTuple):
    """Prefixes of the reconstructed columns."""

    energy: str
    geometry: str
    classifier: str


def read_names(configs):
    """Read which reconstruction is used.

    Parameters
    ----------
    configs : list of pathlib.Path
        Configurations of ctapipe's tools in YAML; the last one wins.

    Returns
    -------
    Names
        The prefixes.
    """
    settings = {}
    for path in configs:
        section = yaml.safe_load(path.read_text()).get("DL2EventPreprocessor", {})
        settings.update(section)
    return Names(
        settings["energy_reconstructor"],
        settings["geometry_reconstructor"],
        settings["gammaness_classifier"],
    )


def is_selected(events, cuts, names):
    """Apply the cuts that the instrument response was made with.

    Parameters
    ----------
    events : astropy.table.Table
        DL2 of the array, n events, columns of `ctapipe.io.TableLoader`.
    cuts : ctapipe.irf.OptimizationResult
        From ctapipe-optimize-event-selection.
    names : Names
        The prefixes of the columns.

    Returns
    -------
    numpy.ndarray
        Which events are selected, shape (n,), bool.
    """
    selected = np.array(cuts.quality_query.get_table_mask(events))
    selected[selected] = evaluate_binned_cut(
        np.asarray(events[f"{names.classifier}_prediction"])[selected],
        u.Quantity(events[f"{names.energy}_energy"])[selected],
        cuts.gh_cuts,
        operator.ge,
    )
    return selected


def event_table(events, directions, names):
    """Tabulate events as GADF has them.

    Parameters
    ----------
    events : astropy.table.Table
        Selected DL2 events of one run, n rows, with their times.
    directions : astropy.coordinates.SkyCoord
        Where they come from, shape (n,), ICRS.
    names : Names
        The prefixes of the columns.

    Returns
    -------
    astropy.table.QTable
        The columns of the event list; times as gammapy has them.
    """
    table = QTable()
    table["EVENT_ID"] = np.asarray(events["event_id"], dtype=np.int64)
    table["TIME"] = Time(events["time"]).tt
    table["RA"] = directions.icrs.ra.to(u.deg)
    table["DEC"] = directions.icrs.dec.to(u.deg)
    table["ENERGY"] = u.Quantity(events[f"{names.energy}_energy"]).to(u.TeV)
    table["GAMMANESS"] = np.asarray(events[f"{names.classifier}_prediction"], float)
    for name, error, unit in (
        ("ENERGY_ERR", f"{names.energy}_energy_uncert", u.TeV),
        ("DIR_ERR", f"{names.geometry}_ang_distance_uncert", u.deg),
    ):
        if error in events.colnames:
            table[name] = u.Quantity(events[error]).to(unit)
    return table


def header(obs_id, start, stop, pointing, location):
    """Describe a run as GADF does.

    Parameters
    ----------
    obs_id : int
        The run.
    start, stop : astropy.time.Time
        When; all of this time is live.
    pointing : astropy.coordinates.SkyCoord
        Where the telescopes pointed, ICRS.
    location : astropy.coordinates.EarthLocation
        Where on Earth.

    Returns
    -------
    dict
        Keywords of the event list.
    """
    seconds = [(time.tt - REFERENCE).to_value(u.s) for time in (start, stop)]
    return {
        "EXTNAME": "EVENTS",
        "HDUCLASS": "GADF",
        "HDUDOC": "https://gamma-astro-data-formats.readthedocs.io",
        "HDUVERS": "0.3",
        "HDUCLAS1": "EVENTS",
        "OBS_ID": obs_id,
        "OBS_MODE": "POINTING",
        "TSTART": seconds[0],
        "TSTOP": seconds[1],
        "ONTIME": seconds[1] - seconds[0],
        "LIVETIME": seconds[1] - seconds[0],
        "DEADC": 1.0,
        "RADECSYS": "ICRS",
        "EQUINOX": 2000.0,
        "RA_PNT": pointing.icrs.ra.deg,
        "DEC_PNT": pointing.icrs.dec.deg,
        "ORIGIN": "ctapipe_gammaphysnet",
        "TELESCOP": "MOCK",
        "INSTRUME": "LST",
        "CREATOR": "ctapipe_gammaphysnet, a demonstration, not for science",
        "MJDREFI": int(REFERENCE.mjd),
        "MJDREFF": REFERENCE.mjd % 1,
        "TIMEUNIT": "s",
        "TIMESYS": "TT",
        "TIMEREF": "TOPOCENTER",
        "GEOLON": location.lon.deg,
        "GEOLAT": location.lat.deg,
        "ALTITUDE": location.height.to_value(u.m),
    }


def mean_pointing(path, start, stop, location):
    """Find where a telescope pointed on the sky, on average.

    Parameters
    ----------
    path : pathlib.Path
        A file with monitored pointings.
    start, stop : astropy.time.Time
        Begin and end of the run.
    location : astropy.coordinates.EarthLocation
        Where on Earth.

    Returns
    -------
    astropy.coordinates.SkyCoord
        The direction, ICRS.
    """
    reports = QTable(read_table(path, f"{DL0_TEL_POINTING_GROUP}/tel_001"))
    reports = reports[(start <= reports["time"]) & (reports["time"] <= stop)]
    pointing = to_icrs(
        reports["altitude"], reports["azimuth"], reports["time"], location
    )
    return SkyCoord(pointing.cartesian.mean(), frame="icrs")


def response_of(path):
    """Read an instrument response as GADF has it for one radius at all energies.

    Parameters
    ----------
    path : pathlib.Path
        File of ctapipe-compute-irf.

    Returns
    -------
    list of astropy.io.fits.BinTableHDU
        The response. Of point-like parts the header says the radius.

    Raises
    ------
    ValueError
        If the radius depends on the energy: the analysis has one region.
    """
    with fits.open(path) as file:
        radii = np.unique(file["RAD_MAX"].data["RAD_MAX"])
        response = [file[name].copy() for name in RESPONSES]
    if len(radii) > 1:
        raise ValueError(
            f"{path}: the response is of events within {radii[0]} to {radii[-1]} deg; "
            "set one radius for all energies in ThetaPercentileCutCalculator"
        )
    for hdu in response:
        hdu.name = RESPONSES[hdu.name]
        if hdu.header["HDUCLAS3"] == "POINT-LIKE":
            hdu.header["RAD_MAX"] = float(radii[0]), "deg"
    return response


def write_run(path, table, start, stop, irf):
    """Write a run's event list, good time interval and instrument response.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    table : astropy.table.Table
        Events, with the keywords of the run in ``meta``.
    start, stop : astropy.time.Time
        Begin and end of the run.
    irf : pathlib.Path
        File of ctapipe-compute-irf.
    """
    gti = GTI.create(start, stop, reference_time=REFERENCE)
    table = table.copy()
    table["TIME"] = (table["TIME"] - REFERENCE).to(u.s)
    events = fits.table_to_hdu(table)
    hdus = [fits.PrimaryHDU(), events, gti.to_table_hdu(), *response_of(irf)]
    fits.HDUList(hdus).writeto(path, overwrite=True)


def write_index(folder, paths):
    """Make a folder of event lists a data store.

    Parameters
    ----------
    folder : pathlib.Path
        The folder.
    paths : list of pathlib.Path
        Its event lists.
    """
    store = DataStore.from_events_files(paths)
    store.hdu_table["FILE_DIR"] = "."
    classes = [
        HDU_CLASSES.get(kind, name)
        for kind, name in store.hdu_table["HDU_TYPE", "HDU_CLASS"]
    ]
    store.hdu_table["HDU_CLASS"] = classes
    with fits.open(paths[0]) as file:
        place = {key: file["EVENTS"].header[key] for key in PLACE}
    store.obs_table.meta.update(place)
    store.hdu_table.write(folder / "hdu-index.fits.gz", overwrite=True)
    store.obs_table.write(folder / "obs-index.fits.gz", overwrite=True)


def make_event_lists(path, pointing_path, cuts, irf, names, folder):
    """Make the event lists of all runs of a file.

    Parameters
    ----------
    path, pointing_path : pathlib.Path
        DL2 of a night, and its file with monitored pointings.
    cuts, irf : pathlib.Path
        From ctapipe-optimize-event-selection and ctapipe-compute-irf.
    names : Names
        The prefixes of the columns.
    folder : pathlib.Path
        Where to write them.

    Returns
    -------
    list of pathlib.Path
        The files.
    """
    with TableLoader(path) as loader:
        events = loader.read_subarray_events(dl2=True)
        location = loader.subarray.reference_location
    events = events[is_selected(events, OptimizationResult.read(cuts), names)]
    paths = []
    for run in QTable(read_table(path, OBSERVATION_BLOCK_TABLE)):
        start = run["actual_start_time"]
        stop = start + run["actual_duration"]
        own = events[events["obs_id"] == run["obs_id"]]
        directions = to_icrs(
            u.Quantity(own[f"{names.geometry}_alt"]),
            u.Quantity(own[f"{names.geometry}_az"]),
            Time(own["time"]),
            location,
        )
        table = event_table(own, directions, names)
        pointing = mean_pointing(pointing_path, start, stop, location)
        table.meta = header(int(run["obs_id"]), start, stop, pointing, location)
        paths.append(folder / f"run_{run['obs_id']:04d}.fits.gz")
        write_run(paths[-1], table, start, stop, irf)
    write_index(folder, paths)
    return paths


def main():
    """Make event lists, and print the files' names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--input", type=Path, required=True, help="DL2 of a night")
    parser.add_argument(
        "--pointing", type=Path, help="its DL1, if DL2 has no pointings"
    )
    parser.add_argument("--config", type=Path, nargs="+", required=True)
    parser.add_argument("--cuts", type=Path, required=True)
    parser.add_argument("--irf", type=Path, required=True)
    parser.add_argument("--output-dir", type=Path, required=True)
    args = parser.parse_args()
    args.output_dir.mkdir(parents=True, exist_ok=True)
    names = read_names(args.config)
    files = args.input, args.pointing or args.input, args.cuts, args.irf
    print(*make_event_lists(*files, names, args.output_dir), sep="\n")


if __name__ == "__main__":
    main()
