"""Write the events of lstchain's DL1 files in ctapipe's format.

The tables are those of ``ctapipe-process``, with two differences. Observations have the
pointing of each event, as a table of times. Simulations have no empty tables of true
images.
"""

import astropy.units as u
import numpy as np
from astropy.table import QTable
from ctapipe.containers import (
    DL1CameraContainer,
    EventIndexContainer,
    ImageParametersContainer,
    SimulatedShowerContainer,
    TelescopeConfigurationIndexContainer,
    TelescopeImpactParameterContainer,
    TelescopePointingContainer,
    TelescopeTriggerContainer,
    TelEventIndexContainer,
    TriggerContainer,
)
from ctapipe.core import Container, Field
from ctapipe.io import write_table
from ctapipe.io.hdf5dataformat import (
    DL0_TEL_POINTING_GROUP,
    FIXED_POINTING_GROUP,
    SIMULATION_IMPACT_GROUP,
)
from ctapipe.io.tableio import TelListToMaskTransform

from ...compat import LOW_RESOLUTION
from ...files.output import writing
from ...tasks.frames import radians
from ...tasks.impact import impact_distance
from ..dl1_format import (
    IMAGES,
    OBSERVATIONS,
    PARAMETERS,
    RUNS,
    SHOWERS,
    TELESCOPE_TRIGGER,
    TRIGGER,
    of_telescope,
)
from .configuration import (
    describe_observations,
    describe_schedules,
    read_distributions,
    read_simulations,
)

__all__ = ["copy_events"]

_SCHEDULES = "/configuration/observation/scheduling_block"
_DISTRIBUTIONS = "/simulation/service/shower_distribution"
#: Images that are copied at once.
_IMAGES_AT_ONCE = 1024
_KEYS = ("obs_id", "event_id", "tel_id")
_EVENT = EventIndexContainer(obs_id=0, event_id=0)
_TELESCOPE_EVENT = TelEventIndexContainer(obs_id=0, event_id=0, tel_id=np.int16(0))


class _RunContainer(Container):
    default_prefix = ""
    obs_id = Field(0, "Simulation run identifier")


def copy_events(reader, output, name, images, kept):
    """Write the content of a file into a ctapipe HDF5 file.

    Parameters
    ----------
    reader : LSTChainReader
        The file.
    output : ContainerTables
        The file to write into.
    name : pathlib.Path
        Its name in messages.
    images : bool
        Whether to write the images.
    kept : numpy.ndarray
        Events to write, shape (n_events,), bool.

    Raises
    ------
    DL1FileError
        If something cannot be read.
    OutputError
        If it cannot be written.
    """
    with writing(name):
        _write_configuration(reader, output)
        if reader.n_events > 0:
            _write_events(reader, output, kept)
            _write_triggers(reader, output, kept)
    for tel_id, index in reader.events.of_telescope.items():
        row = np.flatnonzero(kept[reader.events.number[index]])
        if len(row) == 0:
            continue
        with writing(name):
            _write_pointing(reader, output, tel_id, index[row])
            _write_parameters(reader, output, tel_id, index[row])
            if reader.has_truth:
                _write_impact(reader, output, tel_id, index[row])
        if images:
            _write_images(reader, output, name, tel_id, row)


def _write_configuration(reader, output):
    """Write telescopes, observations and runs."""
    reader.subarray.to_hdf(output.h5file)
    write = output.writer.write
    for block in describe_schedules(reader).values():
        write(_path(_SCHEDULES), block, **LOW_RESOLUTION)
    for block in describe_observations(reader).values():
        write(_path(OBSERVATIONS), block, **LOW_RESOLUTION)
    for obs_id, run in read_simulations(reader.file).items():
        run.prefix = ""
        write(_path(RUNS), [_RunContainer(obs_id=obs_id), run])
    for histogram in read_distributions(reader.file).values():
        write(_path(_DISTRIBUTIONS), histogram)


def _path(node):
    """The name of a table for ctapipe's writer."""
    return node.removeprefix("/")


