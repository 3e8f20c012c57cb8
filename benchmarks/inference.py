"""How fast γ-PhysNet predicts, and how fast it could on this machine.

Measures the paper's γ-PhysNet DA on images of the LST camera, with the same
`Predictor` that ``ctapipe-process`` uses, and both engines of the convolution::

    python benchmarks/inference.py

See the README beside this file for how to read the table.
"""

import argparse
import itertools
import platform
import statistics
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ctapipe_gammaphysnet.model.card import MemberCard, NetworkCard
from ctapipe_gammaphysnet.model.predictor import (
    DeviceError,
    Predictor,
    select_device,
    set_threads,
)
from ctapipe_gammaphysnet.model.telescope import describe_telescope
from ctapipe_gammaphysnet.network import CameraLattice, GammaPhysNet, NetworkConfig
from ctapipe_gammaphysnet.network.convolution import ENGINES
from ctapipe_gammaphysnet.simulation.instruments import make_subarray

PRECISIONS = ("float32", "bfloat16")
#: The variant that all others are compared with.
REFERENCE = ("indexed", "float32")
#: Size of the matrices to multiply, by device: large enough for full speed.
MATRIX_SIZE = {"cpu": 2048, "cuda": 8192}
#: Each timing repeats its work for at least this long, in s.
MIN_DURATION = 0.2

#: Median, lowest and highest rate over the rounds, per second.
Rate = namedtuple("Rate", ["median", "lowest", "highest"])


def describe_network(config):
    """Write the card of a network for the LST camera.

    Parameters
    ----------
    config : NetworkConfig
        The network's hyperparameters.

    Returns
    -------
    NetworkCard
        Card with one member.
    """
    (telescope,) = make_subarray("lst1", "la_palma").telescope_types
    return NetworkCard(
        telescope=describe_telescope(telescope),
        network=config,
        members=(MemberCard(seed=0),),
    )


def count_flop(config, lattice):
    """Count the arithmetic of the matrix products of one image.

    Multiplications and additions in convolutions, for each pixel and tap of the
    lattice but not for the rest of the rectangle around it, and in linear layers.

    Parameters
    ----------
    config : NetworkConfig
        The network's hyperparameters.
    lattice : CameraLattice
        The camera.

    Returns
    -------
    int
        Number of floating-point operations.
    """
    flop = 0

    def count(layer, inputs, output):
        nonlocal flop
        # All weights are used once for each position of the output.
        positions = output.numel() // layer.weight.shape[0]
        flop += 2 * positions * layer.weight.numel()

    network = GammaPhysNet(config, lattice).eval()
    for layer in network.modules():
        if isinstance(layer, (nn.Linear, *ENGINES.values())):
            layer.register_forward_hook(count)
    with torch.inference_mode():
        network(torch.zeros(1, 2, len(lattice)))
    return flop


def choose_variants(device):
    """Leave out what this machine can only emulate: nobody would use it.

    Without bfloat16 units, a matrix product takes many times as long as in float32.
    The engine `lattice` computes with the float32 units.

    Parameters
    ----------
    device : torch.device
        Where to compute.

    Returns
    -------
    precisions : tuple of str
        Precisions in which to multiply matrices.
    variants : list of tuple of str
        Engines with their precisions.
    """
    works = {name: make_matrix_product(name, device)[0] for name in PRECISIONS}
    rates = time_in_turn(works, 3, device)
    fast = PRECISIONS
    if rates["bfloat16"].median < rates["float32"].median:
        fast = ("float32",)
    variants = [
        (engine, precision)
        for engine, precision in itertools.product(ENGINES, PRECISIONS)
        if engine == "lattice" or precision in fast
    ]
    return fast, variants


