"""γ-PhysNet on whole DL1 files: many images at once, instead of event by event.

The results are those of `GammaPhysNetReconstructor` in ``ctapipe-process``, whose
configuration, networks and counts are used. This module keeps networks and processor
cores busy: images are fetched in blocks, whatever events and telescopes they belong to.
One thread reads and writes the files, which HDF5 does for one thread at a time; others
decompress and prepare a block each, and run the network. The rest is done in arrays of
many events.
"""

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from importlib.metadata import version
from itertools import chain, islice

import numpy as np

from .dl2.combination import combine_table
from .dl2.file import DL2File
from .dl2.telescope_table import telescope_table
from .events.axes import axes_in_table
from .events.event_types import are_allowed, name_allowed, warn_of_others
from .events.images import fetch_prepared
from .files.input_file import DL1FileError, sha256_of_file
from .files.output import whole_file
from .tasks.axis import ImageAxes

__all__ = ["reconstruct_chunks", "reconstruct_file", "settings_of"]

#: Images read at once: enough for some batches, few enough for any memory.
_IMAGES_PER_BLOCK = 1024
#: Images of a telescope that are prepared at once: few enough for a processor's cache.
_IMAGES_PER_PART = 256
#: Blocks that are computed at once: one computes while the other has to wait.
_BLOCKS_AT_ONCE = 2
#: Blocks in memory, including one that is ready when another one is done.
_BLOCKS_AHEAD = _BLOCKS_AT_ONCE + 1
#: Options that do not change the content. The model is compared by its hash. Without a
#: network there are no predictions, with or without a warning.
_NO_SETTINGS = {"load_path", "missing_network", "device", "n_jobs", "batch_size"}
#: Message for events without pointing.
_NO_POINTING = (
    "this model needs it. Attach the monitoring data ('ctapipe-merge MONITORING "
    "--attach-monitoring --append --output FILE', ctapipe newer than 0.28), or use a "
    "model without the conditions zenith and geomagnetic_field, and without the tasks "
    "direction and impact"
)


def reconstruct_file(
    dl1,
    path,
    reconstructor,
    event_types,
    chunk_size,
    images,
    contact,
    instrument,
    progress=None,
):
    """Reconstruct the events of a DL1 file, and write a DL2 file.

    Parameters
    ----------
    dl1 : EventReader
        The DL1 file.
    path : pathlib.Path
        The DL2 file to write; it appears whole or not at all.
    reconstructor : GammaPhysNetReconstructor
        The reconstructor, made for the file's telescopes. Its quality query counts the
        events.
    event_types : ctapipe.utils.EventTypeFilter
        Which types of events are reconstructed; the output has no others.
    chunk_size : int
        Events to read at once.
    images : bool
        Whether to copy the images.
    contact : ctapipe.io.metadata.Contact
        Who to contact about the file.
    instrument : ctapipe.io.metadata.Instrument
        The instrument that took the data.
    progress : callable, optional
        Called after each chunk with its number of events.
    """
    _check_pointing(dl1, reconstructor)
    settings = reconstructor, event_types, images, contact, instrument
    kept = are_allowed(dl1.event_type, event_types)
    warn_of_others(dl1.path, dl1.event_type[kept], event_types)
    name = reconstructor.model_name
    with (
        ThreadPoolExecutor(1) as other,
        whole_file(path) as temporary,
        DL2File(temporary, path, dl1.subarray, reconstructor.prefix, name) as dl2,
    ):
        # The hashes take a while.
        settings = other.submit(settings_of, dl1, *settings)
        chunks = reconstruct_chunks(dl1, reconstructor, chunk_size, kept)
        with closing(chunks) as results:
            # The networks compute while the tables are copied.
            first = list(islice(results, 1))
            dl2.copy(dl1, images, kept)
            for chunk, telescopes, array in chain(first, results):
                _write_chunk(dl2, chunk, telescopes, array)
                if progress is not None:
                    progress(len(chunk))
        empty = dl1.empty_tables()
        if empty is not None:
            dl2.make_tables(reconstructor.kinds, empty)
        statistics = reconstructor.quality_query.to_table(functions=True)
        dl2.finish(dl1, statistics, settings.result(), contact, instrument)


def settings_of(dl1, reconstructor, event_types, images, contact, instrument):
    """Collect everything on which the content of a DL2 file depends.

    Hardware, batches and chunks are not part of it: they change only rounding.

    Parameters
    ----------
    dl1 : EventReader
        The DL1 file.
    reconstructor : GammaPhysNetReconstructor
        The reconstructor.
    event_types : ctapipe.utils.EventTypeFilter
        Which types of events are reconstructed.
    images : bool
        Whether images are copied.
    contact : ctapipe.io.metadata.Contact
        Who to contact about the file.
    instrument : ctapipe.io.metadata.Instrument
        The instrument that took the data.

    Returns
    -------
    dict of str to object
        The settings by name.
    """
    settings = {
        "input (SHA-256)": sha256_of_file(dl1.path),
        "model (SHA-256)": reconstructor.model_name.sha256,
        "version of ctapipe": version("ctapipe"),
        "ApplyGammaPhysNet.dl1_images": images,
        "ApplyGammaPhysNet.focal_length_choice": str(dl1.focal_length_choice),
        "EventTypeFilter.allowed_types": name_allowed(event_types),
    }
    for component in (
        reconstructor,
        reconstructor.quality_query,
        # Those that follow the first one have no options.
        *(combiner for combiner, *_ in reconstructor.stereo_combiners.values()),
        contact,
        instrument,
    ):
        for name in sorted({*component.trait_names(config=True)} - _NO_SETTINGS):
            settings[f"{type(component).__name__}.{name}"] = getattr(component, name)
    return settings


