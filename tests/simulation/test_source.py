"""Simulated events go through ctapipe's tools as they were simulated.

The physics is replaced by blobs of light at the true direction of each shower.
"""

import subprocess
import sys
from functools import partial
from importlib.metadata import entry_points
from types import SimpleNamespace

import astropy.units as u
import numpy as np
import pytest
import tables
from astropy.coordinates import AltAz, SkyCoord
from ctapipe.atmosphere import AtmosphereDensityProfile
from ctapipe.containers import EventType
from ctapipe.coordinates import TelescopeFrame
from ctapipe.core import ToolConfigurationError, run_tool
from ctapipe.image.extractor import FixedWindowSum
from ctapipe.io import DataLevel, EventSource, HDF5EventSource, TableLoader, read_table
from ctapipe.tools.merge import MergeTool
from ctapipe.tools.process import ProcessorTool

from ctapipe_gammaphysnet.simulation.camera import reference_pulse
from ctapipe_gammaphysnet.simulation.conditions import draw_conditions
from ctapipe_gammaphysnet.simulation.primaries import draw_primary
from ctapipe_gammaphysnet.simulation.source import START, AirShowerEventSource

CARD = """
particle: proton
showers: 4
seed: 3
runs: 3
first_run: 5
reuse: 2
energy_min: 100 GeV
energy_max: 1 TeV
pointing: {altitude: 65 deg, azimuth: 30 deg}
view_cone: 1.2 deg
scatter_radius: 200 m
array: lst4
"""
RUNS = [5, 6, 7]
BLOB_DEG = 0.12
PEAK_SAMPLE = 17
PEAK_CHARGE = 400


def position_m(night, primary, focal_length_m):
    """Camera frame x and y of the true direction: x is to higher altitudes."""
    alt, az = night.altitude.to_value(u.rad), night.azimuth.to_value(u.rad)
    d_az = primary.az_rad - az
    sin, cos = np.sin(primary.alt_rad), np.cos(primary.alt_rad)
    forward = np.sin(alt) * sin + np.cos(alt) * cos * np.cos(d_az)
    up = np.cos(alt) * sin - np.sin(alt) * cos * np.cos(d_az)
    return focal_length_m * np.array([up, cos * np.sin(d_az)]) / forward


class BlobProduction:
    """A `Production` without physics, to know what its images must be."""

    def __init__(self, card, subarray):
        self.card = card
        self.subarray = subarray

    def telescope(self, run, primary, tel_id):
        geometry = self.subarray.tel[tel_id].camera.geometry
        focal_length_m = geometry.frame.focal_length.to_value(u.m)
        night = draw_conditions(self.card, run)
        x, y = position_m(night, primary, focal_length_m)
        distance = np.hypot(
            geometry.pix_x.to_value(u.m) - x, geometry.pix_y.to_value(u.m) - y
        )
        width = np.deg2rad(BLOB_DEG) * focal_length_m
        light = PEAK_CHARGE * np.exp(-0.5 * (distance / width) ** 2)
        image = np.floor(light).astype(np.int32)
        pulse = reference_pulse(geometry.name, 1.0)
        n_samples = self.subarray.tel[tel_id].camera.readout.n_samples
        waveforms = np.zeros((len(image), n_samples), dtype=np.float32)
        start = PEAK_SAMPLE - pulse.argmax()
        waveforms[:, start : start + len(pulse)] = np.outer(image, pulse / pulse.sum())
        return SimpleNamespace(
            waveforms=waveforms, true_image=image, trigger_time_ns=10.0 * tel_id
        )

    def events(self, run):
        for shower in range(1, self.card.showers + 1):
            primary, rng = draw_primary(self.card, run, shower)
            for use in range(self.card.reuse):
                triggered = [i for i in self.subarray.tel if rng.random() < 0.6]
                if len(triggered) < self.card.multiplicity:
                    continue
                yield SimpleNamespace(
                    event_id=100 * shower + use,
                    energy_gev=primary.energy_gev,
                    alt_rad=primary.alt_rad,
                    az_rad=primary.az_rad,
                    core_x_m=primary.core_x_m[use],
                    core_y_m=primary.core_y_m[use],
                    h_first_interaction_m=21e3 + shower,
                    x_max_g_cm2=400.0 + shower,
                    telescopes={i: self.telescope(run, primary, i) for i in triggered},
                )


