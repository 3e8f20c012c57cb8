"""Coarse maps back to camera pixels, through the lattice's own pooling.

A convolution of stride 2 keeps every second row and column. It takes a pixel that is
kept into its own cell only, and any other into the cells on either side of it: two on
hexagonal pixels, two or four on square ones. A pixel gets from the cells what it gave
to them.
"""

from dataclasses import replace

import numpy as np
from scipy.sparse import diags_array, eye_array

__all__ = ["UPSAMPLINGS", "upsampling_matrix"]

#: How coarse maps come back to camera pixels.
UPSAMPLINGS = ("cell", "linear")


def upsampling_matrix(lattice, n_poolings, method="cell"):
    """Find the matrix that takes a coarse map to the camera's pixels.

    Parameters
    ----------
    lattice : CameraLattice
        The camera, with its order of pixels.
    n_poolings : int
        How many times it was downsampled.
    method : {"cell", "linear"}
        ``"cell"``: a pixel gets the value of the cell it was pooled into, of several
        the one that most of it went to, or the mean of those that got equally much.
        ``"linear"``: the mean of all cells that it was pooled into, weighted by how
        much of it went there, which is linear interpolation on the lattice. Neither
        prefers a direction.

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
    # A kept position is no neighbour of another one: it has one cell, its own.
    kept = (lattice.rows % 2 == 0) & (lattice.cols % 2 == 0)
    shares = neighbors[:, np.flatnonzero(kept)]
    # At the camera's edge there are pixels with no cell beside them. What they hold
    # reaches cells through their neighbours only.
    while (alone := shares.sum(axis=1) == 0).any():
        shares = shares + diags_array(alone.astype(float)) @ neighbors @ shares
    return diags_array(1 / shares.sum(axis=1)) @ shares
