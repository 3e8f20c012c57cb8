"""Describe telescopes for a model card, and check them against one.

A network sees pixels, not the sky: it is right only for a camera whose pixels have the
same positions in the same order, behind the same optics.
"""

from pathlib import Path

import astropy.units as u
import numpy as np
from ctapipe.coordinates import TelescopeFrame
from ctapipe.core import ToolConfigurationError
from ctapipe.instrument import SubarrayDescription, TelescopeDescription
from scipy.spatial import KDTree

from .card import CameraCard, OpticsCard, TelescopeCard, geometry_sha256
from .errors import ModelError

__all__ = [
    "TelescopeMismatchError",
    "check_alike",
    "check_telescope",
    "check_telescopes",
    "describe_telescope",
    "differences",
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


def check_telescope(telescope: TelescopeDescription, card: TelescopeCard) -> None:
    """Check that a telescope is like the one a network was trained for.

    Pixels must lie within 0.1 pixel pitches of those of the training, in the same
    order; the camera may be rotated by no more than 0.2°; focal lengths and mirror
    area may differ by no more than 1 %. The effective focal length is compared only if
    it is known for both.

    Parameters
    ----------
    telescope : ctapipe.instrument.TelescopeDescription
        The telescope whose images are to be reconstructed.
    card : TelescopeCard
        The telescope of the training.

    Raises
    ------
    TelescopeMismatchError
        If it is not; the message says what differs and by how much.
    """
    problems = differences(telescope, card)
    if problems:
        raise TelescopeMismatchError(
            f"telescope type {telescope} differs from the {card.type} that the model "
            f"was trained for: {'; '.join(problems)}. Use a model trained for this "
            "telescope."
        )


def differences(telescope: TelescopeDescription, card: TelescopeCard) -> list[str]:
    """Find how a telescope differs from the one a network was trained for.

    Parameters
    ----------
    telescope : ctapipe.instrument.TelescopeDescription
        The telescope.
    card : TelescopeCard
        The telescope of the training.

    Returns
    -------
    list of str
        What differs by more than `check_telescope` tolerates, and by how much.
    """
    return [*_camera_problems(telescope, card), *_optics_problems(telescope, card)]


def check_telescopes(
    subarray: SubarrayDescription, card: TelescopeCard, source: Path | None = None
) -> None:
    """Check all telescopes of an array that have the name of a network's telescope.

    Telescopes of one name may differ: each is compared.

    Parameters
    ----------
    subarray : ctapipe.instrument.SubarrayDescription
        The array.
    card : TelescopeCard
        The telescope of the training.
    source : pathlib.Path, optional
        File of the array, for messages.

    Raises
    ------
    TelescopeMismatchError
        If one of them differs; the message has its number, what differs and by how
        much.
    """
    for numbers, telescope in _telescopes_called(card.type, subarray):
        try:
            check_telescope(telescope, card)
        except TelescopeMismatchError as error:
            of_file = "" if source is None else f"{source}, "
            raise TelescopeMismatchError(f"{of_file}{numbers}: {error}") from error


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
        If some differ from the first by more than `check_telescope` tolerates: one
        network cannot be trained for both. The message names files, telescopes and
        what differs.
    """
    first = None
    for path, subarray in arrays.items():
        for numbers, telescope in _telescopes_called(name, subarray):
            which = f"{path}, {numbers}"
            if first is None:
                first, named, card = telescope, which, describe_telescope(telescope)
            problems = differences(telescope, card)
            if problems:
                raise TelescopeMismatchError(
                    f"{which}, and {named}, are all called {name}, but differ. The "
                    f"former: {'; '.join(problems)}. Train for one kind of them only: "
                    "make files without the others (ctapipe-process "
                    "--EventSource.allowed_tels)"
                )
    return first


def _telescopes_called(name, subarray):
    """Yield telescopes of a name: numbers of identical ones, and one of them."""
    same = {}
    for tel_id, telescope in sorted(subarray.tel.items()):
        if str(telescope) == name:
            geometry = telescope.camera.geometry
            # ctapipe compares only pixels: to it, a rotated camera is equal.
            key = (
                telescope.optics,
                geometry_sha256(*_positions_m(telescope)),
                _rotation_deg(geometry),
                geometry.pix_type,
            )
            same.setdefault(key, (telescope, []))[1].append(tel_id)
    for telescope, tel_ids in same.values():
        plural = "s" if len(tel_ids) > 1 else ""
        yield f"telescope{plural} {', '.join(map(str, tel_ids))}", telescope


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
    """Rotation of the camera beyond that in the pixel positions."""
    frame_rotation = getattr(geometry.frame, "rotation", 0 * u.deg)
    return float((geometry.cam_rotation + frame_rotation).to_value(u.deg))


def _camera_problems(telescope, card):
    geometry, trained = telescope.camera.geometry, card.camera
    if geometry.n_pixels != len(trained.pix_x_m):
        yield (
            f"its camera {geometry.name} has {geometry.n_pixels} pixels instead of "
            f"{len(trained.pix_x_m)}"
        )
        return
    here = np.column_stack(_positions_m(telescope))
    not_finite = np.flatnonzero(~np.isfinite(here).all(axis=1))
    if len(not_finite) > 0:
        yield (
            f"the positions of {len(not_finite)} of its pixels are not finite, such as "
            f"that of pixel {not_finite[0]} of camera {geometry.name}"
        )
        return
    there = np.column_stack([trained.pix_x_m, trained.pix_y_m])
    pitch = np.median(KDTree(there).query(there, k=2)[0][:, 1])
    distance = np.linalg.norm(here - there, axis=1)
    rotation = _rotation_deg(geometry) - trained.cam_rotation_deg
    if distance.max() > POSITION_TOLERANCE * pitch:
        yield _position_problem(geometry.name, here, there, pitch, distance)
    else:
        # On a small camera a rotation hardly moves the pixels.
        rotation += np.rad2deg(_fitted_rotation(here, there))
    rotation = (rotation + 180) % 360 - 180
    if not abs(rotation) <= ROTATION_TOLERANCE_DEG:
        yield (
            f"its camera {geometry.name} is rotated by {rotation:.2f}°, "
            f"more than {ROTATION_TOLERANCE_DEG}°"
        )
    if geometry.pix_type.value != trained.pix_type:
        yield f"its pixels are a {geometry.pix_type.value}, not a {trained.pix_type}"


def _fitted_rotation(here, there):
    """Rotation about the origin that fits best, in rad."""
    # With the positions as complex numbers.
    return np.angle(np.sum((here @ [1, 1j]) * (there @ [1, 1j]).conj()))


def _position_problem(name, here, there, pitch, distance):
    """Describe how the pixels moved: reordered, rotated, or otherwise."""
    closest, pixel = KDTree(there).query(here)
    reordered = closest.max() < POSITION_TOLERANCE * pitch
    if reordered and len(np.unique(pixel)) == len(there):
        moved = np.count_nonzero(pixel != np.arange(len(there)))
        return f"its camera {name} lists {moved} of its pixels in another order"
    angle = _fitted_rotation(here, there)
    residual = np.abs(here @ [1, 1j] - there @ [1, 1j] * np.exp(1j * angle)).max()
    if residual < POSITION_TOLERANCE * pitch:
        return f"its camera {name} is rotated by {np.rad2deg(angle):.2f}°"
    return (
        f"pixels of its camera {name} lie up to {distance.max() * 1e3:.1f} mm from "
        f"those of the training ({POSITION_TOLERANCE} pixel pitches, "
        f"{POSITION_TOLERANCE * pitch * 1e3:.1f} mm, are tolerated)"
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