@pytest.fixture(scope="module", autouse=True)
def blobs():
    """Replace the simulation, without importing it."""
    name = "ctapipe_gammaphysnet.simulation.production"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, name, SimpleNamespace(Production=BlobProduction))
        yield


def write_card(folder):
    path = folder / "test.airshower.yaml"
    path.write_text(CARD, encoding="utf-8")
    return path


@pytest.fixture
def card_path(tmp_path):
    return write_card(tmp_path)


def process(card_path, name, *options):
    """Run ctapipe-process on a card, and return its output."""
    output = card_path.parent / name
    argv = [
        f"--input={card_path}",
        f"--output={output}",
        "--write-images",
        "--write-parameters",
        f"--provenance-log={output}.provenance.log",
        *options,
    ]
    run_tool(ProcessorTool(), argv=argv, cwd=output.parent, raises=True)
    return output


MODES = {
    "waveforms": [
        "--CameraCalibrator.image_extractor_type=LocalPeakWindowSum",
        "--DataWriter.write_r1_waveforms=True",
    ],
    "images": ["--AirShowerEventSource.dl1_images=True"],
}


@pytest.fixture(scope="module", params=list(MODES))
def dl1_file(request, tmp_path_factory):
    card = write_card(tmp_path_factory.mktemp("file"))
    return process(card, "events.dl1.h5", *MODES[request.param])


def production_events(source):
    """What the source's production gives, with the run of each event."""
    production = BlobProduction(source.card, source.subarray)
    return [(run, event) for run in RUNS for event in production.events(run)]


def check_shower(shower, event):
    assert shower.energy.to_value(u.GeV) == pytest.approx(event.energy_gev)
    assert shower.alt.to_value(u.rad) == pytest.approx(event.alt_rad)
    assert shower.az.to_value(u.rad) == pytest.approx(event.az_rad)
    assert shower.core_x.to_value(u.m) == pytest.approx(event.core_x_m)
    assert shower.core_y.to_value(u.m) == pytest.approx(event.core_y_m)
    assert shower.h_first_int.to_value(u.m) == event.h_first_interaction_m
    assert shower.x_max.to_value(u.g / u.cm**2) == event.x_max_g_cm2
    assert shower.shower_primary_id == 101
    assert shower.starting_grammage.value == 0


def impact_m(event, position):
    """Distance of a telescope from the shower's axis."""
    axis = np.array(
        [
            np.cos(event.alt_rad) * np.cos(event.az_rad),
            -np.cos(event.alt_rad) * np.sin(event.az_rad),
            np.sin(event.alt_rad),
        ]
    )
    to_telescope = position.to_value(u.m) - [event.core_x_m, event.core_y_m, 0]
    return np.linalg.norm(np.cross(to_telescope, axis))


@pytest.mark.parametrize("dl1_images", [False, True])
def test_events(card_path, dl1_images):
    source = AirShowerEventSource(card_path, dl1_images=dl1_images)
    level = DataLevel.DL1_IMAGES if dl1_images else DataLevel.R1
    assert source.datalevels == (level,)
    assert source.is_simulation
    expected = production_events(source)
    events = list(source)
    assert len(events) == len(expected) > 10
    for count, (event, (run, true)) in enumerate(zip(events, expected, strict=True)):
        assert event.count == count
        assert (event.index.obs_id, event.index.event_id) == (run, true.event_id)
        check_shower(event.simulation.shower, true)
        assert event.trigger.event_type is EventType.SUBARRAY
        assert list(event.trigger.tels_with_trigger) == list(true.telescopes)
        since_start = (event.trigger.time - START).to_value(u.ns)
        assert since_start == pytest.approx(true.event_id * 1e6, abs=0.1)
        for tel_id, telescope in true.telescopes.items():
            trigger = event.trigger.tel[tel_id]
            delay = (trigger.time - event.trigger.time).to_value(u.ns)
            assert delay == pytest.approx(10 * tel_id, abs=0.1)
            simulated = event.simulation.tel[tel_id]
            assert np.array_equal(simulated.true_image, telescope.true_image)
            assert simulated.true_image_sum == telescope.true_image.sum()
            assert simulated.impact.distance.to_value(u.m) == pytest.approx(
                impact_m(true, source.subarray.positions[tel_id])
            )
            pointing = event.monitoring.tel[tel_id].pointing
            assert pointing.altitude.to_value(u.deg) == pytest.approx(65)
            assert pointing.azimuth.to_value(u.deg) == pytest.approx(30)
        assert event.monitoring.pointing.array_altitude.to_value(
            u.deg
        ) == pytest.approx(65)
        assert list(event.dl1.tel) == (list(true.telescopes) if dl1_images else [])
        assert list(event.r1.tel) == ([] if dl1_images else list(true.telescopes))
    # Each loop simulates the same events, from the beginning.
    assert next(iter(source)).index.event_id == events[0].index.event_id


