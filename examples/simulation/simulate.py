"""Simulate the runs of air-shower cards in parallel, and merge each card's runs.

The demonstration sample, on all cores::

    python examples/simulation/simulate.py examples/simulation/gamma.airshower.yaml \
        examples/simulation/proton.airshower.yaml --output-dir sample

makes ``sample/gamma.dl1.h5`` and ``sample/proton.dl1.h5``. Runs that are finished are
kept in ``sample/runs``: started again, it goes on where it stopped. What is after
``--`` goes to ctapipe-process.
"""

import argparse
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path

from tqdm.auto import tqdm

from ctapipe_gammaphysnet.simulation.card import read_card

CONFIG = Path(__file__).with_name("process.yaml")
SUFFIX = ".airshower.yaml"


def call(module, *arguments):
    """Run a ctapipe tool in a process of its own; raise with what it said if it fails.

    Parameters
    ----------
    module : str
        Name of the module of the tool.
    *arguments : object
        Its command line.
    """
    command = [sys.executable, "-m", module, *map(str, arguments)]
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
    path = directory / f"{card_path.name.removesuffix(SUFFIX)}_run{run:06d}.dl1.h5"
    if not path.exists():
        unfinished = path.with_name(f"unfinished_{path.name}")
        call(
            "ctapipe.tools.process",
            f"--config={CONFIG}",
            f"--input={card_path}",
            f"--output={unfinished}",
            f"--AirShowerEventSource.runs={run}",
            f"--log-file={unfinished.with_suffix('.log')}",
            f"--provenance-log={path.with_suffix('.provenance.log')}",
            "--overwrite",
            *options,
        )
        unfinished.with_suffix(".log").unlink(missing_ok=True)
        unfinished.rename(path)
    return path


def merge(paths, output):
    """Put files together in their order.

    Parameters
    ----------
    paths : list of pathlib.Path
        The files of the runs.
    output : pathlib.Path
        The file that appears when it is complete.
    """
    unfinished = output.with_name(f"unfinished_{output.name}")
    call(
        "ctapipe.tools.merge",
        *paths,
        f"--output={unfinished}",
        f"--provenance-log={output.with_suffix('.provenance.log')}",
        "--overwrite",
    )
    unfinished.rename(output)


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

    directory = args.output_dir / "runs"
    directory.mkdir(parents=True, exist_ok=True)
    runs = [(card, run) for card in args.cards for run in read_card(card).run_numbers]
    simulate = partial(simulate_run, directory=directory, options=arguments[end + 1 :])
    with ThreadPoolExecutor(args.processes) as pool:
        futures = {pool.submit(simulate, *run): run for run in runs}
        try:
            for future in tqdm(as_completed(futures), total=len(runs), unit="run"):
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    paths = {run: future.result() for future, run in futures.items()}
    for card in args.cards:
        output = args.output_dir / f"{card.name.removesuffix(SUFFIX)}.dl1.h5"
        merge([paths[run] for run in runs if run[0] == card], output)
        print(output)


if __name__ == "__main__":
    main()
