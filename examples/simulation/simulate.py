"""Simulate the runs of air-shower cards in parallel, and merge each card's runs.

The demonstration sample, on all cores::

    cd examples/simulation
    python simulate.py gamma.airshower.yaml proton.airshower.yaml --output-dir sample

makes ``sample/gamma.dl1.h5`` and ``sample/proton.dl1.h5``. Started again, it goes on
where it stopped, in ``sample/gamma_runs`` and ``sample/proton_runs``; a file that is
there is not made again, but an error if it is of another card. What is after ``--``
goes to ctapipe-process.
"""

import argparse
import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from importlib.metadata import version
from itertools import combinations
from pathlib import Path

import tables
from ctapipe.core import ToolConfigurationError
from tqdm.auto import tqdm

from ctapipe_gammaphysnet.input_file import reading
from ctapipe_gammaphysnet.locks import locked
from ctapipe_gammaphysnet.output import check_file, real_path, whole_file, write_whole
from ctapipe_gammaphysnet.simulation.card import printable, read_card

CONFIG = Path(__file__).with_name("process.yaml")
SUFFIX = ".airshower.yaml"
# In the directory of a card's runs, where paths need no spelling.
CARD_COPY, CONFIG_COPY, MADE_BY = f"card{SUFFIX}", "process.yaml", "made_by.json"
RUN, MERGED, INPUTS = "run{:010d}.dl1.h5", "merged.dl1.h5.part", "merge.json"
PROVENANCE = "{}.provenance.log"
IN_USE = "simulate"  # the name of a lock
# An attribute of a finished file: checksum of all that decides what is in it.
MADE_BY_ATTRIBUTE = "AIR_SHOWERS_MADE_BY"
# Options of ctapipe-process that are set here.
OURS = ("-i", "--input", "-o", "--output", "--provenance-log", "--overwrite")
OURS += ("--AirShowerEventSource.runs", "--DataWriter.output_path")
OURS += ("--EventSource.input_url", "--AirShowerEventSource.input_url")

_running = set()
_starting = threading.Lock()
_stopped = threading.Event()


class SimulationError(ToolConfigurationError):
    """Something cannot be simulated; the message says why."""


class ToolFailedError(RuntimeError):
    """A tool of ctapipe has failed; the message is what it said."""


def tell(message):
    """Show how it goes on, where it is in nobody's way."""
    print(printable(message), file=sys.stderr, flush=True)


def name_of(card):
    """Name of a card without what all cards end in."""
    return card.name.removesuffix(SUFFIX)


def call(module, *arguments, cwd=None):
    """Run a ctapipe tool in a process of its own; raise with what it said if it fails.

    Parameters
    ----------
    module : str
        Name of the module of the tool.
    *arguments : object
        Its command line.
    cwd : pathlib.Path, optional
        Directory that it works in.
    """
    program = f"from {module} import main; main()"
    command = [sys.executable, "-c", program, *map(str, arguments)]
    with _starting:
        if _stopped.is_set():
            raise ToolFailedError("stopped")
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="backslashreplace",
            cwd=cwd,
            # One thread each: there is a process for every core already.
            env=os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"},
        )
        _running.add(process)
    try:
        said, _ = process.communicate()
    except BaseException:
        process.terminate()
        raise
    finally:
        _running.discard(process)
    if process.returncode != 0:
        raise ToolFailedError(
            f"{module} failed, exit status {process.returncode}, in {cwd or '.'}, with "
            f"{' '.join(command[3:])}:\n{said[-3000:]}"
        )


def stop():
    """End all tools that are running, and let none start any more."""
    with _starting:
        _stopped.set()
        for process in list(_running):
            process.terminate()