def test_waveforms(card_path):
    source = AirShowerEventSource(card_path)
    for event, (_, true) in zip(source, production_events(source), strict=True):
        for tel_id, r1 in event.r1.tel.items():
            assert r1.waveform.shape == (1, 1855, 40)
            assert r1.waveform.dtype == np.float32
            assert np.array_equal(r1.waveform[0], true.telescopes[tel_id].waveforms)
            assert not r1.selected_gain_channel.any()
            assert np.all(r1.pixel_status == 0b100)
            assert r1.event_type is EventType.SUBARRAY
            assert r1.event_time == event.trigger.tel[tel_id].time


def test_file_has_what_was_simulated(dl1_file, card_path):
    source = AirShowerEventSource(card_path)
    expected = production_events(source)
    with HDF5EventSource(dl1_file) as written:
        assert written.subarray == source.subarray
        for event, (run, true) in zip(written, expected, strict=True):
            assert (event.index.obs_id, event.index.event_id) == (run, true.event_id)
            check_shower(event.simulation.shower, true)
            assert list(event.trigger.tels_with_trigger) == list(true.telescopes)
            for tel_id, dl1 in event.dl1.tel.items():
                image = true.telescopes[tel_id].true_image
                simulated = event.simulation.tel[tel_id]
                assert np.array_equal(simulated.true_image, image)
                assert dl1.image == pytest.approx(image, rel=0.02, abs=1e-3)
                lit = image > 0
                assert dl1.peak_time[lit] == pytest.approx(PEAK_SAMPLE, abs=0.1)
                assert dl1.parameters.morphology.n_islands == 1
                assert simulated.true_parameters.hillas.intensity == image.sum()
                if DataLevel.R1 in written.datalevels:
                    waveforms = event.r1.tel[tel_id].waveform[0]
                    assert np.array_equal(waveforms, true.telescopes[tel_id].waveforms)


def test_tables_have_what_was_simulated(dl1_file, card_path):
    source = AirShowerEventSource(card_path)
    expected = production_events(source)
    with TableLoader(dl1_file) as loader:
        subarray_table = loader.read_subarray_events()
        telescope_table = loader.read_telescope_events(
            true_images=True, dl1_images=True, instrument=True
        )
        runs = loader.read_observation_information()
    assert list(subarray_table["obs_id"]) == [run for run, _ in expected]
    assert list(subarray_table["event_id"]) == [event.event_id for _, event in expected]
    assert subarray_table["true_energy"].quantity.to_value(u.GeV) == pytest.approx(
        [event.energy_gev for _, event in expected]
    )
    images = [(event, tel_id) for _, event in expected for tel_id in event.telescopes]
    assert len(telescope_table) == len(images)
    assert sorted(set(runs["obs_id"])) == RUNS
    positions = source.subarray.positions
    impacts = telescope_table["true_impact_distance"].quantity.to_value(u.m)
    assert sorted(impacts) == pytest.approx(
        sorted(impact_m(event, positions[tel_id]) for event, tel_id in images)
    )


