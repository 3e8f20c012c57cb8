"""Make a mock night: images as telescopes would have left them, of simulated showers.

    python make_observation.py --pool pool/sky --night night.yaml --output night.dl1.h5

draws showers from ``source_1.dl1.h5``, ``source_2.dl1.h5``, ``proton.dl1.h5`` and
``electron.dl1.h5`` in the folder, by the spectra and normalisations of `night.yaml`.
The output is a DL1 file of observations: images, times, runs, and where the telescopes
pointed, but nothing of the truth. That is in ``night.truth.ecsv``.
"""

import argparse
import re
import uuid
from pathlib import Path

import astropy.units as u
import numpy as np
import tables
from astropy.table import Table, vstack
from astropy.time import Time
from ctapipe.containers import (
    CoordinateFrameType,
    ObservationBlockContainer,
    SchedulingBlockContainer,
)
from ctapipe.instrument import SubarrayDescription
from ctapipe.io import HDF5TableWriter, read_table, write_table
from ctapipe.io.hdf5dataformat import (
    DL0_TEL_POINTING_GROUP,
    DL1_SUBARRAY_TRIGGER_TABLE,
    DL1_TEL_IMAGES_GROUP,
    DL1_TEL_PARAMETERS_GROUP,
    DL1_TEL_TRIGGER_TABLE,
)
from ctapipe.io.metadata import read_reference_metadata, write_to_hdf5
from night import NAMES, draw_night, read_night, read_pool, run_pointing
from sky import to_icrs

#: Particles of the background, and the names of their files.
BACKGROUND = ("proton", "electron")
SUFFIX = ".dl1.h5"
#: How often the telescopes report where they point.
REPORT = 1 * u.s
_OBSERVATIONS, _INSTRUMENT = "configuration/observation", "/configuration/instrument"


def pool_paths(folder, night, suffix):
    """List the files that a night is drawn from.

    Parameters
    ----------
    folder : pathlib.Path
        Where they are.
    night : Night
        For the names of its sources.
    suffix : str
        End of their names, such as ``.dl1.h5``.

    Returns
    -------
    list of pathlib.Path
        Gammas first.
    """
    sources = sorted({run.source for run in night.runs})
    return [folder / f"{name}{suffix}" for name in (*sources, *BACKGROUND)]


def keys_of(drawn, pools):
    """Tabulate old and new names of the drawn events, for each pool.

    Parameters
    ----------
    drawn : astropy.table.Table
        As `draw_night` returns it.
    pools : list of Pool
        The pools.

    Returns
    -------
    list of dict
        From (obs_id, event_id) in the pool to (obs_id, event_id, seconds).
    """
    keys = []
    for number, pool in enumerate(pools):
        here = drawn[drawn["pool"] == number]
        old = pool.events["obs_id", "event_id"][here["row"]]
        keys.append(
            {
                (int(o["obs_id"]), int(o["event_id"])): (
                    int(n["obs_id"]),
                    int(n["event_id"]),
                    float(n["seconds"]),
                )
                for o, n in zip(old, here, strict=True)
            }
        )
    return keys


def renamed(table, keys, runs):
    """Keep the rows of drawn events, with their new names and times.

    Parameters
    ----------
    table : astropy.table.Table
        Any table of events.
    keys : dict
        Old and new names, as from `keys_of`.
    runs : tuple of Run
        For the start of each run.

    Returns
    -------
    astropy.table.Table
        The rows of drawn events.
    """
    found = [
        keys.get((int(obs), int(event)))
        for obs, event in zip(table["obs_id"], table["event_id"], strict=True)
    ]
    table = table[np.array([new is not None for new in found], dtype=bool)]
    new = np.array([new for new in found if new is not None]).reshape(-1, 3)
    for name, values in zip(("obs_id", "event_id"), new.T, strict=False):
        table[name] = values.astype(table[name].dtype)
    if "time" in table.colnames:
        table["time"] = times_of(table["obs_id"], new[:, 2], runs)
    return table


