"""The scale of a prediction's error, which a network predicts beside the values.

A scale is a positive definite matrix L that a deviation d is compared with. The density
of d falls as exp(-length of L⁻¹d): a Laplace distribution in one dimension, and its
elliptical counterpart in two. If L is fixed at 1, the negative logarithm of that
likelihood is the paper's L1 loss (in two dimensions the length of d). As there, an
image whose head and tail are swapped does not dominate.

The network predicts log L: one number in one dimension; a, c and d in two, for the
symmetric matrix [[a + c, d], [d, a - c]]. Then L is positive definite for any outputs,
and if an image is turned by an angle, (c, d) turns by twice that angle.

Torch is not imported here: its tensors have all that is needed.
"""

import numpy as np

from .ellipse import RADIUS
from .metric import CONTAINMENT

__all__ = [
    "bounded",
    "covariance_from_scale",
    "negative_log_likelihood",
    "normal_covariance",
]

#: Largest logarithms of the mean scale, and of the ratio of its axes to the mean. They
#: keep any scale finite and positive in float32, and lie far from what occurs: errors
#: of 0.0025 or 400 deg, km or decades, and axes of 1 to 400.
_MAX_MEAN, _MAX_RATIO = 6.0, 3.0


def _laplace_radius():
    """Length of L⁻¹d within which the two-dimensional distribution holds 68.27 %."""
    radius = 2.0
    for _ in range(100):  # 1 - (1 + r) exp(-r) is the share inside of r
        radius = np.log((1 + radius) / (1 - CONTAINMENT))
    return float(radius)


#: Length of L⁻¹d within which the distribution holds 68.27 %, by number of dimensions.
_LAPLACE_RADIUS = {1: float(-np.log(1 - CONTAINMENT)), 2: _laplace_radius()}


def bounded(scale):
    """Limit the logarithm of a scale.

    Parameters
    ----------
    scale : torch.Tensor or numpy.ndarray
        As the network predicts it, shape (n, 1) or (n, 3).

    Returns
    -------
    mean : torch.Tensor or numpy.ndarray
        Logarithm of the geometric mean of the axes, shape (n,).
    cosine, sine : torch.Tensor or numpy.ndarray or None
        The rest of the symmetric matrix, shape (n,); None in one dimension.
    """
    mean = _MAX_MEAN * _tanh(scale[:, 0] / _MAX_MEAN)
    if scale.shape[1] == 1:
        return mean, None, None
    cosine, sine = scale[:, 1], scale[:, 2]
    # Not 0, where the gradient of a length is not defined.
    ratio = (cosine**2 + sine**2 + 1e-12) ** 0.5
    limit = _MAX_RATIO * _tanh(ratio / _MAX_RATIO) / ratio
    return mean, cosine * limit, sine * limit


def _tanh(values):
    return np.tanh(values) if isinstance(values, np.ndarray) else values.tanh()


def negative_log_likelihood(deviation, scale):
    """Compute the loss of predictions with the scale of their error.

    Parameters
    ----------
    deviation : torch.Tensor
        Values minus targets, shape (n, n_outputs).
    scale : torch.Tensor
        Shape (n, 1) or (n, 3), for one or two outputs.

    Returns
    -------
    torch.Tensor
        Length of L⁻¹d plus log det L, shape (n,), float32 or wider: the negative
        logarithm of the likelihood without its constant.
    """
    deviation, scale = _at_least_float32(deviation), _at_least_float32(scale)
    mean, cosine, sine = bounded(scale)
    if cosine is None:
        return deviation[:, 0].abs() * (-mean).exp() + mean
    ratio = (cosine**2 + sine**2 + 1e-12).sqrt()
    even, odd = ratio.cosh(), ratio.sinh() / ratio
    x, y = deviation[:, 0], deviation[:, 1]
    # exp of minus the symmetric matrix, without its trace.
    along = even * x - odd * (cosine * x + sine * y)
    across = even * y - odd * (sine * x - cosine * y)
    length = (along**2 + across**2 + 1e-12).sqrt()
    return length * (-mean).exp() + 2 * mean


def _at_least_float32(values):
    """Widen bfloat16, which would know a logarithm to 1 % only."""
    return values.float() if values.element_size() < 4 else values


def normal_covariance(scale):
    """Compute L Lᵀ: the covariance of a normal distribution of this scale.

    Parameters
    ----------
    scale : numpy.ndarray
        As the network predicts it, shape (n, 1) or (n, 3), float64.

    Returns
    -------
    numpy.ndarray
        The variance, shape (n, 1), or xx, yy and xy, shape (n, 3).
    """
    mean, cosine, sine = bounded(scale)
    if cosine is None:
        return np.exp(2 * mean)[:, np.newaxis]
    ratio = np.sqrt(cosine**2 + sine**2 + 1e-12)
    even, odd = np.cosh(2 * ratio), np.sinh(2 * ratio) / ratio
    columns = np.stack([even + odd * cosine, even - odd * cosine, odd * sine], axis=1)
    return np.exp(2 * mean)[:, np.newaxis] * columns


def covariance_from_scale(scale, calibration=None):
    """Compute the covariance whose 68.27 % region is the predicted one.

    Parameters
    ----------
    scale : numpy.ndarray
        As the network predicts it, shape (n, 1) or (n, 3), float64.
    calibration : tuple of sequence of float, optional
        Logarithms of mean scales, in ascending order, and there of the length of L⁻¹d
        that holds 68.27 %; between them it is interpolated, and beyond them constant.
        Default: that of the Laplace distribution, for all scales.

    Returns
    -------
    numpy.ndarray
        As from `normal_covariance`.
    """
    n_dimensions = 1 if scale.shape[1] == 1 else 2
    if calibration is None:
        radius = _LAPLACE_RADIUS[n_dimensions]
    else:
        mean, _, _ = bounded(scale)
        radius = np.exp(np.interp(mean, *calibration))[:, np.newaxis]
    return normal_covariance(scale) * (radius / RADIUS[n_dimensions]) ** 2