def simulate_run(run, directory, options):
    """Simulate one run, unless that is done already.

    Parameters
    ----------
    run : int
        Number of the run.
    directory : pathlib.Path
        That was prepared. Its file appears there when it is complete.
    options : list of str
        More of the command line of ctapipe-process.

    Returns
    -------
    pathlib.Path
        The file.
    """
    path = directory / RUN.format(run)
    if not path.exists():
        with whole_file(path) as unfinished:
            call(
                "ctapipe.tools.process",
                f"--config={CONFIG_COPY}",
                *options,
                f"--input={CARD_COPY}",
                f"--output={unfinished.name}",
                f"--AirShowerEventSource.runs={run}",
                f"--provenance-log={PROVENANCE.format(path.name)}",
                cwd=directory,
            )
            count_rows(unfinished)
    return path


def count_rows(path):
    """Count what is in a file, all of which must be readable.

    HDF5 may say nothing if the disk is full.

    Parameters
    ----------
    path : pathlib.Path
        A file that ctapipe wrote.

    Returns
    -------
    dict of str to int
        Number of rows of each table of events, by its path.
    """
    try:
        with tables.open_file(path) as file:
            # What ctapipe writes last.
            if "CTA PRODUCT ID" not in file.root._v_attrs:
                raise ToolFailedError(f"{path} is not complete: is the disk full?")
            found = list(file.walk_nodes("/", "Table"))
            for table in found:
                for start in range(0, table.nrows, 1000):
                    table.read(start, start + 1000)
            return {
                table._v_pathname: table.nrows
                for table in found
                if "/event/" in table._v_pathname
            }
    except (OSError, tables.HDF5ExtError) as error:
        raise ToolFailedError(
            f"{path} cannot be read: is the disk full? ({str(error).splitlines()[-1]})"
        ) from error


def merge(paths, output, made_by):
    """Put the files of runs together.

    Parameters
    ----------
    paths : list of pathlib.Path
        The files of the runs, all in one directory.
    output : pathlib.Path
        The file that appears when it is complete.
    made_by : str
        Checksum of what made it.
    """
    directory = paths[0].parent
    expected = {}
    for path in paths:
        for table, rows in count_rows(path).items():
            expected[table] = expected.get(table, 0) + rows
    # In the directory of the runs names need no spelling.
    merged = directory / MERGED
    # Of many runs, the names are too long for a command line.
    inputs = {"MergeTool": {"input_files": [path.name for path in paths]}}
    write_whole(directory / INPUTS, json.dumps(inputs).encode())
    with whole_file(output) as unfinished:
        merged.unlink(missing_ok=True)
        call(
            "ctapipe.tools.merge",
            f"--config={INPUTS}",
            f"--output={MERGED}",
            f"--provenance-log={PROVENANCE.format(MERGED)}",
            cwd=directory,
        )
        with tables.open_file(merged, "a") as file:
            file.root._v_attrs[MADE_BY_ATTRIBUTE] = made_by
        found = count_rows(merged)
        if any(found.get(table, 0) != rows for table, rows in expected.items()):
            raise ToolFailedError(f"{output} is not complete: is the disk full?")
        shutil.move(merged, unfinished)


def made_by(card, options):
    """Describe what decides the events of a card.

    Parameters
    ----------
    card : pathlib.Path
        The card.
    options : list of str
        More of the command line of ctapipe-process.

    Returns
    -------
    str
        Versions, options, and contents of the files that they name.
    """
    words = [option.rpartition("=")[2] for option in options]
    named = [Path(word) for word in words if Path(word).is_file()]
    contents = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (card, CONFIG, *named)
    }
    software = {name: version(name) for name in ("ctapipe", "ctapipe_gammaphysnet")}
    return json.dumps([*contents.values(), options, software])


def absolute_files(options):
    """Write files among options such that they are found from anywhere.

    Parameters
    ----------
    options : list of str
        Of the command line of ctapipe-process.

    Returns
    -------
    list of str
        The same, with absolute paths of files that exist.
    """
    parts = [option.rpartition("=") for option in options]
    return [
        f"{key}{equals}{Path(word).absolute()}" if Path(word).is_file() else option
        for option, (key, equals, word) in zip(options, parts, strict=True)
    ]


