"""Where the time goes from a DL1 file to a DL2 file.

Runs ``ctapipe-apply-gammaphysnet`` and ``ctapipe-process`` on the same simulated
sample with the network of the paper, and times their parts::

    python benchmarks/apply.py

The first table is for the bulk tool: its rate from file to file, that of the network
alone with the same images in memory, and the ratio of the two. Reading and writing
(with copying tables and checking the output) run in another thread than the network;
their shares are of the total time.

The second table is for everything but the network, which is replaced by a constant:
images per second from file to file and per second of CPU time, and the times of the
parts as shares of the total. Images are decompressed and prepared in two threads beside
the one that reads, combines and writes: the shares of all add up to more than 100 %.

The third table is for the event loop, with one and with four telescopes per event:
the share of its time spent in γ-PhysNet and in its network, and the ratio of both.
``--model`` takes another model than the network of the paper, such as
``examples/data/lst_demonstration.safetensors``.
"""

import argparse
import contextlib
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from ctapipe.core import run_tool
from ctapipe.tools.process import ProcessorTool

from ctapipe_gammaphysnet import bulk
from ctapipe_gammaphysnet.dl2.file import DL2File
from ctapipe_gammaphysnet.events.dl1_file import DL1File
from ctapipe_gammaphysnet.files import hdf5_output
from ctapipe_gammaphysnet.model.card import MemberCard, ModelCard, NetworkCard
from ctapipe_gammaphysnet.model.file import Model, write_model
from ctapipe_gammaphysnet.model.predictor import Predictor
from ctapipe_gammaphysnet.model.telescope import describe_telescope
from ctapipe_gammaphysnet.network import CameraLattice, GammaPhysNet, NetworkConfig
from ctapipe_gammaphysnet.reconstructor import GammaPhysNetReconstructor
from ctapipe_gammaphysnet.simulation.instruments import make_subarray
from ctapipe_gammaphysnet.tools.apply import ApplyGammaPhysNet

#: Functions of the bulk tool, by what they do.
PARTS = {
    "reading": [(DL1File, "chunks"), (DL1File, "fetch_images")],
    "preparing": [(bulk, "_run_block")],
    "combining": [(bulk, "_combine")],
    "writing": [
        *((DL2File, name) for name in ("copy", "append_telescope", "append_stereo")),
        *((DL2File, "finish"), (hdf5_output, "contents")),
    ],
}
SAMPLE = Path(__file__).absolute().parents[1] / "examples/data/sample_gamma.dl1.h5"


def write_random_model(path, config):
    """Write a model for the LST with random weights: only its speed matters.

    Parameters
    ----------
    path : pathlib.Path
        The model file.
    config : NetworkConfig
        The network's hyperparameters.
    """
    (telescope,) = make_subarray("lst1", "la_palma").telescope_types
    lattice = CameraLattice.from_geometry(telescope.camera.geometry)
    weights = {
        name: weight.numpy()
        for name, weight in GammaPhysNet(config, lattice).state_dict().items()
    }
    card = ModelCard(
        note="Random weights: a benchmark.",
        created="2024-01-01T00:00:00+00:00",
        software={},
        networks=(
            NetworkCard(
                telescope=describe_telescope(telescope),
                network=config,
                members=(MemberCard(seed=0),),
            ),
        ),
    )
    write_model(path, Model(card, ((weights,),)), overwrite=True)


@contextlib.contextmanager
def stopwatch(*functions):
    """Time the calls of methods and functions.

    Parameters
    ----------
    *functions : tuple of object and str
        Class or module, and name, of each; generators are also timed.

    Yields
    ------
    dict of str to float
        Time in s spent in each so far, by name.
    """
    spent = {name: 0.0 for _, name in functions}
    originals = {(cls, name): getattr(cls, name) for cls, name in functions}

    def timed(name, function):
        def call(*args, **kwargs):
            start = time.perf_counter()
            result = function(*args, **kwargs)
            spent[name] += time.perf_counter() - start
            return timed_items(name, result) if hasattr(result, "send") else result

        return call

    def timed_items(name, items):
        while True:
            start = time.perf_counter()
            try:
                item = next(items)
            except StopIteration:
                return
            finally:
                spent[name] += time.perf_counter() - start
            yield item

    for (cls, name), function in originals.items():
        setattr(cls, name, timed(name, function))
    try:
        yield spent
    finally:
        for (cls, name), function in originals.items():
            setattr(cls, name, function)


