"""A ctapipe DL2 file, made of a DL1 file and tables of predictions.

The file holds all that the DL1 file does, but for images, unless they are asked for,
and waveforms. It appears whole or not at all.
"""

import contextlib
import os
import secrets
import warnings

import numpy as np
import tables
from ctapipe.containers import (
    EventIndexContainer,
    TelEventIndexContainer,
)
from ctapipe.core import ToolConfigurationError
from ctapipe.io import DataLevel, HDF5TableWriter, write_table
from ctapipe.io.datawriter import write_reference_metadata_headers
from ctapipe.io.tableio import TelListToMaskTransform
from numpy.lib.recfunctions import repack_fields

from .compat import PARTICLE_TYPE
from .dl1_file import CACHE_BYTES
from .dl2 import CONTAINERS, group_names, telescope_container

__all__ = ["DL2File", "DL2FileError", "is_complete", "whole_file"]

_STATISTICS = "/dl2/service/tel_event_statistics/GammaPhysNetReconstructor"
#: Attributes of the file that tell from what it was made.
_INPUT = "CONTEXT GAMMAPHYSNET INPUT ID"
_MODEL = "CONTEXT GAMMAPHYSNET MODEL SHA256"
#: How much of a table is copied at once.
_COPIED_BYTES = 2**24


class DL2FileError(ToolConfigurationError, ValueError):
    """The output cannot be written; the message says why."""