def times_of(obs_id, seconds, runs):
    """Find the times of events.

    Parameters
    ----------
    obs_id : numpy.ndarray
        Run of each event, shape (n,), int.
    seconds : numpy.ndarray
        Since the start of the run, shape (n,), float.
    runs : tuple of Run
        The runs.

    Returns
    -------
    astropy.time.Time
        Shape (n,), TAI.
    """
    starts = Time([run.start for run in runs]).tai
    row = np.searchsorted([run.obs_id for run in runs], obs_id)
    return starts[row] + np.asarray(seconds) * u.s


def write_events(paths, keys, runs, file):
    """Write the tables of drawn events: triggers, images, parameters.

    Parameters
    ----------
    paths : list of pathlib.Path
        The pools' files.
    keys : list of dict
        As from `keys_of`.
    runs : tuple of Run
        The runs.
    file : tables.File
        The output.
    """
    for node in _event_tables(paths[0]):
        parts = [
            renamed(read_table(path, node), new, runs)
            for path, new in zip(paths, keys, strict=True)
        ]
        table = vstack(parts, metadata_conflicts="silent")
        names = [n for n in ("obs_id", "event_id", "tel_id") if n in table.colnames]
        table = table[np.lexsort([table[name] for name in reversed(names)])]
        write_table(table, file, node)
        _name_columns(paths[0], file, node)


def _name_columns(source, file, node):
    """Copy columns' names and prefixes, without which ctapipe reads no events.

    `write_table` leaves them out.
    """
    with tables.open_file(source) as pool:
        attributes, copies = (f.get_node(node).attrs for f in (pool, file))
        for name in attributes._f_list("user"):
            if re.fullmatch(r"CTAFIELD_\d+_(NAME|PREFIX)", name):
                copies[name] = attributes[name]


def _event_tables(path):
    with tables.open_file(path) as file:
        groups = (DL1_TEL_IMAGES_GROUP, DL1_TEL_PARAMETERS_GROUP)
        telescopes = [n._v_pathname for g in groups for n in file.list_nodes(g)]
    return [DL1_SUBARRAY_TRIGGER_TABLE, DL1_TEL_TRIGGER_TABLE, *telescopes]


def write_pointing(night, pools, subarray, file):
    """Write where the telescopes pointed, once a second.

    Parameters
    ----------
    night : Night
        The night.
    pools : list of Pool
        For the places of the source in the camera.
    subarray : ctapipe.instrument.SubarrayDescription
        The telescopes.
    file : tables.File
        The output.
    """
    parts = []
    for run in night.runs:
        n = int((run.duration / REPORT).to_value("")) + 3
        time = run.start.tai + (np.arange(n) - 1) * REPORT
        alt, az = run_pointing(run, time, night, pools, subarray.reference_location)
        parts.append(
            Table({"time": time, "azimuth": az.to("rad"), "altitude": alt.to("rad")})
        )
    table = vstack(parts)
    for tel_id in subarray.tel:
        write_table(table, file, f"{DL0_TEL_POINTING_GROUP}/tel_{tel_id:03d}")


def write_runs(night, pools, location, path):
    """Write the tables of scheduling and observation blocks.

    Parameters
    ----------
    night : Night
        The night.
    pools : list of Pool
        For the places of the source in the camera.
    location : astropy.coordinates.EarthLocation
        Where the telescopes are.
    path : pathlib.Path
        The output.
    """
    with HDF5TableWriter(path, mode="a", group_name=_OBSERVATIONS) as writer:
        for run in night.runs:
            middle = run.start + run.duration / 2
            alt, az = run_pointing(run, middle[np.newaxis], night, pools, location)
            pointing = to_icrs(alt, az, middle, location)[0]
            block = ObservationBlockContainer(
                obs_id=np.uint64(run.obs_id),
                sb_id=np.uint64(run.obs_id),
                producer_id="mock",
                subarray_pointing_lat=pointing.dec.to(u.deg),
                subarray_pointing_lon=pointing.ra.to(u.deg),
                subarray_pointing_frame=CoordinateFrameType.ICRS,
                actual_start_time=run.start.tai,
                actual_duration=run.duration.to(u.min),
            )
            writer.write("observation_block", block)
            schedule = SchedulingBlockContainer(
                sb_id=np.uint64(run.obs_id), producer_id="mock"
            )
            writer.write("scheduling_block", schedule)


