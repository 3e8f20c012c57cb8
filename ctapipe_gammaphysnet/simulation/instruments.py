"""Sites and arrays of telescopes, described as in official CTAO simulations.

Telescope names, positions, optics, and the frames of the cameras are those of CTAO's
sixth production, so that a network made for a telescope here fits the same telescope
there. Cameras have one gain, and samples of exactly 1 ns.
"""

import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.coordinates import Angle, EarthLocation
from astropy.io.registry import IORegistryError
from ctapipe.coordinates import CameraFrame
from ctapipe.core import ToolConfigurationError
from ctapipe.instrument import (
    CameraDescription,
    CameraGeometry,
    CameraReadout,
    OpticsDescription,
    ReflectorShape,
    SizeType,
    SubarrayDescription,
    TelescopeDescription,
)

__all__ = ["ARRAYS", "SITES", "Site", "make_subarray"]

DATA = Path(__file__).parent / "data"

# A power of two: ctapipe's charge correction divides the pulse by it, and with a step
# that is not exact in binary it can count one time bin too many.
_PULSE_STEP_NS = 1 / 32


@dataclass(frozen=True)
class Site:
    """Where telescopes stand, and the geomagnetic field there."""

    location: EarthLocation
    """Geodetic position of the origin of the array's `GroundFrame`."""

    field: u.Quantity
    """Total geomagnetic field."""

    declination: Angle
    """Angle of the field from geographic north, positive to the east."""

    inclination: Angle
    """Angle of the field below the horizon, positive downwards."""

    @property
    def magnetic_field_ut(self):
        """North, west and up components of the field in µT, tuple of three floats."""
        total = self.field.to_value(u.uT)
        horizontal = total * np.cos(self.inclination.rad)
        return (
            float(horizontal * np.cos(self.declination.rad)),
            float(-horizontal * np.sin(self.declination.rad)),
            float(-total * np.sin(self.inclination.rad)),
        )


# Fields: IGRF-14 (P. Alken et al., doi:10.5281/zenodo.14012302) at 2025.0 and at the
# height of the site.
SITES = {
    "la_palma": Site(
        location=EarthLocation.from_geodetic(
            lon=-17.892 * u.deg, lat=28.762 * u.deg, height=2158 * u.m
        ),
        field=38.73 * u.uT,
        declination=Angle(-4.34, u.deg),
        inclination=Angle(37.18, u.deg),
    ),
    "paranal": Site(
        location=EarthLocation.from_geodetic(
            lon=-70.316 * u.deg, lat=-24.683 * u.deg, height=2147 * u.m
        ),
        field=22.58 * u.uT,
        declination=Angle(-4.59, u.deg),
        inclination=Angle(-24.39, u.deg),
    ),
}

_LST_POSITIONS_M = {
    1: (-70.93, -52.07, 43.0),
    2: (-35.27, 66.14, 32.0),
    3: (75.28, 50.49, 28.7),
    4: (30.91, -64.54, 32.0),
}

# The nine that are to be built, of fifteen in the simulations.
_MST_POSITIONS_M = {
    5: (-211.54, 5.66, 50.3),
    6: (-153.26, 169.01, 24.0),
    7: (27.07, 198.71, 12.2),
    8: (175.61, 73.06, 9.0),
    9: (140.0, -189.0, 29.0),
    10: (-75.63, -189.0, 42.2),
    11: (-215.69, -167.36, 63.1),
    14: (20.19, -352.46, 62.3),
    19: (0.0, 0.0, 29.0),
}

_LSTS = {i: ("LSTCam", position) for i, position in _LST_POSITIONS_M.items()}
_MSTS = {i: ("NectarCam", position) for i, position in _MST_POSITIONS_M.items()}

#: Telescopes of each array by tel_id: camera, and ground frame position in m (x north,
#: y west, z above the height of the site). Numbers and positions are those of
#: CTAO-North's simulations, where telescope 19 is the medium-sized one at the centre.
ARRAYS = {
    "lst1": {1: _LSTS[1]},
    "lst4": _LSTS,
    "nectarcam1": {19: _MSTS[19]},
    "lst4_mst9": _LSTS | _MSTS,
}

_OPTICS = {
    "LSTCam": OpticsDescription(
        name="LST",
        size_type=SizeType.LST,
        n_mirrors=1,
        equivalent_focal_length=28 * u.m,
        effective_focal_length=29.237 * u.m,
        mirror_area=386.73 * u.m**2,
        n_mirror_tiles=198,
        reflector_shape=ReflectorShape.PARABOLIC,
    ),
    "NectarCam": OpticsDescription(
        name="MST",
        size_type=SizeType.MST,
        n_mirrors=1,
        equivalent_focal_length=16 * u.m,
        effective_focal_length=16.44505 * u.m,
        mirror_area=106.24 * u.m**2,
        n_mirror_tiles=86,
        reflector_shape=ReflectorShape.HYBRID,
    ),
}

_N_SAMPLES = {"LSTCam": 40, "NectarCam": 60}

_DAMAGED = (OSError, EOFError, zlib.error, IORegistryError)


def _read_geometry(path):
    try:
        return CameraGeometry.from_table(path)
    # The errors for a file that is truncated, corrupted, or lacks a column.
    except (*_DAMAGED, KeyError, ValueError, TypeError) as error:
        raise ToolConfigurationError(
            f"{path}: the camera is missing or damaged; install the package again"
        ) from error


@cache
def _telescope(camera):
    # Imported here: reading a card needs no compiled code.
    from .camera import reference_pulse

    optics = _OPTICS[camera]
    geometry = _read_geometry(DATA / f"{camera}.camgeom.fits.gz")
    geometry.frame = CameraFrame(focal_length=optics.effective_focal_length)
    readout = CameraReadout(
        name=camera,
        sampling_rate=1 * u.GHz,
        reference_pulse_shape=reference_pulse(camera, _PULSE_STEP_NS)[np.newaxis],
        reference_pulse_sample_width=_PULSE_STEP_NS * u.ns,
        n_channels=1,
        n_pixels=geometry.n_pixels,
        n_samples=_N_SAMPLES[camera],
    )
    return TelescopeDescription(
        name=optics.name,
        optics=optics,
        camera=CameraDescription(name=camera, geometry=geometry, readout=readout),
    )


def make_subarray(array, site):
    """Describe an array of telescopes at a site.

    Parameters
    ----------
    array : str
        Name of the array, a key of `ARRAYS`.
    site : str
        Name of the site, a key of `SITES`.

    Returns
    -------
    ctapipe.instrument.SubarrayDescription
        The telescopes, with their cameras in the CameraFrame of the effective focal
        length.
    """
    telescopes = ARRAYS[array]
    return SubarrayDescription(
        name=array,
        tel_positions={i: position * u.m for i, (_, position) in telescopes.items()},
        tel_descriptions={
            i: _telescope(camera) for i, (camera, _) in telescopes.items()
        },
        reference_location=SITES[site].location,
    )
