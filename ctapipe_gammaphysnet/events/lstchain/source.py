"""DL1 files of lstchain as a ctapipe `EventSource`.

Importing this module must stay cheap, because every ctapipe tool does it.
"""

from functools import cached_property
from pathlib import Path

import astropy.units as u
import numpy as np
from ctapipe.containers import (
    ArrayEventContainer,
    ArrayPointingContainer,
    DL1CameraContainer,
    EventIndexContainer,
    EventType,
    SimulatedCameraContainer,
    SimulatedEventContainer,
    SimulatedShowerContainer,
    TelescopeImpactParameterContainer,
    TelescopePointingContainer,
    TelescopeTriggerContainer,
    TriggerContainer,
)
from ctapipe.coordinates import shower_impact_distance
from ctapipe.core import Provenance, ToolConfigurationError
from ctapipe.core.traits import UseEnum
from ctapipe.instrument import FocalLengthKind
from ctapipe.io import DataLevel, EventSource

# `ctapipe-info --plugins` shows the version that the module of a plugin has.
from ... import __version__ as __version__

__all__ = ["LSTChainDL1EventSource"]


class LSTChainDL1EventSource(EventSource):
    """Reads DL1 files of lstchain: images and parameters of the LST.

    Images, the masks of lstchain's image cleaning and its parameters are kept, the
    latter in ctapipe's units and frames. Tools calculate parameters anew only if told
    so (``ctapipe-process --force-recompute-dl1``), and then clean the images anew, too.
    Flat-field and pedestal events have their event types. Observations have the
    pointing of each event; simulations the truth.

    Two limits of ctapipe, up to 0.32: its DataWriter writes no pointing of
    observations, and its HDF5EventSource reads no images of simulations without true
    images. So reconstruct from lstchain's file itself.

    Parameters
    ----------
    input_url : str or pathlib.Path
        The file.
    **kwargs
        As for `ctapipe.io.EventSource`.

    Raises
    ------
    DL1FileError
        If the file is damaged, or has no images.
    """

    focal_length_choice = UseEnum(
        FocalLengthKind,
        default_value=FocalLengthKind.EFFECTIVE,
        help=(
            "Focal length with which positions in the camera become angles, as in"
            " ctapipe's HDF5EventSource. lstchain uses the EQUIVALENT one."
        ),
    ).tag(config=True)

    def __init__(self, input_url=None, **kwargs):
        super().__init__(input_url=input_url, **kwargs)
        from .reader import LSTChainReader

        self._reader = LSTChainReader(self.input_url, self.focal_length_choice)
        try:
            self._subarray = self._selected_subarray()
        except ToolConfigurationError:
            self.close()
            raise
        Provenance().add_input_file(
            str(self.input_url), role="DL1 file of lstchain", add_meta=False
        )

    def _selected_subarray(self):
        subarray = self._reader.subarray
        if not self.allowed_tels:
            return subarray
        unknown = sorted(self.allowed_tels.difference(subarray.tel))
        if unknown:
            raise ToolConfigurationError(
                f"allowed_tels: {self.input_url} has no telescope {unknown[0]}, its "
                f"telescopes are {', '.join(map(str, subarray.tel))}"
            )
        return subarray.select_subarray(sorted(self.allowed_tels))

    def __exit__(self, *exception):
        self.close()

    def close(self):
        """Close the file."""
        self._reader.close()

    @staticmethod
    def is_compatible(file_path):
        """Check whether a file is a DL1 file of lstchain.

        Parameters
        ----------
        file_path : str or pathlib.Path
            The file.

        Returns
        -------
        bool
            Whether its parameters have the columns of lstchain.
        """
        from .file import is_lstchain

        return is_lstchain(Path(file_path))

    @property
    def subarray(self):
        """The telescopes, those of ``allowed_tels`` if it is set."""
        return self._subarray

    @property
    def is_simulation(self):
        """Whether the events are simulated."""
        return self._reader.is_simulation

    @property
    def datalevels(self):
        """Images and parameters."""
        return (DataLevel.DL1_IMAGES, DataLevel.DL1_PARAMETERS)

    @property
    def scheduling_blocks(self):
        """One block per observation, by its number."""
        from .configuration import describe_schedules

        return describe_schedules(self._reader)

    @property
    def observation_blocks(self):
        """One block per observation, with the pointing of its first event."""
        from .configuration import describe_observations

        return describe_observations(self._reader)

    @property
    def simulation_config(self):
        """How each run was simulated; None for observations."""
        from .configuration import read_simulations

        return read_simulations(self._reader.file) if self.is_simulation else None

    @property
    def simulated_shower_distributions(self):
        """Number of showers by energy and core distance for each run."""
        from .configuration import read_distributions

        return read_distributions(self._reader.file)

    def _generator(self):
        count, events = 0, self._reader.events
        tel_id = events.column("tel_id")
        start = np.flatnonzero(np.diff(events.number[events.order])) + 1
        for index in np.split(events.order, start):
            selected = {
                tel: i
                for tel, i in zip(tel_id[index].tolist(), index, strict=True)
                if tel in self._subarray.tel
            }
            if selected:
                yield self._make_event(count, selected)
                count += 1

    def _make_event(self, count, selected):
        reader, first = self._reader, next(iter(selected.values()))
        number = reader.events.number[first]
        event = ArrayEventContainer(
            count=count,
            index=EventIndexContainer(
                obs_id=int(reader.obs_id[number]), event_id=int(reader.event_id[number])
            ),
            trigger=TriggerContainer(
                tels_with_trigger=np.array([*selected]), **self._trigger(first)
            ),
        )
        altitude, azimuth = (angle[first] for angle in reader.pointing)
        event.monitoring.pointing = ArrayPointingContainer(
            array_altitude=altitude, array_azimuth=azimuth
        )
        if self.is_simulation:
            event.simulation = self._simulation(number, selected)
        for tel_id, index in selected.items():
            self._fill_telescope(event, tel_id, index)
        return event

    def _trigger(self, index):
        event_type = self._event_types[index]
        return {"event_type": EventType(event_type), "time": self._reader.time[index]}

    @cached_property
    def _event_types(self):
        return self._reader.events.column("event_type").tolist()

    def _simulation(self, number, tel_ids):
        (truth,) = self._reader.showers([number])
        shower = SimulatedShowerContainer(
            **{
                name.removeprefix("true_"): truth[name]
                for name in truth.colnames
                if name.startswith("true_")
            }
        )
        distances = shower_impact_distance(
            shower_geom=shower, subarray=self._reader.subarray
        )
        simulation = SimulatedEventContainer(shower=shower)
        for tel_id in tel_ids:
            simulation.tel[tel_id] = SimulatedCameraContainer(
                impact=TelescopeImpactParameterContainer(
                    distance=distances[self._reader.subarray.tel_index_array[tel_id]],
                    distance_uncert=0 * u.m,
                    prefix="true_impact",
                )
            )
        return simulation

    def _fill_telescope(self, event, tel_id, index):
        from .parameters import parameters_of

        reader = self._reader
        image = reader.file.read_images(*reader.events.rows(np.array([index])))
        event.dl1.tel[tel_id] = DL1CameraContainer(
            **{name: image[name][0] for name in ("image", "peak_time", "image_mask")},
            is_valid=True,
            parameters=parameters_of(reader.parameters, index),
        )
        event.trigger.tel[tel_id] = TelescopeTriggerContainer(**self._trigger(index))
        altitude, azimuth = (angle[index] for angle in reader.pointing)
        event.monitoring.tel[tel_id].pointing = TelescopePointingContainer(
            altitude=altitude, azimuth=azimuth
        )
