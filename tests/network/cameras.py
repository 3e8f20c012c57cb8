"""Cameras of all kinds of Cherenkov telescopes, without downloading any.

LSTCam, NectarCam, FlashCam and DigiCam are read from files. ASTRICam, CHEC and SCTCam
are layouts rebuilt from what is published of their modules, not the official files:
number, arrangement and size of modules and pixels are theirs, the positions are not
to be trusted below a millimetre.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.table import Table
from ctapipe.instrument import CameraGeometry

from ctapipe_gammaphysnet.network import CameraLattice

ROOT = Path(__file__).absolute().parents[2]
SIMULATION = ROOT / "ctapipe_gammaphysnet/simulation/data"
FILES = {
    "LSTCam": SIMULATION / "LSTCam.camgeom.fits.gz",
    "NectarCam": SIMULATION / "NectarCam.camgeom.fits.gz",
    "FlashCam": ROOT / "tests/data/FlashCam.camgeom.fits.gz",
    "DigiCam": ROOT / "tests/data/DigiCam.camgeom.fits.gz",
}


@dataclass(frozen=True)
class ModularCamera:
    """A camera of square modules of 8×8 square pixels; lengths in mm."""

    #: Number of modules in each row; the rows are centred.
    modules: tuple[int, ...]
    pixel_pitch: float
    module_pitch: float
    #: Radius of the sphere to which the modules are tangent; None: they lie in a plane.
    curvature_radius: float | None = None
    #: How far modules may be off their places, along either axis.
    mounting_tolerance: float = 0.0

    def build(self, name):
        """Project the pixels into the focal plane."""
        rng = np.random.default_rng(0)
        in_module = (np.arange(8) - 3.5) * self.pixel_pitch
        pixel_x, pixel_y = (axis.ravel() for axis in np.meshgrid(in_module, in_module))
        x, y = [], []
        for row, n_modules in enumerate(self.modules):
            for col in range(n_modules):
                center_x = (col - (n_modules - 1) / 2) * self.module_pitch
                center_y = (row - (len(self.modules) - 1) / 2) * self.module_pitch
                shift = rng.uniform(-1, 1, 2) * self.mounting_tolerance
                module = self._project(center_x, center_y, pixel_x, pixel_y)
                x.append(module[0] + shift[0])
                y.append(module[1] + shift[1])
        x, y = np.concatenate(x), np.concatenate(y)
        return CameraGeometry(
            name=name,
            pix_id=np.arange(len(x)),
            pix_x=x * u.mm,
            pix_y=y * u.mm,
            pix_area=np.full(len(x), self.pixel_pitch**2) * u.mm**2,
            pix_type="rectangular",
        )

    def _project(self, center_x, center_y, pixel_x, pixel_y):
        if self.curvature_radius is None:
            return center_x + pixel_x, center_y + pixel_y
        # The module's centre lies at these angles on the sphere, its pixels in the
        # plane that touches the sphere there.
        lon, lat = center_x / self.curvature_radius, center_y / self.curvature_radius
        x = self.curvature_radius * np.sin(lon) + pixel_x * np.cos(lon)
        y = (
            self.curvature_radius * np.cos(lon) * np.sin(lat)
            - pixel_x * np.sin(lon) * np.sin(lat)
            + pixel_y * np.cos(lat)
        )
        return x, y


MODULAR = {
    "ASTRICam": ModularCamera((3, 5, 7, 7, 7, 5, 3), 7.0, 58.2, 1060.0),
    "CHEC": ModularCamera((4, 6, 6, 6, 6, 4), 6.0, 50.0, 1000.0, 0.1),
    "SCTCam": ModularCamera(
        (5, 9, 11, 13, 13, 15, 15, 15, 15, 15, 13, 13, 11, 9, 5), 6.75, 54.0
    ),
}

#: Kind and number of pixels of each camera.
CAMERAS = {
    "LSTCam": ("hexagonal", 1855),
    "NectarCam": ("hexagonal", 1855),
    "FlashCam": ("hexagonal", 1764),
    "DigiCam": ("hexagonal", 1296),
    "ASTRICam": ("square", 2368),
    "CHEC": ("square", 2048),
    "SCTCam": ("square", 11328),
}


@cache
def geometry_of(name):
    """Geometry of one of the `CAMERAS`, the same object each time."""
    if name in MODULAR:
        return MODULAR[name].build(name)
    return CameraGeometry.from_table(Table.read(FILES[name]))


@cache
def positions_of(name):
    """Pixel positions in metres, shape (n_pixels, 2)."""
    geometry = geometry_of(name)
    return np.column_stack([geometry.pix_x.to_value(u.m), geometry.pix_y.to_value(u.m)])


@cache
def lattice_of(name):
    """Lattice of one of the `CAMERAS`, the same object each time."""
    return CameraLattice.from_geometry(geometry_of(name))


def rotate(positions, degrees):
    """Turn positions of shape (n, 2) about the origin."""
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return positions @ np.array([[cos, sin], [-sin, cos]])
