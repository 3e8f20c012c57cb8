"""Train ctapipe's own random forests on a sample, and apply them to test showers.

The baseline for γ-PhysNet::

    python forests.py --sample-dir ../demonstration/sample --output-dir forests

makes ``forests/test_gamma.dl2.h5`` and ``forests/test_proton.dl2.h5``, with energies,
directions and gammaness of the images, and the images themselves; for the array, also
the directions and impact points of ctapipe's HillasReconstructor. If started again, it
continues where it stopped; a file that exists is not made again.
"""

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def make(output, tool, *arguments):
    """Run a ctapipe tool, unless its output exists already.

    Parameters
    ----------
    output : pathlib.Path
        The file that appears when it is complete.
    tool : str
        Name of the tool's module.
    *arguments : str
        Its command line without the output.
    """
    if output.exists():
        return
    print(f"{tool}: {output}", flush=True)
    unfinished = output.with_name(f"unfinished_{output.name}")
    program = f"from ctapipe.tools.{tool} import main; main()"
    subprocess.run(
        [
            *[sys.executable, "-c", program, *arguments],
            f"--output={unfinished}",
            f"--provenance-log={output.with_name(f'{output.name}.provenance.log')}",
            "--overwrite",
        ],
        check=True,
    )
    unfinished.rename(output)


def make_forests(sample, output, n_jobs):
    """Train the forests one after the other, and apply them.

    Parameters
    ----------
    sample : pathlib.Path
        Directory of the DL1 files.
    output : pathlib.Path
        Directory of the models and the DL2 files.
    n_jobs : int
        Number of threads; -1 for one per core.
    """
    energy, disp, classifier = (
        output / f"{name}.pkl" for name in ("energy", "disp", "classifier")
    )
    jobs = f"--n-jobs={n_jobs}"
    make(
        energy,
        "train_energy_regressor",
        f"--config={HERE / 'forests_energy.yaml'}",
        f"--input={sample / 'train_gamma.dl1.h5'}",
        jobs,
    )
    # The energy is a feature of the other two.
    for name in ("train_gamma", "train_proton"):
        make(
            output / f"{name}.dl2.h5",
            "apply_models",
            f"--input={sample / f'{name}.dl1.h5'}",
            f"--reconstructor={energy}",
            "--no-dl1-images",
            "--no-true-images",
            jobs,
        )
    make(
        disp,
        "train_disp_reconstructor",
        f"--config={HERE / 'forests_disp.yaml'}",
        f"--input={output / 'train_gamma.dl2.h5'}",
        jobs,
    )
    make(
        classifier,
        "train_particle_classifier",
        f"--config={HERE / 'forests_classifier.yaml'}",
        f"--signal={output / 'train_gamma.dl2.h5'}",
        f"--background={output / 'train_proton.dl2.h5'}",
        jobs,
    )
    for name in ("test_gamma", "test_proton"):
        hillas = output / f"hillas_{name}.dl2.h5"
        make(
            hillas,
            "process",
            f"--config={HERE / 'hillas.yaml'}",
            f"--input={sample / f'{name}.dl1.h5'}",
        )
        make(
            output / f"{name}.dl2.h5",
            "apply_models",
            f"--input={hillas}",
            *(f"--reconstructor={model}" for model in (energy, disp, classifier)),
            jobs,
        )


def main():
    """Run the script."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sample-dir", type=Path, default=Path("sample"))
    parser.add_argument("--output-dir", type=Path, default=Path("forests"))
    parser.add_argument("--n-jobs", type=int, default=-1, help="threads, -1: all cores")
    args = parser.parse_args()
    args.output_dir.mkdir(parents=True, exist_ok=True)
    try:
        make_forests(args.sample_dir, args.output_dir, args.n_jobs)
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"error: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit("interrupted; start again to continue") from None


if __name__ == "__main__":
    main()
