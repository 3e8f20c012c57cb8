"""Simulate the runs of air-shower cards in parallel, and merge each card's runs.

The demonstration sample, on all cores::

    cd examples/simulation
    python simulate.py gamma.airshower.yaml proton.airshower.yaml --output-dir sample

makes ``sample/gamma.dl1.h5`` and ``sample/proton.dl1.h5``. Started again, it goes on
where it stopped, in ``sample/gamma_runs`` and ``sample/proton_runs``; a file that is
there is not made again, and of another card or other options it is an error. What is
after ``--`` goes to ctapipe-process.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from importlib.metadata import version
from pathlib import Path

import tables
from tqdm.auto import tqdm

from ctapipe_gammaphysnet.output import (
    OutputError,
    check_file,
    real_path,
    whole_file,
    write_whole,
)
from ctapipe_gammaphysnet.simulation.card import CardError, read_card

CONFIG = Path(__file__).with_name("process.yaml")
SUFFIX = ".airshower.yaml"
#: Attribute of a finished file, and file beside unfinished runs, by which they are
#: known to be of a card.
MADE_BY = "CONTEXT AIRSHOWER MADE BY"
MADE_BY_FILE = "made_by.txt"


def name_of(card):
    """Name of a card without what all cards end in."""
    return card.name.removesuffix(SUFFIX)


def call(module, *arguments):
    """Run a ctapipe tool in a process of its own; raise with what it said if it fails.

    Parameters
    ----------
    module : str
        Name of the module of the tool.
    *arguments : object
        Its command line.
    """
    program = f"from {module} import main; main()"
    command = [sys.executable, "-c", program, *map(str, arguments)]
    result = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # One thread each: there is a process for every core already.
        env=os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"},
    )
    if result.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\nfailed:\n{result.stdout[-3000:]}")


def simulate_run(card_path, run, directory, options):
    """Simulate one run, unless that is done already.

    Parameters
    ----------
    card_path : pathlib.Path
        The card.
    run : int
        Number of the run.
    directory : pathlib.Path
        Where its file goes; there it appears when it is complete.
    options : list of str
        More of the command line of ctapipe-process.

    Returns
    -------
    pathlib.Path
        The file.
    """
    path = directory / f"run{run:06d}.dl1.h5"
    if not path.exists():
        unfinished = path.with_name(f"unfinished_{path.name}")
        call(
            "ctapipe.tools.process",
            f"--config={CONFIG}",
            f"--input={card_path}",
            f"--output={unfinished}",
            f"--AirShowerEventSource.runs={run}",
            f"--provenance-log={path.with_suffix('.provenance.log')}",
            "--overwrite",
            *options,
        )
        unfinished.rename(path)
    return path


def merge(paths, output, what):
    """Put the files of runs together in their order.

    Parameters
    ----------
    paths : list of pathlib.Path
        The files of the runs.
    output : pathlib.Path
        The file that appears when it is complete.
    what : str
        What made it: see `made_by`.
    """
    log = paths[0].with_name("merge.provenance.log")
    with whole_file(output) as temporary:
        call(
            "ctapipe.tools.merge",
            *paths,
            f"--output={temporary}",
            f"--provenance-log={log}",
            "--overwrite",
        )
        with tables.open_file(temporary, "a") as file, warnings.catch_warnings():
            # ctapipe's names of attributes are not Python's.
            warnings.simplefilter("ignore", tables.NaturalNameWarning)
            file.root._v_attrs[MADE_BY] = what
        check_merged(paths, temporary, output)


def check_merged(paths, merged, output):
    """Check that all events of runs are in a file: HDF5 does not say if a disk is full.

    Parameters
    ----------
    paths : list of pathlib.Path
        The files of the runs.
    merged : pathlib.Path
        The file.
    output : pathlib.Path
        What to call it.
    """
    expected = sum((count_rows(path) for path in paths), Counter())
    found = count_rows(merged)
    missing = [node for node in expected if found[node] != expected[node]]
    if missing:
        raise OutputError(
            f"{output} cannot be written: is the disk full? {missing[0]} has "
            f"{found[missing[0]]} of {expected[missing[0]]} rows"
        )


def count_rows(path):
    """Read all tables of events, and count their rows.

    Parameters
    ----------
    path : pathlib.Path
        The file.

    Returns
    -------
    collections.Counter
        Number of rows, by path of the table.
    """
    with tables.open_file(path) as file:
        return Counter(
            {
                table._v_pathname: sum(
                    len(table.read(start, start + 1000))
                    for start in range(0, table.nrows, 1000)
                )
                for table in file.walk_nodes("/", "Table")
                if "/event/" in table._v_pathname
            }
        )


def made_by(card, options):
    """Tell apart what is of different cards or options, or another version.

    Parameters
    ----------
    card : pathlib.Path
        The card.
    options : list of str
        More of the command line of ctapipe-process.

    Returns
    -------
    str
        A hash of all that the events depend on.
    """
    parts = [card.read_bytes(), CONFIG.read_bytes(), *map(str.encode, options)]
    parts += [version(name).encode() for name in ("ctapipe", "ctapipe_gammaphysnet")]
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def check_made_by(output, what):
    """Check that a file that is there is what would be made.

    Parameters
    ----------
    output : pathlib.Path
        The file.
    what : str
        What would make it: see `made_by`.
    """
    try:
        with tables.open_file(output) as file:
            attributes = file.root._v_attrs
            found = attributes[MADE_BY] if MADE_BY in attributes else None
    except (tables.HDF5ExtError, OSError):
        found = None
    if found != what:
        raise SystemExit(
            f"{output} exists, but is not of this card, these options and this "
            "version; move it, or choose another --output-dir"
        )


def remove_runs(directory, paths):
    """Remove what was made on the way to a finished file, and nothing else.

    Parameters
    ----------
    directory : pathlib.Path
        Directory of the runs. It stays if there is something else in it.
    paths : list of pathlib.Path
        The files of the runs.
    """
    logs = [path.with_suffix(".provenance.log") for path in paths]
    others = [directory / name for name in ("merge.provenance.log", MADE_BY_FILE)]
    for path in (*paths, *logs, *others):
        path.unlink(missing_ok=True)
    if not any(directory.iterdir()) and not directory.is_symlink():
        directory.rmdir()


def prepare(card, directory, options):
    """Make the directory of the runs of a card, or check that it belongs to it.

    Parameters
    ----------
    card : pathlib.Path
        The card.
    directory : pathlib.Path
        Where its runs go.
    options : list of str
        More of the command line of ctapipe-process.

    Returns
    -------
    range
        Numbers of the runs.
    """
    runs = read_card(card).run_numbers
    mark = directory / MADE_BY_FILE
    what = made_by(card, options)
    if directory.exists() and any(directory.iterdir()):
        if not mark.is_file() or mark.read_text(encoding="utf-8") != what:
            raise SystemExit(
                f"{directory} is not of this card, these options and this version; "
                "move it, or choose another --output-dir"
            )
    else:
        directory = real_path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        write_whole(directory / MADE_BY_FILE, what.encode())
    return runs


def simulate_cards(cards, output_dir, processes, options):
    """Simulate cards, run by run, each into one file.

    Parameters
    ----------
    cards : list of pathlib.Path
        The cards, whose names differ.
    output_dir : pathlib.Path
        Directory of the files.
    processes : int
        Number of runs that are simulated at the same time.
    options : list of str
        More of the command line of ctapipe-process.
    """
    outputs = {card: output_dir / f"{name_of(card)}.dl1.h5" for card in cards}
    if len(set(outputs.values())) < len(cards):
        raise SystemExit("Cards of the same name would make the same file")
    output_dir.mkdir(parents=True, exist_ok=True)
    what = {card: made_by(card, options) for card in cards}
    for card, output in outputs.items():
        check_file(output, cards)
        if output.exists():
            check_made_by(output, what[card])
    missing = {
        card: output_dir / f"{name_of(card)}_runs"
        for card, output in outputs.items()
        if not output.exists()
    }
    # All cards first: an error in the last one should not come after hours.
    runs = {card: prepare(card, missing[card], options) for card in missing}
    with ThreadPoolExecutor(processes) as pool:
        futures = {
            pool.submit(simulate_run, card, run, missing[card], options): card
            for card in missing
            for run in runs[card]
        }
        try:
            for future in tqdm(as_completed(futures), total=len(futures), unit="run"):
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    for card, directory in missing.items():
        paths = [f.result() for f, of in futures.items() if of == card]
        merge(paths, outputs[card], what[card])
        remove_runs(directory, paths)
    print(*outputs.values(), sep="\n")


def main():
    """Simulate what the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cards", nargs="+", type=Path, metavar="CARD")
    parser.add_argument("--output-dir", type=Path, default=Path())
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    arguments = sys.argv[1:]
    end = arguments.index("--") if "--" in arguments else len(arguments)
    args = parser.parse_args(arguments[:end])
    try:
        simulate_cards(
            args.cards, args.output_dir, args.processes, arguments[end + 1 :]
        )
    except (CardError, OSError, OutputError) as error:
        raise SystemExit(f"error: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit("interrupted; start again to go on") from None


if __name__ == "__main__":
    main()
