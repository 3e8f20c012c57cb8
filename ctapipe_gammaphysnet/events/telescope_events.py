"""Telescope events of a file, with their parameters, pointing and truth."""

import astropy.units as u
import numpy as np
from astropy.table import QTable

from ..files.input_file import DL1FileError
from .axes import axes_in_table
from .event_types import are_allowed, warn_if_none_is_allowed, warn_of_others
from .quality import INTENSITY
from .showers import shower_numbers
from .truth import TRUTH, check_particles, check_truth, labels_of

__all__ = ["KEYS", "altitudes_of", "check_pointing", "telescope_events"]

#: Columns that identify a telescope event. The file is one of them, since a gamma and a
#: proton can have the same ids.
KEYS = ("file", "obs_id", "event_id", "tel_id")
#: Available parameters, and their ctapipe columns on the sky and, in old files, in the
#: camera frame.
_PARAMETERS = {
    "intensity": INTENSITY,
    "leakage": ("leakage_intensity_width_2",),
    "cog_x": ("hillas_fov_lon", "camera_frame_hillas_x"),
    "cog_y": ("hillas_fov_lat", "camera_frame_hillas_y"),
    "length": ("hillas_length", "camera_frame_hillas_length"),
}


def telescope_events(
    reader,
    tel_ids,
    query,
    size,
    number=0,
    parameters=(),
    label=None,
    wanted=None,
    atmosphere=None,
    truth=(),
    axes=False,
):
    """Select telescope events of a file.

    Parameters
    ----------
    reader : EventReader
        The file.
    tel_ids : collection of int
        Telescopes of interest.
    query : ImageQualityQuery
        Selects the events by their types and by their DL1 parameters, and counts them.
        Without parameters in the file, all are selected.
    size : int
        Number of array events to read at once.
    number : int
        Number of the file, for the column ``file``.
    parameters : sequence of str
        Parameters of the images to add: ``"intensity"``, ``"leakage"``, ``"cog_x"``,
        ``"cog_y"``, ``"length"``.
    label : {0, 1}, optional
        0 if all particles must be gammas, 1 if none may be a gamma.
    wanted : callable, optional
        Function of a table with the `KEYS`: which events to select from at all, shape
        (n,), bool. Default: all.
    atmosphere : ctapipe.atmosphere.AtmosphereDensityProfile, optional
        The atmosphere of the showers; by default that of the file.
    truth : collection of str
        Columns of truth that not all files have, such as the ``truth`` of tasks: those
        of ctapipe's showers, and ``true_h_max``, for which an atmosphere is needed.
    axes : bool
        Whether to add the axes of the images.

    Yields
    ------
    astropy.table.QTable
        Selected events of one telescope, in the order of the file: the `KEYS`; ``row``
        of the image among all of the telescope; ``pointing_alt``, ``pointing_az`` in
        deg, NaN if not known; ``position`` of the telescope in m, shape (n, 3), and
        ``altitude`` in m above sea level; ``label``, 0 for gammas, 1 for others and -1
        if not known; ``shower``, its number; ``true_energy`` in TeV, ``true_alt``,
        ``true_az`` in deg, ``true_core_x``, ``true_core_y`` in m, NaN if not known; the
        ``truth`` that the file has, with ``true_h_max`` in m above sea level; and the
        parameters: ``intensity`` in p.e., ``cog_x``, ``cog_y``, ``length`` in deg, or
        in m in old files; NaN if the file has none. The fields of `ImageAxes` are
        named ``axis_fov_lon``, ``axis_fov_lat``, ``axis_psi`` and ``axis_noise``.

    Raises
    ------
    DL1FileError
        If the file is damaged, the truth is not known, or particles contradict the
        label.
    """
    if reader.is_simulation:
        reader.check_truth()
    if "true_h_max" in truth and atmosphere is None:
        atmosphere = reader.read_atmosphere()
    for chunk in _allowed_chunks(reader, tel_ids, query, size):
        showers = reader.read_showers(chunk) if reader.has_truth else None
        if label is not None:
            check_particles(reader.path, showers["true_shower_primary_id"], label)
        if "true_h_max" in truth:
            _add_height(showers, atmosphere)
        for tel_id in chunk.event:
            if tel_id not in tel_ids:
                continue
            events = _describe(reader, chunk, tel_id, number)
            events = events[_select(reader, chunk, tel_id, query, wanted, events)]
            if len(events) > 0:
                rows = np.searchsorted(chunk.row[tel_id], events["row"])
                _add_parameters(events, reader, chunk, tel_id, rows, parameters)
                if axes:
                    _add_axes(events, chunk.parameters.get(tel_id, QTable()), rows)
                event = chunk.event[tel_id][rows]
                _add_truth(events, reader, showers, event, truth)
                yield events


