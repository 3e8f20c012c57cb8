"""DL1 files of lstchain as a ctapipe `EventSource`.

Importing this module must stay cheap, because every ctapipe tool does it.
"""

from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.coordinates import Angle
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
from .. import __version__ as __version__

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
        from .file import LSTChainFile
        from .parameters import convert_parameters

        self._file = LSTChainFile(self.input_url, self.focal_length_choice)
        try:
            self._subarray = self._selected_subarray()
        except ToolConfigurationError:
            self.close()
            raise
        Provenance().add_input_file(
            str(self.input_url), role="DL1 file of lstchain", add_meta=False
        )
        self._events = self._file.events()
        self._parameters = {
            name: convert_parameters(table, self._telescope_of(table))
            for name, table in self._file.parameters.items()
            if len(table) > 0
        }

    def _selected_subarray(self):
        subarray = self._file.subarray
        if not self.allowed_tels:
            return subarray
        unknown = sorted(self.allowed_tels.difference(subarray.tel))
        if unknown:
            raise ToolConfigurationError(
                f"allowed_tels: {self.input_url} has no telescope {unknown[0]}, its "
                f"telescopes are {', '.join(map(str, subarray.tel))}"
            )
        return subarray.select_subarray(sorted(self.allowed_tels))

    def _telescope_of(self, table):
        # All telescopes of a table have the same camera and optics.
        return self._file.subarray.tel[int(table["tel_id"][0])]

    def __exit__(self, *exception):
        self.close()

    def close(self):
        """Close the file."""
        self._file.close()

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
        return self._file.is_simulation

    @property
    def datalevels(self):
        """Images and parameters."""
        return (DataLevel.DL1_IMAGES, DataLevel.DL1_PARAMETERS)

    @property
    def scheduling_blocks(self):
        """One block per observation, by its number."""
        from .configuration import make_schedule

        return {obs_id: make_schedule(obs_id) for obs_id in self._first_events()}

    @property
    def observation_blocks(self):
        """One block per observation, with the pointing of its first event."""
        from .configuration import make_observation

        return {
            obs_id: make_observation(obs_id, *self._pointing(*where))
            for obs_id, where in self._first_events().items()
        }

    def _first_events(self):
        """The first telescope's event in the first event of each observation."""
        first = {}
        for (obs_id, _), parts in self._events.items():
            if obs_id not in first:
                first[obs_id] = min(parts, key=lambda where: self._tel_id(*where))
        return first

    def _tel_id(self, name, row):
        return int(self._file.parameters[name]["tel_id"][row])

    def _pointing(self, name, row):
        table = self._file.parameters[name]
        return table["alt_tel"][row].to(u.rad), table["az_tel"][row].to(u.rad)

    @property
    def simulation_config(self):
        """How each run was simulated; None for observations."""
        from .configuration import read_simulations

        return read_simulations(self._file) if self.is_simulation else None

    @property
    def simulated_shower_distributions(self):
        """Number of showers by energy and core distance for each run."""
        from .configuration import read_distributions

        return read_distributions(self._file)

    def _generator(self):
        count = 0
        for (obs_id, event_id), parts in self._events.items():
            of_telescope = {self._tel_id(*where): where for where in parts}
            selected = {t: of_telescope[t] for t in sorted(of_telescope)}
            if self.allowed_tels:
                selected = {t: selected[t] for t in selected if t in self.allowed_tels}
            if selected:
                yield self._make_event(count, obs_id, event_id, selected)
                count += 1

    def _make_event(self, count, obs_id, event_id, selected):
        name, row = next(iter(selected.values()))
        event = ArrayEventContainer(
            count=count,
            index=EventIndexContainer(obs_id=obs_id, event_id=event_id),
            trigger=TriggerContainer(
                tels_with_trigger=np.array([*selected]), **self._trigger(name, row)
            ),
        )
        altitude, azimuth = self._pointing(name, row)
        event.monitoring.pointing = ArrayPointingContainer(
            array_altitude=altitude, array_azimuth=azimuth
        )
        if self.is_simulation:
            event.simulation = SimulatedEventContainer(shower=self._shower(name, row))
        for tel_id, where in selected.items():
            self._fill_telescope(event, tel_id, *where)
        return event

    def _trigger(self, name, row):
        from .file import to_time

        table = self._file.parameters[name]
        trigger = {"event_type": EventType(int(table["event_type"][row]))}
        seconds = float(table[self._file.time_column][row])
        if np.isfinite(seconds):
            trigger["time"] = to_time(seconds)
        return trigger

    def _shower(self, name, row):
        from .file import TRUTH

        truth = self._file.parameters[name][row]
        values = {
            field: int(truth[column]) if unit is None else truth[column].to(unit)
            for field, (column, unit) in TRUTH.items()
        }
        angles = {field: Angle(values[field]) for field in ("alt", "az")}
        return SimulatedShowerContainer(**values | angles)

    def _fill_telescope(self, event, tel_id, name, row):
        from .parameters import parameters_of

        image, peak_time, mask = self._file.read_image(name, row)
        event.dl1.tel[tel_id] = DL1CameraContainer(
            image=image,
            peak_time=peak_time,
            image_mask=mask,
            is_valid=True,
            parameters=parameters_of(self._parameters[name], row),
        )
        event.trigger.tel[tel_id] = TelescopeTriggerContainer(
            **self._trigger(name, row)
        )
        altitude, azimuth = self._pointing(name, row)
        event.monitoring.tel[tel_id].pointing = TelescopePointingContainer(
            altitude=altitude, azimuth=azimuth
        )
        if self.is_simulation:
            distance = shower_impact_distance(
                shower_geom=event.simulation.shower, subarray=self._subarray
            )
            event.simulation.tel[tel_id] = SimulatedCameraContainer(
                impact=TelescopeImpactParameterContainer(
                    distance=distance[self._subarray.tel_index_array[tel_id]],
                    distance_uncert=0 * u.m,
                    prefix="true_impact",
                )
            )