def _write_events(reader, output, kept):
    """Write the triggers of the array, and the showers."""
    events, subarray = reader.events, reader.subarray
    triggered = np.zeros((reader.n_events, len(subarray.tel)), dtype=bool)
    for tel_id, index in events.of_telescope.items():
        triggered[events.number[index], subarray.tel_ids_to_indices(tel_id)] = True
    output.writer.add_column_transform(
        _path(TRIGGER), "tels_with_trigger", TelListToMaskTransform(subarray)
    )
    output.append(
        _path(TRIGGER),
        [_EVENT, TriggerContainer(tels_with_trigger=[])],
        {
            "obs_id": reader.obs_id[kept],
            "event_id": reader.event_id[kept],
            "event_type": reader.event_type[kept],
            "time": reader.time[events.of_array[kept]],
            "tels_with_trigger": triggered[kept],
        },
    )
    if reader.has_truth:
        showers = reader.showers(np.flatnonzero(kept))
        containers = [_EVENT, SimulatedShowerContainer()]
        output.append(_path(SHOWERS), containers, dict(showers.columns))


def _write_triggers(reader, output, kept):
    """Write the triggers of the telescopes."""
    events = reader.events
    index = events.order[kept[events.number[events.order]]]
    output.append(
        _path(TELESCOPE_TRIGGER),
        [_TELESCOPE_EVENT, TelescopeTriggerContainer()],
        {
            **{key: events.column(key)[index] for key in _KEYS},
            "event_type": events.column("event_type")[index],
            "time": reader.time[index],
        },
    )


def _write_pointing(reader, output, tel_id, index):
    """Write the pointing of a telescope: of each run, or of each time."""
    altitude, azimuth = (angle[index] for angle in reader.pointing)
    if not reader.is_simulation:
        time = reader.time[index]
        _, first = np.unique(time.mjd, return_index=True)
        table = QTable({"time": time, "azimuth": azimuth, "altitude": altitude})
        node = of_telescope(DL0_TEL_POINTING_GROUP, tel_id)
        write_table(table[first], output.h5file, node)
        return
    obs_id, first = np.unique(reader.events.column("obs_id")[index], return_index=True)
    output.append(
        _path(of_telescope(FIXED_POINTING_GROUP, tel_id)),
        [
            TelescopeConfigurationIndexContainer(obs_id=0, tel_id=np.int16(0)),
            TelescopePointingContainer(),
        ],
        {
            "obs_id": obs_id,
            "tel_id": np.full(len(obs_id), tel_id),
            "telescope_pointing_altitude": altitude[first],
            "telescope_pointing_azimuth": azimuth[first],
        },
    )


def _write_parameters(reader, output, tel_id, index):
    output.append(
        _path(of_telescope(PARAMETERS, tel_id)),
        [_TELESCOPE_EVENT, *ImageParametersContainer().values()],
        dict(reader.parameters[index].columns),
    )


def _write_impact(reader, output, tel_id, index):
    """Write the distances of the showers' axes from a telescope."""
    showers = reader.showers(reader.events.number[index])
    core = [showers[f"true_core_{axis}"].to_value(u.m) for axis in "xy"]
    distance = impact_distance(
        *(radians(showers[f"true_{angle}"]) for angle in ("alt", "az")),
        np.stack(core, axis=-1),
        reader.subarray.positions[tel_id].to_value(u.m),
    )
    output.append(
        _path(of_telescope(SIMULATION_IMPACT_GROUP, tel_id)),
        [
            _TELESCOPE_EVENT,
            TelescopeImpactParameterContainer(
                prefix="true_impact", distance=0 * u.m, distance_uncert=0 * u.m
            ),
        ],
        {
            "obs_id": showers["obs_id"],
            "event_id": showers["event_id"],
            "tel_id": np.full(len(index), tel_id),
            "true_impact_distance": u.Quantity(distance, u.m),
        },
    )


def _write_images(reader, output, name, tel_id, row):
    """Write images of a telescope, some at once."""
    output.writer.exclude(_path(f"{IMAGES}/.*"), "parameters")
    n_pixels = reader.subarray.tel[tel_id].camera.geometry.n_pixels
    zeros = np.zeros(n_pixels, dtype=np.float32)
    image = DL1CameraContainer(
        prefix="", image=zeros, peak_time=zeros, image_mask=zeros > 0, is_valid=True
    )
    for start in range(0, len(row), _IMAGES_AT_ONCE):
        block = reader.image_columns(tel_id, row[start : start + _IMAGES_AT_ONCE])
        with writing(name):
            output.append(
                _path(of_telescope(IMAGES, tel_id)), [_TELESCOPE_EVENT, image], block
            )
