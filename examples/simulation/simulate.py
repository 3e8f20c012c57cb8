"""Simulate the runs of air-shower cards in parallel, and merge each card's runs.

The demonstration sample, on all cores::

    cd examples/simulation
    python simulate.py gamma.airshower.yaml proton.airshower.yaml --output-dir sample

makes ``sample/gamma.dl1.h5`` and ``sample/proton.dl1.h5``. If started again, it
continues where it stopped, in ``sample/gamma_runs`` and ``sample/proton_runs``. A file
that exists is not made again; if it was made from another card, that is an error.
Options after ``--`` go to ctapipe-process.
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
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import tables
from ctapipe.core import ToolConfigurationError
from tqdm.auto import tqdm

from ctapipe_gammaphysnet.files.hdf5_output import contents
from ctapipe_gammaphysnet.files.input_file import reading
from ctapipe_gammaphysnet.files.locks import locked
from ctapipe_gammaphysnet.files.output import (
    check_file,
    whole_file,
    write_whole,
    writing,
)
from ctapipe_gammaphysnet.files.paths import printable
from ctapipe_gammaphysnet.simulation.card import AirShowerCard, read_card
from ctapipe_gammaphysnet.terminal import print_anything

CONFIG = Path(__file__).with_name("process.yaml")
SUFFIX = ".airshower.yaml"
# Names in the folder of a card's runs, where ctapipe's tools work: any other path could
# contain characters with a special meaning for them.
CARD_COPY, CONFIG_COPY, MADE_BY = f"card{SUFFIX}", "process.yaml", "made_by.txt"
RUN, MERGED, INPUTS = "run{:010d}.dl1.h5", "merged.dl1.h5", "merge.json"
# Attribute of a finished file: checksum of all that determines its content.
MADE_BY_ATTRIBUTE = "AIR_SHOWERS_MADE_BY"
# Table of ctapipe that its merge tool leaves out; it is the same in all runs of a card.
ATMOSPHERE = "/simulation/service/atmosphere_density_profile"
# Options of ctapipe-process that are set here.
OURS = r"-[io]|--(in|out)put|--overwrite|--provenance-log|--.*\.(runs|(in|out)put_.*)"

_running = set()  # tools of ctapipe
_reading = threading.Lock()


class Production(NamedTuple):
    """A card, and what is made from it."""

    path: Path
    card: AirShowerCard
    output: Path
    folder: Path  # of the runs, until they are merged
    made_by: str  # checksum of all that determines the result


def plan(cards, output_dir, options):
    """Read all cards, and refuse those that conflict."""
    for option in options:
        if re.fullmatch(OURS, option.partition("=")[0]):
            raise ToolConfigurationError(f"{option}: this is set here; leave it out")
    productions = []
    for path in cards:
        name = path.name.removesuffix(SUFFIX)
        if name in ("", path.name):
            raise ToolConfigurationError(f"{path}: the name of a card ends in {SUFFIX}")
        output, folder = output_dir / f"{name}.dl1.h5", output_dir / f"{name}_runs"
        card = read_card(path)
        made_by = checksum(path, options)
        productions.append(Production(path, card, output, folder, made_by))
    for one, other in combinations(productions, 2):
        if one.output == other.output:
            raise ToolConfigurationError(
                f"{one.path} and {other.path}: cards of the same name would make the "
                "same file; rename one of them"
            )
        if starts(one.card) & starts(other.card):
            raise ToolConfigurationError(
                f"{one.path} and {other.path} have the same particle, seed and runs, "
                "and their showers would start from the same random numbers; give one "
                "of them another seed or first_run"
            )
    return productions


def starts(card):
    """What determines the random numbers of each run."""
    return {(card.particle, card.seed, run) for run in card.run_numbers}


def checksum(card, options):
    """Checksum of a card, of options and the files they name, and of versions."""
    values = (option.rpartition("=")[2] for option in options)
    files = [card, CONFIG, *filter(os.path.isfile, values)]
    hashes = [hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in files]
    software = {name: version(name) for name in ("ctapipe", "ctapipe_gammaphysnet")}
    what = json.dumps([hashes, options, software])
    return hashlib.sha256(what.encode()).hexdigest()


def with_absolute_file(option):
    """Make the path in ``--name=FILE`` or ``FILE`` absolute."""
    name, equals, value = option.rpartition("=")
    if not os.path.isfile(value):
        return option
    return f"{name}{equals}{os.path.abspath(value)}"


def is_made(production, cards):
    """Whether the file exists already; another one in its place is an error."""
    output = production.output
    check_file(output, cards)
    if not output.exists():
        return False
    with reading(output), tables.open_file(output) as file:
        found = getattr(file.root._v_attrs, MADE_BY_ATTRIBUTE, None)
    if found != production.made_by:
        raise ToolConfigurationError(
            f"{output} is there already, but was made with another card, other options "
            "or versions; move it, or choose another --output-dir"
        )
    print(printable(f"{output} is complete already"), file=sys.stderr)
    return True


def prepare(production):
    """Make the folder of runs; an existing one must be of the same production."""
    folder, note = production.folder, production.folder / MADE_BY
    folder.mkdir(exist_ok=True)
    if note.is_file() and note.read_text() == production.made_by:
        return
    if os.listdir(folder):
        raise ToolConfigurationError(
            f"{folder} is not of this card, these options and versions; remove it, or "
            "choose another --output-dir"
        )
    write_whole(folder / CARD_COPY, production.path.read_bytes())
    write_whole(folder / CONFIG_COPY, CONFIG.read_bytes())
    write_whole(note, production.made_by.encode())


def call(module, *arguments, cwd):
    """Run a ctapipe tool in a folder; if it fails, exit with its messages."""
    process = subprocess.Popen(
        [sys.executable, "-c", f"from {module} import main; main()", *arguments],
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
    finally:
        process.kill()  # if this is interrupted
        _running.discard(process)
    if process.returncode != 0:
        raise SystemExit(
            f"error: {module} failed, exit status {process.returncode}, in {cwd}, with "
            f"{' '.join(arguments)}:\n{said[-3000:]}"
        )


def write_by(module, path, *arguments):
    """Write a file with a ctapipe tool, whole or not at all."""
    with whole_file(path) as unfinished:
        output = f"--output={unfinished.name}", f"--provenance-log={os.devnull}"
        call(module, *arguments, *output, cwd=path.parent)
        count_rows(unfinished)


def count_rows(path):
    """Read a whole file that ctapipe wrote; count the rows of its event tables.

    HDF5 may report nothing if the disk is full.
    """
    # HDF5 serves one thread at a time.
    with _reading, writing(path), tables.open_file(path) as file:
        if "CTA PRODUCT ID" not in file.root._v_attrs:  # what ctapipe writes last
            raise ToolConfigurationError(f"{path} is not complete: is the disk full?")
        contents(file)
        found = file.walk_nodes("/", "Table")
        return {t._v_pathname: t.nrows for t in found if "/event/" in t._v_pathname}


def simulate_run(production, run, options):
    """Simulate one run, unless its file exists already."""
    path = production.folder / RUN.format(run)
    if not path.exists():
        config = f"--config={CONFIG_COPY}"
        card = f"--input={CARD_COPY}", f"--AirShowerEventSource.runs={run}"
        write_by("ctapipe.tools.process", path, config, *options, *card)


def simulate_runs(productions, processes, options):
    """Simulate all runs, several at a time."""
    first = "the first time, the simulation is compiled: half a minute or more"
    print(first, file=sys.stderr)
    with ThreadPoolExecutor(processes) as pool:
        futures = []
        try:
            for production in productions:
                for run in production.card.run_numbers:
                    futures.append(pool.submit(simulate_run, production, run, options))
            # Without a terminal, no bar but a line for every percent.
            n = len(futures)
            bar = tqdm(as_completed(futures), total=n, unit="run", disable=None)
            for number, future in enumerate(bar, 1):
                future.result()
                if bar.disable and number * 100 % n < 100:
                    print(f"{number} of {n} runs", file=sys.stderr)
        except BaseException:
            # The others would run on for hours; some may be about to start.
            pool.shutdown(wait=False, cancel_futures=True)
            while _running or not all(future.done() for future in futures):
                for process in list(_running):
                    process.terminate()
                time.sleep(0.1)
            raise


def merge(production):
    """Merge the files of the runs, and remove all temporary files."""
    folder, output = production.folder, production.output
    runs = [RUN.format(run) for run in production.card.run_numbers]
    # The names of many runs are too long for a command line.
    inputs = json.dumps({"MergeTool": {"input_files": runs}})
    write_whole(folder / INPUTS, inputs.encode())
    merged = folder / MERGED
    write_by("ctapipe.tools.merge", merged, f"--config={INPUTS}")
    with whole_file(output) as unfinished:
        shutil.move(merged, unfinished)
        with tables.open_file(unfinished, "a") as file:
            file.root._v_attrs[MADE_BY_ATTRIBUTE] = production.made_by
            copy_atmosphere(folder / runs[0], file)
        missing = count_rows(unfinished)
        for run in runs:
            for table, rows in count_rows(folder / run).items():
                missing[table] = missing.get(table, 0) - rows
        if any(missing.values()):
            raise ToolConfigurationError(f"{output} is not complete: is the disk full?")
    ours = {CARD_COPY, CONFIG_COPY, MADE_BY, INPUTS, MERGED, *runs}
    for path in list(folder.iterdir()):
        # Killed processes leave files with temporary names.
        if re.sub(r"\.[0-9a-f]{8}\.part\Z", "", path.name) in ours:
            path.unlink()
    with contextlib.suppress(OSError):  # there may be other files in it
        folder.rmdir()


def copy_atmosphere(run, file):
    """Copy the profile of the atmosphere from the file of a run to an open file."""
    parent, _, name = ATMOSPHERE.rpartition("/")
    if parent not in file:
        file.create_group(*parent.rsplit("/", 1), createparents=True)
    with tables.open_file(run) as source:
        source.copy_node(parent, file.get_node(parent), name=name, overwrite=True)


def simulate_cards(cards, output_dir, processes, options):
    """Simulate cards, several runs at a time, each card into one file."""
    options = [with_absolute_file(option) for option in options]
    # All cards first: an error in the last one should not appear hours later.
    productions = plan(cards, output_dir, options)
    output_dir.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        for production in productions:
            try:
                stack.enter_context(locked(production.output, wait=False))
            except BlockingIOError as error:
                raise ToolConfigurationError(
                    f"another process is at work on {production.output}; wait until "
                    "it has finished, or choose another --output-dir"
                ) from error
        missing = [p for p in productions if not is_made(p, cards)]
        for production in missing:
            prepare(production)
        if missing:
            simulate_runs(missing, processes, options)
        for production in missing:
            merge(production)
    print(*(printable(str(p.output)) for p in productions), sep="\n")


def main():
    """Run the script."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cards", nargs="+", type=Path, metavar="CARD")
    parser.add_argument("--output-dir", type=Path, default=Path())
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    arguments = sys.argv[1:]
    end = arguments.index("--") if "--" in arguments else len(arguments)
    args = parser.parse_args(arguments[:end])
    if args.processes < 1:
        parser.error("--processes must be at least 1")
    print_anything()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    options = arguments[end + 1 :]
    try:
        simulate_cards(args.cards, args.output_dir, args.processes, options)
    except (ToolConfigurationError, OSError) as error:
        parser.exit(2, f"error: {printable(str(error))}\n")
    except KeyboardInterrupt:
        parser.exit(128 + signal.SIGINT, "interrupted; start again to continue\n")


if __name__ == "__main__":
    main()
