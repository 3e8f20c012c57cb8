"""The interface of all properties of a shower."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .scale import covariance_from_scale, negative_log_likelihood

__all__ = [
    "Movement",
    "Output",
    "Task",
    "turn_matrix",
    "turn_vectors",
]


class Output(NamedTuple):
    """One of the numbers that a network predicts for a property.

    Attributes
    ----------
    task : str
        The property.
    column : int
        Index of the number.
    label : str
        Its name in figures.
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
        Its name in tables.
    label : str
        Its name in figures.
    compute : callable
        Function of the outputs before and after, shape (n_members, n, n_outputs),
        that returns the movement, shape (n_members, n).
    """

    name: str
    label: str
    compute: Callable


class Task(ABC):
    """A property of a shower, with everything that is needed to predict it.

    A task must set the attributes that have no default, and define `dl2`, `compare`
    and, except for the class, `to_target`.

    Attributes
    ----------
    name : str
        Its name in configurations, model cards and weights.
    path : {"global", "geometry", "local"}, default "geometry"
        Input of the head: ``global``, the mean over the camera, after a hidden layer;
        ``geometry``, the local features, after a hidden layer that all heads of this
        path share; ``local``, the local features themselves.
    optional : bool, default False
        Whether networks predict it only on request.
    of_gammas : bool, default True
        Whether it is learnt from gammas alone, and compared for them alone. Only the
        class is not: its target is the label of the file.
    has_axis : bool, default False
        Whether the axis of the image says something of it. Then it must define
        `on_axes`.
    needs_pointing : bool, default False
        Whether its outputs are relative to the pointing.
    meaning : str
        Meaning of its outputs, for the model card.
    other_targets : dict of str to callable, default {}
        Functions that convert the targets of other programs' networks to those of this
        package, by their meaning in the model card. Arguments are the targets, shape
        (n, n_outputs), altitude and azimuth of the pointing, shape (n,), and the
        telescope's position in the GroundFrame, shape (n, 3).
    truth : dict of str to (str, str), default {}
        Columns of its truth that not all files have, with units and descriptions.
        Without them it is not compared.
    advice : str, default ""
        What to do if these columns are missing.
    colour : str
        Its colour in all figures, from Tol's muted scheme, which is safe for
        colour-blind readers. Curves of algorithms do not use these colours.
    validation_metrics : dict of str to callable
        Metrics on validation data, by their names: functions of outputs and targets,
        shape (n, n_outputs).
    columns : dict of str to (str, str, str)
        Columns of its predictions: kind of DL2 information, field of its container,
        unit.
    uncertainties : dict of str to (str, str, str), default {}
        Columns of the predicted uncertainties, like `columns`. With them it must define
        `uncertainty` and `pull`.
    needed : bool, default False
        Whether a prediction of its kind is not valid without it.
    compared : str
        Name of the result of `compare`, for metrics.
    error : str
        Name of the error by which images are ranked.
    metrics : dict of str to Metric
        Its metrics, by the names of their columns; with uncertainties, the first one is
        its resolution.
    outputs : dict of str to Output
        Its outputs, by the names of their heatmaps.
    movement : Movement
        How far a prediction moves.
    """

    path = "geometry"
    optional = False
    of_gammas = True
    has_axis = False
    needs_pointing = False
    needed = False
    other_targets = {}
    truth = {}
    uncertainties = {}
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
        """Compute what the network learns; not used for the class.

        Parameters
        ----------
        events : astropy.table.QTable
            The images' events with their truth, as returned by `telescope_events`.

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
            Angle by which the images are turned, from fov_lon to fov_lat of the
            TelescopeFrame, in rad, shape (n,).

        Returns
        -------
        numpy.ndarray
            Targets of the turned images; the same array if turns do not change them.
        """
        return target

    @property
    def n_scales(self):
        """Numbers that describe the scale of its error: see `tasks.scale`."""
        n = len(self.outputs)
        return n * (n + 1) // 2

    def split(self, output):
        """Separate the values in a network's output from the scale of their error.

        Parameters
        ----------
        output : torch.Tensor or numpy.ndarray
            Output, shape (..., n_outputs) or (..., n_outputs + n_scales).

        Returns
        -------
        values : torch.Tensor or numpy.ndarray
            Shape (..., n_outputs).
        scale : torch.Tensor or numpy.ndarray or None
            Shape (..., n_scales); None if the network predicts no errors.
        """
        n = len(self.outputs)
        scale = output[..., n:]
        return output[..., :n], scale if scale.shape[-1] > 0 else None

    def loss(self, output, target):
        """Compute the loss of each image.

        Parameters
        ----------
        output : torch.Tensor
            Output, as for `split`.
        target : torch.Tensor
            Targets, shape (n, n_outputs).

        Returns
        -------
        torch.Tensor
            The mean of the absolute deviations (L1), shape (n,); with a scale, the
            negative logarithm of the likelihood that `tasks.scale` defines.
        """
        values, scale = self.split(output)
        if scale is None:
            return (values - target).abs().mean(dim=1)
        return negative_log_likelihood(values - target, scale)

    def finish(self, output, calibration=None):
        """Convert the output of a network to predictions.

        Parameters
        ----------
        output : numpy.ndarray
            Output, as for `split`, float64.
        calibration : tuple of sequence of float, optional
            As for `tasks.scale.covariance_from_scale`.

        Returns
        -------
        numpy.ndarray
            The values; with a scale, followed by the variance, or by xx, yy and xy of
            the covariance of the normal distribution whose 68.27 % region is the
            predicted one.
        """
        values, scale = self.split(output)
        if scale is None:
            return values
        errors = covariance_from_scale(scale, calibration)
        return np.concatenate([values, errors], axis=-1)

    def on_axes(self, values, covariance, axes, error):
        """Move predictions to the lines that the axes of the images show.

        Parameters
        ----------
        values : numpy.ndarray
            Predictions, shape (n, 2).
        covariance : numpy.ndarray
            Their covariances, shape (n, 2, 2).
        axes : ImageAxes
            The axes of their images, shape (n,).
        error : numpy.ndarray
            Errors of their angles in rad, shape (n,).

        Returns
        -------
        values : numpy.ndarray
            Shape (n, 2).
        covariance : numpy.ndarray
            Shape (n, 2, 2).
        """
        raise NotImplementedError

    def kinds(self, tasks):
        """Return the kinds of DL2 information that this task provides.

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
        """Compute columns of DL2.

        Parameters
        ----------
        images : Images
            Predictions of a network's members for images, with pointings and
            positions of the telescopes.

        Returns
        -------
        dict of str to dict of str to array
            For each kind the columns of its container in its units, shape (n,).
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
            The input of its metrics, NaN if a prediction is not valid, shape
            (n_rows, n_events).
        """

    def uncertainty(self, predictions):
        """Compute the predicted size of the error, by which predictions are ranked.

        Parameters
        ----------
        predictions : dict of str to numpy.ndarray
            The `columns` and `uncertainties` in their units, shape (n_rows, n_events).

        Returns
        -------
        numpy.ndarray
            The size in any unit, NaN if it is not known, shape (n_rows, n_events).
        """
        raise NotImplementedError

    def pull(self, predictions, events):
        """Compare errors with their predicted uncertainties.

        Parameters
        ----------
        predictions : dict of str to numpy.ndarray
            As for `uncertainty`.
        events : astropy.table.Table
            The events, with the truth.

        Returns
        -------
        numpy.ndarray
            The error in units of that at the edge of the region which is predicted to
            hold 68.27 %: the truth is in the region if it is not beyond ±1. With one
            output it has the sign of the error, with two it is not negative. NaN if
            the uncertainty is not known; shape (n_rows, n_events).
        """
        raise NotImplementedError

    def error_of(self, compared, events):
        """Compute the errors of predictions.

        Parameters
        ----------
        compared : numpy.ndarray
            As returned by `compare`.
        events : astropy.table.Table
            The events, with the truth.

        Returns
        -------
        numpy.ndarray
            The errors, not negative, of the same shape.
        """
        return compared

    def fact(self, output, error):
        """Describe the prediction for an event, or its error.

        Parameters
        ----------
        output : numpy.ndarray
            Outputs, shape (n_members, n_outputs).
        error : float
            The error of the mean over members; NaN if it is not known.

        Returns
        -------
        str
            A few words, or nothing.
        """
        return ""


def turn_matrix(angle):
    """Make matrices that turn the first axis towards the second.

    Parameters
    ----------
    angle : numpy.ndarray
        Angles in rad, shape (n,).

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
        Angles from the first axis towards the second, in rad, shape (n,).

    Returns
    -------
    numpy.ndarray
        The turned vectors, of the same shape and dtype.
    """
    turned = np.einsum("nij,nj->ni", turn_matrix(angle), vector)
    return turned.astype(vector.dtype)