@contextlib.contextmanager
def replaced_network(compute):
    """Replace the network in bulk.

    Parameters
    ----------
    compute : callable
        Called instead of `GammaPhysNetReconstructor.run_network`, with that and its
        arguments.

    Yields
    ------
    None
        Nothing.
    """
    run_network = GammaPhysNetReconstructor.run_network

    def call(*arguments):
        return compute(run_network, *arguments)

    GammaPhysNetReconstructor.run_network = call
    try:
        yield
    finally:
        GammaPhysNetReconstructor.run_network = run_network


def run_tool_on(dl1, model, folder):
    """Run the bulk tool, and time its parts.

    Parameters
    ----------
    dl1, model, folder : pathlib.Path
        As for `run_apply`.

    Returns
    -------
    dict of str to float
        Times in s: total, reading, preparing (the network included, several blocks at
        once), combining, writing.
    """
    argv = [f"--input={dl1}", f"--model={model}", f"--output={folder / 'apply.dl2.h5'}"]
    argv += ["--overwrite", "--no-progress", f"--provenance-log={folder / 'log'}"]
    functions = [function for part in PARTS.values() for function in part]
    with stopwatch((ApplyGammaPhysNet, "start"), *functions) as spent:
        run_tool(ApplyGammaPhysNet(), argv=argv, cwd=folder, raises=True)
    times = {part: sum(spent[n] for _, n in PARTS[part]) for part in PARTS}
    return {"total": spent["start"], **times}


def run_apply(dl1, model, folder):
    """Compare the bulk tool with the network alone.

    Parameters
    ----------
    dl1, model : pathlib.Path
        Input and model.
    folder : pathlib.Path
        Where the output goes.

    Returns
    -------
    dict of str to float
        Number of images; rates in 1/s from file to file and of the network alone; times
        as from `run_tool_on`.
    """
    blocks = []

    def keep(run_network, *block):
        blocks.append(block)
        return run_network(*block)

    with replaced_network(keep):
        times = run_tool_on(dl1, model, folder)
    n_images = sum(len(inputs) for _, _, inputs, *_ in blocks)
    start = time.perf_counter()
    for block in blocks:
        GammaPhysNetReconstructor.run_network(*block)
    network = time.perf_counter() - start
    return {
        "images": n_images,
        "rate": n_images / times["total"],
        "network rate": n_images / network,
        **times,
    }


def run_constant(dl1, model, folder):
    """Run the bulk tool with a constant instead of the network.

    The constant is what the network predicts for an image of zeros.

    Parameters
    ----------
    dl1, model, folder : pathlib.Path
        As for `run_apply`.

    Returns
    -------
    dict of str to float
        Number of images; rates in 1/s, of the clock and for each core of the process's
        CPU time; times as from `run_tool_on`.
    """
    n_images, outputs = [], {}

    def constant(run_network, reconstructor, name, inputs, backgrounds, *pointing):
        n_images.append(len(inputs))
        if name not in outputs:
            background = [b if b is None else b.of(slice(1)) for b in backgrounds[:1]]
            one = np.zeros_like(inputs[:1]), background
            pointing = (angle[:1] for angle in pointing)
            outputs[name] = run_network(reconstructor, name, *one, *pointing)
        n = len(inputs)
        return {task: np.repeat(v, n, axis=1) for task, v in outputs[name].items()}

    cpu = time.process_time()
    with replaced_network(constant):
        times = run_tool_on(dl1, model, folder)
    cpu = time.process_time() - cpu
    n = sum(n_images)
    return {"images": n, "rate": n / times["total"], "rate per core": n / cpu, **times}


