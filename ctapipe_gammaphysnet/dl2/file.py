"""A ctapipe DL2 file, made from a DL1 file and tables of predictions.

The file holds everything in the DL1 file except waveforms, and images only if they are
requested.
"""

import json
import warnings
from hashlib import sha256
from importlib.metadata import version

import numpy as np
import tables
from ctapipe.containers import (
    EventIndexContainer,
    TelEventIndexContainer,
)
from ctapipe.io import DataLevel, HDF5TableWriter, write_table
from ctapipe.io.datawriter import write_reference_metadata_headers
from ctapipe.io.hdf5dataformat import DL1_TEL_IMAGES_GROUP as IMAGES
from ctapipe.io.hdf5dataformat import DL1_TEL_PARAMETERS_GROUP as PARAMETERS
from ctapipe.io.tableio import TelListToMaskTransform

from ..files.container_tables import ContainerTables
from ..files.hdf5_output import verified
from ..files.input_file import CACHE_BYTES, DL1FileError, reading
from ..files.output import writing
from .containers import (
    PROPERTIES,
    array_container,
    group_name,
    group_names,
    telescope_container,
)

__all__ = ["DL2File", "differences"]

_STATISTICS = "/dl2/service/tel_event_statistics/GammaPhysNetReconstructor"
#: ctapipe's, with a lower level: three times as fast, and files are as small.
_FILTERS = tables.Filters(complevel=2, complib="blosc:zstd", fletcher32=True)
#: Attributes that record the file's input, model and settings.
_INPUT = "CONTEXT GAMMAPHYSNET INPUT ID"
_MODEL = "CONTEXT GAMMAPHYSNET MODEL SHA256"
_SETTINGS = "CONTEXT GAMMAPHYSNET SETTINGS"
#: Characters kept of a setting, so that all settings fit into an attribute of HDF5.
_SETTING_LENGTH = 1000
#: Characters of the list of observations in the header, for the same reason.
_OBSERVATIONS_LENGTH = 10_000