def copy_instrument(source, file):
    """Copy the description of the telescopes, and what the file says of itself.

    Parameters
    ----------
    source : pathlib.Path
        A pool's file.
    file : tables.File
        The output.
    """
    with tables.open_file(source) as pool:
        group = pool.root[_INSTRUMENT]
        file.create_group("/configuration", "instrument", createparents=True)
        group._f_copy_children(file.root[_INSTRUMENT], recursive=True)
    about = read_reference_metadata(source)
    about.product.id_ = str(uuid.uuid4())
    about.product.creation_time = Time.now()
    write_to_hdf5(about.to_dict(), file)


def truth_of(drawn, pools, night):
    """Tabulate what the observation does not say.

    Parameters
    ----------
    drawn : astropy.table.Table
        As `draw_night` returns it.
    pools : list of Pool
        The pools.
    night : Night
        The night.

    Returns
    -------
    astropy.table.Table
        Each event's particle, energy, and name in its pool.
    """
    truth = drawn["obs_id", "event_id", "seconds"]
    origin = [pools[event["pool"]].events[event["row"]] for event in drawn]
    truth["pool"] = [pools[number].name for number in drawn["pool"]]
    for name, old in (("pool_obs_id", "obs_id"), ("pool_event_id", "event_id")):
        truth[name] = np.array([row[old] for row in origin], dtype=int)
    truth["true_shower_primary_id"] = np.array(
        [row["true_shower_primary_id"] for row in origin], dtype=int
    )
    truth["true_energy"] = [row["true_energy"] for row in origin] * u.TeV
    truth.meta = {
        "source_ra_deg": float(night.source.icrs.ra.deg),
        "source_dec_deg": float(night.source.icrs.dec.deg),
        **{
            f"{name}_normalisation": night.normalisations[particle]
            for particle, name in NAMES.items()
        },
        "seed": night.seed,
    }
    return truth


def make_observation(folder, night, output):
    """Make a night.

    Parameters
    ----------
    folder : pathlib.Path
        Where the pools' DL1 files are.
    night : Night
        The night.
    output : pathlib.Path
        The DL1 file; its truth is written beside it.

    Returns
    -------
    astropy.table.Table
        The truth.
    """
    paths = pool_paths(folder, night, SUFFIX)
    pools = [read_pool(path) for path in paths]
    drawn = draw_night(pools, night, np.random.default_rng(night.seed))
    subarray = SubarrayDescription.from_hdf(paths[0])
    output.unlink(missing_ok=True)
    with tables.open_file(output, "w") as file:
        copy_instrument(paths[0], file)
        write_events(paths, keys_of(drawn, pools), night.runs, file)
        write_pointing(night, pools, subarray, file)
    write_runs(night, pools, subarray.reference_location, output)
    truth = truth_of(drawn, pools, night)
    name = output.name.removesuffix(SUFFIX)
    truth.write(output.with_name(f"{name}.truth.ecsv"), overwrite=True)
    return truth


def main():
    """Make a night, and say what is in it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pool", type=Path, required=True, help="folder of DL1 files")
    parser.add_argument(
        "--night", type=Path, default=Path(__file__).with_name("night.yaml")
    )
    parser.add_argument("--output", type=Path, required=True, help="the DL1 file")
    args = parser.parse_args()
    truth = make_observation(args.pool, read_night(args.night), args.output)
    for name in np.unique(truth["pool"]):
        print(f"{(truth['pool'] == name).sum():6} events of {name}")


if __name__ == "__main__":
    main()
