"""Where ctapipe's events keep their containers: nothing else in the package knows."""

import astropy.units as u
import numpy as np

from .preparation import MissingImagesError, UnfitImagesError, problem_of

__all__ = [
    "array_pointing",
    "event_images",
    "image_parameters",
    "name_of",
    "predictions_of",
    "reconstructed_telescopes",
    "telescope_pointing",
    "triggered_telescopes",
]


def triggered_telescopes(event):
    """List the telescopes that an event triggered.

    Parameters
    ----------
    event : ctapipe.containers.ArrayEventContainer
        The event.

    Returns
    -------
    list of int
        The telescopes.
    """
    return event.trigger.tels_with_trigger


def name_of(event):
    """Name an event.

    Parameters
    ----------
    event : ctapipe.containers.ArrayEventContainer
        The event.

    Returns
    -------
    str
        What to call it in messages.
    """
    return f"event {event.index.event_id} of observation {event.index.obs_id}"


def image_parameters(event, tel_id):
    """Find the parameters of a telescope's image.

    Parameters
    ----------
    event : ctapipe.containers.ArrayEventContainer
        The event.
    tel_id : int
        The telescope.

    Returns
    -------
    ctapipe.containers.ImageParametersContainer or None
        The parameters; None where no data were read out.
    """
    return event.dl1.tel[tel_id].parameters


def telescope_pointing(event, tel_ids):
    """Find where telescopes point.

    Parameters
    ----------
    event : ctapipe.containers.ArrayEventContainer
        The event.
    tel_ids : list of int
        The telescopes.

    Returns
    -------
    altitude, azimuth : astropy.units.Quantity
        Horizontal coordinates, shape (n,); NaN where not known.
    """
    pointings = [event.monitoring.tel[tel_id].pointing for tel_id in tel_ids]
    return tuple(
        u.Quantity([pointing[angle] for pointing in pointings])
        for angle in ("altitude", "azimuth")
    )


def array_pointing(event):
    """Find where the array points.

    Parameters
    ----------
    event : ctapipe.containers.ArrayEventContainer
        The event.

    Returns
    -------
    altitude, azimuth : astropy.units.Quantity
        Horizontal coordinates, shape (); NaN where not known.
    """
    pointing = event.monitoring.pointing
    return pointing.array_altitude, pointing.array_azimuth


def reconstructed_telescopes(event):
    """List the telescopes with predictions.

    Parameters
    ----------
    event : ctapipe.containers.ArrayEventContainer
        The event.

    Returns
    -------
    list of int
        The telescopes.
    """
    return list(event.dl2.tel)


def predictions_of(event, kind, tel_id=None):
    """Find the predictions for a telescope or the array, to be read and filled.

    Parameters
    ----------
    event : ctapipe.containers.ArrayEventContainer
        The event.
    kind : str
        Kind of DL2 information, such as ``"energy"``.
    tel_id : int, optional
        The telescope. Default: the array.

    Returns
    -------
    ctapipe.core.Map
        Containers by the names of their groups.
    """
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
        What makes a network's input of them.

    Returns
    -------
    inputs, has_pixels : numpy.ndarray
        As ``prepare`` gives them, in the order of ``tel_ids``.

    Raises
    ------
    MissingImagesError
        If a telescope has no image.
    UnfitImagesError
        If an image is of another camera, or does not hold charges and times.
    """
    dl1 = [event.dl1.tel[tel_id] for tel_id in tel_ids]
    for tel_id, camera in zip(tel_ids, dl1, strict=True):
        _check_camera(event, tel_id, camera, prepare)
    return prepare(
        [camera.image for camera in dl1],
        [camera.peak_time for camera in dl1],
        [camera.image_mask for camera in dl1] if prepare.needs_mask else None,
    )


def _check_camera(event, tel_id, camera, prepare):
    """Check that a telescope has an image, and that it is of its camera."""
    of_event = name_of(event)
    if camera.image is None or camera.peak_time is None:
        raise MissingImagesError(
            f"{of_event} has no DL1 image of telescope {tel_id}: γ-PhysNet needs "
            "images with charge and peak time, parameters are not enough. Make the "
            "DL1 file with 'ctapipe-process --write-images', or process from R1."
        )
    if prepare.needs_mask and camera.image_mask is None:
        raise MissingImagesError(
            f"{of_event} has no image mask of telescope {tel_id}, which this network, "
            "trained on cleaned images, needs. Process from DL1 images without "
            "parameters or from R1, for ctapipe-process to clean the images."
        )
    names = ["image", "peak_time"] + ["image_mask"] * prepare.needs_mask
    for name in names:
        problem = problem_of(name, np.asarray(camera[name]), (prepare.n_pixels,))
        if problem is not None:
            raise UnfitImagesError(
                f"{of_event}, telescope {tel_id}: {problem}. The images are of another "
                f"camera than telescope {tel_id} has, which has {prepare.n_pixels} "
                "pixels, or their file is damaged: make it again"
            )
