"""Images of files and their events, batch by batch."""

from dataclasses import dataclass, replace

import astropy.units as u
import numpy as np
from astropy.table import QTable, Table
from ctapipe.coordinates import CameraFrame, TelescopeFrame

from ..events.images import read_images
from ..events.opening import open_events
from ..events.telescope_events import KEYS, telescope_events

__all__ = ["Batch", "keys_of_events", "on_sky", "read_batches"]

#: Number of events that are read at once, without their images.
_CHUNK = 1000
_IN_PIXELS = ("cog_x", "cog_y", "length")


@dataclass(frozen=True, eq=False)
class Batch:
    """Images of one telescope type, and their events.

    Attributes
    ----------
    type : str
        The telescope type.
    events : astropy.table.QTable
        A row for each image: ``file``, its number; ``obs_id``, ``event_id`` and
        ``tel_id``; ``label``, 0 for gammas, 1 for others and -1 if unknown;
        ``shower``, its number; ``true_energy``, ``true_alt``, ``true_az``,
        ``true_core_x``, ``true_core_y``, NaN if unknown; ``pointing_alt``,
        ``pointing_az``; ``position`` of the telescope; ``intensity`` in p.e.,
        ``leakage``, ``cog_x``, ``cog_y`` and ``length`` of the cleaned image, the
        last three in the unit of ``pixels``.
    image, peak_time : numpy.ndarray
        Charge in p.e. and peak time in ns, shape (n, n_pixels).
    image_mask : numpy.ndarray
        Mask of the image cleaning, shape (n, n_pixels), bool.
    true_image : numpy.ndarray or None
        Simulated photoelectrons of the shower, shape (n, n_pixels), if known.
    geometry : ctapipe.instrument.CameraGeometry
        The camera, in the frame of the shower's centroid.
    """

    type: str
    events: QTable
    image: np.ndarray
    peak_time: np.ndarray
    image_mask: np.ndarray
    true_image: np.ndarray | None
    geometry: object

    def __len__(self):
        return len(self.events)

    @property
    def arrays(self):
        """Charges, peak times and masks, as for `Predictor.prepare`."""
        return self.image, self.peak_time, self.image_mask

    @property
    def pixels(self):
        """Positions of the pixels in deg or in m, shape (n_pixels, 2)."""
        unit = self.geometry.unit
        return np.column_stack(
            [self.geometry.pix_x.to_value(unit), self.geometry.pix_y.to_value(unit)]
        )

    def select(self, rows):
        """Select images.

        Parameters
        ----------
        rows : list of int
            Their rows.

        Returns
        -------
        Batch
            These images.
        """
        true_image = None if self.true_image is None else self.true_image[rows]
        return replace(
            self,
            events=self.events[rows],
            image=self.image[rows],
            peak_time=self.peak_time[rows],
            image_mask=self.image_mask[rows],
            true_image=true_image,
        )


def read_batches(
    path,
    types,
    quality_query,
    size,
    wanted=None,
    focal="EFFECTIVE",
    number=0,
    truth=(),
    atmosphere=None,
):
    """Read the selected images of a file.

    Parameters
    ----------
    path : pathlib.Path
        A file with images and parameters.
    types : collection of str
        Telescope types to read.
    quality_query : ImageQualityQuery
        Selects images by their DL1 parameters, and counts them.
    size : int
        Largest number of images in a batch.
    wanted : callable, optional
        Marks the wanted events in a table with the `KEYS`, shape (n,), bool. Default:
        all.
    focal : ctapipe.instrument.FocalLengthKind or str
        Which focal length to use, as for ctapipe's `HDF5EventSource`.
    number : int
        Number of the file in the events.
    truth : collection of str
        Columns of truth that not all files have, as for `telescope_events`.
    atmosphere : ctapipe.atmosphere.AtmosphereDensityProfile, optional
        The atmosphere of the showers; by default that of the file.

    Yields
    ------
    Batch
        Images of one telescope, in the order of the file.

    Raises
    ------
    DL1FileError
        If the file is damaged, or the truth of its showers is.
    MissingImagesError
        If it has no images, masks or parameters.
    """
    with open_events(path, focal) as reader:
        telescopes = {t: n for t, n in reader.subarray.tel.items() if str(n) in types}
        for events in telescope_events(
            reader,
            telescopes,
            quality_query,
            _CHUNK,
            number,
            parameters=("intensity", "leakage", *_IN_PIXELS),
            wanted=wanted,
            atmosphere=atmosphere,
            truth=truth,
        ):
            telescope = telescopes[events["tel_id"][0]]
            for start in range(0, len(events), size):
                yield _read_batch(reader, telescope, events[start : start + size])


def _read_batch(reader, telescope, events):
    geometry = telescope.camera.geometry
    if events["cog_x"].unit == u.deg:
        geometry = on_sky(geometry)
    for name in _IN_PIXELS:
        events[name] = events[name].value
    row, *event = (events[name] for name in ("row", "obs_id", "event_id"))
    images = read_images(reader, events["tel_id"], row, *event)
    true_image = reader.read_true_images(events["tel_id"][0], row, *event)
    return Batch(str(telescope), events, *images, true_image, geometry)


def keys_of_events(events):
    """Copy the keys of events into a new table.

    Parameters
    ----------
    events : astropy.table.Table
        The events, with the `KEYS`.

    Returns
    -------
    astropy.table.Table
        The `KEYS`, with descriptions.
    """
    table = Table({name: np.asarray(events[name]) for name in KEYS})
    table["file"].description = "number of the input file, from 0, as in provenance"
    return table


def on_sky(geometry):
    """Put a camera's pixels on the sky.

    Parameters
    ----------
    geometry : ctapipe.instrument.CameraGeometry
        The camera in the CameraFrame.

    Returns
    -------
    ctapipe.instrument.CameraGeometry
        The camera in the TelescopeFrame, in deg.
    """
    if isinstance(geometry.frame, CameraFrame):
        return geometry.transform_to(TelescopeFrame())
    return geometry