def check_cards(cards, options):
    """Read all cards, and refuse those that do not go together.

    Parameters
    ----------
    cards : list of pathlib.Path
        The cards.
    options : list of str
        More of the command line of ctapipe-process.

    Returns
    -------
    list of AirShowerCard
        What they hold.
    """
    for option in options:
        if option.partition("=")[0] in OURS:
            raise SimulationError(f"{option}: this is set here; leave it out")
    for card in cards:
        if not name_of(card) or not card.name.endswith(SUFFIX):
            raise SimulationError(f"{card}: the name of a card ends in {SUFFIX}")
    read = [read_card(card) for card in cards]
    for (path, card), (other_path, other) in combinations(
        zip(cards, read, strict=True), 2
    ):
        if name_of(path) == name_of(other_path):
            raise SimulationError(
                f"{path} and {other_path}: cards of the same name would make the same "
                "file; rename one of them"
            )
        same = (card.particle, card.seed) == (other.particle, other.seed)
        if same and set(card.run_numbers) & set(other.run_numbers):
            raise SimulationError(
                f"{path} and {other_path} have the same particle, seed and runs, and "
                "their showers would start from the same random numbers; give one of "
                "them another seed or first_run"
            )
    return read


def is_made(output, made_by, cards):
    """Tell whether a file is there already.

    Parameters
    ----------
    output : pathlib.Path
        The file.
    made_by : str
        Checksum of what makes it.
    cards : list of pathlib.Path
        All cards, none of which may be the file.

    Returns
    -------
    bool
        Whether it is there, and is that one; another one is an error.
    """
    check_file(output, cards)
    if not output.exists():
        return False
    with reading(output), tables.open_file(output) as file:
        found = getattr(file.root._v_attrs, MADE_BY_ATTRIBUTE, None)
    if found != made_by:
        raise SimulationError(
            f"{output} is there already, but not of this card, these options and "
            "versions; move it, or choose another --output-dir"
        )
    return True


@contextlib.contextmanager
def directory_of_runs(path):
    """Have a directory of runs for this process alone; remove it if it ends empty.

    Parameters
    ----------
    path : pathlib.Path
        The directory, which need not exist; it may be a link.

    Yields
    ------
    pathlib.Path
        Where it really is.
    """
    directory = real_path(path)
    directory.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(directory / IN_USE, wait=False))
        except BlockingIOError as error:
            raise SimulationError(
                f"another process is at work in {path}; wait until it has finished, or "
                "choose another --output-dir"
            ) from error
        yield directory
    with contextlib.suppress(OSError):
        path.rmdir()


def prepare(card, directory, options):
    """Note in a directory whose runs it holds, or check that it belongs to the card.

    Parameters
    ----------
    card : pathlib.Path
        The card.
    directory : pathlib.Path
        Where its runs go.
    options : list of str
        More of the command line of ctapipe-process.
    """
    what = made_by(card, options).encode()
    note = directory / MADE_BY
    if note.is_file() and note.read_bytes() == what:
        return
    if set(os.listdir(directory)) - {f"{IN_USE}.lock"}:
        raise SimulationError(
            f"{directory} is not of this card, these options and versions; remove it, "
            "or choose another --output-dir"
        )
    write_whole(directory / CARD_COPY, card.read_bytes())
    write_whole(directory / CONFIG_COPY, CONFIG.read_bytes())
    write_whole(note, what)