@contextlib.contextmanager
def whole_file(path):
    """Make a file that appears whole or not at all.

    Parameters
    ----------
    path : pathlib.Path
        The file. Its folder must exist; a file of that name is replaced.

    Yields
    ------
    pathlib.Path
        Where to write it: under another name in the same folder, which ends in
        ``.part``. It gets its own name when the context is left without error, and is
        removed otherwise.

    Raises
    ------
    DL2FileError
        If the file, once written, cannot be read in full.
    """
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        yield temporary
        with _writing(path):
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            _read_all(temporary)
            os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _read_all(path):
    """Read a file: HDF5 does not tell of all that could not be written to a disk."""
    with tables.open_file(path, chunk_cache_size=CACHE_BYTES) as file:
        for leaf in file.walk_nodes("/", "Leaf"):
            step = max(1, _COPIED_BYTES // max(leaf.rowsize, 1))
            for start in range(0, leaf.nrows, step):
                leaf.read(start, start + step)


@contextlib.contextmanager
def _writing(path):
    """Say which file it is if something cannot be written."""
    try:
        yield
    except (tables.HDF5ExtError, OSError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise DL2FileError(
            f"{path} cannot be written: is the disk full? ({reason})"
        ) from error


class DL2File:
    """A DL2 file that is being written.

    Parameters
    ----------
    path : pathlib.Path
        Where to write.
    name : pathlib.Path
        What to call it in messages.
    subarray : ctapipe.instrument.SubarrayDescription
        The telescopes.
    prefix : str
        Common stem of the names of the predictions' groups.
    """

    def __init__(self, path, name, subarray, prefix):
        self.name = name
        self._subarray = subarray
        self._prefix = prefix
        self._templates = {}
        with _writing(name):
            self._writer = HDF5TableWriter(
                path, mode="w", add_prefix=True, chunk_cache_size=CACHE_BYTES
            )
        self._writer.exclude("dl2/event/telescope/.*", ".*telescopes")
        self._writer.add_column_transform_regexp(
            "dl2/event/subarray/.*", ".*telescopes", TelListToMaskTransform(subarray)
        )

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        with _writing(self.name):
            self._writer.close()

    @property
    def h5file(self):
        """The open file."""
        return self._writer.h5file

    def copy(self, dl1, images):
        """Copy what the DL1 file holds, but for waveforms and predictions like ours.

        Parameters
        ----------
        dl1 : DL1File
            The file.
        images : bool
            Whether to copy the images, true ones included.
        """
        with warnings.catch_warnings():
            # ctapipe's names of attributes are not Python's.
            warnings.simplefilter("ignore", tables.NaturalNameWarning)
            for group in dl1.h5file.walk_groups("/"):
                if self._is_left_out(group._v_pathname, images):
                    continue
                with _writing(self.name):
                    target = self._copy_group(group)
                for leaf in group._f_iter_nodes("Leaf"):
                    if self._is_left_out(leaf._v_pathname, images):
                        continue
                    if isinstance(leaf, tables.Table):
                        self._copy_table(dl1, leaf, target, images)
                    else:
                        with dl1.reading():
                            leaf.copy(target)

    def _is_left_out(self, path, images):
        left_out = ["/r0", "/r1", _STATISTICS]
        if not images:
            left_out.append("/dl1/event/telescope/images")
        names = set(group_names(self._prefix).values())
        parts = path.split("/")
        if parts[1:3] == ["dl2", "event"] and len(parts) > 5 and parts[5] in names:
            return True
        return any(f"{path}/".startswith(f"{other}/") for other in left_out)

    def _copy_group(self, group):
        path = group._v_pathname
        if path == "/":
            target = self.h5file.root
        else:
            # As ctapipe does with files from before the group was renamed.
            path = path.replace("/classification", f"/{PARTICLE_TYPE}")
            parent, _, name = path.rpartition("/")
            target = self.h5file.create_group(parent or "/", name)
        group._v_attrs._f_copy(target)
        return target

    def _copy_table(self, dl1, table, group, images):
        left_out = set()
        if not images and table._v_pathname.startswith(
            "/simulation/event/telescope/images/"
        ):
            left_out = {"true_image"}
        with _writing(self.name):
            copy = _empty_copy(table, group, left_out)
        as_it_is = copy.description._v_dtype == table.description._v_dtype
        step = max(1, _COPIED_BYTES // table.rowsize)
        for start in range(0, table.nrows, step):
            # In any case: this is how a damaged table is noticed.
            with dl1.reading():
                rows = table.read(start, start + step)
            if not as_it_is:
                with _writing(self.name):
                    copy.append(repack_fields(rows[copy.colnames]))
        if as_it_is:
            self._copy_chunks(dl1, table, copy)

    def _copy_chunks(self, dl1, table, copy):
        """Copy rows without compressing them again, which would take far longer."""
        with _writing(self.name):
            copy.truncate(table.nrows)
            copy.attrs.NROWS = table.attrs.NROWS
        for start in range(0, table.nrows, copy.chunkshape[0]):
            with dl1.reading():
                chunk = table.read_chunk((start,))
                mask = table.chunk_info((start,)).filter_mask
            with _writing(self.name):
                copy.write_chunk((start,), chunk, filter_mask=mask)

    def append_telescope(self, kind, tel_id, index, columns):
        """Append predictions of one telescope.

        Parameters
        ----------
        kind : str
            Which: a key of `dl2.CONTAINERS`.
        tel_id : int
            The telescope.
        index : dict of str to numpy.ndarray
            ``obs_id`` and ``event_id``, shape (n,), int.
        columns : dict of str to numpy.ndarray
            Fields of the container, shape (n,), in its units; fields that are not
            there keep their defaults.
        """
        name = group_names(self._prefix)[kind]
        index = index | {"tel_id": np.full(len(index["obs_id"]), tel_id, np.int16)}
        self._append(
            f"dl2/event/telescope/{kind}/{name}/tel_{tel_id:03d}",
            TelEventIndexContainer,
            telescope_container(self._prefix, kind),
            index,
            columns,
        )

    def append_stereo(self, kind, index, columns):
        """Append predictions of the array.

        Parameters
        ----------
        kind : str
            Which: a key of `dl2.PROPERTIES`.
        index : dict of str to numpy.ndarray
            ``obs_id`` and ``event_id``, shape (n,), int.
        columns : dict of str to numpy.ndarray
            Fields of the container, shape (n,), in its units; ``telescopes`` is a
            mask, shape (n, n_telescopes).
        """
        name = group_names(self._prefix)[kind]
        self._append(
            f"dl2/event/subarray/{kind}/{name}",
            EventIndexContainer,
            CONTAINERS[kind][0](prefix=name, telescopes=[]),
            index,
            columns,
        )

    def _append(self, table_name, index_class, container, index, columns):
        with _writing(self.name):
            if table_name not in self._templates:
                # ctapipe makes the table, for one row, from its containers; the row is
                # then the template of all rows.
                first = {name: values[0] for name, values in index.items()}
                self._writer.write(table_name, [index_class(**first), container])
                table = self.h5file.root[table_name]
                table.flush()
                self._templates[table_name] = table[:]
                table.remove_rows(0)
            template = self._templates[table_name]
            rows = np.repeat(template, len(index["obs_id"]))
            for name, values in index.items():
                rows[name] = values
            for name, values in columns.items():
                rows[f"{container.prefix}_{name}"] = values
            self.h5file.root[table_name].append(rows)

    def finish(self, dl1, statistics, model, contact, instrument):
        """Write the statistics of the selection and the file's header.

        Parameters
        ----------
        dl1 : DL1File
            The file it was made from.
        statistics : astropy.table.Table
            Counts of the selection.
        model : str
            Hash of the model file.
        contact : ctapipe.io.metadata.Contact
            Who to contact about it.
        instrument : ctapipe.io.metadata.Instrument
            What took the data.
        """
        levels = {
            DataLevel.DL1_IMAGES: "/dl1/event/telescope/images",
            DataLevel.DL1_PARAMETERS: "/dl1/event/telescope/parameters",
            DataLevel.DL1_MUON: "/dl1/event/telescope/muon",
        }
        with _writing(self.name):
            write_table(statistics, self.h5file, _STATISTICS)
            write_reference_metadata_headers(
                obs_ids=dl1.obs_ids,
                subarray=self._subarray,
                writer=self._writer,
                is_simulation=dl1.is_simulation,
                data_levels=[
                    *(level for level, group in levels.items() if group in self.h5file),
                    DataLevel.DL2,
                ],
                contact_info=contact,
                instrument_info=instrument,
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", tables.NaturalNameWarning)
                self.h5file.root._v_attrs[_INPUT] = dl1.product_id
                self.h5file.root._v_attrs[_MODEL] = model
            self.h5file.flush()


def is_complete(path, dl1, model):
    """Tell whether a file is what a DL1 file and a model give.

    Parameters
    ----------
    path : pathlib.Path
        The file, which was written as a whole if it was written by this package.
    dl1 : DL1File
        The DL1 file.
    model : str
        Hash of the model file.

    Returns
    -------
    bool
        Whether it was made of them.
    """
    try:
        with tables.open_file(path) as file:
            attributes = file.root._v_attrs
            made_of = [
                attributes[name] if name in attributes else None
                for name in (_INPUT, _MODEL)
            ]
    except (tables.HDF5ExtError, OSError):
        return False
    return made_of == [dl1.product_id, model]


def _empty_copy(table, group, left_out):
    """A table like another, without rows and some columns."""
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
