"""Rows of tables, decompressed outside of HDF5.

HDF5 decompresses for one thread of a process at a time, and copies rows slowly. Here it
only fetches the compressed chunks, as they are in the file. Any thread decompresses
them with blosc, which compresses ctapipe's files, and checks their checksums.
"""

import sys
from functools import partial

import numpy as np
import tables
from numba import config, njit

from ..numba_cache import keep_compiled

__all__ = ["fetch_rows", "has_plain_chunks"]

#: Bytes of a checksum, which follows its chunk.
_CHECKSUM_BYTES = 4
#: Words whose sums are computed together, far below 2**63.
_N_WORDS = 1 << 14


def has_plain_chunks(table):
    """Check whether `fetch_rows` finds the rows of a table.

    Tables are compressed in many ways, and their columns stored in many formats: the
    first chunk is tried. A single chunk is not worth it.

    Parameters
    ----------
    table : tables.Table
        The table.

    Returns
    -------
    bool
        Whether it finds what the table's own ``read`` does, and faster.
    """
    if (
        # Then HDF5 is much faster with the checksums.
        config.DISABLE_JIT
        or table.nrows <= table.chunkshape[0]
        or not (table.filters.complib or "").startswith("blosc:")
        or table.byteorder not in (sys.byteorder, "irrelevant")
    ):
        return False
    stop = table.chunkshape[0]
    try:
        rows = fetch_rows(table, 0, stop)()
    except (tables.HDF5ExtError, RuntimeError, ValueError):
        return False
    return rows.tobytes() == table.read(0, stop).tobytes()


def fetch_rows(table, start, stop):
    """Fetch rows of a table that `has_plain_chunks`, without decompressing them.

    Parameters
    ----------
    table : tables.Table
        The table.
    start, stop : int
        The first row, and the one after the last.

    Returns
    -------
    callable
        Returns the rows, as the table's ``read`` does, in any thread; it raises a
        `ValueError` or a `RuntimeError` if they are damaged.
    """
    stop = min(stop, table.nrows)
    size = table.chunkshape[0]
    first = start // size * size
    chunks = [_fetch_chunk(table, row) for row in range(first, stop, size)]
    rows = slice(start - first, stop - first)
    return partial(_decompress, chunks, table.dtype, size, table.filters, rows)


def _fetch_chunk(table, row):
    """A chunk as it is in the file; its rows, if a filter was not applied to it."""
    if table.chunk_info((row,)).filter_mask == 0:
        return table.read_chunk((row,))
    return table.read(row, row + table.chunkshape[0])


def _decompress(chunks, dtype, size, filters, rows):
    found = np.empty(len(chunks) * size, dtype)
    for number, chunk in enumerate(chunks):
        part = found[number * size : (number + 1) * size]
        if isinstance(chunk, np.ndarray):
            part[: len(chunk)] = chunk
            continue
        if filters.fletcher32:
            chunk = _without_checksum(chunk)
        _decompress_chunk(chunk, part)
    return found[rows]


def _decompress_chunk(chunk, rows):
    import blosc2

    # Else other threads would wait.
    blosc2.set_releasegil(True)
    # blosc2 believes this number in the chunk, and would write beyond the rows.
    n_bytes = int.from_bytes(chunk[4:8], "little")
    if n_bytes != rows.nbytes:
        raise ValueError(f"a chunk has {n_bytes} bytes, not {rows.nbytes}")
    blosc2.decompress2(chunk, rows, nthreads=1)


def _without_checksum(chunk):
    """Remove HDF5's checksum from a chunk, after checking it.

    It is Fletcher's: the sum of 16-bit words, and the sum of all its partial sums, both
    modulo 65535. The words are big-endian. Read as little-endian, they are 256 times as
    large, modulo 65535.
    """
    # Not a copy: new memory takes longer than the sums.
    data, stored = memoryview(chunk)[:-_CHECKSUM_BYTES], chunk[-_CHECKSUM_BYTES:]
    whole = data if len(data) % 2 == 0 else bytes(data) + b"\0"
    words = np.frombuffer(whole, "<u2")
    found = [256 * int(value) % 65535 for value in _sum_words(words)]
    if found != [int(n) % 65535 for n in np.frombuffer(stored, "<u2")]:
        raise ValueError("a chunk does not have its checksum")
    return data


@keep_compiled("Compiling the checksum for this machine: a second")
@njit(nogil=True)
def _sum_words(words):
    """Both sums of Fletcher's checksum, modulo 65535."""
    first, second = np.int64(0), np.int64(0)
    for start in range(0, len(words), _N_WORDS):
        part = words[start : start + _N_WORDS]
        total, weighted = np.int64(0), np.int64(0)
        # Independent of each other, so that many are added at once.
        for index in range(len(part)):
            total += np.int64(part[index])
            weighted += (len(part) - index) * np.int64(part[index])
        second = (second + len(part) * first + weighted) % 65535
        first = (first + total) % 65535
    return first, second
