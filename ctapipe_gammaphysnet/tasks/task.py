"""What all properties of a shower have in common."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

__all__ = [
    "Movement",
    "Output",
    "Task",
    "mean_and_spread",
    "turn_matrix",
    "turn_vectors",
]


class Output(NamedTuple):
    """One of the numbers that a network predicts of a property.

    Attributes
    ----------
    task : str
        The property.
    column : int
        Which of its numbers.
    label : str
        What it is, for figures.
    unit : str
        Its unit.
    """

    task: str
    column: int
    label: str
    unit: str


class Movement(NamedTuple):
    """How far a prediction moves when the image is disturbed.

    Attributes
    ----------
    name : str
        What tables call it.
    label : str
        What figures call it.
    compute : callable
        Function of the outputs before and after, shape (n_members, n, n_outputs), that
        gives the movement, shape (n_members, n).
    """

    name: str
    label: str
    compute: Callable


class Task(ABC):
    """A property of a shower: all that is to be known of it to predict it.

    Attributes
    ----------
    name : str
        Its name in configurations, model cards and weights.
    path : {"global", "geometry", "local"}
        What the head of the network gets: the mean over the camera, through a hidden
        layer; the local features, through the hidden layer that all heads of this path
        share; or the local features themselves.
    optional : bool
        Whether networks predict it only if they are asked to.
    of_gammas : bool
        Whether it is learnt from gammas alone, and known of them alone. Otherwise it is
        the class, whose target is the label of the file.
    needs_pointing : bool
        Whether its outputs mean something only together with the pointing.
    meaning : str
        Meaning of its outputs, for the model card.
    truth : dict of str to (str, str)
        Columns of its truth that not all files have, with their units and what they
        are. Without them it is not compared.
    advice : str
        What to do if these are missing.
    colour : str
        Its colour in all figures: one of Tol's muted scheme, which colour-blind readers
        tell apart, and none of a curve's.
    figures : dict of str to callable
        Figures of merit on validation data, by their names: functions of outputs and
        targets, shape (n, n_outputs).
    columns : dict of str to (str, str, str)
        What algorithms predict of it: kind of DL2 information, field of its container,
        unit.
    needed : bool
        Whether a prediction of its kind is not valid without it.
    compared : str
        What a prediction becomes when it is compared with the truth, for metrics.
    error : str
        Name of the error by which images are ranked.
    metrics : dict of str to Metric
        Its metrics, by the names of their columns.
    outputs : dict of str to Output
        Its outputs, by the names of their heatmaps.
    movement : Movement
        How far it moves.
    """

    path = "geometry"
    optional = False
    of_gammas = True
    needs_pointing = False
    needed = False
    truth = {}
    advice = ""

    def n_outputs(self, classes):
        """Count the outputs of a network.

        Parameters
        ----------
        classes : sequence of str
            The network's classes of particles.

        Returns
        -------
        int
            The number of outputs.
        """
        return len(self.outputs)

    def to_target(self, events):
        """Make what the network learns; the class, which is the label, has none.

        Parameters
        ----------
        events : astropy.table.QTable
            The images' events with their truth, as `telescope_events` gives them.

        Returns
        -------
        numpy.ndarray
            Targets, shape (n, n_outputs).
        """
        raise NotImplementedError

    def turn(self, target, angle):
        """Turn targets along with the images.

        Parameters
        ----------
        target : numpy.ndarray
            Targets, shape (n, n_outputs).
        angle : numpy.ndarray
            How far the images are turned, from fov_lon to fov_lat of the
            TelescopeFrame, in rad, shape (n,).

        Returns
        -------
        numpy.ndarray
            Their targets; the same array if no turn changes them.
        """
        return target

    def loss(self, output, target):
        """Compute the loss of each image.

        Parameters
        ----------
        output, target : torch.Tensor
            Outputs and targets, shape (n, n_outputs).

        Returns
        -------
        torch.Tensor
            The mean of the absolute deviations (L1), shape (n,).
        """
        return (output - target).abs().mean(dim=1)

    def finish(self, output):
        """Make a prediction of what a head gives.

        Parameters
        ----------
        output : torch.Tensor
            Outputs of the head, shape (n, n_outputs).

        Returns
        -------
        torch.Tensor
            The prediction, of the same shape.
        """
        return output

    def kinds(self, tasks):
        """Find the kinds of DL2 information that there are because of it.

        Parameters
        ----------
        tasks : collection of str
            All tasks of the network.

        Returns
        -------
        set of str
            The kinds.
        """
        return {kind for kind, _, _ in self.columns.values()} if self.needed else set()

    @abstractmethod
    def dl2(self, images):
        """Make columns of DL2.

        Parameters
        ----------
        images : Images
            What members of a network predict of images, and where they were taken.

        Returns
        -------
        dict of str to dict of str to array
            For each kind columns of its container, shape (n,), with units.
        """

    @abstractmethod
    def compare(self, predictions, events):
        """Compare predictions with the truth.

        Parameters
        ----------
        predictions : dict of str to numpy.ndarray
            The `columns` in their units, shape (n_rows, n_events).
        events : astropy.table.Table
            The events, with the truth.

        Returns
        -------
        numpy.ndarray
            What its metrics are computed of, NaN where a prediction is not valid, shape
            (n_rows, n_events).
        """

    def error_of(self, compared, events):
        """Compute the errors of predictions.

        Parameters
        ----------
        compared : numpy.ndarray
            As `compare` gives it.
        events : astropy.table.Table
            The events, with the truth.

        Returns
        -------
        numpy.ndarray
            Not negative, of the same shape.
        """
        return compared

    def fact(self, output, error):
        """Say what is predicted of an event, or how wrong it is.

        Parameters
        ----------
        output : numpy.ndarray
            Outputs, shape (n_members, n_outputs).
        error : float
            The error of the mean over members; NaN if it is not known.

        Returns
        -------
        str
            A few words; empty if there is nothing to say.
        """
        return ""


def turn_matrix(angle):
    """Make matrices that turn the first axis towards the second.

    Parameters
    ----------
    angle : numpy.ndarray
        How far, in rad, shape (n,).

    Returns
    -------
    numpy.ndarray
        Matrices, shape (n, 2, 2).
    """
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([cos, -sin, sin, cos], axis=-1).reshape(*angle.shape, 2, 2)


def turn_vectors(vector, angle):
    """Turn vectors, each by its own angle.

    Parameters
    ----------
    vector : numpy.ndarray
        Vectors, shape (n, 2).
    angle : numpy.ndarray
        How far from the first axis towards the second, in rad, shape (n,).

    Returns
    -------
    numpy.ndarray
        The turned vectors, of the same shape and dtype.
    """
    turned = np.einsum("nij,nj->ni", turn_matrix(angle), vector)
    return turned.astype(vector.dtype)


def mean_and_spread(values):
    """Take apart the mean of members, and compute their standard deviation.

    Parameters
    ----------
    values : array_like
        First that of the mean, then those of the members, shape (1 + n_members, ...).

    Returns
    -------
    mean, spread : array_like
        The first row, and the standard deviation of the others: NaN if that is a single
        one.
    """
    members = values[1:]
    if len(members) == 1:
        return values[0], np.full_like(members[0], np.nan)
    return values[0], members.std(axis=0, ddof=1)
