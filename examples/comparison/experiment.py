"""The paper's experiment: γ-PhysNet with and without attention, and their dispersion.

Trains both networks from several seeds, and evaluates them on showers that are new to
them, beside other models and algorithms::

    python experiment.py --config paper.yaml \\
        --signal 'train_gamma_*.dl1.h5' --background 'train_proton_*.dl1.h5' \\
        --test-signal 'test_gamma_*.dl1.h5' --test-background 'test_proton_*.dl1.h5' \\
        --output-dir paper

If started again, it continues where it stopped. Options after ``--`` go to the
training, for example ``-- --precision bfloat16 --devices 4``.
"""

import argparse
import subprocess
import sys
from pathlib import Path

#: The networks, and the option of ctapipe-train-gammaphysnet for each.
NETWORKS = {"gamma-PhysNet": "--no-attention", "gamma-PhysNet DA": "--attention"}


def call(tool, *arguments):
    """Run a tool of ctapipe_gammaphysnet.

    Parameters
    ----------
    tool : str
        Name of its module.
    *arguments : str
        Its command line.
    """
    module = f"ctapipe_gammaphysnet.tools.{tool}"
    subprocess.run([sys.executable, "-m", module, *arguments], check=True)


def train(name, config, signal, background, output_dir, options):
    """Train the members of a network, unless they are trained already.

    Parameters
    ----------
    name : str
        Which of the `NETWORKS`.
    config : pathlib.Path
        Configuration of the training.
    signal, background : list of str
        DL1 files of gammas and of background, or patterns.
    output_dir : pathlib.Path
        Folder of the model file.
    options : list of str
        Further options of the training.

    Returns
    -------
    pathlib.Path
        The model file.
    """
    output = output_dir / f"{name.replace(' ', '_')}.safetensors"
    # An interrupted training also leaves a model file, but with checkpoints beside it.
    unfinished = output.with_suffix(".training").glob("*.ckpt")
    if not output.exists() or any(unfinished):
        call(
            "train",
            f"--config={config}",
            NETWORKS[name],
            *("--signal", *signal, "--background", *background),
            f"--output={output}",
            f"--provenance-log={output.with_suffix('.provenance.log')}",
            "--resume",
            *options,
        )
    return output


def run(args, training_options):
    """Train and evaluate.

    Parameters
    ----------
    args : argparse.Namespace
        The command line.
    training_options : list of str
        Further options of the training.
    """
    args.output_dir.mkdir(parents=True, exist_ok=True)
    data = args.config, args.signal, args.background, args.output_dir
    models = [f"{n}={train(n, *data, training_options)}" for n in NETWORKS]
    references = ["--reference", *args.reference] if args.reference else []
    call(
        "evaluate",
        # so that the same images are selected
        f"--config={args.config}",
        *("--model", *models, *args.model, *references),
        *("--signal", *args.test_signal, "--background", *args.test_background),
        f"--output-dir={args.output_dir / 'evaluation'}",
        f"--provenance-log={args.output_dir / 'evaluation.provenance.log'}",
        "--overwrite",
    )


def main(arguments):
    """Run the script.

    Parameters
    ----------
    arguments : list of str
        The command line.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--config", type=Path, required=True, help="for training and evaluation"
    )
    for name in ("signal", "background", "test-signal", "test-background"):
        parser.add_argument(
            f"--{name}",
            nargs="+",
            required=True,
            metavar="FILE",
            help="simulated DL1 files, or patterns",
        )
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument(
        "--model",
        nargs="+",
        default=[],
        metavar="[NAME=]FILE",
        help="other models to evaluate on the same images",
    )
    parser.add_argument(
        "--reference",
        nargs="+",
        default=[],
        metavar="[NAME=]PREFIX",
        help="algorithms whose DL2 is in the test files",
    )
    end = arguments.index("--") if "--" in arguments else len(arguments)
    args = parser.parse_args(arguments[:end])
    try:
        run(args, arguments[end + 1 :])
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"error: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit("interrupted; start again to continue") from None


if __name__ == "__main__":
    main(sys.argv[1:])
