"""Simulate the runs of air-shower cards in parallel, and merge each card's runs.

The demonstration sample, on all cores::

    cd examples/simulation
    python simulate.py gamma.airshower.yaml proton.airshower.yaml --output-dir sample

makes ``sample/gamma.dl1.h5`` and ``sample/proton.dl1.h5``. Started again, it goes on
where it stopped; a file that is there is not made again. What is after ``--`` goes to
ctapipe-process.
"""

import argparse
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from tqdm.auto import tqdm

from ctapipe_gammaphysnet.simulation.card import read_card

CONFIG = Path(__file__).with_name("process.yaml")
SUFFIX = ".airshower.yaml"


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


def merge(paths, output):
    """Put the files of runs together in their order; they are gone afterwards.

    Parameters
    ----------
    paths : list of pathlib.Path
        The files of the runs, in a directory of their own.
    output : pathlib.Path
        The file that appears when it is complete.
    """
    directory = paths[0].parent
    unfinished = directory / f"unfinished_{output.name}"
    call(
        "ctapipe.tools.merge",
        *paths,
        f"--output={unfinished}",
        f"--provenance-log={directory / 'merge.provenance.log'}",
        "--overwrite",
    )
    unfinished.rename(output)
    shutil.rmtree(directory)


def simulate_cards(cards, output_dir, processes, options):
    """Simulate cards, run by run, each into one file.

    Parameters
    ----------
    cards : list of pathlib.Path
        The cards.
    output_dir : pathlib.Path
        Directory of the files.
    processes : int
        Number of runs that are simulated at the same time.
    options : list of str
        More of the command line of ctapipe-process.
    """
    outputs = {card: output_dir / f"{name_of(card)}.dl1.h5" for card in cards}
    missing = [card for card in cards if not outputs[card].exists()]
    futures = {}
    with ThreadPoolExecutor(processes) as pool:
        for card in missing:
            directory = output_dir / f"{name_of(card)}_runs"
            directory.mkdir(parents=True, exist_ok=True)
            for run in read_card(card).run_numbers:
                future = pool.submit(simulate_run, card, run, directory, options)
                futures[future] = card
        try:
            for future in tqdm(as_completed(futures), total=len(futures), unit="run"):
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    for card in missing:
        merge([f.result() for f, of in futures.items() if of == card], outputs[card])
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
    simulate_cards(args.cards, args.output_dir, args.processes, arguments[end + 1 :])


if __name__ == "__main__":
    main()
