"""Describe telescopes for a model card, and compare them with one.

A network sees pixels, not the sky: it is right only for a camera whose pixels have the
same positions, behind the same optics. Names, and the order of pixels, do not matter.
"""

import astropy.units as u
import numpy as np
from ctapipe.coordinates import TelescopeFrame
from ctapipe.core import ToolConfigurationError
from ctapipe.instrument import TelescopeDescription

from .card import CameraCard, OpticsCard, TelescopeCard, geometry_sha256
from .errors import ModelError
from .pixels import describe_move, fitted_rotation, match_pixels, pixel_pitch

__all__ = [
    "TelescopeMismatchError",
    "check_alike",
    "describe_telescope",
    "differences",
    "identical_telescopes",
    "name_telescopes",
    "pixel_order",
]

#: Largest distance between a pixel and that of the training, in pixel pitches. Far
#: below any real change of a camera, far above the rounding of positions.
POSITION_TOLERANCE = 0.1
#: Largest rotation of the camera relative to that of the training, in deg: it moves a
#: direction two degrees off-axis by less than 0.01°.
ROTATION_TOLERANCE_DEG = 0.2
#: Largest relative difference of focal lengths and mirror area.
OPTICS_TOLERANCE = 0.01


class TelescopeMismatchError(ToolConfigurationError, ModelError):
    """A telescope differs from the one that a network was trained for."""


def describe_telescope(telescope: TelescopeDescription) -> TelescopeCard:
    """Describe a telescope type for a model card.

    Parameters
    ----------
    telescope : ctapipe.instrument.TelescopeDescription
        The telescope; its camera geometry is in the CameraFrame.

    Returns
    -------
    TelescopeCard
        Type, optics, and camera with the positions of all pixels in m.
    """
    geometry, optics = telescope.camera.geometry, telescope.optics
    pix_x, pix_y = _positions_m(telescope)
    effective = optics.effective_focal_length.to_value(u.m)
    return TelescopeCard(
        type=str(telescope),
        optics=OpticsCard(
            name=optics.name,
            equivalent_focal_length_m=optics.equivalent_focal_length.to_value(u.m),
            effective_focal_length_m=float(effective) if effective > 0 else None,
            mirror_area_m2=float(optics.mirror_area.to_value(u.m**2)),
            n_mirrors=int(optics.n_mirrors),
        ),
        camera=CameraCard(
            name=geometry.name,
            pix_x_m=tuple(pix_x.tolist()),
            pix_y_m=tuple(pix_y.tolist()),
            pix_area_m2=tuple(geometry.pix_area.to_value(u.m**2).tolist()),
            pix_type=geometry.pix_type.value,
            pix_rotation_deg=float(geometry.pix_rotation.to_value(u.deg)),
            cam_rotation_deg=_rotation_deg(geometry),
            geometry_sha256=geometry_sha256(pix_x, pix_y),
        ),
    )


def differences(telescope: TelescopeDescription, card: TelescopeCard) -> list[str]:
    """Find how a telescope differs from the one a network was trained for.

    In the camera's frame, pixels must lie within 0.1 pixel pitches of those of the
    training, in any order, and may be rotated about its origin by no more than 0.2°;
    focal lengths and mirror area may differ by no more than 1 %. The effective focal
    length is compared only if it is known for both. Names are not compared.

    Parameters
    ----------
    telescope : ctapipe.instrument.TelescopeDescription
        The telescope.
    card : TelescopeCard
        The telescope of the training.

    Returns
    -------
    list of str
        What differs, and by how much; empty for a telescope that fits.

    Raises
    ------
    TelescopeMismatchError
        If the camera geometry is not in the CameraFrame.
    """
    return [*_camera_problems(telescope, card), *_optics_problems(telescope, card)]


def pixel_order(telescope: TelescopeDescription, card: TelescopeCard) -> np.ndarray:
    """Find the pixel of a telescope at the place of each pixel of the training.

    Parameters
    ----------
    telescope : ctapipe.instrument.TelescopeDescription
        A telescope without `differences`.
    card : TelescopeCard
        The telescope of the training.

    Returns
    -------
    numpy.ndarray
        Number of its pixel, shape (n_pixels,), int.
    """
    order, _ = match_pixels(_places_m(telescope), _trained_places_m(card))
    return order


def check_alike(arrays, name):
    """Check that telescopes of one name are the same, within and between files.

    Parameters
    ----------
    arrays : dict of pathlib.Path to ctapipe.instrument.SubarrayDescription
        The array of each file; each has telescopes of that name.
    name : str
        The telescope type, for example ``LST_LST_LSTCam``.

    Returns
    -------
    ctapipe.instrument.TelescopeDescription
        The first of them.

    Raises
    ------
    TelescopeMismatchError
        If some have `differences` from the first, or another order of pixels: one
        network cannot be trained for both. The message names files, telescopes and
        what differs.
    """
    first = None
    for path, subarray in arrays.items():
        for numbers, telescope in identical_telescopes(subarray, [name]):
            which = f"{path}, {name_telescopes(numbers)}"
            if first is None:
                first, named, card = telescope, which, describe_telescope(telescope)
            problems = differences(telescope, card) or _order_problems(telescope, card)
            if problems:
                raise TelescopeMismatchError(
                    f"{which}, and {named}, are all called {name}, but differ. The "
                    f"former: {'; '.join(problems)}. Train for one kind of them only: "
                    "make files without the others (ctapipe-process "
                    "--EventSource.allowed_tels)"
                )
    return first


