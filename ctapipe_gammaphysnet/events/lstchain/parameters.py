"""lstchain's parameters of images as ctapipe's.

lstchain has positions in the camera in m, and lengths as angles by the equivalent focal
length. ctapipe has everything in the TelescopeFrame.
"""

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.table import QTable
from ctapipe.containers import ImageParametersContainer
from ctapipe.coordinates import TelescopeFrame

__all__ = ["convert_parameters", "parameters_of"]

_LEAKAGE = [
    f"leakage_{kind}_width_{n}" for kind in ("pixels", "intensity") for n in (1, 2)
]
_CONCENTRATION = ["concentration_cog", "concentration_core", "concentration_pixel"]
#: A short way along an image's axis.
_STEP = 1 * u.mm


def convert_parameters(table, telescope):
    """Convert the parameters of images of one telescope type.

    Parameters
    ----------
    table : astropy.table.QTable
        lstchain's parameters, n rows.
    telescope : ctapipe.instrument.TelescopeDescription
        The telescope, whose camera frame has the focal length to be used.

    Returns
    -------
    astropy.table.QTable
        The parameters in the columns of ctapipe's files, n rows; those of an empty
        image, NaN and -1, if lstchain has none.
    """
    converted = _convert(table, telescope)
    has_light = np.isfinite(converted["hillas"]["intensity"])
    known, columns = has_light & (converted["morphology"]["n_pixels"] > 0), {}
    for kind, container in ImageParametersContainer().items():
        for name, default in container.items():
            values = converted.get(kind, {}).get(name, default)
            columns[f"{container.prefix}_{name}"] = np.where(known, values, default)
    return QTable(columns)


def _convert(table, telescope):
    """Fields of each part of ctapipe's `ImageParametersContainer`, shape (n,)."""
    frame = telescope.camera.geometry.frame
    x, y = table["x"].to(u.m), table["y"].to(u.m)
    lon, lat = _to_sky(x, y, frame)
    further = _to_sky(
        x + _STEP * np.cos(table["psi"]), y + _STEP * np.sin(table["psi"]), frame
    )
    axis = np.arctan2(further[1] - lat, further[0] - lon).to(u.deg)
    # ctapipe's axes point to positive fov_lon.
    sign = np.where(np.abs(axis) > 90 * u.deg, -1, 1)
    psi = np.where(sign < 0, axis - np.copysign(180 * u.deg, axis), axis)
    given, focal_length = telescope.optics.equivalent_focal_length, frame.focal_length
    angle = {
        name: np.arctan(np.tan(table[name]) * (given / focal_length).to_value(u.one))
        for name in ("length", "length_uncertainty", "width", "width_uncertainty")
        if name in table.colnames
    }
    per_m = table["time_gradient"] * (focal_length / u.rad / u.m).to_value(1 / u.deg)
    return {
        "hillas": {
            "intensity": table["intensity"],
            "skewness": sign * table["skewness"],
            "kurtosis": table["kurtosis"],
            "fov_lon": lon,
            "fov_lat": lat,
            "r": np.hypot(lon, lat),
            "phi": np.arctan2(lat, lon).to(u.deg),
            "psi": psi,
            **{name: value.to(u.deg) for name, value in angle.items()},
        },
        "timing": {
            "slope": sign * per_m / u.deg,
            "intercept": table["intercept"],
        },
        "leakage": {name.removeprefix("leakage_"): table[name] for name in _LEAKAGE},
        "concentration": {
            name.removeprefix("concentration_"): table[name] for name in _CONCENTRATION
        },
        "morphology": {
            "n_pixels": np.asarray(table["n_pixels"]).astype(int),
            "n_islands": np.asarray(table["n_islands"]).astype(int),
        },
    }


def _to_sky(x, y, frame):
    point = SkyCoord(x, y, frame=frame).transform_to(TelescopeFrame())
    return point.fov_lon.to(u.deg), point.fov_lat.to(u.deg)


def parameters_of(table, row):
    """Parameters of an image.

    Parameters
    ----------
    table : astropy.table.QTable
        From `convert_parameters`.
    row : int
        The image.

    Returns
    -------
    ctapipe.containers.ImageParametersContainer
        The parameters.
    """
    parameters = ImageParametersContainer()
    for container in parameters.values():
        for name in container.keys():
            container[name] = table[f"{container.prefix}_{name}"][row]
    return parameters
