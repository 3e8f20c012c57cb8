"""DL1 images to the input of a network: charge and peak time of each pixel.

The one place that decides what a missing, broken or uncleaned pixel becomes. The
network is trained and applied through the same function.
"""

import numpy as np
from ctapipe.core import ToolConfigurationError

__all__ = ["InputPreparation", "MissingImagesError", "event_images"]


class MissingImagesError(ToolConfigurationError, ValueError):
    """There are no DL1 images to reconstruct."""


class InputPreparation:
    """Makes a network's input of images, as the network's card says.

    Parameters
    ----------
    card : InputCard
        What enters the network.
    lattice : CameraLattice
        The camera, with its order of pixels.

    Attributes
    ----------
    needs_mask : bool
        Whether images need the mask of the image cleaning.
    """

    def __init__(self, card, lattice):
        self._card = card
        self._adjacency = lattice.adjacency()
        self.needs_mask = card.needs_mask

    def __call__(self, image, peak_time, image_mask=None):
        """Stack charge and peak time, with zeros for what is not there.

        A pixel whose charge or peak time is not finite is missing: both become 0, as
        the model card says ("missing_pixels").

        Parameters
        ----------
        image : array_like
            Charge in p.e., shape (n, n_pixels).
        peak_time : array_like
            Peak time in ns, shape (n, n_pixels).
        image_mask : array_like, optional
            True for pixels that survived the image cleaning, shape (n, n_pixels), bool.

        Returns
        -------
        inputs : numpy.ndarray
            Charge and peak time, shape (n, 2, n_pixels), float32.
        has_pixels : numpy.ndarray
            False for images without any pixel that is not missing, shape (n,), bool.

        Raises
        ------
        ValueError
            If the network needs the mask, and there is none.
        """
        if self.needs_mask and image_mask is None:
            raise ValueError("the network needs cleaned images: no image mask is given")
        image = np.asarray(image, dtype=np.float32)
        peak_time = np.asarray(peak_time, dtype=np.float32)
        entering = np.isfinite(image) & np.isfinite(peak_time)
        has_pixels = entering.any(axis=1)
        mask = None
        if self.needs_mask:
            mask = np.asarray(image_mask, dtype=bool) & entering
        if self._card.image == "cleaned":
            entering = mask
        charge = np.where(entering, image, np.float32(0))
        time = np.where(entering, peak_time, np.float32(0))
        time = self._scale_peak_time(time, charge, mask, entering)
        return np.stack([self._scale_charge(charge), time], axis=1), has_pixels

    def _scale_charge(self, charge):
        scaled = charge / np.float32(self._card.charge_scale)
        return np.arcsinh(scaled) if self._card.charge == "arcsinh" else scaled

    def _scale_peak_time(self, time, charge, mask, entering):
        if self._card.peak_time_reference == "image":
            time = time - _mean_peak_time(time, charge, mask)
        if self._card.peak_time_pixels == "cleaned":
            entering = entering & self._widened(mask)
        return np.where(entering, time, 0) / np.float32(self._card.peak_time_scale)

    def _widened(self, mask):
        """Add rings of neighbours to masks."""
        for _ in range(self._card.peak_time_rings):
            mask = mask @ self._adjacency
        return mask


def _mean_peak_time(time, charge, mask):
    """Mean over the masks, weighted with the charge, shape (n, 1); 0 without charge."""
    weight = np.where(mask, np.maximum(charge, 0), 0)
    total = weight.sum(axis=1, keepdims=True)
    mean = (weight * time).sum(axis=1, keepdims=True) / np.where(total > 0, total, 1)
    return mean.astype(np.float32)


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
        if prepare.needs_mask and camera.image_mask is None:
            raise MissingImagesError(
                f"event {event.index.event_id} of observation {event.index.obs_id} "
                f"has no image mask of telescope {tel_id}, which this network, trained "
                "on cleaned images, needs. Process from DL1 images without parameters "
                "or from R1, for ctapipe-process to clean the images."
            )
    return prepare(
        [camera.image for camera in dl1],
        [camera.peak_time for camera in dl1],
        [camera.image_mask for camera in dl1] if prepare.needs_mask else None,
    )
