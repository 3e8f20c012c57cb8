"""Each camera has one lattice, whatever the order, unit and orientation of pixels."""

import warnings

import astropy.units as u
import numpy as np
import pytest
import torch
import toy_sample as toy
from cameras import CAMERAS, geometry_of, lattice_of, positions_of, rotate
from ctapipe.instrument import CameraGeometry
from indexedconv.utils import neighbours_extraction
from scipy.spatial import KDTree

from ctapipe_gammaphysnet.network import CameraLattice, LatticeError
from ctapipe_gammaphysnet.network.lattice import TAPS

DIAGONALS = {(-1, -1), (-1, 1), (1, -1), (1, 1)}
HEXAGONAL = [name for name, (kind, _) in CAMERAS.items() if kind == "hexagonal"]
SQUARE = [name for name, (kind, _) in CAMERAS.items() if kind == "square"]


@pytest.fixture(params=CAMERAS)
def name(request):
    """Name of a camera; tests that use it run for each."""
    return request.param


def neighbors(lattice, diagonal=True):
    """Pairs (pixel, pixel) of neighbours on the lattice, numbered as in the camera."""
    # Looked up one by one, so that nothing is shared with the code under test.
    pixels = {
        (row, col): pixel
        for row, col, pixel in zip(
            lattice.rows.tolist(),
            lattice.cols.tolist(),
            lattice.order.tolist(),
            strict=True,
        )
    }
    steps = set(TAPS[lattice.kind]) - {(0, 0)}
    if lattice.kind == "square" and not diagonal:
        steps -= DIAGONALS
    return {
        (pixel, pixels[row + step_row, col + step_col])
        for (row, col), pixel in pixels.items()
        for step_row, step_col in steps
        if (row + step_row, col + step_col) in pixels
    }


def pairs(matrix):
    """Pairs (row, column) at which a sparse or dense matrix is true."""
    return set(zip(*(axis.tolist() for axis in matrix.nonzero()), strict=True))


def coordinates(lattice):
    """Row and column of each pixel, in the camera's order of pixels."""
    result = np.empty((len(lattice), 2), dtype=int)
    result[lattice.order] = np.column_stack([lattice.rows, lattice.cols])
    return result


def camera(positions, name="BrokenCam"):
    """Camera with pixels at the given positions, in metres."""
    return CameraGeometry(
        name=name,
        pix_id=np.arange(len(positions)),
        pix_x=positions[:, 0].copy() * u.m,
        pix_y=positions[:, 1].copy() * u.m,
        pix_area=np.ones(len(positions)) * u.m**2,
        pix_type="hexagon",
        _validate=False,
    )


def test_kind_and_number_of_pixels_are_the_cameras(name):
    kind, n_pixels = CAMERAS[name]
    lattice = lattice_of(name)
    assert lattice.kind == kind
    assert len(lattice) == n_pixels == geometry_of(name).n_pixels


def test_each_pixel_has_its_own_row_and_column(name):
    lattice = lattice_of(name)
    assert lattice.rows.min() == 0
    assert lattice.cols.min() == 0
    assert lattice.shape == (lattice.rows.max() + 1, lattice.cols.max() + 1)
    # Row-major order and no position twice: it strictly increases.
    assert (np.diff(lattice.rows * lattice.shape[1] + lattice.cols) > 0).all()
    assert np.array_equal(np.sort(lattice.order), np.arange(len(lattice)))
    for array in (lattice.rows, lattice.cols, lattice.order):
        assert array.dtype == np.int64


@pytest.mark.parametrize("name", HEXAGONAL)
def test_hexagonal_neighbors_are_those_of_ctapipe(name):
    assert neighbors(lattice_of(name)) == pairs(geometry_of(name).neighbor_matrix)


@pytest.mark.parametrize("name", SQUARE)
def test_square_neighbors_are_those_of_ctapipe(name):
    geometry, lattice = geometry_of(name), lattice_of(name)
    with warnings.catch_warnings():
        # ctapipe warns where its neighbours are not well-defined: none of these may be.
        warnings.simplefilter("error")
        edges = pairs(geometry.calc_pixel_neighbors(diagonal=False))
        all_eight = pairs(geometry.calc_pixel_neighbors(diagonal=True))
    assert neighbors(lattice, diagonal=False) == edges
    assert neighbors(lattice) == all_eight
    assert edges < all_eight


