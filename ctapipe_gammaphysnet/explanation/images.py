"""Images of DL1 files with what is known of their events, batch after batch."""

from dataclasses import dataclass, replace

import astropy.units as u
import numpy as np
from astropy.table import QTable, Table
from ctapipe.coordinates import CameraFrame, TelescopeFrame
from ctapipe.io import read_table

from ..evaluation.events import EvaluationError, find_showers
from ..events.dl1_file import DL1File
from ..events.dl1_format import SHOWERS

__all__ = ["KEYS", "Batch", "keys_of_events", "on_sky", "read_batches", "read_files"]

#: What tells a telescope event from all others: the number of its file, too, since a
#: gamma and a proton can have the same numbers.
KEYS = ("file", "obs_id", "event_id", "tel_id")
#: Events that are read at once, without their images.
_CHUNK = 1000
_TRUTH = {
    "true_energy": u.TeV,
    "true_alt": u.deg,
    "true_az": u.deg,
    "true_core_x": u.m,
    "true_core_y": u.m,
}
#: Centroid and length of the shower in either frame: new files have them on the sky.
_ON_SKY = ("hillas_fov_lon", "hillas_fov_lat", "hillas_length")
_IN_CAMERA = tuple(f"camera_frame_hillas_{n}" for n in ("x", "y", "length"))
_LEAKAGE = "leakage_intensity_width_2"


