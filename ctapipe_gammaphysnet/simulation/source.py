"""Air showers as a ctapipe `EventSource`: simulated while a ctapipe tool reads them.

Importing this module must stay cheap, because every ctapipe tool does it: the
simulation is imported when a source is made.
"""

from functools import cached_property
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.coordinates import Angle
from astropy.time import Time
from ctapipe.containers import (
    ArrayEventContainer,
    ArrayPointingContainer,
    CameraCalibrationContainer,
    CoordinateFrameType,
    EventIndexContainer,
    EventType,
    ObservationBlockContainer,
    ObservationBlockState,
    ObservingMode,
    PixelStatus,
    PointingMode,
    R1CameraContainer,
    SchedulingBlockContainer,
    SchedulingBlockType,
    SimulatedCameraContainer,
    SimulatedEventContainer,
    SimulatedShowerContainer,
    SimulatedShowerDistribution,
    SimulationConfigContainer,
    TelescopeImpactParameterContainer,
    TelescopePointingContainer,
    TelescopeTriggerContainer,
    TriggerContainer,
)
from ctapipe.coordinates import shower_impact_distance
from ctapipe.core import Field, Provenance, ToolConfigurationError
from ctapipe.core.traits import Bool, CInt, ComponentName, List
from ctapipe.image import ImageExtractor
from ctapipe.io import DataLevel, EventSource

# `ctapipe-info --plugins` shows the version that the module of a plugin has.
from .. import __version__ as __version__
from ..files.paths import printable

__all__ = ["AirShowerEventSource"]

#: Every run starts at this time, and its events follow by their event_id.
START = Time("2025-01-01T00:00:00", scale="tai", format="isot")
_EVENT_INTERVAL_NS = 1e6
_NS_PER_DAY = u.day.to(u.ns)
# sim_telarray's number for the histogram of energy and core distance.
_HISTOGRAM_ID = 6
_GRAMMAGE = u.g / u.cm**2


def _time(event_id, offset_ns=0.0):
    """Time of an event, whichever runs are simulated with it."""
    days = (event_id * _EVENT_INTERVAL_NS + offset_ns) / _NS_PER_DAY
    return Time(START.jd1, START.jd2 + days, format="jd", scale=START.scale)


def _list(numbers):
    """Write the first few of many numbers."""
    some = ", ".join(map(str, numbers[:5]))
    return some if len(numbers) <= 5 else f"{some} and {len(numbers) - 5} more"


class AirShowerConfigContainer(SimulationConfigContainer):
    """How a run was simulated."""

    night_sky_rate = Field(
        np.nan * u.GHz,
        "Photoelectrons from the night sky per time in each pixel",
        unit=u.GHz,
    )


