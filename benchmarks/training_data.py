"""How fast training images are read, and how much memory that takes.

Streams the images of DL1 files as ``ctapipe-train-gammaphysnet`` does, and compares
with ctapipe's ``TableLoader``, which reads the same files from start to end::

    python benchmarks/training_data.py

The files of the examples are small: with ``--repeat`` each counts several times.
"""

import argparse
import time
from pathlib import Path

import psutil
from ctapipe.instrument import SubarrayDescription
from ctapipe.io import TableLoader

from ctapipe_gammaphysnet.events.preparation import InputPreparation
from ctapipe_gammaphysnet.events.quality import TrainingQualityQuery
from ctapipe_gammaphysnet.model.card import InputCard
from ctapipe_gammaphysnet.network import CameraLattice
from ctapipe_gammaphysnet.training.index import EventIndex, read_index
from ctapipe_gammaphysnet.training.stream import TrainingStream

DATA = Path(__file__).absolute().parents[1] / "examples/data"


def read_with_table_loader(paths, telescope):
    """Read all images in order with ctapipe's `TableLoader`.

    Parameters
    ----------
    paths : list of pathlib.Path
        The files.
    telescope : str
        The telescope type.

    Returns
    -------
    int
        Number of images.
    """
    n_images = 0
    for path in paths:
        with TableLoader(path, focal_length_choice="EQUIVALENT") as loader:
            for _, _, table in loader.read_telescope_events_chunked(
                5000,
                telescopes=[telescope],
                dl1_images=True,
                dl1_parameters=True,
                dl2=False,
                simulated=True,
                true_parameters=False,
            ):
                n_images += len(table)
    return n_images


def add_file_options(parser, repeat):
    """Add the options for what to read.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Where to add them.
    repeat : int
        How often each file counts by default.
    """
    for name, particle in (("signal", "gamma"), ("background", "proton")):
        parser.add_argument(
            f"--{name}",
            type=Path,
            default=DATA / f"sample_{particle}.dl1.h5",
            help="a DL1 file",
        )
    parser.add_argument(
        "--repeat", type=int, default=repeat, help="how often each file counts"
    )
    parser.add_argument("--telescope", default="LST_LST_LSTCam", help="telescope type")


def files_of(args):
    """List the files to read.

    Parameters
    ----------
    args : argparse.Namespace
        The options of `add_file_options`.

    Returns
    -------
    paths : list of pathlib.Path
        The files; the same one may appear several times.
    labels : list of int
        0 for signal and 1 for background, for each file.
    """
    paths = [args.signal] * args.repeat + [args.background] * args.repeat
    return paths, [0] * args.repeat + [1] * args.repeat


def read_geometry(path, telescope):
    """Read the camera of a telescope type.

    Parameters
    ----------
    path : pathlib.Path
        A file.
    telescope : str
        The telescope type.

    Returns
    -------
    ctapipe.instrument.CameraGeometry
        The camera.
    """
    subarray = SubarrayDescription.from_hdf(path, focal_length_choice="EQUIVALENT")
    (geometry,) = {
        t.camera.geometry for t in subarray.telescope_types if str(t) == telescope
    }
    return geometry


def read_indices(paths, labels, telescope, query):
    """Find the selected images of all files.

    Parameters
    ----------
    paths, labels : list
        As `files_of` returns them.
    telescope : str
        The telescope type.
    query : TrainingQualityQuery
        Selects the images, and counts them.

    Returns
    -------
    EventIndex
        The images.
    """
    return EventIndex.concatenate(
        [
            read_index(path, number, telescope, label, query)
            for number, (path, label) in enumerate(zip(paths, labels, strict=True))
        ]
    )


def benchmark(paths, labels, telescope, epochs, window):
    """Stream images for some epochs, and read them with `TableLoader`.

    Parameters
    ----------
    paths : list of pathlib.Path
        The files; the same one may be given several times.
    labels : list of int
        0 for signal and 1 for background, for each file.
    telescope : str
        The telescope type.
    epochs : int
        How many epochs to stream.
    window : int
        Number of images that are shuffled in memory.

    Yields
    ------
    tuple of str, int, float, float, float
        What was done, number of images, wall time and CPU time in s, and memory of the
        process afterwards in GB.
    """
    process = psutil.Process()

    def measured(name, n_images, start):
        return (
            name,
            n_images,
            time.perf_counter() - start[0],
            time.process_time() - start[1],
            process.memory_info().rss / 1e9,
        )

    def now():
        return time.perf_counter(), time.process_time()

    lattice = CameraLattice.from_geometry(read_geometry(paths[0], telescope))
    prepare = InputPreparation(InputCard(), lattice)
    start = now()
    query = TrainingQualityQuery()
    index = read_indices(paths, labels, telescope, query)
    n_all = int(query.to_table()["counts"][0])
    yield measured("index: all images", n_all, start)
    for name, make_batch in (
        ("stream: selected images", lambda images, step: len(images.row)),
        (
            "stream and prepare",
            lambda images, step: len(prepare(*images[1:])[0]),
        ),
    ):
        stream = TrainingStream(paths, index, make_batch, 128, None, window, seed=0)
        for epoch in range(epochs):
            start = now()
            yield measured(f"{name}, epoch {epoch + 1}", sum(stream), start)
        stream.close()
    start = now()
    n_images = read_with_table_loader(paths[:1] + paths[-1:], telescope)
    yield measured("TableLoader: all images of two files", n_images, start)


def main(argv=None):
    """Run the benchmark and print its table.

    Parameters
    ----------
    argv : sequence of str or None
        The command line; by default that of this process.
    """
    parser = argparse.ArgumentParser(
        description="Measure how fast training images are read.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_file_options(parser, repeat=50)
    parser.add_argument("--epochs", type=int, default=2, help="epochs to stream")
    parser.add_argument(
        "--window", type=int, default=20_000, help="images shuffled in memory"
    )
    args = parser.parse_args(argv)
    paths, labels = files_of(args)
    print("| what | images | images/s | images per CPU s | memory / GB |")
    print("|---|---|---|---|---|")
    for name, n_images, duration, cpu, memory in benchmark(
        paths, labels, args.telescope, args.epochs, args.window
    ):
        print(
            f"| {name} | {n_images} | {n_images / duration:.0f} "
            f"| {n_images / cpu:.0f} | {memory:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
