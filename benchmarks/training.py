"""How fast γ-PhysNet trains: forward pass, loss, backward pass, Adam.

Measures the paper's γ-PhysNet DA on images of the LST camera, with both engines of
the convolution, and how long steps wait for images that are streamed from files::

    python benchmarks/training.py

See the README beside this file for how to read the table.
"""

import argparse
import itertools
import time
from functools import partial

import torch
from inference import (
    Rate,
    add_machine_options,
    choose_variants,
    count_flop,
    describe_machine,
    describe_network,
    format_markdown,
    make_matrix_product,
    positive,
    time_in_turn,
    use_machine,
)
from training_data import add_file_options, files_of, read_geometry, read_indices

from ctapipe_gammaphysnet.events.preparation import InputPreparation
from ctapipe_gammaphysnet.events.quality import TrainingQualityQuery
from ctapipe_gammaphysnet.model.card import InputCard
from ctapipe_gammaphysnet.network import CameraLattice, GammaPhysNet, NetworkConfig
from ctapipe_gammaphysnet.network.convolution import ENGINES
from ctapipe_gammaphysnet.training.losses import UncertaintyWeighting, task_losses
from ctapipe_gammaphysnet.training.stream import TrainingStream

#: The engine that the other is compared with.
REFERENCE = "indexed"
#: Arithmetic of a step over that of a forward pass: gradients of features and weights.
PASSES = 3


def make_batch(size, lattice, device):
    """Draw random images and targets, without any shower.

    Parameters
    ----------
    size : int
        Number of images.
    lattice : CameraLattice
        The camera.
    device : torch.device
        Where to put them.

    Returns
    -------
    dict of str to torch.Tensor
        ``"inputs"``, and the targets as `task_losses` takes them.
    """
    batch = {
        "inputs": torch.randn(size, 2, len(lattice)),
        "energy": torch.randn(size, 1),
        "direction": torch.randn(size, 2),
        "impact": torch.randn(size, 2),
        "class": torch.arange(size) % 2,
        "weight": torch.ones(size),
    }
    return {name: value.to(device) for name, value in batch.items()}


def make_step(network, device, precision):
    """Prepare one step of training.

    Parameters
    ----------
    network : GammaPhysNet
        The network, trained in place.
    device : torch.device
        Where it is.
    precision : {"float32", "bfloat16"}
        Precision of the network. The losses always compute in float32.

    Returns
    -------
    callable
        Function that takes one step with a batch, a dict of str to torch.Tensor.
    """
    balance = UncertaintyWeighting(list(network.heads)).to(device)
    optimizer = torch.optim.Adam([*network.parameters(), *balance.parameters()])

    def step(batch):
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, precision == "bfloat16"):
            outputs = network(batch["inputs"])
        outputs = {task: output.float() for task, output in outputs.items()}
        balance(task_losses(outputs, batch)).backward()
        optimizer.step()

    return step


def benchmark(config, batch_sizes, precision, rounds, device):
    """Measure training with both engines.

    Parameters
    ----------
    config : NetworkConfig
        The network's hyperparameters.
    batch_sizes : sequence of int
        Numbers of images in a step.
    precision : {"float32", "bfloat16"}
        Precision of the network.
    rounds : int
        How often to time each variant.
    device : torch.device
        Where to compute.

    Returns
    -------
    steps : dict of (int, str) to Rate
        Steps per second, by batch size and engine.
    enough : float or None
        Images per second for which the machine's product of large matrices, in this
        precision, is enough; None if the machine has no units for it.
    """
    camera = describe_network(config).telescope.camera
    lattice = CameraLattice.from_positions(camera.pix_x_m, camera.pix_y_m)
    steps = {
        (size, engine): partial(
            make_step(
                GammaPhysNet(config, lattice, engine).to(device), device, precision
            ),
            make_batch(size, lattice, device),
        )
        for size, engine in itertools.product(batch_sizes, ENGINES)
    }
    if precision not in choose_variants(device)[0]:
        return time_in_turn(steps, rounds, device), None
    product, flop = make_matrix_product(precision, device)
    rates = time_in_turn(steps | {"product": product}, rounds, device)
    enough = flop * rates.pop("product").median / (PASSES * count_flop(config, lattice))
    return rates, enough


