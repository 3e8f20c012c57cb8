"""Compare an HDF5 file with what was written to it.

HDF5 reports no error if it cannot write all of a file when it closes it: on a full
disk, tables can be missing from a file that opens and reads well.
"""

import contextlib
import warnings
import zlib

import numpy as np
import tables

from .output import OutputError, writing

__all__ = ["contents", "new_file", "verified"]

#: Bytes of an array to read at once.
_READ_BYTES = 2**24
#: HDF5's cache for each table; each is read once, from its start.
_CACHE_BYTES = 2**20


@contextlib.contextmanager
def verified(file, path):
    """Close a file after writing, and compare it with what was written to it.

    Parameters
    ----------
    file : tables.File
        The file. It is closed when the context is left, whatever happens.
    path : pathlib.Path
        Its name in messages.

    Yields
    ------
    tables.File
        The file.

    Raises
    ------
    OutputError
        If something is missing from it, or is not what was written.
    """
    name = file.filename
    try:
        yield file
        with writing(path):
            file.flush()
            expected = contents(file)
    finally:
        with writing(path):
            file.close()
    with writing(path), tables.open_file(name, chunk_cache_size=_CACHE_BYTES) as again:
        found = contents(again)
    wrong = [node for node in expected if found.get(node) != expected[node]]
    if wrong:
        raise OutputError(
            f"{path} cannot be written: is the disk full? ({len(wrong)} of "
            f"{len(expected)} groups and tables are not as they were written, such as "
            f"{wrong[0]})"
        )


@contextlib.contextmanager
def new_file(path):
    """Make a new file that is `verified`, and in which any name is allowed.

    Parameters
    ----------
    path : pathlib.Path
        Where to make it.

    Yields
    ------
    tables.File
        The open file.

    Raises
    ------
    OutputError
        As for `verified`.
    """
    with (
        warnings.catch_warnings(),
        verified(tables.open_file(path, "w"), path) as file,
    ):
        # Names of models and of ctapipe's attributes need not be Python names.
        warnings.simplefilter("ignore", tables.NaturalNameWarning)
        yield file


def contents(file):
    """Summarise the content of a file.

    Parameters
    ----------
    file : tables.File
        The open file.

    Returns
    -------
    dict of str to tuple
        For each group and table: type, attributes, and number, type and checksum of
        its rows, as they are stored.
    """
    return {
        node._v_pathname: (*_attributes(node), *_rows(node))
        for node in file.walk_nodes("/")
    }


def _attributes(node):
    attributes = node._v_attrs
    return (
        type(node).__name__,
        *(
            (name, repr(np.asarray(attributes[name]).tolist()))
            for name in sorted(attributes._v_attrnamesuser)
        ),
    )


def _rows(node):
    if not isinstance(node, tables.Leaf):
        return ()
    dtype = str(getattr(node, "dtype", None))
    checksum = 0
    for part in _chunks(node) if isinstance(node, tables.Table) else _arrays(node):
        checksum = zlib.crc32(part, checksum)
    return node.nrows, dtype, checksum


def _chunks(table):
    """Chunks of a table, as they are in the file: compressed, if the table is."""
    for start in range(0, table.nrows, *table.chunkshape):
        yield table.read_chunk((start,))


def _arrays(leaf):
    # Rows of different lengths have no size, and are read as a list.
    step = max(1, _READ_BYTES // max(getattr(leaf, "rowsize", 1024), 1))
    for start in range(0, leaf.nrows, step):
        rows = leaf.read(start, start + step)
        for array in rows if isinstance(rows, list) else [rows]:
            yield np.ascontiguousarray(array).tobytes()