def run_event_loop(dl1, model, folder, allowed_tels, max_events):
    """Run ``ctapipe-process``, and find γ-PhysNet's share of its time.

    Parameters
    ----------
    dl1, model : pathlib.Path
        Input and model.
    folder : pathlib.Path
        Where the output goes.
    allowed_tels : list of int
        The telescopes.
    max_events : int
        Number of events.

    Returns
    -------
    dict of str to float
        Times in s: total, reconstructor, network.
    """
    config = folder / "process.json"
    settings = {
        "EventSource": {"allowed_tels": allowed_tels, "max_events": max_events},
        "DataWriter": {"write_dl2": True, "overwrite": True},
        "ShowerProcessor": {
            "reconstructor_types": ["GammaPhysNetReconstructor"],
            "GammaPhysNetReconstructor": {"load_path": str(model)},
        },
    }
    config.write_text(json.dumps(settings), encoding="utf-8")
    argv = [
        f"--config={config}",
        f"--input={dl1}",
        f"--output={folder / 'process.dl2.h5'}",
        f"--provenance-log={folder / 'log'}",
    ]
    watched = (
        (GammaPhysNetReconstructor, "__call__"),
        (Predictor, "_predict_member"),
        (ProcessorTool, "start"),
    )
    with stopwatch(*watched) as spent:
        run_tool(ProcessorTool(), argv=argv, cwd=folder, raises=True)
    return {
        "total": spent["start"],
        "reconstructor": spent["__call__"],
        "network": spent["_predict_member"],
    }


def print_constant(args, model, folder):
    """Print the table of everything but the network.

    Parameters
    ----------
    args : argparse.Namespace
        Options of the command line.
    model, folder : pathlib.Path
        As for `run_apply`.
    """
    header = ("images", "images/s", "per core", *PARTS)
    print(f"\n| {' | '.join(header)} |")
    print("|---|---|---|---|---|---|---|")
    for _ in range(args.rounds):
        r = run_constant(args.input, model, folder)
        shares = [f"{r[part] / r['total']:.1%}" for part in PARTS]
        rates = [f"{r[name]:.0f}" for name in ("images", "rate", "rate per core")]
        print(f"| {' | '.join(rates + shares)} |")


def main(argv=None):
    """Run the benchmark and print its tables.

    Parameters
    ----------
    argv : sequence of str or None
        The command line; by default that of this process.
    """
    parser = argparse.ArgumentParser(
        description="Find out where the time goes from DL1 to DL2.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--input", type=Path, default=SAMPLE, help="DL1 file of LSTs")
    parser.add_argument(
        "--blocks", type=int, default=9, help="residual blocks per stage"
    )
    parser.add_argument("--model", type=Path, help="model file, instead of --blocks")
    parser.add_argument("--rounds", type=int, default=3, help="how often to run each")
    parser.add_argument(
        "--max-events", type=int, default=50, help="events in the event loop"
    )
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = args.model
        if model is None:
            model = folder / "model.safetensors"
            write_random_model(model, NetworkConfig(blocks=args.blocks))
        rounds = [run_apply(args.input, model, folder) for _ in range(args.rounds)]
        print("| images | images/s | network alone | ratio | reading | writing |")
        print("|---|---|---|---|---|---|")
        for r in rounds:
            print(
                f"| {r['images']} | {r['rate']:.1f} | {r['network rate']:.1f} "
                f"| {r['rate'] / r['network rate']:.1%} "
                f"| {r['reading'] / r['total']:.1%} | {r['writing'] / r['total']:.1%} |"
            )
        print_constant(args, model, folder)
        print("\n| telescopes | events/s | γ-PhysNet | its network | ratio | ctapipe |")
        print("|---|---|---|---|---|---|")
        for allowed_tels in ([1], [1, 2, 3, 4]):
            for _ in range(args.rounds):
                r = run_event_loop(
                    args.input, model, folder, allowed_tels, args.max_events
                )
                ours = r["reconstructor"] / r["total"]
                print(
                    f"| {len(allowed_tels)} | {args.max_events / r['total']:.1f} "
                    f"| {ours:.1%} | {r['network'] / r['total']:.1%} "
                    f"| {r['reconstructor'] / r['network']:.2f} | {1 - ours:.1%} |"
                )


if __name__ == "__main__":
    main()