def test_images_are_at_the_true_direction(dl1_file, card_path):
    """The truth and the pointing in the file lead to where the light is."""
    with HDF5EventSource(dl1_file) as source:
        for event in source:
            shower = event.simulation.shower
            true = SkyCoord(alt=shower.alt, az=shower.az, frame=AltAz())
            for tel_id, dl1 in event.dl1.tel.items():
                pointing = event.monitoring.tel[tel_id].pointing
                frame = TelescopeFrame(
                    telescope_pointing=SkyCoord(
                        alt=pointing.altitude, az=pointing.azimuth, frame=AltAz()
                    )
                )
                on_camera = true.transform_to(frame)
                hillas = dl1.parameters.hillas
                for found, expected in (
                    (hillas.fov_lon, on_camera.fov_lon),
                    (hillas.fov_lat, on_camera.fov_lat),
                ):
                    # The blobs are a little cut where they are near the edge.
                    assert (found - expected).to_value(u.deg) == pytest.approx(
                        0, abs=0.02
                    )


def test_simulation_is_described(dl1_file, card_path):
    source = AirShowerEventSource(card_path)
    with HDF5EventSource(dl1_file) as written:
        configs = written.simulation_config
        distributions = written.simulated_shower_distributions
        assert list(written.observation_blocks) == RUNS
        assert list(written.scheduling_blocks) == RUNS
        block = written.observation_blocks[5]
        assert block.subarray_pointing_lat.to_value(u.deg) == pytest.approx(65)
        assert block.subarray_pointing_lon.to_value(u.deg) == pytest.approx(30)
    assert list(configs) == list(source.simulation_config) == RUNS
    for run, config in configs.items():
        assert config.run_number == run
        assert config.energy_range_min == 0.1 * u.TeV
        assert config.energy_range_max == 1 * u.TeV
        assert config.spectral_index == -2
        assert config.n_showers == 4
        assert config.shower_reuse == 2
        assert config.min_alt == config.max_alt
        assert config.max_alt.to_value(u.deg) == pytest.approx(65)
        assert config.min_az.to_value(u.deg) == pytest.approx(30)
        assert config.max_viewcone_radius == 1.2 * u.deg
        assert config.max_scatter_range == 200 * u.m
        assert config.diffuse
        assert config.core_pos_mode == 0
        assert config.prod_site_alt.to_value(u.m) == pytest.approx(2158)
        assert config.prod_site_B_total == 38.73 * u.uT
        assert config.prod_site_B_inclination.to_value(u.deg) == pytest.approx(37.18)
        assert config.prod_site_B_declination.to_value(u.deg) == pytest.approx(-4.34)
        assert np.isnan(config.corsika_version)
    table = read_table(dl1_file, "/simulation/service/shower_distribution")
    assert sorted(table["obs_id"]) == RUNS
    for distribution in distributions.values():
        assert distribution.n_entries == 8
        assert distribution.histogram.sum() == 8


NIGHTS = """
pointing: {altitude: [40 deg, 80 deg], azimuth: [10 deg, 350 deg]}
night_sky_rate: [0.2 GHz, 0.5 GHz]
"""


@pytest.fixture
def nights_path(card_path):
    """Card whose runs differ."""
    lines = [line for line in CARD.splitlines() if not line.startswith("pointing")]
    card_path.write_text("\n".join(lines) + NIGHTS, encoding="utf-8")
    return card_path


def test_file_has_the_night_of_each_run(nights_path):
    output = process(nights_path, "nights.dl1.h5", *MODES["images"])
    source = AirShowerEventSource(nights_path)
    nights = {run: draw_conditions(source.card, run) for run in RUNS}
    altitudes = {run: night.altitude.to_value(u.deg) for run, night in nights.items()}
    assert len(set(altitudes.values())) == 3
    config = read_table(output, "/configuration/simulation/run")
    assert list(config["obs_id"]) == RUNS
    assert config["night_sky_rate"].unit == u.GHz
    for row in config:
        night = nights[row["obs_id"]]
        assert row["night_sky_rate"] == night.night_sky_rate.to_value(u.GHz)
        assert row["min_alt"] == row["max_alt"] == night.altitude.to_value(u.rad)
        assert row["min_az"] == row["max_az"] == night.azimuth.to_value(u.rad)
    with HDF5EventSource(output) as written:
        assert list(written.simulation_config) == RUNS
        for run, block in written.observation_blocks.items():
            pointing = block.subarray_pointing_lat, block.subarray_pointing_lon
            assert u.isclose(pointing[0], nights[run].altitude)
            assert u.isclose(pointing[1], nights[run].azimuth)
        for event in written:
            night = nights[event.index.obs_id]
            array_pointing = event.monitoring.pointing
            assert u.isclose(array_pointing.array_altitude, night.altitude)
            for tel_id in event.dl1.tel:
                pointing = event.monitoring.tel[tel_id].pointing
                assert u.isclose(pointing.altitude, night.altitude)
                assert u.isclose(pointing.azimuth, night.azimuth)
    test_images_are_at_the_true_direction(output, nights_path)


