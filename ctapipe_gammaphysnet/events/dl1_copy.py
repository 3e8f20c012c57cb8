"""Copy a ctapipe file into a DL2 file, without waveforms."""

import warnings
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tables
from numpy.lib.recfunctions import repack_fields

from ..announce import warn_once
from ..compat import PARTICLE_TYPE
from ..files.output import writing
from .dl1_format import IMAGES, TRUE_IMAGES

__all__ = ["copy_file"]

#: Bytes of a table that are copied at once.
_COPIED_BYTES = 2**22
#: Such parts that are decompressed ahead.
_PARTS_AHEAD = 2


def copy_file(dl1, h5file, name, images, is_left_out, ids=None):
    """Copy the content of a DL1 file, as in `EventReader.copy_to`.

    Parameters
    ----------
    dl1 : DL1File
        The file.
    h5file, name, images, is_left_out : tables.File, pathlib.Path, bool, callable
        As in `EventReader.copy_to`.
    ids : list of numpy.ndarray, optional
        ``obs_id`` and ``event_id`` of the events to copy. Default: all.
    """
    kept = None if ids is None else _by_observation(*ids)
    left_out = ("/r0/", "/r1/") + (() if images else (f"{IMAGES}/",))

    def _is_wanted(node):
        path = node._v_pathname
        return not (f"{path}/".startswith(left_out) or is_left_out(path))

    with warnings.catch_warnings():
        # ctapipe's names of attributes are not Python's.
        warnings.simplefilter("ignore", tables.NaturalNameWarning)
        for group in filter(_is_wanted, dl1.h5file.walk_groups("/")):
            with writing(name):
                target = _copy_group(group, h5file)
            for leaf in filter(_is_wanted, group._f_iter_nodes("Leaf")):
                if isinstance(leaf, tables.Table):
                    _copy_table(dl1, leaf, target, name, images, kept)
                elif _can_be_copied(leaf):
                    with dl1.reading():
                        leaf.copy(target)
                else:
                    warn_once(
                        f"{dl1.path}: {leaf._v_pathname} is not copied: ctapipe does "
                        "not write this kind of node"
                    )


def _copy_group(group, h5file):
    path = group._v_pathname
    if path == "/":
        target = h5file.root
    else:
        # ctapipe does the same with files that have the old name of the group.
        if path.startswith("/dl2/event/"):
            path = path.replace("/classification", f"/{PARTICLE_TYPE}")
        parent, _, name = path.rpartition("/")
        target = h5file.create_group(parent or "/", name)
    group._v_attrs._f_copy(target)
    return target


def _by_observation(obs_id, event_id):
    """Ids of the events of each observation."""
    observations, index = np.unique(obs_id, return_inverse=True)
    order = np.argsort(index, kind="stable")
    starts = np.searchsorted(index[order], np.arange(len(observations)))
    _, *parts = np.split(event_id[order], starts)
    return dict(zip(observations.tolist(), parts, strict=True))


def _copy_table(dl1, table, group, name, images, kept):
    left_out = set()
    if not images and table._v_pathname.startswith(f"{TRUE_IMAGES}/"):
        left_out = {"true_image"}
    with writing(name):
        copy = _empty_copy(table, group, left_out)
    is_selected = kept is not None and {"obs_id", "event_id"} <= {*table.colnames}
    as_it_is = not is_selected and _takes_chunks(table, copy)
    # Always read, to notice a damaged table.
    for rows in _read_ahead(dl1, table):
        if is_selected:
            rows = rows[_are_kept(rows, kept)]
        if not as_it_is:
            with writing(name):
                copy.append(repack_fields(rows[copy.colnames]))
    if as_it_is:
        _copy_chunks(dl1, table, copy, name)


def _read_ahead(dl1, table):
    """Yield the rows of a table, part by part, while others are decompressed."""
    step, parts = max(1, _COPIED_BYTES // table.rowsize), deque()
    with ThreadPoolExecutor(_PARTS_AHEAD) as executor:
        for start in range(0, table.nrows, step):
            stop = min(start + step, table.nrows)
            parts.append(executor.submit(dl1.fetch(table._v_pathname, start, stop)))
            if len(parts) > _PARTS_AHEAD:
                yield parts.popleft().result()
        while parts:
            yield parts.popleft().result()


def _are_kept(rows, kept):
    """Find rows of events that are kept, shape (n,), bool."""
    found = np.zeros(len(rows), dtype=bool)
    for obs_id in np.unique(rows["obs_id"]).tolist():
        of_this = rows["obs_id"] == obs_id
        found[of_this] = np.isin(rows["event_id"][of_this], kept.get(obs_id, []))
    return found


def _takes_chunks(table, copy):
    """Whether chunks of a table mean the same in its copy, which has no rows yet.

    PyTables does not support all filters of HDF5: the first chunk is tried.
    """
    if (
        table.nrows == 0
        or copy.description._v_dtype != table.description._v_dtype
        or copy.byteorder != table.byteorder
        or copy.chunkshape != table.chunkshape
        or "NROWS" not in table.attrs
    ):
        return False
    n_rows = min(table.nrows, *table.chunkshape)
    try:
        mask = table.chunk_info((0,)).filter_mask
        copy.truncate(n_rows)
        copy.write_chunk((0,), table.read_chunk((0,)), filter_mask=mask)
        is_same = copy.read(0, n_rows).tobytes() == table.read(0, n_rows).tobytes()
    except tables.HDF5ExtError:
        is_same = False
    copy.truncate(0)
    return is_same


def _copy_chunks(dl1, table, copy, name):
    """Copy rows without compressing them again, which would be much slower."""
    with writing(name):
        copy.truncate(table.nrows)
        copy.attrs.NROWS = table.attrs.NROWS
    for start in range(0, table.nrows, copy.chunkshape[0]):
        with dl1.reading():
            chunk = table.read_chunk((start,))
            mask = table.chunk_info((start,)).filter_mask
        with writing(name):
            copy.write_chunk((start,), chunk, filter_mask=mask)


def _can_be_copied(leaf):
    """Whether PyTables can copy a leaf that is not a table, without running code."""
    try:
        for name in leaf._v_attrs._v_attrnames:
            leaf._v_attrs[name]
    except KeyError:  # for example HDF5 references
        return False
    # Objects are pickled: reading them runs code.
    is_object = isinstance(getattr(leaf, "atom", None), tables.ObjectAtom)
    return not (is_object or isinstance(leaf, tables.UnImplemented))


def _empty_copy(table, group, left_out):
    """A copy of a table without its rows and some columns."""
    if not left_out & set(table.colnames):
        return table.copy(group, stop=0)
    kept = [name for name in table.colnames if name not in left_out]
    copy = group._v_file.create_table(
        group,
        table.name,
        description=np.dtype([(name, table.dtype[name]) for name in kept]),
        title=table.title,
        filters=table.filters,
        expectedrows=table.nrows,
    )
    # ctapipe's attributes of a column have its position in their names.
    for name in table.attrs._v_attrnamesuser:
        field, _, rest = name.removeprefix("CTAFIELD_").partition("_")
        if not name.startswith("CTAFIELD_"):
            copy.attrs[name] = table.attrs[name]
        elif (column := table.colnames[int(field)]) in kept:
            position = kept.index(column)
            copy.attrs[f"CTAFIELD_{position}_{rest}"] = table.attrs[name]
    return copy
