"""Simulate the runs of air-shower cards in parallel, and merge each card's runs.

The demonstration sample, on all cores::

    cd examples/simulation
    python simulate.py gamma.airshower.yaml proton.airshower.yaml --output-dir sample

makes ``sample/gamma.dl1.h5`` and ``sample/proton.dl1.h5``. Started again, it goes on
where it stopped, in ``sample/gamma_runs`` and ``sample/proton_runs``; a file that is
there is not made again. What is after ``--`` goes to ctapipe-process.
"""

import argparse
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from tqdm.auto import tqdm

from ctapipe_gammaphysnet.simulation.card import CardError, read_card

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
    """Put the files of runs together in their order.

    Parameters
    ----------
    paths : list of pathlib.Path
        The files of the runs.
    output : pathlib.Path
        The file that appears when it is complete.
    """
    unfinished = paths[0].with_name(f"unfinished_{output.name}")
    call(
        "ctapipe.tools.merge",
        *paths,
        f"--output={unfinished}",
        f"--provenance-log={unfinished.with_suffix('.provenance.log')}",
        "--overwrite",
    )
    unfinished.rename(output)


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
    made_by = directory / "made_by.txt"
    what = "\n".join([card.read_text(encoding="utf-8"), *options])
    if directory.exists():
        if not made_by.exists() or made_by.read_text(encoding="utf-8") != what:
            raise SystemExit(
                f"{directory} is not of this card and these options; remove it, or "
                "choose another --output-dir"
            )
    else:
        directory.mkdir(parents=True)
        made_by.write_text(what, encoding="utf-8")
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
        merge([f.result() for f, of in futures.items() if of == card], outputs[card])
        shutil.rmtree(directory)
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
    except CardError as error:
        raise SystemExit(f"error: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit("interrupted; start again to go on") from None


if __name__ == "__main__":
    main()
