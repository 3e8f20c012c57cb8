"""Access to the containers of ctapipe's events, which nothing else depends on."""

from typing import Any

import astropy.units as u
import numpy as np
from ctapipe.containers import ArrayEventContainer, ImageParametersContainer
from ctapipe.core import Map

from ..tasks.frames import radians
from .preparation import MissingImagesError, UnfitImagesError, problem_of

__all__ = [
    "array_pointing",
    "event_images",
    "image_parameters",
    "name_of",
    "named_parameters",
    "predictions_of",
    "telescope_pointing",
    "triggered_telescopes",
    "valid_telescopes",
]


def triggered_telescopes(event: ArrayEventContainer) -> list[int]:
    """List the telescopes that an event triggered."""
    return event.trigger.tels_with_trigger


def name_of(event: ArrayEventContainer) -> str:
    """Describe an event in messages."""
    return f"event {event.index.event_id} of observation {event.index.obs_id}"


def image_parameters(
    event: ArrayEventContainer, tel_id: int
) -> ImageParametersContainer | None:
    """Find the parameters of a telescope's image; None if no data were read out."""
    return event.dl1.tel[tel_id].parameters


def named_parameters(
    parameters: ImageParametersContainer, names: set[str] | None = None
) -> dict[str, Any]:
    """Find parameters of an image.

    Parameters
    ----------
    parameters : ctapipe.containers.ImageParametersContainer
        All its parameters.
    names : set of str, optional
        Names of their columns in ctapipe's tables. Default: all.

    Returns
    -------
    dict of str to object
        The parameters by name, without those that the image does not have.
    """
    if names is None:
        return parameters.as_dict(recursive=True, flatten=True, add_prefix=True)
    found = {}
    for group in parameters.values():
        for name in names:
            field = name.removeprefix(f"{group.prefix}_")
            if field != name and field in group.fields:
                found[name] = group[field]
    return found


def telescope_pointing(
    event: ArrayEventContainer, tel_ids: list[int]
) -> tuple[u.Quantity, u.Quantity]:
    """Find altitude and azimuth of telescopes, shape (n,); NaN if not known."""
    pointings = [event.monitoring.tel[tel_id].pointing for tel_id in tel_ids]
    return tuple(
        u.Quantity([float(radians(pointing[angle])) for pointing in pointings], u.rad)
        for angle in ("altitude", "azimuth")
    )


def array_pointing(event: ArrayEventContainer) -> tuple[u.Quantity, u.Quantity]:
    """Find altitude and azimuth of the array, shape (); NaN if not known."""
    pointing = event.monitoring.pointing
    return pointing.array_altitude, pointing.array_azimuth


def valid_telescopes(event: ArrayEventContainer, kind: str, name: str) -> list[int]:
    """List the telescopes with a valid prediction of a kind of DL2, in a group."""
    return [tel_id for tel_id, dl2 in event.dl2.tel.items() if dl2[kind][name].is_valid]


def predictions_of(
    event: ArrayEventContainer, kind: str, tel_id: int | None = None
) -> Map:
    """Find the containers of a kind of DL2, by their groups; by default the array's."""
    return (event.dl2.stereo if tel_id is None else event.dl2.tel[tel_id])[kind]


def event_images(event, tel_ids, prepare):
    """Prepare the images of some telescopes of an event.

    Parameters
    ----------
    event : ctapipe.containers.ArrayEventContainer
        The event, with DL1 images.
    tel_ids : list of int
        Telescopes with the same camera.
    prepare : InputPreparation
        The network's preparation of images.

    Returns
    -------
    tuple
        What ``prepare`` returns, in the order of ``tel_ids``.

    Raises
    ------
    MissingImagesError
        If a telescope has no image.
    UnfitImagesError
        If an image is from another camera, or does not hold charges and times.
    """
    dl1 = [event.dl1.tel[tel_id] for tel_id in tel_ids]
    for tel_id, camera in zip(tel_ids, dl1, strict=True):
        _check_camera(event, tel_id, camera, prepare)
    return prepare(
        [camera.image for camera in dl1],
        [camera.peak_time for camera in dl1],
        _masks(dl1),
    )


def _masks(dl1):
    """Masks of the image cleaning; None if a telescope has none."""
    masks = [camera.image_mask for camera in dl1]
    return None if any(mask is None for mask in masks) else masks


def _check_camera(event, tel_id, camera, prepare):
    """Check that a telescope has an image, and from its camera."""
    of_event = name_of(event)
    if camera.image is None or camera.peak_time is None:
        raise MissingImagesError(
            f"{of_event} has no DL1 image of telescope {tel_id}: γ-PhysNet needs "
            "images with charge and peak time, not only their parameters. Make the "
            "DL1 file with 'ctapipe-process --write-images', or process from R1."
        )
    if prepare.needs_mask and camera.image_mask is None:
        raise MissingImagesError(
            f"{of_event} has no image mask of telescope {tel_id}, but this network "
            "needs it. Process from R1, or from DL1 images without parameters: then "
            "ctapipe-process cleans the images."
        )
    names = ["image", "peak_time"] + ["image_mask"] * prepare.needs_mask
    for name in names:
        problem = problem_of(name, np.asarray(camera[name]), (prepare.n_pixels,))
        if problem is not None:
            raise UnfitImagesError(
                f"{of_event}, telescope {tel_id}: {problem}. Its camera has "
                f"{prepare.n_pixels} pixels. The images are from another camera, or "
                "their file is damaged: make it again"
            )