def test_nights_can_be_simulated_apart(nights_path):
    test_runs_can_be_simulated_apart(nights_path)


def test_a_point_source_is_a_cone_without_width(card_path):
    text = CARD.replace("view_cone: 1.2 deg", "source_offset: 0.5 deg")
    card_path.write_text(text, encoding="utf-8")
    for config in AirShowerEventSource(card_path).simulation_config.values():
        assert not config.diffuse
        assert config.min_viewcone_radius == config.max_viewcone_radius == 0.5 * u.deg


def tables_of(path):
    """Rows of all tables of a file, by their path, but for statistics of a process."""
    with tables.open_file(path) as file:
        return {
            node._v_pathname: node[:]
            for node in file.walk_nodes("/", "Table")
            if not node._v_pathname.startswith("/dl1/service")
        }


def test_runs_can_be_simulated_apart(card_path):
    together = process(card_path, "together.dl1.h5", *MODES["images"])
    option = "--AirShowerEventSource.runs"
    parts = [
        process(card_path, "one.dl1.h5", *MODES["images"], f"{option}=5"),
        process(
            card_path, "two.dl1.h5", *MODES["images"], f"{option}=7", f"{option}=6"
        ),
    ]
    merged = card_path.parent / "merged.dl1.h5"
    argv = [*map(str, parts), f"--output={merged}"]
    argv.append(f"--provenance-log={merged}.provenance.log")
    run_tool(MergeTool(), argv=argv, cwd=merged.parent, raises=True)
    first, second = tables_of(together), tables_of(merged)
    # ctapipe-merge leaves the atmosphere out.
    del first["/simulation/service/atmosphere_density_profile"]
    assert first.keys() == second.keys()
    for path, rows in first.items():
        others = second[path]
        assert rows.dtype == others.dtype, path
        if "/parameters/" not in path:
            assert rows.tobytes() == others.tobytes(), path
            continue
        # Not always computed from the same positions in memory: equal to rounding.
        for name in rows.dtype.names:
            assert rows[name] == pytest.approx(others[name], nan_ok=True), (path, name)


@pytest.mark.parametrize("correction", ["True", "False"])
def test_image_extractor_is_configured_by_the_user(card_path, correction):
    output = process(
        card_path,
        "events.dl1.h5",
        *MODES["images"],
        "--AirShowerEventSource.image_extractor_type=FixedWindowSum",
        f"--FixedWindowSum.peak_index={PEAK_SAMPLE}",
        "--FixedWindowSum.window_width=3",
        "--FixedWindowSum.window_shift=1",
        f"--FixedWindowSum.apply_integration_correction={correction}",
        "--max-events=1",
    )
    true = read_table(output, "/simulation/event/telescope/images/tel_002")
    image = read_table(output, "/dl1/event/telescope/images/tel_002")["image"]
    pulse = reference_pulse("LSTCam", 1.0)
    peak = pulse.argmax()
    expected = pulse[peak - 1 : peak + 2].sum() / pulse.sum()
    if correction == "True":
        subarray = AirShowerEventSource(card_path).subarray
        extractor = FixedWindowSum(subarray, window_width=3, window_shift=1)
        expected *= extractor._calculate_correction(2)[0]
    assert image.sum() / true["true_image_sum"].sum() == pytest.approx(expected)


def test_max_events_ends_early_and_leaves_the_distribution_out(card_path):
    source = AirShowerEventSource(card_path, max_events=3)
    assert [event.count for event in source] == [0, 1, 2]
    assert source.simulated_shower_distributions == {}
    output = process(card_path, "few.dl1.h5", *MODES["images"], "--max-events=3")
    assert len(read_table(output, "/dl1/event/subarray/trigger")) == 3