def make_predictions(card, lattice, batch_sizes, device, variants):
    """Prepare the predictions to time.

    Parameters
    ----------
    card : NetworkCard
        The network.
    lattice : CameraLattice
        The camera.
    batch_sizes : sequence of int
        Numbers of images predicted at once.
    device : torch.device
        Where to compute.
    variants : list of tuple of str
        Engines with their precisions.

    Returns
    -------
    dict of (int, str, str) to callable
        Function that predicts a batch, by batch size, engine and precision.
    """
    weights = {
        name: weight.numpy()
        for name, weight in GammaPhysNet(card.network, lattice).state_dict().items()
    }
    rng = np.random.default_rng(0)
    images = {
        size: rng.normal(size=(size, 2, len(lattice))).astype(np.float32)
        for size in batch_sizes
    }
    predictors = {
        (engine, precision): Predictor(card, [weights], device, precision, engine)
        for engine, precision in variants
    }
    return {
        (size, *variant): lambda size=size, predict=predict: predict(images[size])
        for size in batch_sizes
        for variant, predict in predictors.items()
    }


def make_matrix_product(precision, device):
    """Prepare the product of two large square matrices.

    Parameters
    ----------
    precision : {"float32", "bfloat16"}
        Precision of the matrices.
    device : torch.device
        Where to compute.

    Returns
    -------
    callable
        Function that multiplies them.
    int
        Number of floating-point operations of the product.
    """
    size = MATRIX_SIZE[device.type]
    matrix = torch.ones(size, size, dtype=getattr(torch, precision), device=device)
    return lambda: torch.mm(matrix, matrix), 2 * size**3


def time_once(work, device):
    """Time some work, repeated for a fraction of a second.

    Parameters
    ----------
    work : callable
        What to time.
    device : torch.device
        Where it computes; the clock stops when a GPU has finished.

    Returns
    -------
    float
        Repetitions per second.
    """
    start = time.perf_counter()
    for repeats in itertools.count(1):
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        duration = time.perf_counter() - start
        if duration >= MIN_DURATION:
            return repeats / duration


def time_in_turn(works, rounds, device):
    """Time all works in turn, several times, so that noise hits all of them.

    Parameters
    ----------
    works : dict of hashable to callable
        What to time.
    rounds : int
        How often to time each of them.
    device : torch.device
        Where they compute.

    Returns
    -------
    dict of hashable to Rate
        Repetitions of each per second.
    """
    for work in works.values():
        work()
    rates = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            rates[name].append(time_once(work, device))
    return {
        name: Rate(statistics.median(values), min(values), max(values))
        for name, values in rates.items()
    }


def benchmark(config, batch_sizes, rounds, device):
    """Measure a network with all engines and precisions.

    Parameters
    ----------
    config : NetworkConfig
        The network's hyperparameters.
    batch_sizes : sequence of int
        Numbers of images predicted at once.
    rounds : int
        How often to time each variant.
    device : torch.device
        Where to compute.

    Returns
    -------
    images : dict of (int, str, str) to Rate
        Images per second, by batch size, engine and precision.
    products : dict of str to Rate
        Floating-point operations per second in the product of large matrices, by
        precision: without bfloat16 if the machine has no units for it.
    flop : int
        Floating-point operations per image.
    """
    card = describe_network(config)
    camera = card.telescope.camera
    lattice = CameraLattice.from_positions(camera.pix_x_m, camera.pix_y_m)
    precisions, variants = choose_variants(device)
    works = make_predictions(card, lattice, batch_sizes, device, variants)
    factors = {name: name[0] for name in works}
    for precision in precisions:
        works[precision], factors[precision] = make_matrix_product(precision, device)
    rates = {
        name: Rate(*(factors[name] * value for value in rate))
        for name, rate in time_in_turn(works, rounds, device).items()
    }
    products = {precision: rates.pop(precision) for precision in precisions}
    return rates, products, count_flop(config, lattice)


