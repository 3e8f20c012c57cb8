"""How fast γ-PhysNet trains: forward pass, loss, backward pass, Adam.

Measures γ-PhysNet DA as in the paper on images of the LST camera, with both engines of
the convolution::

    python benchmarks/training.py

See the README beside this file for how to read the table.
"""

import argparse
import itertools

import torch
from inference import (
    Rate,
    add_machine_options,
    describe_machine,
    describe_network,
    format_markdown,
    positive,
    time_in_turn,
    use_machine,
)

from ctapipe_gammaphysnet.network import CameraLattice, GammaPhysNet, NetworkConfig
from ctapipe_gammaphysnet.network.convolution import ENGINES
from ctapipe_gammaphysnet.training.losses import UncertaintyWeighting, task_losses

#: What the other engine is compared with.
REFERENCE = "indexed"


def make_batch(size, lattice, device):
    """Draw images and targets, without any shower.

    Parameters
    ----------
    size : int
        Number of images.
    lattice : CameraLattice
        The camera.
    device : torch.device
        Where they are to be.

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


def make_step(network, batch, precision):
    """Prepare one step of training.

    Parameters
    ----------
    network : GammaPhysNet
        The network, trained in place.
    batch : dict of str to torch.Tensor
        What it learns from, the same in each step.
    precision : {"float32", "bfloat16"}
        Precision of the network. The losses always compute in float32.

    Returns
    -------
    callable
        Function that makes the step.
    """
    device = batch["inputs"].device
    balance = UncertaintyWeighting(list(network.heads)).to(device)
    optimizer = torch.optim.Adam([*network.parameters(), *balance.parameters()])

    def step():
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
    dict of (int, str) to Rate
        Steps per second, by batch size and engine.
    """
    camera = describe_network(config).telescope.camera
    lattice = CameraLattice.from_positions(camera.pix_x_m, camera.pix_y_m)
    steps = {
        (size, engine): make_step(
            GammaPhysNet(config, lattice, engine).to(device),
            make_batch(size, lattice, device),
            precision,
        )
        for size, engine in itertools.product(batch_sizes, ENGINES)
    }
    return time_in_turn(steps, rounds, device)


def format_table(steps):
    """Lay out the results.

    Parameters
    ----------
    steps : dict of (int, str) to Rate
        As `benchmark` returns them.

    Returns
    -------
    str
        Table with a line for each variant, in Markdown.
    """
    header = ("batch", "engine", "steps/s", "images/s", "lowest-highest", "/ indexed")
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
            )
        )
    return format_markdown(header, rows)


def main(argv=None):
    """Run the benchmark and print its table.

    Parameters
    ----------
    argv : sequence of str or None
        The command line; None: the one of this process.
    """
    parser = argparse.ArgumentParser(
        description="Measure how many images per second γ-PhysNet DA is trained with.",
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
    add_machine_options(parser, rounds=3)
    args = parser.parse_args(argv)
    device = use_machine(parser, args)

    print(describe_machine(device))
    steps = benchmark(
        NetworkConfig(blocks=args.blocks),
        args.batch_sizes,
        args.precision,
        args.rounds,
        device,
    )
    print(
        f"γ-PhysNet DA, {args.blocks} blocks per stage, LSTCam, {args.precision}: "
        f"median, lowest and highest of {args.rounds} rounds:\n"
    )
    print(format_table(steps))


if __name__ == "__main__":
    main()
