"""Coarse maps on camera pixels: every pixel has cells, and no direction is special."""

import numpy as np
import pytest
import toy_sample
from astropy.table import Table
from ctapipe.instrument import CameraGeometry

from ctapipe_gammaphysnet.explanation.upsampling import upsampling_matrix
from ctapipe_gammaphysnet.network import CameraLattice


def on_pixels(lattice):
    """Rows and columns of the pixels, in the camera's order."""
    rows, cols = np.empty((2, len(lattice)))
    rows[lattice.order], cols[lattice.order] = lattice.rows, lattice.cols
    return rows, cols


def is_inside(lattice):
    """Pixels, in the camera's order, with cells on all sides: not at the edge."""
    coarse = lattice.downsampled().downsampled()
    middle = upsampling_matrix(lattice, 2, "linear") @ np.stack(
        [4 * coarse.rows, 4 * coarse.cols], axis=1
    )
    return np.isclose(middle, np.stack(on_pixels(lattice), axis=1)).all(axis=1)


def square_camera(n=9):
    x, y = np.meshgrid(np.arange(n), np.arange(n))
    return CameraLattice.from_positions(x.ravel(), y.ravel())


def lstcam():
    geometry = CameraGeometry.from_table(Table.read(toy_sample.LSTCAM))
    return CameraLattice.from_geometry(geometry)


CAMERAS = {
    "LSTCam": lstcam,
    "toy": lambda: CameraLattice.from_geometry(toy_sample.hexagonal_camera(4)),
    "square": square_camera,
}


@pytest.mark.parametrize("camera", CAMERAS)
@pytest.mark.parametrize("method", ["cell", "linear"])
@pytest.mark.parametrize("n_poolings", [0, 1, 2])
def test_a_constant_stays_and_kept_pixels_have_their_cells(camera, method, n_poolings):
    lattice = CAMERAS[camera]()
    coarse = lattice
    for _ in range(n_poolings):
        coarse = coarse.downsampled()
    matrix = upsampling_matrix(lattice, n_poolings, method)
    assert matrix.shape == (len(lattice), len(coarse))
    np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=1e-6)
    assert (matrix >= 0).all()
    # No cell is lost.
    assert (matrix.sum(axis=0) >= 1).all()
    step = 2**n_poolings
    kept = lattice.index_matrix[step * coarse.rows, step * coarse.cols]
    np.testing.assert_array_equal(matrix[lattice.order[kept]], np.eye(len(coarse)))


@pytest.mark.parametrize("camera", ["LSTCam", "square"])
def test_linear_interpolation_is_exact_for_planes(camera):
    lattice = CAMERAS[camera]()
    coarse = lattice.downsampled().downsampled()
    plane = 3 + 4 * coarse.rows - 8 * coarse.cols
    rows, cols = on_pixels(lattice)
    found = upsampling_matrix(lattice, 2, "linear") @ plane
    inside = is_inside(lattice)
    assert inside.mean() > 0.7
    np.testing.assert_allclose(found[inside], (3 + rows - 2 * cols)[inside], atol=1e-4)


def test_a_pixel_gets_the_value_of_the_closest_cell():
    lattice = lstcam()
    coarse = lattice.downsampled().downsampled()
    matrix = upsampling_matrix(lattice, 2, "cell")
    rows, cols = on_pixels(lattice)
    row, col = rows[:, None] - 4 * coarse.rows, cols[:, None] - 4 * coarse.cols
    # Squared distances on axes that enclose 120°.
    distance = row**2 - row * col + col**2
    closest = distance == distance.min(axis=1, keepdims=True)
    inside = is_inside(lattice)
    expected = closest / closest.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(matrix[inside], expected[inside], rtol=1e-6)
    # Most pixels have a single cell: maps show how coarse they are.
    assert ((matrix > 0).sum(axis=1) == 1).mean() > 0.75


def test_pixels_at_the_edge_without_a_cell_beside_them_have_one():
    # A row on an odd row of the lattice, whose ends only touch odd positions.
    x = np.array([0, 1, 2, 3, 4, 0.5, 1.5, 2.5, 3.5, 4.5, 5.5])
    y = np.sqrt(3) / 2 * np.repeat([0, 1], [5, 6])
    lattice = CameraLattice.from_positions(x, y)
    kept = (lattice.rows % 2 == 0) & (lattice.cols % 2 == 0)
    beside = lattice.adjacency()[lattice.order[kept]].sum(axis=0) > 0
    assert not beside.all()
    matrix = upsampling_matrix(lattice, 1, "linear")
    np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=1e-6)
