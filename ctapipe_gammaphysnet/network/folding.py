"""Batch normalisation in evaluation mode: a line, or part of a convolution."""

__all__ = ["fold", "line"]


def line(norm):
    """Scale and shift of each channel by a batch normalisation.

    Parameters
    ----------
    norm : torch.nn.BatchNorm2d
        In evaluation mode.

    Returns
    -------
    scale, shift : torch.Tensor
        Shape (channels,), in double precision.
    """
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    return scale, norm.bias.double() - scale * norm.running_mean.double()


def fold(convolution, norm=None):
    """Weights and biases of a convolution, with the normalisation that follows it.

    Parameters
    ----------
    convolution : LatticeConvolution
        The convolution.
    norm : torch.nn.BatchNorm2d, optional
        The normalisation, in evaluation mode.

    Returns
    -------
    weight : torch.Tensor
        Shape (taps, in channels, out channels), in double precision.
    bias : torch.Tensor
        Shape (out channels,), in double precision.
    """
    scale, shift = (1, 0) if norm is None else line(norm)
    weight = convolution.weight.double().permute(2, 1, 0) * scale
    return weight, convolution.bias.double() * scale + shift
