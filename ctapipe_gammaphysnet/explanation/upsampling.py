"""Coarse maps back to camera pixels, through the lattice's own pooling.

A convolution of stride 2 keeps every second row and column. A kept pixel goes into its
own cell only, any other pixel into the cells on either side of it: two with hexagonal
pixels, two or four with square ones. On the way back a pixel weights the cells as it
went into them.
"""

from dataclasses import replace

import numpy as np
from scipy.sparse import diags_array, eye_array

__all__ = ["upsampling_matrix"]


def upsampling_matrix(lattice, n_poolings, method="cell"):
    """Compute the matrix that turns a coarse map into one of the camera's pixels.

    Parameters
    ----------
    lattice : CameraLattice
        The camera, with its order of pixels.
    n_poolings : int
        How many times the map was downsampled.
    method : {"cell", "linear"}
        ``"cell"``: a pixel takes the value of the cell that most of it was pooled into,
        or the mean of several with equal shares. ``"linear"``: it takes the mean of all
        cells that it was pooled into, weighted by its shares in them, which is linear
        interpolation on the lattice. Neither prefers a direction.

    Returns
    -------
    numpy.ndarray
        Weights of the cells in each pixel, in the camera's order of pixels, shape
        (n_pixels, n_cells), float32; they add up to 1.
    """
    weights, fine = eye_array(len(lattice), format="csr"), lattice
    for _ in range(n_poolings):
        weights = weights @ _pooling(fine)
        fine = fine.downsampled()
    weights = weights.toarray()
    if method == "cell":
        largest = weights.max(axis=1, keepdims=True)
        weights = np.isclose(weights, largest).astype(float)
        weights /= weights.sum(axis=1, keepdims=True)
    matrix = np.empty(weights.shape, np.float32)
    matrix[lattice.order] = weights
    return matrix


def _pooling(lattice):
    """Shares of each position in the cells of a convolution of stride 2."""
    in_its_order = replace(lattice, order=np.arange(len(lattice)))
    neighbors = in_its_order.adjacency().astype(float)
    # A kept position is not a neighbour of another one: it has one cell, its own.
    kept = (lattice.rows % 2 == 0) & (lattice.cols % 2 == 0)
    shares = neighbors[:, np.flatnonzero(kept)]
    # At the camera's edge there are pixels with no cell beside them: they reach cells
    # through their neighbours only.
    while (alone := shares.sum(axis=1) == 0).any():
        shares = shares + diags_array(alone.astype(float)) @ neighbors @ shares
    return diags_array(1 / shares.sum(axis=1)) @ shares
