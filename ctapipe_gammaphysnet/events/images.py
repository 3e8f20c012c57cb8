"""Images of telescope events, read by their rows."""

from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from .preparation import MissingImagesError

__all__ = [
    "Images",
    "empty_columns",
    "fetch_prepared",
    "read_blocks",
    "read_images",
    "starts_of_blocks",
]

#: Rows of a table that are read together, and shuffled together in training.
_BLOCK = 128


class Images(NamedTuple):
    """Images, as stored in the files.

    Attributes
    ----------
    image : numpy.ndarray
        Charge in p.e., shape (n, n_pixels), float32.
    peak_time : numpy.ndarray
        Peak time in ns, shape (n, n_pixels), float32.
    image_mask : numpy.ndarray
        Mask of the image cleaning, shape (n, n_pixels), bool.
    """

    image: np.ndarray
    peak_time: np.ndarray
    image_mask: np.ndarray


def starts_of_blocks(*keys, row):
    """Find the blocks of rows that are read together.

    Parameters
    ----------
    *keys : numpy.ndarray
        Ids of the table of each row, such as its telescope, shape (n,), int.
    row : numpy.ndarray
        The rows, in the order of their tables, shape (n,), int.

    Returns
    -------
    numpy.ndarray
        Start of each block, and the end, shape (n_blocks + 1,), int.
    """
    blocks = np.column_stack([*keys, row // _BLOCK])
    changes = np.flatnonzero((blocks[1:] != blocks[:-1]).any(axis=1)) + 1
    return np.concatenate([[0], changes, [len(row)]])


def read_images(reader, tel_id, row, obs_id, event_id):
    """Read images of telescopes with the same camera.

    Parameters
    ----------
    reader : EventReader
        The file.
    tel_id : numpy.ndarray
        Telescope of each image, shape (n,), int.
    row : numpy.ndarray
        Its row among all images of the telescope, shape (n,), int.
    obs_id, event_id : numpy.ndarray
        Ids of its event, shape (n,), int.

    Returns
    -------
    Images
        The images, in the same order.

    Raises
    ------
    DL1FileError
        If they cannot be read, or belong to other events.
    MissingImagesError
        If they have no mask.
    """
    images = None
    for block, columns in read_blocks(reader, tel_id, row, obs_id, event_id):
        if images is None:
            images = Images(*empty_columns(len(row), columns))
        for values, column in zip(columns, images, strict=True):
            column[block] = values
    return images


def read_blocks(reader, tel_id, row, obs_id, event_id):
    """Read images block after block, as `read_images` does.

    Parameters
    ----------
    reader : EventReader
        The file.
    tel_id, row, obs_id, event_id : numpy.ndarray
        Which images, as in `read_images`.

    Yields
    ------
    block : numpy.ndarray
        Some of the images, as positions in the arrays given, shape (n,), int.
    columns : tuple of numpy.ndarray
        Their charge, peak time and mask, shape (n, n_pixels).
    """
    order = np.lexsort((row, tel_id))
    for start, stop in pairwise(starts_of_blocks(tel_id[order], row=row[order])):
        block = order[start:stop]
        telescope = tel_id[block[0]]
        columns = reader.read_images(
            telescope, row[block], obs_id[block], event_id[block]
        )
        if columns[-1] is None:
            raise MissingImagesError(_without_mask(reader, telescope))
        yield block, columns


def empty_columns(n, columns):
    """Allocate images. Joining blocks afterwards would need twice the memory.

    Parameters
    ----------
    n : int
        Number of images.
    columns : tuple of numpy.ndarray
        Charge, peak time and mask of some of them.

    Returns
    -------
    list of numpy.ndarray
        Charge, peak time and mask of all, not initialised, shape (n, n_pixels).
    """
    shape = n, columns[0].shape[1]
    return [np.empty(shape, dtype) for dtype in (np.float32, np.float32, bool)]


def fetch_prepared(reader, chunk, tel_id, rows, prepare):
    """Fetch images of one telescope, to prepare them for a network in any thread.

    Parameters
    ----------
    reader : EventReader
        The file.
    chunk : EventChunk
        The events.
    tel_id : int
        The telescope.
    rows : numpy.ndarray
        Rows among the telescope's images in the chunk, in order, shape (n,), int. All
        rows between the first and the last are read.
    prepare : InputPreparation
        The network's preparation of images.

    Returns
    -------
    callable
        Returns what ``prepare`` returns. It raises a `DL1FileError` if the file is
        damaged, or its tables do not match, and a `MissingImagesError` if the network
        needs image masks, and there are none.
    """
    events = chunk.event[tel_id][rows]
    fetched = reader.fetch_images(
        tel_id,
        chunk.row[tel_id][rows],
        chunk.obs_id[events],
        chunk.event_id[events],
    )
    return partial(_prepared, reader, tel_id, fetched, prepare)


def _prepared(reader, tel_id, fetched, prepare):
    *images, image_mask = fetched()
    if prepare.needs_mask and image_mask is None:
        network = ", but this network needs them"
        raise MissingImagesError(_without_mask(reader, tel_id, network))
    return prepare(*images, image_mask)


def _without_mask(reader, tel_id, why=""):
    return (
        f"{reader.path} has no image masks of telescope {tel_id}{why}: make it with "
        "'ctapipe-process --write-images --write-parameters'"
    )