class AirShowerEventSource(EventSource):
    """Simulates the air showers that a card describes, and the telescopes' images.

    The card is a short YAML file, ``*.airshower.yaml``; see
    `ctapipe_gammaphysnet.simulation.card.AirShowerCard`. Nothing is stored: each time
    the source is iterated over, the same events are simulated. An event_id is
    ``100 * shower + use``, with showers counted from 1 and their uses from 0.

    With ``max_events`` the simulation ends early: the number of showers in the
    simulation configuration is then too large, and there is no distribution of showers.

    Parameters
    ----------
    input_url : str or pathlib.Path
        The card.
    **kwargs
        As for `ctapipe.io.EventSource`.
    """

    runs = List(
        CInt(),
        help=(
            "Which runs of the card to simulate, by number; default all. Several"
            " processes or computers can split the runs, and ``ctapipe-merge`` merges"
            " the files: events are the same as those of a single process."
        ),
    ).tag(config=True)

    dl1_images = Bool(
        False,
        help=(
            "Provide images (charge and peak time of each pixel) instead of waveforms."
            " ``CameraCalibrator`` is then skipped, and its settings have no effect."
        ),
    ).tag(config=True)

    image_extractor_type = ComponentName(
        ImageExtractor,
        default_value="LocalPeakWindowSum",
        help="How charges and peak times are extracted; only used with dl1_images",
    ).tag(config=True)

    def __init__(self, input_url=None, **kwargs):
        super().__init__(input_url=input_url, **kwargs)
        from ..numba_cache import require_compilation
        from .card import read_card
        from .conditions import draw_conditions
        from .instruments import SITES, make_subarray

        require_compilation("the simulation of air showers")
        self.card = read_card(self.input_url)
        self._name = printable(str(self.input_url))
        Provenance().add_input_file(
            str(self.input_url), role="air-shower card", add_meta=False
        )
        self._site = SITES[self.card.site]
        if self.max_events is not None and self.max_events < 0:
            raise ToolConfigurationError(
                f"max_events: {self.max_events} must not be negative"
            )
        self._runs = self._selected_runs()
        self._check_work()
        self._conditions = {run: draw_conditions(self.card, run) for run in self._runs}
        self._array = make_subarray(self.card.array, self.card.site)
        self._subarray = self._selected_subarray()
        self._extractor = None
        if self.dl1_images:
            self._extractor = ImageExtractor.from_name(
                self.image_extractor_type, subarray=self._subarray, parent=self
            )

    def _selected_runs(self):
        available = self.card.run_numbers
        unknown = sorted(set(self.runs).difference(available))
        if unknown:
            raise ToolConfigurationError(
                f"AirShowerEventSource.runs: {self._name} has no run "
                f"{_list(unknown)}, its runs are {available[0]} to {available[-1]}"
            )
        return sorted(set(self.runs)) or list(available)

    def _check_work(self):
        """Refuse what would take too long, or not fit into one file."""
        from .card import CardError
        from .limits import MAX_RUNS, check_runs

        if len(self._runs) > MAX_RUNS:
            raise CardError(
                f"{self._name}: {len(self._runs)} runs are more than the "
                f"{MAX_RUNS} whose numbers fit into one file; choose some of them with "
                "AirShowerEventSource.runs"
            )
        try:
            check_runs(self.card, len(self._runs))
        except ValueError as err:
            raise CardError(f"{self._name}: {err}") from None

    def _selected_subarray(self):
        if not self.allowed_tels:
            return self._array
        unknown = sorted(self.allowed_tels.difference(self._array.tel))
        if unknown:
            raise ToolConfigurationError(
                f"allowed_tels: array {self.card.array} of {self._name} has no "
                f"telescope {_list(unknown)}, its telescopes are "
                f"{', '.join(map(str, self._array.tel))}"
            )
        return self._array.select_subarray(sorted(self.allowed_tels))

    @staticmethod
    def is_compatible(file_path):
        """Check by its name whether a file is a card.

        Parameters
        ----------
        file_path : str or pathlib.Path
            The file.

        Returns
        -------
        bool
            Whether its name ends in ``.airshower.yaml``.
        """
        return Path(file_path).name.endswith(".airshower.yaml")

    @property
    def subarray(self):
        """The telescopes, those of ``allowed_tels`` if it is set."""
        return self._subarray

    @property
    def is_simulation(self):
        """True."""
        return True

    @property
    def datalevels(self):
        """R1 waveforms, or with ``dl1_images`` images."""
        return (DataLevel.DL1_IMAGES if self.dl1_images else DataLevel.R1,)

    @property
    def scheduling_blocks(self):
        """One block per run, by its number."""
        return {
            run: SchedulingBlockContainer(
                sb_id=np.uint64(run),
                sb_type=SchedulingBlockType.OBSERVATION,
                producer_id="simulation",
                observing_mode=ObservingMode.UNKNOWN,
                pointing_mode=PointingMode.DRIFT,
            )
            for run in self._runs
        }

    @property
    def observation_blocks(self):
        """One block per run, by its number."""
        return {
            run: ObservationBlockContainer(
                obs_id=np.uint64(run),
                sb_id=np.uint64(run),
                producer_id="simulation",
                state=ObservationBlockState.COMPLETED_SUCCEDED,
                subarray_pointing_lat=conditions.altitude.to(u.deg),
                subarray_pointing_lon=conditions.azimuth.to(u.deg),
                subarray_pointing_frame=CoordinateFrameType.ALTAZ,
                scheduled_start_time=START,
                actual_start_time=START,
            )
            for run, conditions in self._conditions.items()
        }

    @property
    def simulation_config(self):
        """How each run was simulated, without the settings that only CORSIKA has."""
        return {
            run: self._run_configuration(run, conditions)
            for run, conditions in self._conditions.items()
        }

    def _run_configuration(self, run, conditions):
        card, site = self.card, self._site
        altitude, azimuth = conditions.altitude.to(u.rad), conditions.azimuth.to(u.rad)
        return AirShowerConfigContainer(
            run_number=np.int32(run),
            # 0: none of the programs that have a number.
            shower_prog_id=0,
            detector_prog_id=0,
            energy_range_min=card.energy_min.to(u.TeV),
            energy_range_max=card.energy_max.to(u.TeV),
            spectral_index=card.spectral_index,
            prod_site_B_total=site.field,
            prod_site_B_declination=site.declination.to(u.rad),
            prod_site_B_inclination=site.inclination.to(u.rad),
            prod_site_alt=site.location.height,
            n_showers=card.showers,
            shower_reuse=card.reuse,
            min_alt=altitude,
            max_alt=altitude,
            min_az=azimuth,
            max_az=azimuth,
            diffuse=bool(card.view_cone > 0 * u.deg),
            # A point source is a cone without width.
            min_viewcone_radius=card.source_offset.to(u.deg),
            max_viewcone_radius=max(card.view_cone, card.source_offset).to(u.deg),
            min_scatter_range=0 * u.m,
            max_scatter_range=card.scatter_radius.to(u.m),
            core_pos_mode=0,
            night_sky_rate=conditions.night_sky_rate.to(u.GHz),
        )

    @property
    def simulated_shower_distributions(self):
        """Number of showers by energy and core distance for each run."""
        if self.max_events:
            self.log.warning(
                "The distribution of simulated showers is left out, because max_events"
                " may end the simulation before all showers are simulated. Effective"
                " areas and IRFs from this file would be wrong; simulate fewer showers"
                " or runs instead"
            )
            return {}
        return {run: self._shower_distribution(run) for run in self._runs}

    def _shower_distribution(self, run):
        from .primaries import shower_distribution

        histogram, energy_edges, core_edges = shower_distribution(self.card, run)
        return SimulatedShowerDistribution(
            obs_id=run,
            hist_id=_HISTOGRAM_ID,
            n_entries=self.card.showers * self.card.reuse,
            bins_energy=energy_edges,
            bins_core_dist=core_edges,
            histogram=histogram,
        )

    @property
    def atmosphere_density_profile(self):
        """The atmosphere that showers develop in."""
        from .atmosphere import density_profile

        return density_profile(self.card.site)

    @cached_property
    def _production(self):
        from .production import Production

        # With all telescopes, so that allowed_tels does not change which events
        # trigger the array.
        return Production(self.card, self._array)

    def _generator(self):
        count = 0
        for run in self._runs:
            for array_event in self._production.events(run):
                telescopes = {
                    tel_id: telescope
                    for tel_id, telescope in sorted(array_event.telescopes.items())
                    if tel_id in self._subarray.tel
                }
                if telescopes:
                    yield self._fill_event(run, count, array_event, telescopes)
                    count += 1
        if count == 0:
            self.log.warning(
                "%s: no event triggered; simulate more showers, higher energies, or"
                " within a smaller scatter_radius or view_cone",
                self._name,
            )

    def _fill_event(self, run, count, array_event, telescopes):
        event = ArrayEventContainer(
            index=EventIndexContainer(obs_id=run, event_id=array_event.event_id),
            count=count,
            trigger=_trigger(array_event.event_id, telescopes),
            simulation=SimulatedEventContainer(shower=self._shower(array_event)),
        )
        self._fill_pointing(event, self._conditions[run])
        impact_distances = shower_impact_distance(
            shower_geom=event.simulation.shower, subarray=self._subarray
        )
        for tel_id, telescope in telescopes.items():
            event.simulation.tel[tel_id] = SimulatedCameraContainer(
                true_image=telescope.true_image,
                true_image_sum=telescope.true_image.sum(dtype=np.int32),
                impact=TelescopeImpactParameterContainer(
                    distance=impact_distances[self._subarray.tel_index_array[tel_id]],
                    distance_uncert=0 * u.m,
                    prefix="true_impact",
                ),
            )
            self._fill_signal(event, tel_id, telescope.waveforms)
        return event

    def _shower(self, array_event):
        from .card import PRIMARY_ID

        return SimulatedShowerContainer(
            energy=u.Quantity(array_event.energy_gev * 1e-3, u.TeV),
            alt=Angle(array_event.alt_rad, u.rad),
            az=Angle(array_event.az_rad, u.rad),
            core_x=u.Quantity(array_event.core_x_m, u.m),
            core_y=u.Quantity(array_event.core_y_m, u.m),
            h_first_int=u.Quantity(array_event.h_first_interaction_m, u.m),
            x_max=u.Quantity(array_event.x_max_g_cm2, _GRAMMAGE),
            shower_primary_id=PRIMARY_ID[self.card.particle],
            starting_grammage=u.Quantity(0.0, _GRAMMAGE),
        )

    def _fill_pointing(self, event, conditions):
        altitude, azimuth = conditions.altitude.to(u.rad), conditions.azimuth.to(u.rad)
        event.monitoring.pointing = ArrayPointingContainer(
            array_altitude=altitude, array_azimuth=azimuth
        )
        for tel_id in self._subarray.tel:
            event.monitoring.tel[tel_id].pointing = TelescopePointingContainer(
                altitude=altitude, azimuth=azimuth
            )

    def _fill_signal(self, event, tel_id, waveforms):
        """Add waveforms, shape (n_pixels, n_samples), or the image made from them."""
        waveforms = waveforms[np.newaxis]
        n_pixels = waveforms.shape[1]
        gain_channel = np.zeros(n_pixels, dtype=np.int8)
        broken_pixels = np.zeros((1, n_pixels), dtype=bool)
        if self._extractor is not None:
            event.dl1.tel[tel_id] = self._extractor(
                waveforms, tel_id, gain_channel, broken_pixels
            )
            return
        event.r1.tel[tel_id] = R1CameraContainer(
            event_type=EventType.SUBARRAY,
            event_time=event.trigger.tel[tel_id].time,
            waveform=waveforms,
            selected_gain_channel=gain_channel,
            pixel_status=np.full(
                n_pixels, PixelStatus.HIGH_GAIN_STORED, dtype=np.uint8
            ),
        )
        event.monitoring.tel[tel_id].camera.coefficients = CameraCalibrationContainer(
            outlier_mask=broken_pixels
        )


def _trigger(event_id, telescopes):
    trigger = TriggerContainer(
        event_type=EventType.SUBARRAY,
        time=_time(event_id),
        tels_with_trigger=np.array(list(telescopes)),
    )
    for tel_id, telescope in telescopes.items():
        trigger.tel[tel_id] = TelescopeTriggerContainer(
            time=_time(event_id, telescope.trigger_time_ns),
            event_type=EventType.SUBARRAY,
        )
    return trigger