def describe_machine(device):
    """Describe what the numbers depend on.

    Parameters
    ----------
    device : torch.device
        Where the network computes.

    Returns
    -------
    str
        GPU if it is used, processor, number of threads, version of PyTorch.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line for line in lines if line.startswith("model name"))
        processor = model.partition(":")[2].strip()
    except (OSError, StopIteration):
        processor = platform.processor() or platform.machine()
    gpu = f"{torch.cuda.get_device_name(device)}, " if device.type == "cuda" else ""
    return (
        f"{gpu}{processor}, threads: {torch.get_num_threads()}, "
        f"PyTorch {torch.__version__}, Python {platform.python_version()}"
    )


def format_table(images, products, flop):
    """Lay out the results.

    Parameters
    ----------
    images, products, flop
        As `benchmark` returns them.

    Returns
    -------
    str
        Table with a line for each variant, in Markdown.
    """
    header = (
        "batch",
        "engine",
        "precision",
        "images/s",
        "lowest-highest",
        "/ indexed float32",
        "of matrix products",
    )
    rows = []
    for (size, engine, precision), rate in images.items():
        ratio = rate.median / images[size, *REFERENCE].median
        product = products.get(precision, products["float32"])
        fraction = rate.median * flop / product.median
        rows.append(
            (
                str(size),
                engine,
                precision,
                f"{rate.median:.1f}",
                f"{rate.lowest:.1f}-{rate.highest:.1f}",
                f"{ratio:.2f}",
                f"{fraction:.1%}",
            )
        )
    return format_markdown(header, rows)


def format_markdown(header, rows):
    """Lay out a table.

    Parameters
    ----------
    header : sequence of str
        Names of the columns.
    rows : sequence of sequence of str
        Their values.

    Returns
    -------
    str
        The table, in Markdown.
    """
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    rule = ["-" * width for width in widths]
    return "\n".join(
        f"| {' | '.join(map(str.rjust, row, widths))} |"
        for row in (header, rule, *rows)
    )


def positive(text):
    """Read a positive number from the command line.

    Parameters
    ----------
    text : str
        What was given.

    Returns
    -------
    int
        The number.

    Raises
    ------
    argparse.ArgumentTypeError
        If it is not positive.
    """
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def add_machine_options(parser, rounds):
    """Add the options for where to compute, and how often.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Where to add them.
    rounds : int
        The default number of rounds.
    """
    parser.add_argument(
        "--rounds",
        type=positive,
        default=rounds,
        help="how often to time each variant",
    )
    parser.add_argument(
        "--device", default="cpu", help="auto, cpu, cuda, or for example cuda:1"
    )
    parser.add_argument(
        "--n-jobs", type=positive, help="number of threads; by default PyTorch decides"
    )


def use_machine(parser, args):
    """Set the number of threads, and find the device.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Reports a wrong device.
    args : argparse.Namespace
        Options of `add_machine_options`.

    Returns
    -------
    torch.device
        Where to compute.
    """
    try:
        device = select_device(args.device)
    except DeviceError as error:
        parser.error(str(error))
    set_threads(args.n_jobs)
    return device


def main(argv=None):
    """Run the benchmark and print its table.

    Parameters
    ----------
    argv : sequence of str or None
        The command line; by default that of this process.
    """
    parser = argparse.ArgumentParser(
        description="Measure how many images γ-PhysNet DA predicts per second.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--batch-sizes",
        type=positive,
        nargs="+",
        default=[1, 64, 256],
        help="numbers of images predicted at once",
    )
    add_machine_options(parser, rounds=5)
    args = parser.parse_args(argv)
    device = use_machine(parser, args)

    print(describe_machine(device))
    images, products, flop = benchmark(
        NetworkConfig(), args.batch_sizes, args.rounds, device
    )
    print(f"γ-PhysNet DA, LSTCam: {flop / 1e9:.3f} GFLOP per image")
    for precision, rate in products.items():
        print(
            f"matrix products, {precision}: {rate.median / 1e9:.0f} GFLOP/s "
            f"({rate.lowest / 1e9:.0f}-{rate.highest / 1e9:.0f}), "
            f"enough for {rate.median / flop:.0f} images/s"
        )
    if "bfloat16" not in products:
        print(
            "matrix products, bfloat16: slower than float32, as this machine has no "
            "units for it; bfloat16 is compared with float32"
        )
    print(f"median, lowest and highest of {args.rounds} rounds:\n")
    print(format_table(images, products, flop))


if __name__ == "__main__":
    main()
