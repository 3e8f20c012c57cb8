"""Tables of an explanation: one HDF5 file with all results, and ECSV."""

import json
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version

from astropy.table import Column, vstack
from ctapipe.io import read_table, write_table

from ..files.ecsv import write_ecsv
from ..files.hdf5_output import new_file
from .explainer import PRODUCT
from .heatmaps import all_outputs
from .images import keys_of_events
from .statistics import describe_events, describe_maps, summarise

__all__ = [
    "append_rows",
    "describe_explanation",
    "maps_table",
    "open_file",
    "write_events",
    "write_maps",
    "write_statistics",
    "write_summary",
]

#: Entries of each list that are kept if the provenance does not fit into an attribute.
_KEPT_ENTRIES = 10
#: Size of what fits into an attribute of HDF5.
_MOST_BYTES = 60_000


def describe_explanation(model_paths, models, paths, configuration):
    """Describe the inputs and the software of an explanation.

    Parameters
    ----------
    model_paths : dict of str to pathlib.Path
        The model files, by name.
    models : dict of str to LoadedModel
        The models in them.
    paths : list of pathlib.Path
        The input files.
    configuration : dict
        The configuration of the tool.

    Returns
    -------
    dict of str to JSON value
        For `open_file`.
    """
    packages = "ctapipe_gammaphysnet", "ctapipe", "torch", "captum"
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "software": {name: version(name) for name in packages},
        "models": {
            name: {
                "file": str(path),
                "sha256": models[name].sha256,
                "seeds": _seeds(models[name]),
            }
            for name, path in model_paths.items()
        },
        "inputs": [str(path) for path in paths],
        "configuration": configuration,
    }


def _seeds(model):
    network = next(iter(model.networks.values()))
    return [member.seed for member in network.card.members]


@contextmanager
def open_file(path, provenance):
    """Open a new file to write tables to.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    provenance : dict
        As `describe_explanation` returns it: becomes JSON in the attribute
        ``provenance`` of the file. If it does not fit, lists are cut to their first
        entries and the number of the others.

    Yields
    ------
    tables.File
        The file.
    """
    text = json.dumps(provenance, default=str)
    if len(text) > _MOST_BYTES:
        text = json.dumps(_shortened(provenance), default=str)
    with new_file(path) as file:
        file.root._v_attrs["provenance"] = text
        yield file


def _shortened(value):
    """Cut long lists."""
    if isinstance(value, dict):
        return {key: _shortened(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)) and len(value) > _KEPT_ENTRIES:
        more = len(value) - _KEPT_ENTRIES
        return [*map(str, value[:_KEPT_ENTRIES]), f"and {more} more"]
    return value


def append_rows(file, path, table):
    """Append rows to a table, in the format of ctapipe's `read_table`.

    Parameters
    ----------
    file : tables.File
        The file.
    path : str
        Path of the table in the file; it is created with the first rows.
    table : astropy.table.Table
        The rows.
    """
    write_table(table, file, path, append=path in file)


def maps_table(events, maps):
    """Put the maps of events into a table.

    Parameters
    ----------
    events : astropy.table.Table
        The events, with the `KEYS`.
    maps : Maps
        Their maps.

    Returns
    -------
    astropy.table.Table
        The `KEYS`. For each output, such as ``energy``, the maps of the members,
        ``energy_members``, shape (n, n_members, n_pixels), and their mean,
        ``energy_mean``, shape (n, n_pixels); for several members also their standard
        deviation, ``energy_std``. The same for attention: ``stage_1`` and so on, and
        their ``product``.
    """
    table, outputs = keys_of_events(events), all_outputs()
    for name, values in (maps.heatmaps | maps.attention).items():
        if name in outputs:
            what, unit = f"heatmap of {outputs[name].label}", outputs[name].unit
        elif name == PRODUCT:
            what, unit = "product of the attention maps", "none"
        else:
            what, unit = f"attention map of {name}", "none"
        columns = {"members": values.swapaxes(0, 1), "mean": values.mean(axis=0)}
        if len(values) > 1:
            columns["std"] = values.std(axis=0, ddof=1)
        for part, content in columns.items():
            table[f"{name}_{part}"] = Column(
                content, description=f"{what}, {part}; unit: {unit}"
            )
    return table


def write_events(file, titles, batches):
    """Write the table of the events whose maps are written.

    Parameters
    ----------
    file : tables.File
        The file.
    titles : list of str
        Why each event was chosen, for example ``best1``.
    batches : list of Batch
        Their images, one in each batch.
    """
    events = vstack([describe_events(batch) for batch in batches])
    events.add_column(titles, name="chosen", index=0)
    append_rows(file, "/events", events)


def write_maps(file, model, batch, maps):
    """Write the maps of images.

    Parameters
    ----------
    file : tables.File
        The file.
    model : str
        Name of the model.
    batch : Batch
        The images.
    maps : Maps
        The model's maps of these images.
    """
    append_rows(file, f"/maps/{model}/{batch.type}", maps_table(batch.events, maps))


def write_statistics(file, batches, models, progress):
    """Compute and write the statistics of heatmaps, batch by batch.

    Parameters
    ----------
    file : tables.File
        The file.
    batches : iterable of Batch
        The images.
    models : dict of str to dict of str to Explainer
        For each model its explainers, by telescope type.
    progress : callable
        Called with the number of images that a model has explained.

    Returns
    -------
    dict of str to astropy.table.Table
        Their averages, as `summarise` returns them, which are not yet written.
    """
    for batch in batches:
        append_rows(file, "/statistics/events", describe_events(batch))
        for name, explainers in models.items():
            table = describe_maps(batch, explainers[batch.type].explain(batch))
            append_rows(file, f"/statistics/models/{name}", table)
            progress(len(batch))
    return summarise(
        read_table(file, "/statistics/events"),
        {name: read_table(file, f"/statistics/models/{name}") for name in models},
    )


def write_summary(file, path, folder, name, table):
    """Write a table twice: into the HDF5 file, and as ECSV.

    Parameters
    ----------
    file : tables.File
        The HDF5 file.
    path : str
        Path of the table in it.
    folder : pathlib.Path
        Folder of the ECSV file.
    name : str
        Name of the ECSV file, without suffix.
    table : astropy.table.Table
        The table.
    """
    append_rows(file, path, table)
    write_ecsv(table, folder / f"{name}.ecsv")
