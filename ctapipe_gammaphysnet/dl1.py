"""DL1 images to the input of a network: charge and peak time of each pixel.

The one place that decides what a missing, broken or uncleaned pixel becomes. The
network is trained and applied through the same function.
"""

import numpy as np
from ctapipe.core import ToolConfigurationError

__all__ = ["MissingImagesError", "event_images", "prepare_images"]


class MissingImagesError(ToolConfigurationError, ValueError):
    """There are no DL1 images to reconstruct."""


def prepare_images(image, peak_time, image_mask=None, cleaned=False):
    """Stack charge and peak time, with zeros for what is not there.

    A pixel whose charge or peak time is not finite is missing: both become 0, as the
    model card says ("missing_pixels"). With ``cleaned``, so do pixels that the image
    cleaning left out.

    Parameters
    ----------
    image : array_like
        Charge in p.e., shape (n, n_pixels).
    peak_time : array_like
        Peak time in ns, shape (n, n_pixels).
    image_mask : array_like, optional
        True for pixels that survived the image cleaning, shape (n, n_pixels), bool.
    cleaned : bool
        Whether the network was trained on cleaned images.

    Returns
    -------
    inputs : numpy.ndarray
        Charge and peak time, shape (n, 2, n_pixels), float32.
    has_pixels : numpy.ndarray
        False for images without any pixel that is not missing, shape (n,), bool.

    Raises
    ------
    ValueError
        If the images must be cleaned and no mask is given.
    """
    inputs = np.stack([image, peak_time], axis=1).astype(np.float32, copy=False)
    present = np.isfinite(inputs).all(axis=1)
    has_pixels = present.any(axis=1)
    if cleaned:
        if image_mask is None:
            raise ValueError("the network needs cleaned images: no image mask is given")
        present &= np.asarray(image_mask, dtype=bool)
    return np.where(present[:, np.newaxis], inputs, np.float32(0)), has_pixels


def event_images(event, tel_ids, cleaned=False):
    """Prepare the images of some telescopes of an event.

    Parameters
    ----------
    event : ctapipe.containers.ArrayEventContainer
        The event, with DL1 images.
    tel_ids : list of int
        Telescopes with the same camera.
    cleaned : bool
        Whether the network was trained on cleaned images.

    Returns
    -------
    inputs, has_pixels : numpy.ndarray
        As `prepare_images` gives them, in the order of ``tel_ids``.

    Raises
    ------
    MissingImagesError
        If a telescope has no image.
    """
    dl1 = [event.dl1.tel[tel_id] for tel_id in tel_ids]
    for tel_id, camera in zip(tel_ids, dl1, strict=True):
        if camera.image is None or camera.peak_time is None:
            raise MissingImagesError(
                f"event {event.index.event_id} of observation {event.index.obs_id} "
                f"has no DL1 image of telescope {tel_id}: γ-PhysNet needs images with "
                "charge and peak time, parameters are not enough. Make the DL1 file "
                "with 'ctapipe-process --write-images', or process from R1."
            )
        if cleaned and camera.image_mask is None:
            raise MissingImagesError(
                f"event {event.index.event_id} of observation {event.index.obs_id} "
                f"has no image mask of telescope {tel_id}, which this network, trained "
                "on cleaned images, needs. Process from DL1 images without parameters "
                "or from R1, for ctapipe-process to clean the images."
            )
    return prepare_images(
        [camera.image for camera in dl1],
        [camera.peak_time for camera in dl1],
        [camera.image_mask for camera in dl1] if cleaned else None,
        cleaned,
    )
