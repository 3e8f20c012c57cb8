"""How long users wait before anything happens.

Times, each in a process of its own, the import of the package, ``--version`` and
``--help`` of every tool, and a run of the quickstart (``examples/gpn.yaml``) for one
event, on a machine that has compiled nothing yet, and then again::

    python benchmarks/start.py

All are compared with ``ctapipe-process --help`` without this package.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from importlib.metadata import entry_points
from pathlib import Path

REPOSITORY = Path(__file__).absolute().parents[1]
#: ctapipe without any plugins.
ALONE = (
    "import ctapipe.core.plugins as plugins;"
    " plugins.installed_entry_points = plugins.entry_points(name='');"
)
PROCESS = "from ctapipe.tools.process import main; main()"
#: The command with which all others are compared.
REFERENCE = "ctapipe-process --help, without plugins"


def commands():
    """List the commands that should answer at once.

    Returns
    -------
    dict of str to list of str
        Arguments of Python, by name.
    """
    found = {
        REFERENCE: ["-c", ALONE + PROCESS, "--help"],
        "ctapipe-process --help": ["-c", PROCESS, "--help"],
        "import ctapipe_gammaphysnet": ["-c", "import ctapipe_gammaphysnet"],
    }
    for script in entry_points(group="console_scripts"):
        if script.module.startswith("ctapipe_gammaphysnet."):
            code = f"import sys; from {script.module} import main; sys.exit(main())"
            for option in ("--version", "--help"):
                found[f"{script.name} {option}"] = ["-c", code, option]
    return found


def first_events(folder):
    """List the runs for one event.

    Parameters
    ----------
    folder : pathlib.Path
        Where output and compiled code go.

    Returns
    -------
    dict of str to (list of str, pathlib.Path)
        Arguments of Python, and the folder of compiled code, by name; first those that
        find it empty.
    """
    options = [f"--config={REPOSITORY / 'examples/gpn.yaml'}"]
    options += [f"--output={folder / 'dl2.h5'}", "--EventSource.max_events=1"]
    options += [f"--provenance-log={folder / 'log'}", "--no-progress"]
    hillas = "--ShowerProcessor.reconstructor_types=HillasReconstructor"
    runs = {
        "without γ-PhysNet": ["-c", ALONE + PROCESS, *options, hillas],
        "with γ-PhysNet": ["-c", PROCESS, *options],
    }
    return {
        f"{name}, {state}": (run, folder / name)
        for state in ("first run", "second run")
        for name, run in runs.items()
    }


def measure(arguments, cache=None):
    """Run Python.

    Parameters
    ----------
    arguments : list of str
        Its arguments.
    cache : pathlib.Path, optional
        Folder of compiled code; by default the environment's.

    Returns
    -------
    cpu, wall : float
        Time of the processor, and of the clock, in s.
    """
    environment = dict(os.environ, COLUMNS="80")
    if cache is not None:
        environment["NUMBA_CACHE_DIR"] = str(cache)
    command = [sys.executable, *arguments]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        command, env=environment, cwd=REPOSITORY, capture_output=True, check=True
    )
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, wall


def print_rows(times):
    """Print the shortest times of commands.

    Parameters
    ----------
    times : dict of str to list of (float, float)
        Times of each round, by name; that of `REFERENCE` comes first.
    """
    reference = min(times[REFERENCE])[0]
    for name, rounds in times.items():
        cpu, wall = min(rounds)
        print(
            f"| {name} | {cpu:.2f} | {wall:.2f} "
            f"| {cpu - reference:+.2f} | {cpu / reference:.2f} |"
        )


def main(argv=None):
    """Run the benchmark and print its table.

    Parameters
    ----------
    argv : sequence of str or None
        The command line; by default that of this process.
    """
    parser = argparse.ArgumentParser(
        description="Find out how long users wait before anything happens.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often to run each")
    parser.add_argument("--only", default="", help="part of the commands' names")
    args = parser.parse_args(argv)
    times = {}
    for _ in range(args.rounds):
        for name, arguments in commands().items():
            if args.only in name or name == REFERENCE:
                times.setdefault(name, []).append(measure(arguments))
        with tempfile.TemporaryDirectory() as folder:
            for name, run in first_events(Path(folder)).items():
                if args.only in name:
                    times.setdefault(name, []).append(measure(*run))
    print("| command | processor / s | clock / s | beyond ctapipe / s | ratio |")
    print("|---|---|---|---|---|")
    print_rows(times)


if __name__ == "__main__":
    main()