class DL2File:
    """A DL2 file that is being written.

    Parameters
    ----------
    path : pathlib.Path
        Where to write.
    name : pathlib.Path
        Its name in messages.
    subarray : ctapipe.instrument.SubarrayDescription
        The telescopes.
    prefix : str
        Common stem of the names of the predictions' groups.
    model : ModelName
        The model of the predictions.

    Raises
    ------
    OutputError
        If it cannot be written; this may show only when it is closed, see
        `files.hdf5_output.verified`.
    """

    def __init__(self, path, name, subarray, prefix, model):
        self.name = name
        self._subarray = subarray
        self._prefix = prefix
        self._model = model
        with writing(name):
            self._writer = HDF5TableWriter(
                path,
                mode="w",
                add_prefix=True,
                filters=_FILTERS,
                chunk_cache_size=CACHE_BYTES,
            )
        self._writer.exclude("dl2/event/telescope/.*", ".*telescopes")
        self._writer.add_column_transform_regexp(
            "dl2/event/subarray/.*", ".*telescopes", TelListToMaskTransform(subarray)
        )
        self._tables = ContainerTables(self._writer)
        self._verified = verified(self._writer.h5file, name)

    def __enter__(self):
        self._verified.__enter__()
        return self

    def __exit__(self, *exception):
        return self._verified.__exit__(*exception)

    @property
    def h5file(self):
        """The open file."""
        return self._writer.h5file

    def copy(self, reader, images, kept=None):
        """Copy the input, except waveforms and predictions under the same names.

        Parameters
        ----------
        reader : EventReader
            The input.
        images : bool
            Whether to copy the images, including true images.
        kept : numpy.ndarray, optional
            Events whose rows are copied, shape (n_events,), bool. Default: all.
        """
        reader.copy_to(self._tables, self.name, images, self._is_left_out, kept)

    def _is_left_out(self, path):
        names = set(group_names(self._prefix).values())
        parts = path.split("/")
        if parts[1:3] == ["dl2", "event"] and len(parts) > 5 and parts[5] in names:
            return True
        return f"{path}/".startswith(f"{_STATISTICS}/")

    def make_tables(self, kinds, tel_ids):
        """Make tables without rows, for a file to which no event will be appended.

        A file without events can be merged with others only if it has the tables.

        Parameters
        ----------
        kinds : list of str
            Kinds of predictions: keys of `dl2.containers.CONTAINERS`.
        tel_ids : list of int
            Telescopes.
        """
        nothing = np.array([], dtype=int)
        index = {"obs_id": nothing, "event_id": nothing}
        for kind in kinds:
            for tel_id in tel_ids:
                self.append_telescope(kind, tel_id, index, {})
            if kind in PROPERTIES:
                self.append_stereo(kind, index, {})

    def append_telescope(self, kind, tel_id, index, columns):
        """Append predictions of one telescope.

        Parameters
        ----------
        kind : str
            Kind of prediction: a key of `dl2.containers.CONTAINERS`.
        tel_id : int
            The telescope.
        index : dict of str to numpy.ndarray
            ``obs_id`` and ``event_id``, shape (n,), int.
        columns : dict of str to numpy.ndarray
            Fields of the container, shape (n,), in its units; missing fields keep
            their defaults.
        """
        name = group_name(self._prefix, kind)
        container = telescope_container(self._prefix, kind)
        container.meta = self._model.attributes()
        index = index | {"tel_id": np.full(len(index["obs_id"]), tel_id, np.int16)}
        self._append(
            f"dl2/event/telescope/{kind}/{name}/tel_{tel_id:03d}",
            TelEventIndexContainer,
            container,
            index,
            columns,
        )

    def append_stereo(self, kind, index, columns):
        """Append predictions of the array.

        Parameters
        ----------
        kind : str
            Kind of prediction: a key of `dl2.containers.PROPERTIES`.
        index : dict of str to numpy.ndarray
            ``obs_id`` and ``event_id``, shape (n,), int.
        columns : dict of str to numpy.ndarray
            Fields of the container, shape (n,), in its units; ``telescopes`` is a
            mask, shape (n, n_telescopes).
        """
        name = group_name(self._prefix, kind)
        self._append(
            f"dl2/event/subarray/{kind}/{name}",
            EventIndexContainer,
            array_container(self._prefix, kind, self._model, telescopes=[]),
            index,
            columns,
        )

    def _append(self, table_name, index_class, container, index, columns):
        with writing(self.name):
            zeros = {name: values.dtype.type() for name, values in index.items()}
            self._tables.append(
                table_name,
                [index_class(**zeros), container],
                index
                | {f"{container.prefix}_{name}": v for name, v in columns.items()},
            )

    def finish(self, dl1, statistics, settings, contact, instrument):
        """Write the statistics of the selection and the file's header.

        Parameters
        ----------
        dl1 : EventReader
            The file it was made from.
        statistics : astropy.table.Table
            Counts of the selection.
        settings : dict of str to object
            Settings on which the content depends, for `differences`.
        contact : ctapipe.io.metadata.Contact
            Who to contact about it.
        instrument : ctapipe.io.metadata.Instrument
            The instrument that took the data.
        """
        levels = {
            DataLevel.DL1_IMAGES: IMAGES,
            DataLevel.DL1_PARAMETERS: PARAMETERS,
            DataLevel.DL1_MUON: "/dl1/event/telescope/muon",
        }
        with writing(self.name):
            write_table(statistics, self.h5file, _STATISTICS)
            write_reference_metadata_headers(
                obs_ids=_short_list(dl1.obs_ids),
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
                attributes = self.h5file.root._v_attrs
                attributes[_INPUT] = dl1.product_id
                attributes[_MODEL] = self._model.sha256
                attributes[_SETTINGS] = json.dumps(_short_settings(settings))


def _short_list(obs_ids):
    """Numbers of observations for the header: all of them, if they fit."""
    if len(",".join(map(str, obs_ids))) <= _OBSERVATIONS_LENGTH:
        return obs_ids
    # The table of the observations has all of them.
    return [f"{min(obs_ids)}-{max(obs_ids)}"]


def _short_settings(settings):
    """Shorten long settings, so that all of them fit into an attribute."""
    settings = {"version": version("ctapipe_gammaphysnet"), **settings}
    texts = {name: json.dumps(v, default=str) for name, v in settings.items()}
    return {
        name: text
        if len(text) <= _SETTING_LENGTH
        else f"{text[:100]}... (SHA-256 {sha256(text.encode()).hexdigest()})"
        for name, text in texts.items()
    }


def differences(path, settings):
    """Find how a DL2 file differs from the one that would be written now.

    Parameters
    ----------
    path : pathlib.Path
        The file; it is complete if this package wrote it.
    settings : dict of str to object
        Settings on which the content depends, as for `DL2File.finish`.

    Returns
    -------
    list of str
        The settings that differ, with both values; empty if it is the same file.
    """
    now = _short_settings(settings)
    try:
        with reading(path), tables.open_file(path) as file:
            attributes = file.root._v_attrs
            text = attributes[_SETTINGS] if _SETTINGS in attributes else "null"
        before = dict(json.loads(text))
    except DL1FileError as error:
        return [str(error)]
    except (ValueError, TypeError):
        return ["it does not say how it was made"]
    return [
        f"{name} was {before.get(name, 'not known')}, is {now.get(name, 'not known')}"
        for name in now | before
        if now.get(name) != before.get(name)
    ]