def _allowed_chunks(reader, tel_ids, query, size):
    """Read the events of allowed types, and count the other telescope events."""
    kept = are_allowed(reader.event_type, query.event_types)
    warn_if_none_is_allowed(reader.path, reader.event_type, query.event_types)
    warn_of_others(reader.path, reader.event_type[kept], query.event_types)
    for chunk in reader.chunks(size):
        allowed = chunk.select(kept[chunk.number])
        n_left_out = sum(
            len(events) - len(allowed.event[tel_id])
            for tel_id, events in chunk.event.items()
            if tel_id in tel_ids
        )
        if n_left_out > 0:
            query.record("left out by event type", n_left_out)
        yield allowed


def altitudes_of(subarray):
    """Find the altitudes of telescopes.

    Parameters
    ----------
    subarray : ctapipe.instrument.SubarrayDescription
        The telescopes.

    Returns
    -------
    astropy.units.Quantity
        Altitudes above sea level in m, shape (n_telescopes,); NaN if the array has no
        location.
    """
    if subarray.reference_location is None:
        return u.Quantity(np.full(len(subarray.tel_ids), np.nan), u.m)
    site = subarray.reference_location.geodetic.height
    return (subarray.tel_coords.z + site).to(u.m)


def _describe(reader, chunk, tel_id, number):
    """All events of a telescope in a chunk: keys, rows and pointing."""
    event = chunk.event[tel_id]
    n = len(event)
    alt, az = chunk.pointing[tel_id]
    index = reader.subarray.tel_ids_to_indices(tel_id)
    position = reader.subarray.tel_coords.cartesian.xyz.to(u.m).T[index]
    return QTable(
        {
            "file": np.full(n, number),
            "obs_id": np.asarray(chunk.obs_id, np.int64)[event],
            "event_id": np.asarray(chunk.event_id, np.int64)[event],
            "tel_id": np.full(n, tel_id),
            "row": chunk.row[tel_id],
            "pointing_alt": alt.to(u.deg),
            "pointing_az": az.to(u.deg),
            "position": np.tile(position, (n, 1)),
            "altitude": np.tile(altitudes_of(reader.subarray)[index], n),
        }
    )


def _select(reader, chunk, tel_id, query, wanted, events):
    """Rows of the events that are wanted and pass the selection."""
    rows = np.arange(len(events))
    if wanted is not None:
        rows = rows[wanted(events)]
    if len(rows) == 0 or tel_id not in chunk.parameters:
        return rows
    return rows[query.mask(chunk.parameters[tel_id][rows], reader.path)]


def _add_parameters(events, reader, chunk, tel_id, rows, parameters):
    available = chunk.parameters.get(tel_id)
    for name in parameters:
        if available is None:
            events[name] = np.full(len(rows), np.nan)
            continue
        spellings = [n for n in _PARAMETERS[name] if n in available.colnames]
        if not spellings:
            raise DL1FileError(
                f"{reader.path}: the DL1 parameters of telescope {tel_id} have no "
                f"{_PARAMETERS[name][0]}: make it with 'ctapipe-process "
                "--write-parameters'"
            )
        values = u.Quantity(available[spellings[0]][rows], dtype=float)
        if values.unit == u.one:
            events[name] = values.value
        else:
            events[name] = values.to(u.deg if values.unit.is_equivalent(u.deg) else u.m)


def _add_axes(events, parameters, rows):
    axes = axes_in_table(parameters, rows)
    for name, values in axes._asdict().items():
        events[f"axis_{name}"] = values


def _add_truth(events, reader, showers, event, truth):
    """Add the simulated shower of each event, or NaN if it is not known."""
    n = len(events)
    if showers is None:
        events["label"] = np.full(n, -1)
        events["shower"] = np.zeros(n, np.uint64)
        for name, unit in TRUTH.items():
            events[name] = u.Quantity(np.full(n, np.nan), unit)
        return
    showers = showers[event]
    check_truth(reader.path, showers)
    events["label"] = labels_of(showers["true_shower_primary_id"])
    events["shower"] = shower_numbers(showers)
    for name, unit in TRUTH.items():
        events[name] = u.Quantity(showers[name], unit, dtype=float)
    for name in showers.colnames:
        if name in truth:
            events[name] = showers[name]


def _add_height(showers, atmosphere):
    """Add the height of the maximum, if it can be known; NaN without a depth."""
    if showers is None or atmosphere is None or "true_x_max" not in showers.colnames:
        return
    x_max = u.Quantity(showers["true_x_max"], u.g / u.cm**2, dtype=float)
    known = x_max > 0
    height = u.Quantity(np.full(len(x_max), np.nan), u.m)
    height[known] = atmosphere.height_from_overburden(x_max[known])
    showers["true_h_max"] = height


def check_pointing(path, events):
    """Check that the pointing is known.

    Parameters
    ----------
    path : pathlib.Path
        The file, for messages.
    events : astropy.table.Table
        Telescope events, as returned by `telescope_events`.

    Raises
    ------
    DL1FileError
        If it is not known for all events.
    """
    unknown = ~np.isfinite(events["pointing_alt"] + events["pointing_az"])
    if unknown.any():
        raise DL1FileError(
            f"{path}: the pointing of telescope {events['tel_id'][unknown][0]} is not "
            "known for all its events"
        )