def reconstruct_chunks(dl1, reconstructor, size, kept):
    """Reconstruct the events of a file, chunk by chunk.

    Parameters
    ----------
    dl1 : EventReader
        The file.
    reconstructor : GammaPhysNetReconstructor
        The reconstructor.
    size : int
        Events to read at once.
    kept : numpy.ndarray
        Which events to reconstruct, shape (n_events,), bool.

    Yields
    ------
    chunk : EventChunk
        Some events.
    telescopes : dict of int to dict of str to dict of str to numpy.ndarray
        For each telescope and kind the columns of its container, one row for each event
        that triggered it, in TeV, deg and m.
    array : dict of str to dict of str to numpy.ndarray
        For each kind the columns of its container, one row for each event.
    """
    from .model.predictor import calling_threads

    executor = calling_threads(_BLOCKS_AT_ONCE)
    running, started = deque(), deque()
    try:
        for chunk in dl1.chunks(size):
            chunk = chunk.select(kept[chunk.number])
            blocks = _start_blocks(dl1, chunk, reconstructor, executor, running)
            started.append((chunk, blocks))
            # The network already has the next chunk while this one is written.
            if len(started) > 1:
                yield _finish_chunk(dl1.path, reconstructor, *started.popleft())
        for chunk, blocks in started:
            yield _finish_chunk(dl1.path, reconstructor, chunk, blocks)
    finally:
        executor.shutdown(cancel_futures=True)


def _start_blocks(dl1, chunk, reconstructor, executor, running):
    """Fetch the images of a chunk, and start the networks on them.

    Return network, tel_ids, rows, pointing and the future results of each block.
    ``running`` has the future results of all blocks that may not be finished.
    """
    selected, blocks = _select(dl1.path, chunk, reconstructor), []
    for name in dict.fromkeys(reconstructor.network_of.values()):
        tel_ids = [t for t in selected if reconstructor.network_of[t] == name]
        if reconstructor.needs_pointing(name):
            for tel_id in tel_ids:
                _check_is_finite(dl1.path, chunk, tel_id, selected[tel_id])
        for block in _image_blocks(dl1, chunk, selected, tel_ids, reconstructor):
            *rows, images = zip(*block, strict=True)
            if len(running) == _BLOCKS_AHEAD:
                running.popleft().result()
            pointing = _pointing_of(chunk, *rows)
            arguments = reconstructor, name, images, pointing
            running.append(executor.submit(_run_block, *arguments))
            blocks.append((name, *rows, pointing, running[-1]))
    return blocks


def _run_block(reconstructor, name, images, pointing):
    """Prepare the images of a block, and run the network.

    Return outputs, has_pixels and the background of each telescope's images.
    """
    prepared = (prepare() for prepare in images)
    inputs, has_pixels, backgrounds = zip(*prepared, strict=True)
    inputs = np.concatenate(inputs)
    outputs = reconstructor.run_network(name, inputs, backgrounds, *pointing)
    return outputs, np.concatenate(has_pixels), backgrounds


def _finish_chunk(path, reconstructor, chunk, blocks):
    """Wait for the networks, and make columns from their outputs."""
    telescopes = {
        tel_id: _invalid_columns(reconstructor.kinds, len(events))
        for tel_id, events in chunk.event.items()
    }
    for name, *rows, pointing, future in blocks:
        outputs, has_pixels, backgrounds = future.result()
        for tel_id, part, background in zip(*rows, backgrounds, strict=True):
            altitude_deg = chunk.pointing[tel_id][0][part].to_value("deg")
            reconstructor.watch(name, tel_id, background, altitude_deg, path)
        block = *rows, pointing, has_pixels, outputs
        _fill_columns(chunk, reconstructor, block, telescopes)
    return chunk, telescopes, _combine(chunk, reconstructor, telescopes)


def _select(path, chunk, reconstructor):
    """Find each telescope's rows to reconstruct, with the counts of single events."""
    query, selected = reconstructor.quality_query, {}
    for tel_id, parameters in chunk.parameters.items():
        is_good = query.mask(parameters, path)
        has_network = tel_id in reconstructor.network_of
        query.record("DL1 data", len(parameters))
        query.record("network for telescope type", has_network * len(parameters))
        if has_network and is_good.any():
            selected[tel_id] = np.flatnonzero(is_good)
    return selected