def _order_problems(telescope, card):
    order = pixel_order(telescope, card)
    moved = np.count_nonzero(order != np.arange(len(order)))
    if moved == 0:
        return []
    name = telescope.camera.geometry.name
    return [f"its camera {name} lists {moved} of its pixels in another order"]


def identical_telescopes(subarray, names):
    """Find telescopes with the same name, optics and camera.

    Parameters
    ----------
    subarray : ctapipe.instrument.SubarrayDescription
        The array.
    names : collection of str
        Telescope types to find, for example ``LST_LST_LSTCam``.

    Returns
    -------
    list of tuple of list of int and ctapipe.instrument.TelescopeDescription
        Numbers of identical telescopes, and one of them.
    """
    same = {}
    for tel_id, telescope in sorted(subarray.tel.items()):
        if str(telescope) in names:
            geometry = telescope.camera.geometry
            # ctapipe compares only pixels: to it, a rotated camera is equal.
            key = (
                str(telescope),
                telescope.optics,
                geometry_sha256(*_positions_m(telescope)),
                _rotation_deg(geometry),
                geometry.pix_type,
            )
            same.setdefault(key, ([], telescope))[0].append(tel_id)
    return list(same.values())


def name_telescopes(tel_ids):
    """Name telescopes in messages.

    Parameters
    ----------
    tel_ids : list of int
        Their numbers.

    Returns
    -------
    str
        For example ``telescopes 1, 2``.
    """
    plural = "s" if len(tel_ids) > 1 else ""
    return f"telescope{plural} {', '.join(map(str, tel_ids))}"


def _positions_m(telescope):
    geometry = telescope.camera.geometry
    if isinstance(geometry.frame, TelescopeFrame):
        raise TelescopeMismatchError(
            f"the camera geometry of telescope type {telescope} is in the "
            "TelescopeFrame, it must be in the CameraFrame"
        )
    return (
        np.asarray(geometry.pix_x.to_value(u.m), dtype=np.float64),
        np.asarray(geometry.pix_y.to_value(u.m), dtype=np.float64),
    )


def _rotation_deg(geometry):
    """Rotation of the camera's frame, which ctapipe undoes in its transformations."""
    frame_rotation = getattr(geometry.frame, "rotation", 0 * u.deg)
    return float((geometry.cam_rotation - frame_rotation).to_value(u.deg))


def _places_m(telescope):
    """Where the pixels stand in the camera's frame: x + iy, shape (n_pixels,)."""
    pix_x, pix_y = _positions_m(telescope)
    return _derotated(pix_x, pix_y, _rotation_deg(telescope.camera.geometry))


def _trained_places_m(card):
    camera = card.camera
    pix_x, pix_y = np.array(camera.pix_x_m), np.array(camera.pix_y_m)
    return _derotated(pix_x, pix_y, camera.cam_rotation_deg)


def _derotated(pix_x, pix_y, rotation_deg):
    return (pix_x + 1j * pix_y) * np.exp(-1j * np.deg2rad(rotation_deg))


def _camera_problems(telescope, card):
    geometry, trained = telescope.camera.geometry, card.camera
    if geometry.n_pixels != len(trained.pix_x_m):
        yield (
            f"its camera {geometry.name} has {geometry.n_pixels} pixels instead of "
            f"{len(trained.pix_x_m)}"
        )
        return
    here, there = _places_m(telescope), _trained_places_m(card)
    not_finite = np.flatnonzero(~np.isfinite(here))
    if len(not_finite) > 0:
        yield (
            f"the positions of {len(not_finite)} of its pixels are not finite, such as "
            f"that of pixel {not_finite[0]} of camera {geometry.name}"
        )
        return
    yield from _position_problems(geometry.name, here, there)
    if geometry.pix_type.value != trained.pix_type:
        yield f"its pixels are a {geometry.pix_type.value}, not a {trained.pix_type}"


def _position_problems(name, here, there):
    tolerance = POSITION_TOLERANCE * pixel_pitch(there)
    order, distance = match_pixels(here, there)
    if distance.max() > tolerance:
        move = describe_move(here, there, tolerance)
        yield (
            f"its camera {name} is {move}"
            if move is not None
            else f"pixels of its camera {name} lie up to {distance.max() * 1e3:.1f} mm "
            f"from those of the training ({POSITION_TOLERANCE} pixel pitches, "
            f"{tolerance * 1e3:.1f} mm, are tolerated)"
        )
        return
    # On a small camera a rotation hardly moves the pixels.
    rotation = np.rad2deg(fitted_rotation(here[order], there))
    if abs(rotation) > ROTATION_TOLERANCE_DEG:
        yield (
            f"its camera {name} is rotated by {rotation:.2f}°, "
            f"more than {ROTATION_TOLERANCE_DEG}°"
        )


def _optics_problems(telescope, card):
    optics, trained = telescope.optics, card.optics
    for name, here, there in (
        (
            "equivalent focal length",
            optics.equivalent_focal_length.to_value(u.m),
            trained.equivalent_focal_length_m,
        ),
        (
            "effective focal length",
            optics.effective_focal_length.to_value(u.m),
            trained.effective_focal_length_m,
        ),
        ("mirror area", optics.mirror_area.to_value(u.m**2), trained.mirror_area_m2),
    ):
        is_effective = name == "effective focal length"
        if is_effective and (there is None or np.isnan(here) or here == 0):
            continue
        if not abs(here / there - 1) <= OPTICS_TOLERANCE:
            unit = "m²" if name == "mirror area" else "m"
            yield f"its {name} is {here:.4g} {unit} instead of {there:.4g} {unit}"
    if optics.n_mirrors != trained.n_mirrors:
        yield f"it has {optics.n_mirrors} mirrors instead of {trained.n_mirrors}"