def test_steps_have_the_same_direction_at_every_pixel(name):
    lattice, positions = lattice_of(name), positions_of(name)
    pixels = {
        (row, col): position
        for row, col, position in zip(
            lattice.rows, lattice.cols, positions[lattice.order], strict=True
        )
    }
    angles = {}
    for row, col in {step for step in lattice.taps if step > (0, 0)} - DIAGONALS:
        steps = [
            pixels[r + row, c + col] - position
            for (r, c), position in pixels.items()
            if (r + row, c + col) in pixels
        ]
        angle = np.arctan2(*np.transpose(steps)[::-1])
        mean = np.angle(np.exp(1j * angle).mean())
        assert np.abs(np.angle(np.exp(1j * (angle - mean)))).max() < np.deg2rad(10)
        angles[row, col] = mean
    # Rows are counted counter-clockwise from columns: no image is mirrored.
    enclosed = np.rad2deg((angles[1, 0] - angles[0, 1]) % (2 * np.pi))
    expected = {"hexagonal": 120, "square": 90}[lattice.kind]
    assert enclosed == pytest.approx(expected, abs=1)


def test_adjacency_has_the_neighbors_and_the_pixel_itself(name):
    lattice = lattice_of(name)
    itself = {(pixel, pixel) for pixel in range(len(lattice))}
    assert pairs(lattice.adjacency()) == neighbors(lattice) | itself


def test_lstcam_shrinks_from_1855_to_462_to_117():
    lattice = lattice_of("LSTCam")
    half = lattice.downsampled()
    assert (len(lattice), len(half), len(half.downsampled())) == (1855, 462, 117)