def format_table(steps, enough):
    """Lay out the results.

    Parameters
    ----------
    steps, enough
        As `benchmark` returns them.

    Returns
    -------
    str
        Table with a line for each variant, in Markdown.
    """
    header = ("batch", "engine", "steps/s", "images/s", "lowest-highest", "/ indexed")
    header += ("of matrix products",)
    rows = []
    for (size, engine), rate in steps.items():
        images = Rate(*(size * value for value in rate))
        ratio = rate.median / steps[size, REFERENCE].median
        rows.append(
            (
                str(size),
                engine,
                f"{rate.median:.3f}",
                f"{images.median:.1f}",
                f"{images.lowest:.1f}-{images.highest:.1f}",
                f"{ratio:.2f}",
                "" if enough is None else f"{images.median / enough:.0%}",
            )
        )
    return format_markdown(header, rows)


def stream_and_train(config, paths, labels, telescope, size, n_steps, device):
    """Train on images that are streamed from files.

    Parameters
    ----------
    config : NetworkConfig
        The network's hyperparameters.
    paths, labels : list
        The files, and for each 0 for signal or 1 for background.
    telescope : str
        The telescope type.
    size : int
        Number of images in a step.
    n_steps : int
        Number of steps, after a first one that is not counted.
    device : torch.device
        Where to compute.

    Returns
    -------
    duration, waiting : float
        Total time of the steps, and how much of it they waited for images, in s.
    """
    lattice = CameraLattice.from_geometry(read_geometry(paths[0], telescope))
    prepare = InputPreparation(InputCard(), lattice)
    index = read_indices(paths, labels, telescope, TrainingQualityQuery())

    def make_batch(images, step):
        arrays = {
            "inputs": prepare(*images[1:])[0],
            "class": index.label[images.row],
            **{task: target[images.row] for task, target in index.targets.items()},
        }
        batch = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return batch | {"weight": torch.ones(len(images.row))}

    stream = TrainingStream(paths, index, make_batch, size, None, 20_000, seed=0)
    train = make_step(GammaPhysNet(config, lattice).to(device), device, "float32")
    waiting = 0.0
    batches = itertools.chain.from_iterable(itertools.repeat(stream))
    for number in range(-1, n_steps):
        before = time.perf_counter()
        batch = next(batches)
        batch = {name: value.to(device) for name, value in batch.items()}
        waited = time.perf_counter() - before
        train(batch)
        if number < 0:
            start = time.perf_counter()
        else:
            waiting += waited
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    stream.close()
    return time.perf_counter() - start, waiting


def main(argv=None):
    """Run the benchmark and print its table.

    Parameters
    ----------
    argv : sequence of str or None
        The command line; by default that of this process.
    """
    parser = argparse.ArgumentParser(
        description="Measure how many images per second γ-PhysNet DA trains on.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--batch-sizes",
        type=positive,
        nargs="+",
        default=[64, 128],
        help="numbers of images in a step",
    )
    parser.add_argument(
        "--blocks", type=positive, default=9, help="residual blocks per stage"
    )
    parser.add_argument(
        "--precision",
        choices=["float32", "bfloat16"],
        default="float32",
        help="precision of the network",
    )
    parser.add_argument(
        "--steps", type=positive, default=30, help="steps with images from files"
    )
    add_file_options(parser, repeat=20)
    add_machine_options(parser, rounds=3)
    args = parser.parse_args(argv)
    device = use_machine(parser, args)

    print(describe_machine(device))
    config = NetworkConfig(blocks=args.blocks)
    steps, enough = benchmark(
        config,
        args.batch_sizes,
        args.precision,
        args.rounds,
        device,
    )
    print(
        f"γ-PhysNet DA, {args.blocks} blocks per stage, LSTCam, {args.precision}: "
        f"median, lowest and highest of {args.rounds} rounds:\n"
    )
    print(format_table(steps, enough))
    files = *files_of(args), args.telescope
    print(f"\nwith images from files, {args.steps} steps in float32:\n")
    rows = []
    for size in args.batch_sizes:
        duration, waiting = stream_and_train(config, *files, size, args.steps, device)
        rate = f"{size * args.steps / duration:.1f}"
        rows.append((str(size), rate, f"{waiting / duration:.1%}"))
    print(format_markdown(("batch", "images/s", "waiting for images"), rows))


if __name__ == "__main__":
    main()
