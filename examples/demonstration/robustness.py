"""How a model's figures change under conditions that nobody controls.

On the test showers of the reference sample::

    python robustness.py ../data/lst_demonstration.safetensors \\
        --files sample/test_gamma.dl1.h5 sample/test_proton.dl1.h5 \\
        --again neighbor/test_gamma.dl1.h5 neighbor/test_proton.dl1.h5

prints a table in Markdown: the model's figures on the images of its telescope type, and
how they change with another pedestal, gain and noise, and in other files of the same
showers, made by another image extractor or under another night sky. Errors are by
bootstrap over the showers; both sides of a change are drawn together.
"""

import argparse
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.coordinates import angular_separation

from ctapipe_gammaphysnet.evaluation.metrics import all_metrics, with_spread
from ctapipe_gammaphysnet.events.quality import TrainingQualityQuery
from ctapipe_gammaphysnet.model.file import read_model
from ctapipe_gammaphysnet.model.predictor import Predictor
from ctapipe_gammaphysnet.training.augmentation import shift_pedestal
from ctapipe_gammaphysnet.training.index import EventIndex, read_index
from ctapipe_gammaphysnet.training.stream import read_images

METRICS = [
    all_metrics()[name]
    for name in ("auc", "recall", "energy_bias", "energy_resolution")
] + [all_metrics()["angular_resolution"]]
#: Gain, and pedestal and noise in p.e. that are added outside the mask.
CONDITIONS = {
    "pedestal −0.5 p.e.": (1, -0.5, 0),
    "pedestal +0.5 p.e.": (1, 0.5, 0),
    "gain 0.9": (0.9, 0, 0),
    "gain 1.1": (1.1, 0, 0),
    "0.5 p.e. more noise": (1, 0, 0.5),
    "1 p.e. more noise": (1, 0, 1),
}
N_RESAMPLES = 100
BATCH = 512


def predict(card, predictor, paths, condition=(1, 0, 0)):
    """Predict from the images of simulated gammas and protons.

    Parameters
    ----------
    card : NetworkCard
        Card of the network.
    predictor : Predictor
        The network.
    paths : list of pathlib.Path
        DL1 files of gammas and of protons.
    condition : tuple of float
        One of the `CONDITIONS`.

    Returns
    -------
    index : EventIndex
        The images that pass the cuts of the training.
    predictions : dict of str to numpy.ndarray
        What the `METRICS` need, shape (n,).
    """
    telescope, tasks = card.telescope.type, card.network.tasks
    index = EventIndex.concatenate(
        [
            read_index(path, label, telescope, label, TrainingQualityQuery(), tasks)
            for label, path in enumerate(paths)
        ]
    )
    rng = np.random.default_rng(0)
    outputs = []
    for start in range(0, len(index), BATCH):
        rows = np.arange(start, min(start + BATCH, len(index)))
        _, image, time, mask = read_images(paths, index, rows)
        image = disturb(image, mask, *condition, rng)
        inputs, _, background = predictor.prepare.with_background(image, time, mask)
        pointing = u.Quantity(index.pointing[rows].T, u.deg)
        conditions = predictor.conditions(*pointing, background.noise_pe)
        outputs.append(predictor(inputs, conditions))
    output = {
        task: np.concatenate([o[task] for o in outputs], axis=1).mean(axis=0)
        for task in outputs[0]
    }
    # The values; after them come their errors, if the network predicts these.
    lon, lat = np.deg2rad(output["direction"][:, :2]).T
    true_lon, true_lat = np.deg2rad(index.targets["direction"]).T
    separation = angular_separation(lon, lat, true_lon, true_lat)
    return index, {
        "gammaness": output["class"][:, 0],
        "energy": 10 ** output["energy"][:, 0],
        "separation": np.rad2deg(separation),
    }


def disturb(image, mask, gain, pedestal, noise, rng):
    """Change charges as another camera or night would.

    Parameters
    ----------
    image : numpy.ndarray
        Charge in p.e., shape (n, n_pixels), float32.
    mask : numpy.ndarray
        Mask of the image cleaning, shape (n, n_pixels), bool.
    gain : float
        Factor of all charges.
    pedestal, noise : float
        Mean and standard deviation in p.e. of what is added outside the mask.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    numpy.ndarray
        The changed charges.
    """
    drawn = rng.standard_normal(image.shape, dtype=np.float32)
    shift = np.float32(pedestal) + np.float32(noise) * drawn
    return shift_pedestal(image * np.float32(gain), mask, shift)


def measure(index, predictions, drawn):
    """Compute the `METRICS` for all images, and for each bootstrap sample.

    Parameters
    ----------
    index, predictions : EventIndex, dict of str to numpy.ndarray
        From `predict`.
    drawn : dict of int to numpy.ndarray
        For each shower how often it is in each sample, shape (n_samples,).

    Returns
    -------
    numpy.ndarray
        Shape (1 + n_samples, n_metrics).
    """
    weights = np.array([drawn[shower] for shower in index.shower.tolist()]).T
    is_gamma, energy = index.label == 0, 10 ** index.energy[:, 0]
    values = []
    for weight in weights:
        row = []
        for metric in METRICS:
            rows = slice(None) if metric.compares_classes else is_gamma
            arrays = predictions[metric.prediction], energy, is_gamma, weight
            row.append(metric.compute(*(a[rows] for a in arrays), 0.5))
        values.append(row)
    return np.array(values)


def draw_showers(index):
    """Draw bootstrap samples of the showers of each class.

    Parameters
    ----------
    index : EventIndex
        All images.

    Returns
    -------
    dict of int to numpy.ndarray
        For each shower 1, and how often it is in each sample, shape (1 + n_samples,).
    """
    rng, drawn = np.random.default_rng(1), {}
    for label in (0, 1):
        showers = np.unique(index.shower[index.label == label])
        n = len(showers)
        times = rng.multinomial(n, np.full(n, 1 / n), N_RESAMPLES)
        columns = np.vstack([np.ones((1, n), int), times]).T
        drawn |= dict(zip(showers.tolist(), columns, strict=True))
    return drawn


def print_row(name, values):
    """Print a line of the table.

    Parameters
    ----------
    name : str
        The condition.
    values : numpy.ndarray
        From `measure`, or a change of it.
    """
    cells = [
        with_spread(value, spread)
        for value, spread in zip(values[0], values[1:].std(axis=0, ddof=1), strict=True)
    ]
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="model with a single network")
    parser.add_argument("--files", type=Path, nargs=2, required=True)
    parser.add_argument("--again", type=Path, nargs=2, action="append", default=[])
    options = parser.parse_args()

    model = read_model(options.model)
    card = model.card.networks[0]
    network = card, Predictor(card, model.weights[0])
    found = {"as they are": predict(*network, options.files)}
    for name, condition in CONDITIONS.items():
        found[name] = predict(*network, options.files, condition)
    for paths in options.again:
        found[str(paths[0].parent)] = predict(*network, paths)
    drawn = draw_showers(EventIndex.concatenate([index for index, _ in found.values()]))
    print("| | " + " | ".join(m.label for m in METRICS) + " |")
    print("|---" * (len(METRICS) + 1) + "|")
    before = None
    for name, (index, predictions) in found.items():
        values = measure(index, predictions, drawn)
        print_row(name, values if before is None else values - before)
        before = values if before is None else before


if __name__ == "__main__":
    main()
