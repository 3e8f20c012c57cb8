"""How fast air showers are simulated, from a card to a DL1 file with images.

Runs ``ctapipe-process`` on a card of gamma rays as users do, in one process, and prints
where the time goes::

    python benchmarks/simulation.py

See the README beside this file for how to read the table.
"""

import argparse
import platform
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import tables
from ctapipe.core import run_tool
from ctapipe.tools.process import ProcessorTool

from ctapipe_gammaphysnet.simulation import production

CARD = """\
particle: {particle}
showers: {showers}
seed: 1
energy_min: 20 GeV
energy_max: 10 TeV
array: {array}
"""


class Stopwatch:
    """Adds up the time spent in functions, by name."""

    def __init__(self):
        self.seconds = defaultdict(float)

    def time(self, name, function):
        """Wrap a function to count its time."""

        def timed(*args, **kwargs):
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[name] += time.perf_counter() - start

        return timed


def count_images(path):
    """Count the events and images in a DL1 file."""
    with tables.open_file(path) as file:
        events = len(file.root.dl1.event.subarray.trigger)
        images = sum(map(len, file.root.dl1.event.telescope.images))
    return events, images


def process(card, directory, *options):
    """Run ``ctapipe-process`` on a card; return the file that it writes."""
    source = Path(directory) / "benchmark.airshower.yaml"
    output = Path(directory) / "benchmark.dl1.h5"
    source.write_text(card)
    arguments = [f"--input={source}", f"--output={output}", "--overwrite"]
    arguments += ["--write-images", "--write-parameters", "--quiet", *options]
    run_tool(ProcessorTool(), arguments, cwd=directory, raises=True)
    return output


def main():
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--showers", type=int, default=300)
    parser.add_argument("--arrays", nargs="+", default=["lst1", "lst4"])
    parser.add_argument("--particle", default="gamma")
    args = parser.parse_args()

    stopwatch = Stopwatch()
    production.simulate = stopwatch.time("cascade", production.simulate)
    observe = stopwatch.time("imaging", production.Production._observe)
    production.Production._observe = observe

    print(f"{platform.processor() or platform.machine()}, one process")
    print(f"{args.particle}, E^-2 from 20 GeV to 10 TeV, {args.showers} showers\n")
    print(
        "array   output of source  events  images  showers/s  images/s"
        "  cascade  imaging  ctapipe"
    )
    with tempfile.TemporaryDirectory() as directory:
        warm_up = CARD.format(particle=args.particle, showers=5, array="lst1")
        process(warm_up, directory)
        for array in args.arrays:
            card = CARD.format(
                particle=args.particle, showers=args.showers, array=array
            )
            for dl1_images in (False, True):
                stopwatch.seconds.clear()
                start = time.perf_counter()
                option = f"--AirShowerEventSource.dl1_images={dl1_images}"
                output = process(card, directory, option)
                total = time.perf_counter() - start
                events, images = count_images(output)
                cascade = stopwatch.seconds["cascade"]
                imaging = stopwatch.seconds["imaging"]
                shares = [t / total for t in (cascade, imaging)]
                shares.append(1 - sum(shares))
                print(
                    f"{array:11}",
                    f"{'images' if dl1_images else 'waveforms':12}",
                    f"{events:7} {images:7}",
                    f"{args.showers / total:10.1f} {images / total:9.1f}",
                    *(f"{share:8.0%}" for share in shares),
                )


if __name__ == "__main__":
    main()