@dataclass(frozen=True, eq=False)
class Batch:
    """Images of one telescope type, and what is known of their events.

    Attributes
    ----------
    type : str
        The telescope type.
    events : astropy.table.QTable
        A row for each image: ``file``, its number; ``obs_id``, ``event_id`` and
        ``tel_id``; ``label``, 0 for gammas, 1 for others and -1 if it is not known;
        ``shower``, its number; ``true_energy``, ``true_alt``, ``true_az``,
        ``true_core_x``, ``true_core_y``, NaN if they are not known; ``pointing_alt``,
        ``pointing_az``; ``position`` of the telescope; ``intensity`` in p.e.,
        ``leakage``, ``cog_x``, ``cog_y`` and ``length`` of the cleaned image, the
        latter three in the unit of ``pixels``.
    image, peak_time : numpy.ndarray
        Charge in p.e. and peak time in ns, shape (n, n_pixels).
    image_mask : numpy.ndarray
        Mask of the image cleaning, shape (n, n_pixels), bool.
    true_image : numpy.ndarray or None
        Simulated photoelectrons of the shower, shape (n, n_pixels), if they are known.
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
        rows : numpy.ndarray
            A mask, shape (n,), bool, or numbers of rows.

        Returns
        -------
        Batch
            The selected ones.
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


def read_files(paths, types, quality_query, size, wanted=None, focal="EFFECTIVE"):
    """Read the selected images of several files.

    Parameters
    ----------
    paths : list of pathlib.Path
        The files; events know them by their numbers, from 0.
    types : collection of str
        As for `read_batches`, like the others.
    quality_query : ImageQualityQuery
        Selects images.
    size : int
        Largest number of images in a batch.
    wanted : callable, optional
        Tells which events are wanted.
    focal : ctapipe.instrument.FocalLengthKind or str
        Which focal length to use.

    Yields
    ------
    Batch
        Images of one telescope, file after file.
    """
    for number, path in enumerate(paths):
        yield from read_batches(path, types, quality_query, size, wanted, focal, number)


def read_batches(
    path, types, quality_query, size, wanted=None, focal="EFFECTIVE", number=0
):
    """Read the selected images of a file.

    Parameters
    ----------
    path : pathlib.Path
        A ctapipe DL1 file with images and parameters.
    types : collection of str
        Telescope types to read.
    quality_query : ImageQualityQuery
        Selects images by their DL1 parameters, and counts them.
    size : int
        Largest number of images in a batch.
    wanted : callable, optional
        Tells from a table with the `KEYS` which of the events are wanted at all, shape
        (n,), bool. Default: all.
    focal : ctapipe.instrument.FocalLengthKind or str
        Which focal length to use, as for ctapipe's `HDF5EventSource`.
    number : int
        By which the events know the file.

    Yields
    ------
    Batch
        Images of one telescope, in the order of the file.

    Raises
    ------
    DL1FileError
        If the file is damaged, or has no images, masks or parameters.
    EvaluationError
        If it has simulated showers, but not those of all of its events.
    """
    with DL1File(path, focal) as dl1:
        if dl1.is_simulation:
            dl1.check_truth()
        showers = _read_showers(dl1)
        for chunk in dl1.chunks(_CHUNK):
            for tel_id in chunk.event:
                if str(dl1.subarray.tel[tel_id]) not in types:
                    continue
                rows = _select(path, number, chunk, tel_id, quality_query, wanted)
                for start in range(0, len(rows), size):
                    part = rows[start : start + size]
                    yield _read_batch(dl1, number, chunk, tel_id, part, showers)


def _read_showers(dl1):
    if SHOWERS not in dl1:
        return None
    with dl1.reading():
        return read_table(dl1.h5file, SHOWERS, table_cls=QTable)


def _select(path, number, chunk, tel_id, quality_query, wanted):
    parameters = chunk.parameters[tel_id]
    events = chunk.event[tel_id]
    rows = np.arange(len(events))
    if wanted is not None:
        keys = {
            "file": np.full(len(events), number),
            "obs_id": chunk.obs_id[events],
            "event_id": chunk.event_id[events],
            "tel_id": np.full(len(events), tel_id),
        }
        rows = rows[wanted(Table(keys))]
    if len(rows) == 0:
        return rows
    return rows[quality_query.mask(parameters[rows], path)]


def _read_batch(dl1, number, chunk, tel_id, rows, showers):
    telescope = dl1.subarray.tel[tel_id]
    parameters = chunk.parameters[tel_id][rows]
    event = chunk.event[tel_id][rows]
    n = len(rows)
    events = QTable(
        {
            "file": np.full(n, number, np.int64),
            "obs_id": chunk.obs_id[event].astype(np.int64),
            "event_id": chunk.event_id[event].astype(np.int64),
            "tel_id": np.full(n, tel_id, np.int64),
        }
    )
    _add_truth(events, showers, dl1.path)
    alt, az = (angle[rows] for angle in chunk.pointing[tel_id])
    events["pointing_alt"], events["pointing_az"] = alt.to(u.deg), az.to(u.deg)
    index = dl1.subarray.tel_ids_to_indices(tel_id)
    position = dl1.subarray.tel_coords.cartesian.xyz.to(u.m).T[index]
    events["position"] = np.tile(position, (n, 1))
    geometry = telescope.camera.geometry
    names, unit = _IN_CAMERA, u.m
    if _ON_SKY[0] in parameters.colnames:
        names, unit, geometry = _ON_SKY, u.deg, on_sky(geometry)
    intensity = names[2].replace("length", "intensity")
    for name in (*names, intensity, _LEAKAGE):
        if name not in parameters.colnames:
            raise EvaluationError(
                f"{dl1.path}: the DL1 parameters of telescope {tel_id} have no {name}: "
                "make it with 'ctapipe-process --write-parameters'"
            )
    for column, name in zip(("cog_x", "cog_y", "length"), names, strict=True):
        events[column] = parameters[name].to_value(unit).astype(float)
    events["intensity"] = np.asarray(parameters[intensity], dtype=float)
    events["leakage"] = np.asarray(parameters[_LEAKAGE], dtype=float)
    pixels = dl1.read_pixels(chunk, tel_id, rows)
    return Batch(str(telescope), events, *pixels, geometry)


def _add_truth(events, showers, path):
    n = len(events)
    if showers is None:
        events["label"] = np.full(n, -1)
        events["shower"] = np.zeros(n, np.uint64)
        for name, unit in _TRUTH.items():
            events[name] = u.Quantity(np.full(n, np.nan), unit)
        return
    shower, number = find_showers(path, events, showers)
    # Gammas have the id 0.
    events["label"] = (np.asarray(shower["true_shower_primary_id"]) != 0).astype(int)
    events["shower"] = number
    for name, unit in _TRUTH.items():
        events[name] = u.Quantity(shower[name].to_value(unit).astype(float), unit)


def keys_of_events(events):
    """Take the keys of events into a table of their own.

    Parameters
    ----------
    events : astropy.table.Table
        The events, with the `KEYS`.

    Returns
    -------
    astropy.table.Table
        The `KEYS`, with what they are.
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