def clean(directory, runs):
    """Remove what was written into the directory of runs, and nothing else.

    Parameters
    ----------
    directory : pathlib.Path
        That was prepared.
    runs : range
        Numbers of the runs.
    """
    outputs = [MERGED, *map(RUN.format, runs)]
    ours = {CARD_COPY, CONFIG_COPY, MADE_BY, INPUTS, *outputs}
    ours.update(map(PROVENANCE.format, outputs))
    for path in list(directory.iterdir()):
        # What was killed has left files of temporary names.
        if re.sub(r"\.[0-9a-f]{8}\.part\Z", "", path.name) in ours:
            path.unlink()


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
    # All cards first: an error in the last one should not come after hours.
    runs = dict(zip(cards, check_cards(cards, options), strict=True))
    runs = {card: read.run_numbers for card, read in runs.items()}
    options = absolute_files(options)
    output_dir.mkdir(parents=True, exist_ok=True)
    outputs = {card: output_dir / f"{name_of(card)}.dl1.h5" for card in cards}
    keys = {
        card: hashlib.sha256(made_by(card, options).encode()).hexdigest()
        for card in cards
    }
    with contextlib.ExitStack() as stack:
        directories = {
            card: stack.enter_context(
                directory_of_runs(output_dir / f"{name_of(card)}_runs")
            )
            for card in cards
        }
        missing = {
            card: directory
            for card, directory in directories.items()
            if not is_made(outputs[card], keys[card], cards)
        }
        for card, directory in missing.items():
            prepare(card, directory, options)
        files = simulate_runs(missing, runs, processes, options)
        for card, directory in missing.items():
            merge(files[card], outputs[card], keys[card])
            clean(directory, runs[card])
    for card in (card for card in cards if card not in missing):
        tell(f"{outputs[card]} is complete already")
    print(*(printable(str(output)) for output in outputs.values()), sep="\n")


def simulate_runs(directories, runs, processes, options):
    """Simulate all runs of cards, several at a time.

    Parameters
    ----------
    directories : dict of pathlib.Path to pathlib.Path
        Where the runs of each card go.
    runs : dict of pathlib.Path to range
        Numbers of the runs of each card.
    processes : int
        Number of runs that are simulated at the same time.
    options : list of str
        More of the command line of ctapipe-process.

    Returns
    -------
    dict of pathlib.Path to list of pathlib.Path
        The files of the runs of each card, in their order.
    """
    if directories:
        tell("the first time, the simulation is compiled: half a minute or more")
    _stopped.clear()
    with ThreadPoolExecutor(processes) as pool:
        futures = {
            card: [
                pool.submit(simulate_run, run, directory, options) for run in runs[card]
            ]
            for card, directory in directories.items()
        }
        every = [future for some in futures.values() for future in some]
        try:
            done = as_completed(every)
            # No bar without a terminal, but a line for every hundredth.
            bar = tqdm(done, total=len(every), unit="run", disable=None)
            for number, future in enumerate(bar, 1):
                future.result()
                if bar.disable and number * 100 % len(every) < 100:
                    tell(f"{number} of {len(every)} runs")
        except BaseException:
            # The others would go on for hours.
            stop()
            pool.shutdown(cancel_futures=True)
            raise
    return {card: [f.result() for f in some] for card, some in futures.items()}


def number_of_processes(text):
    """Read a number of processes from the command line."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def main():
    """Simulate what the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cards", nargs="+", type=Path, metavar="CARD")
    parser.add_argument("--output-dir", type=Path, default=Path())
    parser.add_argument(
        "--processes", type=number_of_processes, default=len(os.sched_getaffinity(0))
    )
    arguments = sys.argv[1:]
    end = arguments.index("--") if "--" in arguments else len(arguments)
    args = parser.parse_args(arguments[:end])
    sys.stdout.reconfigure(errors="backslashreplace")  # where names cannot be shown
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        simulate_cards(
            args.cards, args.output_dir, args.processes, arguments[end + 1 :]
        )
    except (ToolConfigurationError, OSError) as error:
        parser.exit(2, f"error: {printable(str(error))}\n")
    except ToolFailedError as error:
        raise SystemExit(f"error: {error}") from None
    except KeyboardInterrupt:
        parser.exit(128 + signal.SIGINT, "interrupted; start again to go on\n")


if __name__ == "__main__":
    main()
