"""All that there is to know of a GPU, in ten minutes.

Runs the tests of the networks on the GPU, compares predictions with those of the CPU,
and measures prediction, training, and bulk reconstruction from file to file::

    python benchmarks/gpu.py --output gpu

writes ``gpu/gpu.md``, section by section: what is measured stays if it is interrupted.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import torch
from apply import SAMPLE, run_apply, write_random_model
from inference import (
    add_machine_options,
    count_flop,
    describe_machine,
    describe_network,
    format_markdown,
    positive,
    time_in_turn,
    use_machine,
)
from training import make_batch, make_step

from ctapipe_gammaphysnet.model.predictor import Predictor
from ctapipe_gammaphysnet.network import CameraLattice, GammaPhysNet, NetworkConfig

TESTS = Path(__file__).parents[1] / "tests/network"
#: How a network can be run: by this package, and by PyTorch in three ways.
METHODS = ("predictor", "eager", "compile", "compile and graphs")
#: Precisions of PyTorch's ways: TF32 rounds the factors of float32 products.
PRECISIONS = ("float32", "TF32", "bfloat16")
#: Images for the comparison with the CPU.
N_COMPARED = 64


class Network:
    """A network with random weights, and what the sections need of it.

    Parameters
    ----------
    blocks : int
        Residual blocks per stage.
    device : torch.device
        Where to compute.
    """

    def __init__(self, blocks, device):
        self.config, self.device = NetworkConfig(blocks=blocks), device
        self.card = describe_network(self.config)
        camera = self.card.telescope.camera
        self.lattice = CameraLattice.from_positions(camera.pix_x_m, camera.pix_y_m)
        self.module = GammaPhysNet(self.config, self.lattice).eval()
        self._weights = {k: v.numpy() for k, v in self.module.state_dict().items()}

    def images(self, size):
        """Draw random images, shape (size, 2, n_pixels)."""
        rng = np.random.default_rng(size)
        return rng.normal(size=(size, 2, len(self.lattice))).astype(np.float32)

    def predictor(self, device, precision, size):
        """Make the predictor of ``ctapipe-process`` for a number of images at once."""
        weights = [self._weights]
        return Predictor(self.card, weights, device, precision, batch_size=size)


def run_tests(network, args):
    """Run the tests of the networks on the device."""
    if not TESTS.is_dir():
        return "The tests are not here."
    environment = os.environ | {"GAMMAPHYSNET_TEST_DEVICE": str(network.device)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", TESTS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    lines = done.stdout.strip().splitlines() or ["no output"]
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return "\n".join([f"`tests/network`: {lines[-1]}", *(f"- {f}" for f in failed)])


def compare_with_cpu(network, args):
    """Compare predictions with those of the CPU, in both precisions."""
    images, rows = network.images(N_COMPARED), []
    for precision in ("float32", "bfloat16"):
        ours, theirs = (
            network.predictor(device, precision, N_COMPARED)(images)
            for device in (network.device, torch.device("cpu"))
        )
        for task, expected in theirs.items():
            difference = np.abs(ours[task] - expected).max() / np.abs(expected).max()
            rows.append((precision, task, f"{difference:.1e}"))
    return format_markdown(("precision", "task", "largest difference, relative"), rows)


def make_prediction(network, method, precision, size):
    """Prepare the prediction of a batch.

    Parameters
    ----------
    network : Network
        The network.
    method, precision : str
        One of the `METHODS` and of the `PRECISIONS`.
    size : int
        Number of images.

    Returns
    -------
    callable or None
        Function that predicts; None if the method does not have the precision.
    """
    if method == "predictor":
        if precision == "TF32":
            return None
        predict = network.predictor(network.device, precision, size)
        return partial(predict, network.images(size))
    module = network.module.to(network.device)
    if method != "eager":
        mode = "reduce-overhead" if method == "compile and graphs" else "default"
        module = torch.compile(module, mode=mode)
    images = torch.from_numpy(network.images(size)).to(network.device)
    kind = network.device.type

    def predict():
        allowed = precision == "TF32"
        torch.backends.cuda.matmul.allow_tf32 = allowed
        with (
            torch.inference_mode(),
            torch.backends.cudnn.flags(enabled=True, allow_tf32=allowed),
            torch.autocast(kind, torch.bfloat16, enabled=precision == "bfloat16"),
        ):
            return module(images)

    return predict


def measure_prediction(network, args):
    """Measure all ways to predict, for each number of images."""
    flop, rows = count_flop(network.config, network.lattice), []
    for size in args.batch_sizes:
        works = {}
        for method, precision in product(args.methods, PRECISIONS):
            work = make_prediction(network, method, precision, size)
            if work is not None:
                works[method, precision] = work
        memory = {
            name: peak_memory(work, network.device) for name, work in works.items()
        }
        rates = time_in_turn(works, args.rounds, network.device)
        for name, rate in rates.items():
            images = size * rate.median
            rows.append(
                (
                    *(str(size), *name, f"{images:.0f}"),
                    f"{size * rate.lowest:.0f}-{size * rate.highest:.0f}",
                    f"{images * flop / 1e12:.2f}",
                    memory[name],
                )
            )
    header = ("batch", "method", "precision", "images/s", "lowest-highest")
    return format_markdown((*header, "TFLOP/s", "memory / MiB"), rows)


def peak_memory(work, device):
    """Run some work, and find the most memory that it takes on a GPU in MiB."""
    work()
    if device.type != "cuda":
        return "–"
    torch.cuda.reset_peak_memory_stats(device)
    work()
    return f"{torch.cuda.max_memory_allocated(device) / 2**20:.0f}"


def measure_training(network, args):
    """Measure steps of training in both precisions."""
    works = {}
    for size, precision in product(args.training_sizes, ("float32", "bfloat16")):
        module = GammaPhysNet(network.config, network.lattice).to(network.device)
        step = make_step(module, network.device, precision)
        batch = make_batch(size, network.lattice, network.device)
        works[size, precision] = partial(step, batch)
    memory = {name: peak_memory(work, network.device) for name, work in works.items()}
    rows = [
        (
            *map(str, name),
            f"{rate.median:.2f}",
            f"{name[0] * rate.median:.0f}",
            memory[name],
        )
        for name, rate in time_in_turn(works, args.rounds, network.device).items()
    ]
    header = ("batch", "precision", "steps/s", "images/s", "memory / MiB")
    return format_markdown(header, rows)


def measure_bulk(network, args):
    """Measure ``ctapipe-apply-gammaphysnet``, and how long the device waits."""
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.safetensors"
        write_random_model(model, network.config)
        found = run_apply(args.input.absolute(), model, Path(folder))
    waiting = 1 - found["rate"] / found["network rate"]
    values = (
        f"{found['images']}",
        *(f"{found[name]:.0f}" for name in ("rate", "network rate")),
        f"{waiting:.0%}",
    )
    header = ("images", "file to file, images/s", "network, images/s", "device waits")
    return format_markdown(header, [values])


#: The sections of the page, the shortest first.
SECTIONS = {
    "Equality with the CPU": compare_with_cpu,
    "Prediction": measure_prediction,
    "Training": measure_training,
    "From file to file": measure_bulk,
    "Tests": run_tests,
}


def main(argv=None):
    """Measure, and write the page.

    Parameters
    ----------
    argv : sequence of str or None
        The command line; by default that of this process.
    """
    parser = argparse.ArgumentParser(
        description="Measure all that γ-PhysNet does on a GPU.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    parser.add_argument("--input", type=Path, default=SAMPLE, help="DL1 file of LSTs")
    parser.add_argument(
        "--blocks", type=positive, default=9, help="residual blocks per stage"
    )
    parser.add_argument(
        "--batch-sizes",
        type=positive,
        nargs="+",
        default=[1, 64, 1024],
        help="numbers of images predicted at once",
    )
    parser.add_argument(
        "--training-sizes",
        type=positive,
        nargs="+",
        default=[64, 256],
        help="numbers of images in a training step",
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        choices=METHODS,
        default=METHODS,
        help="ways to run the network",
    )
    parser.add_argument(
        "--sections",
        nargs="+",
        choices=SECTIONS,
        default=[*SECTIONS],
        help="what to measure",
    )
    add_machine_options(parser, rounds=3)
    parser.set_defaults(device="cuda")
    args = parser.parse_args(argv)
    device = use_machine(parser, args)

    args.output.mkdir(parents=True, exist_ok=True)
    with open(args.output / "gpu.md", "w", encoding="utf-8") as page:

        def write(text):
            for stream in (page, sys.stdout):
                print(text, file=stream, flush=True)

        write(f"{describe_machine(device)}; {args.blocks} blocks per stage")
        network = Network(args.blocks, device)
        for title in args.sections:
            write(f"\n## {title}\n")
            try:
                write(SECTIONS[title](network, args))
            # What fails must not keep the rest from being measured.
            except Exception as error:
                write(f"failed: {type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