def test_allowed_telescopes_do_not_change_the_others(card_path):
    source = AirShowerEventSource(card_path, allowed_tels={2, 4})
    assert list(source.subarray.tel) == [2, 4]
    everything = production_events(AirShowerEventSource(card_path))
    expected = [
        (run, event.event_id, sorted({2, 4} & set(event.telescopes)))
        for run, event in everything
        if {2, 4} & set(event.telescopes)
    ]
    found = [
        (
            event.index.obs_id,
            event.index.event_id,
            list(map(int, event.trigger.tels_with_trigger)),
        )
        for event in source
    ]
    assert found == expected
    assert [event.count for event in source] == list(range(len(expected)))
    for event in source:
        tel_ids = list(event.trigger.tels_with_trigger)
        for container in (event.trigger, event.simulation, event.r1):
            assert list(container.tel) == tel_ids


def test_another_camera(card_path):
    card_path.write_text(CARD.replace("lst4", "nectarcam1"), encoding="utf-8")
    source = AirShowerEventSource(card_path)
    expected = production_events(source)
    output = process(card_path, "nectarcam.dl1.h5", *MODES["waveforms"])
    rows = read_table(output, "/dl1/event/telescope/images/tel_019")
    assert len(rows) == len(expected) > 0
    for row, (_, true) in zip(rows, expected, strict=True):
        image = true.telescopes[19].true_image
        assert row["image"] == pytest.approx(image, rel=0.02, abs=1e-3)


def test_needs_compilation(card_path, monkeypatch):
    monkeypatch.setattr("numba.core.config.DISABLE_JIT", True)
    with pytest.raises(ToolConfigurationError, match="NUMBA_DISABLE_JIT"):
        AirShowerEventSource(card_path)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"runs": [5, 8, 4]}, "no run 4, 8, its runs are 5 to 7"),
        ({"runs": list(range(10, 99))}, "no run 10, 11, 12, 13, 14 and 84 more"),
        ({"max_events": -1}, "max_events: -1 must not be negative"),
        ({"allowed_tels": {2, 9}}, "no telescope 9, its telescopes are 1, 2, 3, 4"),
    ],
)
def test_wrong_selection(card_path, options, says):
    with pytest.raises(ToolConfigurationError, match=says):
        AirShowerEventSource(card_path, **options)


def test_tools_print_what_is_wrong_without_traceback(card_path, capfd):
    card_path.write_text(CARD + "seeed: 1\n", encoding="utf-8")
    argv = [f"--input={card_path}", "--output=none.dl1.h5"]
    exit_code = run_tool(ProcessorTool(), argv=argv, cwd=card_path.parent, raises=False)
    assert exit_code == 2
    printed = capfd.readouterr().err
    assert "test.airshower.yaml: seeed: unknown key, did you mean seed?" in printed
    assert "Traceback" not in printed


def test_event_source_finds_the_class_by_the_name(card_path, tmp_path):
    assert "AirShowerEventSource" in entry_points(group="ctapipe_io").names
    assert isinstance(EventSource(card_path), AirShowerEventSource)
    assert AirShowerEventSource.is_compatible(str(card_path))
    assert not AirShowerEventSource.is_compatible(tmp_path / "airshower.yaml.gz")
    assert not AirShowerEventSource.is_compatible(tmp_path / "card.yaml")


@pytest.mark.parametrize(("site", "depth"), [("la_palma", 206.7), ("paranal", 214.4)])
def test_atmosphere_is_that_of_the_site(card_path, site, depth):
    card_path.write_text(f"{CARD}site: {site}\n")
    profile = AirShowerEventSource(card_path).atmosphere_density_profile
    assert isinstance(profile, AtmosphereDensityProfile)
    above = profile.integral(12 * u.km).to_value(u.g / u.cm**2)
    assert above == pytest.approx(depth, abs=0.1)


def test_importing_the_module_is_cheap():
    code = (
        "import sys, ctapipe.io, ctapipe.image;"
        "before = set(sys.modules);"
        "import ctapipe_gammaphysnet.simulation.source;"
        "print(*(set(sys.modules) - before))"
    )
    run = partial(subprocess.run, check=True, capture_output=True, text=True)
    new = set(run([sys.executable, "-c", code]).stdout.split())
    package = "ctapipe_gammaphysnet"
    modules = "files", "files.paths", "simulation", "simulation.source"
    assert new == {package, *(f"{package}.{module}" for module in modules)}