def _check_is_finite(path, chunk, tel_id, rows):
    """Check that the pointing is known at the events whose images are selected."""
    alt, az = (angle[rows] for angle in chunk.pointing[tel_id])
    unknown = np.flatnonzero(~(np.isfinite(alt) & np.isfinite(az)))
    if len(unknown) > 0:
        event = chunk.event[tel_id][rows[unknown[0]]]
        raise DL1FileError(
            f"{path}: the pointing of telescope {tel_id} is not known at event "
            f"{chunk.event_id[event]} of observation {chunk.obs_id[event]}: "
            f"{_NO_POINTING}"
        )


def _invalid_columns(kinds, n):
    """Columns in which nothing is predicted yet."""
    columns = {kind: {} for kind in kinds}
    for values in columns.values():
        values["is_valid"] = np.zeros(n, dtype=bool)
    # The container of impact distances has no flag: NaN marks what is not valid.
    if "impact" in columns:
        del columns["impact"]["is_valid"]
    return columns


def _image_blocks(dl1, chunk, selected, tel_ids, reconstructor):
    """Fetch images for one network, many at once, from one or more telescopes.

    Yields lists of tel_id, rows, and a function that reads and prepares the images.
    """
    size = max(_IMAGES_PER_BLOCK, reconstructor.batch_size)
    block, n_images = [], 0
    for tel_id in tel_ids:
        rows, prepare = selected[tel_id], reconstructor.preparation_of(tel_id)
        # All rows between the first and the last are read.
        limits = np.flatnonzero(np.diff(rows // min(size, _IMAGES_PER_PART))) + 1
        for part in np.split(rows, limits):
            images = fetch_prepared(dl1, chunk, tel_id, part, prepare)
            block.append((tel_id, part, images))
            n_images += len(part)
            if n_images >= size:
                yield block
                block, n_images = [], 0
    if block:
        yield block


def _pointing_of(chunk, tel_ids, parts):
    """Altitude and azimuth at the images of a block."""
    return [
        np.concatenate(
            [chunk.pointing[t][angle][r] for t, r in zip(tel_ids, parts, strict=True)]
        )
        for angle in (0, 1)
    ]


def _fill_columns(chunk, reconstructor, block, telescopes):
    """Fill the telescopes' columns with a network's outputs for a block."""
    tel_ids, parts, pointing, has_pixels, outputs = block
    columns = reconstructor.columns(
        outputs,
        has_pixels,
        np.repeat(tel_ids, [len(rows) for rows in parts]),
        _axes_of(chunk, tel_ids, parts),
        *pointing,
    )
    last = np.cumsum([len(rows) for rows in parts])
    for tel_id, rows, stop in zip(tel_ids, parts, last, strict=True):
        block_rows = slice(stop - len(rows), stop)
        good = has_pixels[block_rows]
        for kind, values in columns.items():
            for field, value in values.items():
                n = len(chunk.event[tel_id])
                target = telescopes[tel_id][kind].setdefault(field, np.full(n, np.nan))
                target[rows[good]] = value[block_rows][good]


def _axes_of(chunk, tel_ids, parts):
    """Axes of the images of a block."""
    axes = [
        axes_in_table(chunk.parameters[tel_id], rows)
        for tel_id, rows in zip(tel_ids, parts, strict=True)
    ]
    return ImageAxes(*map(np.concatenate, zip(*axes, strict=True)))


def _check_pointing(dl1, reconstructor):
    """Check that the pointing of telescopes is known if it is needed."""
    tel_ids = dl1.without_pointing(
        tel_id
        for tel_id, name in reconstructor.network_of.items()
        if reconstructor.needs_pointing(name)
    )
    if tel_ids:
        raise DL1FileError(
            f"{dl1.path} does not have the pointing of "
            f"{'telescope' if len(tel_ids) == 1 else 'telescopes'} "
            f"{', '.join(map(str, tel_ids))}: {_NO_POINTING}"
        )


def _combine(chunk, reconstructor, telescopes):
    """Predictions of the array from those of the telescopes."""
    array, tel_ids = {}, reconstructor.subarray.tel_ids
    table, event = telescope_table(chunk, telescopes, reconstructor.prefix)
    for kind, combiners in reconstructor.stereo_combiners.items():
        array[kind] = combine_table(combiners, table, event, len(chunk), tel_ids)
        n_valid = array[kind]["is_valid"].sum()
        reconstructor.quality_query.record(f"valid {kind} of the array", n_valid)
    return array


def _write_chunk(dl2, chunk, telescopes, array):
    index = {"obs_id": chunk.obs_id, "event_id": chunk.event_id}
    for tel_id, kinds in telescopes.items():
        events = chunk.event[tel_id]
        triggered = {name: values[events] for name, values in index.items()}
        for kind, columns in kinds.items():
            dl2.append_telescope(kind, tel_id, triggered, columns)
    for kind, columns in array.items():
        dl2.append_stereo(kind, index, columns)
