"""Batches of images for training and validation, streamed from their files.

The images of a batch depend only on the index, the seed and the number of the step: a
training that is resumed, or split between processes, sees the same batches.
"""

import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import NamedTuple

import numpy as np

from ..events.images import empty_columns, read_blocks, starts_of_blocks
from ..events.opening import open_images

__all__ = ["Images", "TrainingStream", "ValidationStream", "read_images"]

#: Batches that are prepared while the network computes.
_BATCHES_AHEAD = 4
#: PyTables may be used by one thread at a time.
_PYTABLES = threading.Lock()


class Images(NamedTuple):
    """Images, as stored in the files, with their rows in the index.

    Attributes
    ----------
    row : numpy.ndarray
        Their rows in the index, shape (n,), int64.
    image, peak_time, image_mask : numpy.ndarray
        As in `events.images.Images`.
    """

    row: np.ndarray
    image: np.ndarray
    peak_time: np.ndarray
    image_mask: np.ndarray

    def part(self, where):
        """Select images.

        Parameters
        ----------
        where : slice or numpy.ndarray
            Rows to select.

        Returns
        -------
        Images
            The selected ones.
        """
        return Images(*(column[where] for column in self))


def _join(parts):
    return Images(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def read_images(paths, index, rows):
    """Read images from their files.

    Parameters
    ----------
    paths : sequence of pathlib.Path
        The files, in the order of their numbers in the index.
    index : EventIndex
        Index of the images, in the order of files, telescopes and rows.
    rows : array_like of int
        Rows of the index, shape (n,).

    Returns
    -------
    Images
        The images, in the order of ``rows``.

    Raises
    ------
    DL1FileError
        If a file cannot be read.
    """
    rows = np.asarray(rows)
    images = None
    for number in np.unique(index.file[rows]):
        of_file = np.flatnonzero(index.file[rows] == number)
        selected = index.select(rows[of_file])
        keys = selected.tel_id, selected.row, selected.obs_id, selected.event_id
        with _PYTABLES, open_images(paths[number]) as reader:
            for block, columns in read_blocks(reader, *keys):
                if images is None:
                    images = Images(rows, *empty_columns(len(rows), columns))
                for values, column in zip(columns, images[1:], strict=True):
                    column[of_file[block]] = values
    return images


def _pairs(edges):
    return zip(edges[:-1], edges[1:], strict=True)


def _shuffled_windows(starts, size, rng):
    """Rows of an index in random order, in windows that are read at once.

    Blocks are drawn at random into a window until it has about ``size`` rows, which are
    then shuffled. Windows have equal sizes: a small last one would mix badly.
    """
    blocks = rng.permutation(len(starts) - 1)
    lengths = np.diff(starts)[blocks]
    equal_size = starts[-1] / np.ceil(starts[-1] / size)
    # A block goes to the window that contains the middle of its rows.
    number = ((np.cumsum(lengths) - lengths / 2) // equal_size).astype(int)
    edges = np.concatenate([[0], np.flatnonzero(np.diff(number)) + 1, [len(blocks)]])
    for first, last in _pairs(edges):
        yield rng.permutation(
            np.concatenate(
                [np.arange(starts[b], starts[b + 1]) for b in blocks[first:last]]
            )
        )


def _endless_windows(rows, starts, size, seed, position):
    """Windows of repeated passes through the rows, from a position on.

    Yields the position of a window's first row, and the window.
    """
    number, skipped = divmod(position, len(rows))
    first = position - skipped
    while True:
        rng = np.random.default_rng([*seed, number])
        for window in _shuffled_windows(starts, size, rng):
            if first + len(window) > position:
                begin = max(position - first, 0)
                yield first + begin, rows[window[begin:]]
            first += len(window)
        number += 1


def _cut(windows, size):
    """Cut windows of images into pieces of a fixed size, across their edges."""
    pieces, missing = [], size
    for window in windows:
        start = 0
        while start < len(window.row):
            pieces.append(window.part(slice(start, start + missing)))
            start += len(pieces[-1].row)
            missing -= len(pieces[-1].row)
            if missing == 0:
                yield _join(pieces)
                pieces, missing = [], size


def _ahead(items, depth):
    """Iterate while a thread prepares the next items."""
    end = object()
    with ThreadPoolExecutor(1) as pool, closing(items):
        futures = deque(pool.submit(next, items, end) for _ in range(depth))
        try:
            while (item := futures.popleft().result()) is not end:
                futures.append(pool.submit(next, items, end))
                yield item
        finally:
            pool.shutdown(cancel_futures=True)


class TrainingStream:
    """Batches of shuffled images, epoch after epoch.

    All batches have the same share of signal. Each class is passed through again and
    again, in a new order each time. An epoch has as many images as the index.

    Parameters
    ----------
    paths, index : sequence of pathlib.Path, EventIndex
        As in `read_images`.
    make_batch : callable
        Function of `Images` and the number of the step, that returns a batch.
    batch_size : int
        Images in a batch, of all processes together.
    signal_fraction : float or None
        Share of signal in each batch. None: the share in the index.
    window : int
        Number of images that are shuffled together.
    seed : int
        Seed of the order.
    rank, n_processes : int
        Number of this process, and number of processes that split each batch.

    Attributes
    ----------
    step : int
        Number of the next batch, counted from the start of the training; can be set.
    counts : dict of int to int
        Number of images in a batch, by label.
    """

    def __init__(
        self,
        paths,
        index,
        make_batch,
        batch_size,
        signal_fraction,
        window,
        seed,
        rank=0,
        n_processes=1,
    ):
        self._paths = paths
        self._index = index
        self._make_batch = make_batch
        self._window = window
        self._seed = seed
        self._rank = rank
        self._n_processes = n_processes
        self.counts = _counts(index.label, batch_size, signal_fraction)
        self.step = 0
        self._batches = None
        self._next = None

    def __len__(self):
        """Steps in an epoch."""
        return max(len(self._index) // sum(self.counts.values()), 1)

    def __iter__(self):
        """Yield the batches of an epoch from the current step on."""
        if self._next != self.step:
            self.close()
            self._batches = _ahead(self._read_batches(self.step), _BATCHES_AHEAD)
            self._next = self.step
        for _ in range(self.step % len(self), len(self)):
            batch = next(self._batches)
            self.step += 1
            self._next += 1
            yield batch

    def close(self):
        """Stop reading."""
        if self._batches is not None:
            self._batches.close()
            self._batches = self._next = None

    def _read_batches(self, step):
        # With more processes than images of a class in a batch, some get none.
        streams = [
            self._read_class(label, count, step)
            for label, count in self.counts.items()
            if count > self._rank
        ]
        try:
            for number, pieces in enumerate(zip(*streams, strict=True), step):
                yield self._make_batch(_join(pieces), number)
        finally:
            for stream in streams:
                stream.close()

    def _read_class(self, label, count, step):
        """This process's part of one class in each batch."""
        rows = np.flatnonzero(self._index.label == label)
        of_class = self._index.select(rows)
        starts = starts_of_blocks(of_class.file, of_class.tel_id, row=of_class.row)
        size = max(self._window * count // sum(self.counts.values()), count)

        def read():
            windows = _endless_windows(
                rows, starts, size, (self._seed, label), step * count
            )
            for position, window in windows:
                slot = np.arange(position, position + len(window)) % count
                mine = window[slot % self._n_processes == self._rank]
                if len(mine) > 0:
                    yield read_images(self._paths, self._index, mine)

        n_mine = len(range(self._rank, count, self._n_processes))
        windows = _ahead(read(), 1)
        with closing(windows):
            yield from _cut(windows, n_mine)


def _counts(label, batch_size, signal_fraction):
    """Number of images of each label in a batch."""
    labels = np.unique(label).tolist()
    if len(labels) == 1:
        return {labels[0]: batch_size}
    if signal_fraction is None:
        signal_fraction = np.mean(label == 0)
    n_signal = int(np.clip(round(batch_size * signal_fraction), 1, batch_size - 1))
    return {0: n_signal, 1: batch_size - n_signal}


class ValidationStream:
    """Batches of all images of an index, in its order.

    Parameters
    ----------
    paths, index : sequence of pathlib.Path, EventIndex
        As in `read_images`.
    make_batch : callable
        Function of `Images` that returns a batch.
    batch_size : int
        Images in a batch of this process.
    rank, n_processes : int
        Number of this process, and number of processes that split the images.

    Attributes
    ----------
    index : EventIndex
        The index.
    """

    def __init__(self, paths, index, make_batch, batch_size, rank=0, n_processes=1):
        self._paths = paths
        self.index = index
        self._make_batch = make_batch
        rows = np.array_split(np.arange(len(index)), n_processes)[rank]
        self._batches = np.array_split(rows, range(batch_size, len(rows), batch_size))

    def __len__(self):
        return len(self._batches)

    def __iter__(self):
        return _ahead(self._read_batches(), _BATCHES_AHEAD)

    def _read_batches(self):
        for rows in self._batches:
            yield self._make_batch(read_images(self._paths, self.index, rows))