def test_downsampling_keeps_every_second_row_and_column(name):
    lattice = lattice_of(name)
    half = lattice.downsampled()
    kept = {
        (row // 2, col // 2)
        for row, col in zip(lattice.rows.tolist(), lattice.cols.tolist(), strict=True)
        if row % 2 == 0 and col % 2 == 0
    }
    assert set(zip(half.rows.tolist(), half.cols.tolist(), strict=True)) == kept
    assert len(half) == len(kept)
    assert half.kind == lattice.kind
    assert half.order is None


def test_index_matrix_numbers_the_positions_in_row_major_order(name):
    lattice = lattice_of(name)
    for grid in (lattice, lattice.downsampled()):
        matrix = grid.index_matrix
        assert matrix.shape == grid.shape
        assert np.array_equal(matrix[matrix >= 0], np.arange(len(grid)))
        assert np.array_equal(matrix[grid.rows, grid.cols], np.arange(len(grid)))


@pytest.mark.parametrize("name", ["LSTCam", "FlashCam", "CHEC"])
@pytest.mark.parametrize("stride", [1, 2])
def test_taps_are_the_neighbors_of_indexedconv_in_its_order(name, stride):
    lattice = lattice_of(name)
    numbers = {
        (row, col): number
        for number, (row, col) in enumerate(
            zip(lattice.rows.tolist(), lattice.cols.tolist(), strict=True)
        )
    }
    expected = [
        [numbers.get((row + tap_row, col + tap_col), -1) for row, col in numbers]
        for tap_row, tap_col in lattice.taps
    ]
    kept = [row % stride == 0 and col % stride == 0 for row, col in numbers]
    kernel = {"hexagonal": "Hex", "square": "Square"}[lattice.kind]
    matrix = torch.from_numpy(lattice.index_matrix)[None, None]
    found = neighbours_extraction(matrix, kernel, stride=stride)
    assert np.array_equal(found.numpy(), np.array(expected)[:, kept])


def test_order_of_pixels_does_not_matter(name):
    lattice, positions = lattice_of(name), positions_of(name)
    shuffled = np.random.default_rng(1).permutation(len(lattice))
    other = CameraLattice.from_positions(*positions[shuffled].T)
    assert np.array_equal(coordinates(other), coordinates(lattice)[shuffled])
    assert np.array_equal(shuffled[other.order], lattice.order)


@pytest.mark.parametrize("degrees", [1, 17.5, 30, 45, 60, 90, 123.4, 180, 271])
@pytest.mark.parametrize("name", ["LSTCam", "FlashCam", "DigiCam", "ASTRICam", "CHEC"])
def test_rotated_camera_has_the_same_neighbors(name, degrees):
    lattice = lattice_of(name)
    other = CameraLattice.from_positions(*rotate(positions_of(name), degrees).T)
    assert other.kind == lattice.kind
    assert neighbors(other) == neighbors(lattice)


@pytest.mark.parametrize("name", ["FlashCam", "DigiCam"])
def test_noise_in_the_positions_does_not_turn_the_lattice(name):
    lattice, positions = lattice_of(name), positions_of(name)
    for degrees in (-1e-3, 1e-3):
        other = CameraLattice.from_positions(*rotate(positions, degrees).T)
        assert np.array_equal(coordinates(other), coordinates(lattice))


def test_square_camera_at_45_degrees_has_one_lattice_in_any_order_of_pixels():
    a, b = (side.ravel() for side in np.meshgrid(np.arange(8.0), np.arange(8.0)))
    positions = np.column_stack([a - b, a + b]) / 2**0.5
    lattice = CameraLattice.from_positions(*positions.T)
    rng = np.random.default_rng(0)
    for _ in range(40):
        shuffled = rng.permutation(len(positions))
        other = CameraLattice.from_positions(*positions[shuffled].T)
        assert np.array_equal(coordinates(other), coordinates(lattice)[shuffled])


@pytest.mark.parametrize("scale", [1e-3, 1, 25.4, 1e3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", HEXAGONAL + SQUARE[:2])
def test_unit_precision_and_origin_do_not_matter(name, scale, dtype):
    lattice, positions = lattice_of(name), positions_of(name)
    other = CameraLattice.from_positions(*(scale * (positions + 0.1)).astype(dtype).T)
    assert np.array_equal(other.order, lattice.order)
    assert np.array_equal(coordinates(other), coordinates(lattice))


def test_geometry_with_other_name_and_rotation_gives_the_same_lattice():
    geometry = toy.hexagonal_camera(4, name="One", rotation=10 * u.deg)
    other = toy.hexagonal_camera(4, name="Other", rotation=10 * u.deg)
    other.pix_rotation = 77 * u.deg
    other.cam_rotation = 5 * u.deg
    lattices = [CameraLattice.from_geometry(g) for g in (geometry, other)]
    assert np.array_equal(*map(coordinates, lattices))


def test_smallest_cameras_have_a_lattice():
    triangle = CameraLattice.from_positions([0, 1, 0.5], [0, 0, 0.75**0.5])
    assert (triangle.kind, len(triangle)) == ("hexagonal", 3)
    square = CameraLattice.from_positions([0, 1, 0, 1], [0, 0, 1, 1])
    assert (square.kind, len(square), square.shape) == ("square", 4, (2, 2))


def shifted(name, step):
    """Positions with one pixel moved half way to one of its closest neighbours."""
    positions = positions_of(name).copy()
    # A pixel with two full rings around it: beside a gap or an edge it has room.
    distance, closest = KDTree(positions).query(positions, k=25)
    pixel = distance[:, -1].argmin()
    neighbor = closest[pixel, 1 + step]
    positions[pixel] = positions[[pixel, neighbor]].mean(axis=0)
    return positions


@pytest.mark.parametrize("step", range(4))
@pytest.mark.parametrize("name", ["LSTCam", "DigiCam", "CHEC", "ASTRICam"])
def test_pixel_shifted_by_half_a_pitch_is_an_error(name, step):
    with pytest.raises(LatticeError, match="^camera BrokenCam: the pixels .* lattice"):
        CameraLattice.from_geometry(camera(shifted(name, step)))


def test_pixel_shifted_across_the_rows_is_an_error():
    positions = positions_of("LSTCam").copy()
    lattice = lattice_of("LSTCam")
    middle = lattice.index_matrix[27, 27]
    pixel, right, above = (
        lattice.order[number] for number in (middle, middle + 1, middle - 1)
    )
    along = positions[right] - positions[above]
    positions[pixel] += 0.25 * np.array([-along[1], along[0]])
    with pytest.raises(LatticeError, match="^camera BrokenCam: the pixels .* lattice"):
        CameraLattice.from_geometry(camera(positions))


def circle(n):
    """Positions on a circle."""
    angle = np.arange(n) * 2 * np.pi / n
    return np.column_stack([np.cos(angle), np.sin(angle)])


@pytest.mark.parametrize(
    ("positions", "reason"),
    [
        (np.empty((0, 2)), "at least 3 pixels at finite positions, got 0 of 0"),
        (circle(2), "at least 3 pixels at finite positions, got 2 of 2"),
        (circle(50), "neither a hexagonal nor a square lattice"),
        (circle(5), "neither a hexagonal nor a square lattice"),
        (np.zeros((10, 2)), "duplicate pixels"),
        (np.repeat(circle(6), 2, axis=0), "duplicate pixels"),
    ],
    ids=["none", "two", "circle", "pentagon", "one point", "each twice"],
)
def test_pixels_on_no_lattice_are_an_error(positions, reason):
    with pytest.raises(LatticeError, match=f"^camera BrokenCam: .*{reason}"):
        CameraLattice.from_geometry(camera(positions))


@pytest.mark.parametrize("seed", range(5))
def test_random_positions_are_an_error(seed):
    positions = np.random.default_rng(seed).uniform(size=(200, 2))
    with pytest.raises(LatticeError, match="^camera BrokenCam: "):
        CameraLattice.from_geometry(camera(positions))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e200])
def test_positions_that_are_no_numbers_are_an_error(value):
    geometry = camera(positions_of("LSTCam"))
    geometry.pix_y[7] = value * u.m
    with pytest.raises(LatticeError, match="BrokenCam.*finite.*1854 of 1855"):
        CameraLattice.from_geometry(geometry)


def test_one_pixel_twice_is_an_error():
    positions = positions_of("LSTCam")
    positions = np.concatenate([positions, positions[42:43]])
    reason = "^camera BrokenCam: duplicate pixels: 2 of 1856"
    with pytest.raises(LatticeError, match=reason):
        CameraLattice.from_geometry(camera(positions))


def test_error_names_both_pixels_that_coincide():
    # Which of the two a search finds first differs from pixel to pixel.
    for pixel in range(0, 1855, 100):
        positions = positions_of("LSTCam")
        positions = np.concatenate([positions, positions[pixel : pixel + 1]])
        with pytest.raises(LatticeError, match=f"pixels {pixel} and 1855$"):
            CameraLattice.from_positions(*positions.T)


def test_error_counts_all_pixels_that_coincide():
    positions = np.repeat(positions_of("LSTCam"), 2, axis=0)
    with pytest.raises(LatticeError, match="duplicate pixels: 3710 of 3710"):
        CameraLattice.from_geometry(camera(positions))


def test_two_separate_clusters_are_an_error():
    positions = positions_of("DigiCam")
    width = np.ptp(positions[:, 0])
    positions = np.concatenate([positions, positions + [1.2 * width, 0]])
    with pytest.raises(LatticeError, match="BrokenCam: 1296 of 2592 pixels"):
        CameraLattice.from_geometry(camera(positions))


@pytest.mark.parametrize(
    ("pitches", "first"),
    [
        (3, False),
        (3, True),
        (1000, False),
    ],
)
def test_error_counts_a_pixel_far_from_all_others(pitches, first):
    positions = positions_of("DigiCam").copy()
    edge = positions[:, 0].argmax()
    positions[edge, 0] += pitches * 0.0243
    positions = np.roll(positions, -edge if first else 10 - edge, axis=0)
    with pytest.raises(LatticeError, match="BrokenCam: 1 of 1296 pixels"):
        CameraLattice.from_geometry(camera(positions))


def test_error_without_a_geometry_gives_the_reason_alone():
    with pytest.raises(LatticeError, match="^the pixels lie on neither"):
        CameraLattice.from_positions(*circle(50).T)
