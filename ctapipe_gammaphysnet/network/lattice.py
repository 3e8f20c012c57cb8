"""From the pixel positions of a camera to integer coordinates on a lattice.

A convolution needs to know each pixel's neighbours *by direction*. On a lattice with
integer coordinates (row, column) they are fixed steps away: six for hexagonal pixels,
in axial coordinates, eight for square ones.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import breadth_first_order, connected_components
from scipy.spatial import KDTree

__all__ = ["CameraLattice", "LatticeError"]

#: Steps (row, column) from a pixel to the taps of a kernel, itself included, in
#: row-major order. In axial coordinates the columns' axis and the rows' axis enclose
#: 120°, so that the corners (-1, 1) and (1, -1) are no neighbours. This is the order
#: of the weights of IndexedConv, too.
TAPS = {
    "hexagonal": ((-1, -1), (-1, 0), (0, -1), (0, 0), (0, 1), (1, 0), (1, 1)),
    "square": tuple((row, col) for row in (-1, 0, 1) for col in (-1, 0, 1)),
}
#: Steps along the lattice's directions, counter-clockwise from the columns' axis.
_DIRECTIONS = {
    "hexagonal": ((0, 1), (1, 1), (1, 0), (0, -1), (-1, -1), (-1, 0)),
    "square": ((0, 1), (1, 0), (0, -1), (-1, 0)),
}
#: Pixels within this many pixel pitches, and this close to one of the lattice's
#: directions, are neighbours. That spans the gaps between modules, and stays below two
#: pitches, while second neighbours (at √2 or √3 pitches) are 30° or more off.
_REACH = 1.6
_MAX_DEVIATION = np.deg2rad(15)
#: How well the directions to the neighbours must agree with six or four directions:
#: the length of their mean vector, 1 on a perfect lattice.
_MIN_REGULARITY = 0.95
#: Orientations are counted from here, as a phase of the lattice's period: from -25° on
#: hexagonal, from -37.5° on square pixels. No camera lies there; at the limit, it would
#: turn by 60° with the last digit of its positions, as FlashCam and DigiCam at 30°.
_FIRST_PHASE = -5 / 6 * np.pi


class LatticeError(ValueError):
    """The pixels of a camera do not lie on a hexagonal or square lattice."""


@dataclass(frozen=True, eq=False)
class CameraLattice:
    """Integer coordinates of camera pixels, in row-major order.

    The order does not depend on how the camera lists its pixels. The smallest row and
    the smallest column are 0 on the lattice of a camera; a lattice made by
    `downsampled` keeps every second row and column of the one it was made from.

    Attributes
    ----------
    kind : str
        ``"hexagonal"`` or ``"square"``.
    rows, cols : numpy.ndarray
        Coordinates of each position, shape (n,), int64.
    order : numpy.ndarray or None
        Index of the camera's pixel at each position, shape (n,), int64: takes an
        image to the order of the lattice, ``image[..., lattice.order]``. None for a
        downsampled lattice, whose positions are not the camera's pixels.
    """

    kind: str
    rows: np.ndarray
    cols: np.ndarray
    order: np.ndarray | None = None

    @classmethod
    def from_positions(cls, pix_x: ArrayLike, pix_y: ArrayLike) -> Self:
        """Find the lattice on which the pixels lie.

        Parameters
        ----------
        pix_x, pix_y : array_like
            Pixel positions, shape (n_pixels,), in any unit, orientation and order.

        Returns
        -------
        CameraLattice
            The lattice, with ``order`` set.

        Raises
        ------
        LatticeError
            If pixels coincide, or lie on neither a hexagonal nor a square lattice.
        """
        positions = np.column_stack([pix_x, pix_y]).astype(np.float64)
        pitch = _closest_distance(positions)
        kind, orientation = _find_directions(positions, pitch)
        rows, cols = _integer_coordinates(positions, pitch, kind, orientation)
        order = np.lexsort((cols, rows))
        return cls(kind, rows[order], cols[order], order)

    @classmethod
    def from_geometry(cls, geometry) -> Self:
        """Find the lattice of a camera.

        Only the positions of the pixels count: their order, the camera's name, and
        its rotation do not.

        Parameters
        ----------
        geometry : ctapipe.instrument.CameraGeometry
            The camera.

        Returns
        -------
        CameraLattice
            As for `from_positions`.

        Raises
        ------
        LatticeError
            As for `from_positions`; the message names the camera.
        """
        try:
            return cls.from_positions(
                geometry.pix_x.to_value(geometry.unit),
                geometry.pix_y.to_value(geometry.unit),
            )
        except LatticeError as error:
            raise LatticeError(f"camera {geometry.name}: {error}") from error

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and columns of the smallest rectangle around the lattice."""
        return int(self.rows.max()) + 1, int(self.cols.max()) + 1

    @property
    def taps(self) -> tuple[tuple[int, int], ...]:
        """Steps (row, column) to the taps of a 3×3 kernel: 7 or 9 of them."""
        return TAPS[self.kind]

    @cached_property
    def index_matrix(self) -> np.ndarray:
        """Position in the list of pixels at each (row, column), -1 where there is none.

        Returns
        -------
        numpy.ndarray
            Shape `shape`, int64.
        """
        matrix = np.full(self.shape, -1, dtype=np.int64)
        matrix[self.rows, self.cols] = np.arange(len(self))
        return matrix

    def adjacency(self) -> csr_array:
        """Which pixels of the camera are neighbours on the lattice.

        Returns
        -------
        scipy.sparse.csr_array
            True for a pixel's neighbours and for itself, in the camera's order of
            pixels, shape (n, n), bool.
        """
        n_rows, n_cols = self.shape
        # A margin of one: steps off the lattice find no pixel.
        index = np.full((n_rows + 2, n_cols + 2), -1)
        index[self.rows + 1, self.cols + 1] = self.order
        pairs = [
            (self.order, index[self.rows + 1 + row, self.cols + 1 + col])
            for row, col in self.taps
        ]
        pixel, neighbor = np.concatenate(pairs, axis=1)
        exists = neighbor >= 0
        entries = (np.ones(exists.sum(), bool), (pixel[exists], neighbor[exists]))
        return coo_array(entries, shape=(len(self), len(self))).tocsr()

    def downsampled(self) -> Self:
        """Keep every second row and every second column, from the first.

        Returns
        -------
        CameraLattice
            The output of a convolution of stride 2: 1855 → 462 → 117 for LSTCam.
        """
        kept = (self.rows % 2 == 0) & (self.cols % 2 == 0)
        return CameraLattice(self.kind, self.rows[kept] // 2, self.cols[kept] // 2)


def _closest_distance(positions):
    """Typical distance between closest pixels, in the unit of the positions."""
    # Squares of the distances must be finite, too.
    is_finite = (np.abs(positions) < 1e100).all(axis=1)
    if len(positions) < 3 or not is_finite.all():
        raise LatticeError(
            f"a camera needs at least 3 pixels at finite positions, got "
            f"{is_finite.sum()} of {len(positions)}"
        )
    distance, closest = KDTree(positions).query(positions, k=2)
    pitch = np.median(distance[:, 1])
    duplicates = np.flatnonzero(distance[:, 1] <= 0.1 * pitch)
    if len(duplicates) > 0:
        pixel = duplicates[0]
        # Of pixels that coincide, the search may find either one first.
        other = closest[pixel][closest[pixel] != pixel][0]
        raise LatticeError(
            f"duplicate pixels: {len(duplicates)} of {len(positions)} pixels lie on "
            f"top of another one, for example pixels {pixel} and {other}"
        )
    return pitch


def _pairs(positions, reach):
    """Pairs of pixels within reach, and the angle from first to second in rad."""
    pairs = KDTree(positions).query_pairs(reach, output_type="ndarray")
    step = positions[pairs[:, 1]] - positions[pairs[:, 0]]
    return pairs, np.arctan2(step[:, 1], step[:, 0])


def _find_directions(positions, pitch):
    """Kind of lattice, and the angle of its columns' axis in rad."""
    # Only the closest pixels: within 1.2 pitches there is no second neighbour.
    _, angle = _pairs(positions, 1.2 * pitch)
    for kind, directions in _DIRECTIONS.items():
        mean = np.exp(1j * len(directions) * angle).mean()
        if abs(mean) > _MIN_REGULARITY:
            phase = (np.angle(mean) - _FIRST_PHASE) % (2 * np.pi) + _FIRST_PHASE
            return kind, phase / len(directions)
    raise LatticeError(
        "the pixels lie on neither a hexagonal nor a square lattice: the directions "
        "from pixel to pixel are not multiples of 60° or of 90°"
    )


def _neighbors(positions, pitch, kind, orientation):
    """Pairs of neighbours, shape (n, 2), and the step between them, shape (n, 2)."""
    pairs, angle = _pairs(positions, _REACH * pitch)
    directions = np.array(_DIRECTIONS[kind])
    sector = (angle - orientation) * len(directions) / (2 * np.pi)
    nearest = np.rint(sector)
    deviation = np.abs(sector - nearest) * 2 * np.pi / len(directions)
    adjacent = deviation < _MAX_DEVIATION
    step = directions[nearest[adjacent].astype(int) % len(directions)]
    return pairs[adjacent], step


def _integer_coordinates(positions, pitch, kind, orientation):
    """Row and column of each pixel, the smallest ones 0.

    They are counted from neighbour to neighbour. Unlike rounded positions, they are
    not misled by the gaps between modules, which add up from centre to edge.
    """
    pairs, step = _neighbors(positions, pitch, kind, orientation)
    n_pixels, n_pairs = len(positions), len(pairs)
    # The number of the pair that joins two pixels, from 1; negative when walked back.
    number = np.arange(1, n_pairs + 1)
    joined = coo_array(
        (
            np.concatenate([number, -number]),
            (np.concatenate([*pairs.T]), np.concatenate([*pairs.T[::-1]])),
        ),
        shape=(n_pixels, n_pixels),
    ).tocsr()
    visited, previous = breadth_first_order(joined, 0)
    if len(visited) < n_pixels:
        _, part = connected_components(joined)
        apart = n_pixels - np.bincount(part).max()
        raise LatticeError(
            f"{apart} of {n_pixels} pixels are not joined to the others on the lattice"
        )

    signed = joined[previous[visited[1:]], visited[1:]]
    steps = np.sign(signed)[:, np.newaxis] * step[np.abs(signed) - 1]
    coordinates = np.zeros((n_pixels, 2), dtype=np.int64)
    for pixel, walked in zip(visited[1:], steps, strict=True):
        coordinates[pixel] = coordinates[previous[pixel]] + walked

    closed = coordinates[pairs[:, 1]] - coordinates[pairs[:, 0]] == step
    distinct = len(np.unique(coordinates, axis=0)) == n_pixels
    if not (closed.all() and distinct):
        raise LatticeError(
            "the pixels do not lie on one lattice: walking from pixel to pixel along "
            "different paths gives different rows and columns"
        )
    return (coordinates - coordinates.min(axis=0)).T
