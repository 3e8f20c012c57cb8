"""The cards and the script of examples/simulation, and the sample made with them."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import astropy.units as u
import numpy as np
import psutil
import pytest
import tables
from ctapipe.atmosphere import TableAtmosphereDensityProfile
from ctapipe.core import ToolConfigurationError, run_tool
from ctapipe.io import EventSource, TableLoader, read_table
from ctapipe.tools.process import ProcessorTool

from ctapipe_gammaphysnet.simulation.card import CardError, read_card
from ctapipe_gammaphysnet.simulation.conditions import draw_conditions

EXAMPLES = Path(__file__).absolute().parents[1] / "examples"
CARDS = sorted((EXAMPLES / "simulation").glob("*.airshower.yaml"))
REFERENCE = sorted((EXAMPLES / "demonstration").rglob("*.airshower.yaml"))
PARTS = ("train", "neighbor/train_neighbor", "validation", "test", "test_zenith40")
SAMPLES = {
    name: EXAMPLES / "data" / f"sample_{name}.dl1.h5" for name in ("gamma", "proton")
}

sys.path.insert(0, str(EXAMPLES / "simulation"))
import simulate  # noqa: E402

CARD = """\
particle: gamma
showers: 3
runs: 2
seed: 5
reuse: 3
energy_min: 300 GeV
energy_max: 500 GeV
scatter_radius: 100 m
array: lst4
"""


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.name)
def test_cards_are_valid(path):
    assert read_card(path).particle in path.name


def test_the_reference_sample_is_of_showers_apart(tmp_path):
    """Two commands make all of it, and refuse cards that share showers."""
    folder = EXAMPLES / "demonstration"
    names = {
        str(path.relative_to(folder)).removesuffix(simulate.SUFFIX)
        for path in REFERENCE
    }
    pairs = {f"{part}_{p}" for part in PARTS for p in ("gamma", "proton")}
    assert names == pairs | {"train_energetic_gamma", "test_stereo_gamma"}
    productions = simulate.plan(REFERENCE, tmp_path, [])
    for one, other in combinations([p.card for p in productions], 2):
        assert not simulate.starts(one) & simulate.starts(other)


@pytest.mark.parametrize("part", PARTS)
def test_gammas_and_protons_of_the_reference_sample_have_the_same_nights(part):
    gamma, proton = (
        read_card(EXAMPLES / "demonstration" / f"{part}_{particle}.airshower.yaml")
        for particle in ("gamma", "proton")
    )
    assert gamma.run_numbers == proton.run_numbers
    for run in gamma.run_numbers:
        assert draw_conditions(gamma, run) == draw_conditions(proton, run)


@pytest.mark.parametrize(("part", "zenith"), [("test", 20), ("test_zenith40", 40)])
def test_gammas_to_test_on_are_equally_many_per_decade(part, zenith):
    card = read_card(EXAMPLES / "demonstration" / f"{part}_gamma.airshower.yaml")
    assert card.runs * card.showers >= 1500
    assert card.spectral_index == -1
    assert card.pointing.altitude == (90 - zenith) * u.deg


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """A card, and the file that the script makes of it."""
    directory = tmp_path_factory.mktemp("simulated")
    card = directory / "bright.airshower.yaml"
    card.write_text(CARD)
    simulate.simulate_cards([card], directory / "sample", 2, [])
    return card, directory / "sample" / "bright.dl1.h5"


@pytest.mark.slow
def test_a_file_of_all_runs_is_all_that_is_left(simulated):
    _, path = simulated
    assert list(path.parent.iterdir()) == [path]


def read_events(path):
    """Truth and images of a file, sorted by event and telescope."""
    with TableLoader(path) as loader:
        events = loader.read_telescope_events(dl1_images=True, true_images=True)
    events.sort(["obs_id", "event_id", "tel_id"])
    return events


@pytest.mark.slow
def test_runs_in_parallel_are_those_of_a_single_process(simulated, tmp_path):
    card, path = simulated
    single = tmp_path / "single.dl1.h5"
    arguments = [f"--input={card}", f"--output={single}"]
    arguments.append(f"--config={EXAMPLES / 'simulation' / 'process.yaml'}")
    run_tool(ProcessorTool(), arguments, cwd=tmp_path, raises=True)
    parallel, alone = read_events(path), read_events(single)
    assert len(parallel) > 10
    assert set(parallel["obs_id"]) == {1, 2}
    for column in ("obs_id", "event_id", "tel_id", "true_energy", "true_core_x"):
        np.testing.assert_array_equal(parallel[column], alone[column])
    for column in ("image", "peak_time", "true_image"):
        np.testing.assert_array_equal(parallel[column], alone[column])


@pytest.mark.slow
def test_the_atmosphere_stays_in_the_file(simulated):
    """ctapipe-merge leaves it out."""
    card, path = simulated
    with EventSource(path) as written, EventSource(card) as source:
        profile = written.atmosphere_density_profile
        expected = source.atmosphere_density_profile
    assert isinstance(profile, TableAtmosphereDensityProfile)
    heights = [3, 10, 30] * u.km
    assert u.allclose(profile(heights), expected(heights))
    assert u.allclose(profile.integral(heights), expected.integral(heights))


@pytest.mark.slow
def test_what_is_done_is_not_done_again(simulated, monkeypatch):
    card, path = simulated

    def refuse(*args):
        raise AssertionError("was called")

    monkeypatch.setattr(simulate, "call", refuse)
    simulate.simulate_cards([card], path.parent, 1, [])


@pytest.fixture
def card(tmp_path):
    """The card, where nothing else is."""
    path = tmp_path / "cards" / "bright.airshower.yaml"
    path.parent.mkdir()
    path.write_text(CARD)
    return path


@pytest.fixture
def tools(monkeypatch):
    """Replace ctapipe's tools by ones that write a row; list what they are called with.

    If ``fail`` is set, it is called before each.
    """
    made = SimpleNamespace(calls=[], fail=lambda: None)

    def call(module, *arguments, cwd):
        made.fail()
        options = dict(a[2:].split("=", 1) for a in arguments if "=" in a)
        made.calls.append((module, options))
        rows = 1
        if module.endswith("merge"):
            inputs = json.loads((cwd / options["config"]).read_text())
            rows = len(inputs["MergeTool"]["input_files"])
        write_rows(cwd / options["output"], rows)

    monkeypatch.setattr(simulate, "call", call)
    return made


def write_rows(path, rows):
    """Write what is taken for a file of ctapipe, with that many events."""
    with tables.open_file(path, "w") as file:
        group = file.create_group("/dl1/event/subarray", "trigger", createparents=True)
        file.create_table(group, "rows", np.zeros(rows, [("event_id", int)]))
        if rows == 1:  # ctapipe-merge leaves it out
            parent, _, name = simulate.ATMOSPHERE.rpartition("/")
            file.create_array(parent, name, [0.0], createparents=True)
        with warnings.catch_warnings(action="ignore"):  # PyTables: not natural
            file.root._v_attrs["CTA PRODUCT ID"] = "1"


def interrupt():
    raise KeyboardInterrupt


def test_it_goes_on_where_it_was_interrupted(card, tools, tmp_path):
    def interrupt_the_second():
        if len(tools.calls) == 1:
            interrupt()

    tools.fail = interrupt_the_second
    with pytest.raises(KeyboardInterrupt):
        simulate.simulate_cards([card], tmp_path, 1, [])
    assert [path.name for path in tmp_path.glob("*.h5")] == []
    assert list(tmp_path.glob("bright_runs/*.part")) == []
    tools.fail = lambda: None
    tools.calls.clear()
    simulate.simulate_cards([card], tmp_path, 1, [])
    modules = [module for module, _ in tools.calls]
    assert modules == ["ctapipe.tools.process", "ctapipe.tools.merge"]
    assert tools.calls[0][1]["AirShowerEventSource.runs"] == "2"
    assert count_events(tmp_path / "bright.dl1.h5") == 2
    assert not (tmp_path / "bright_runs").exists()


def count_events(path):
    with tables.open_file(path) as file:
        return file.root.dl1.event.subarray.trigger.rows.nrows


def test_what_a_killed_run_leaves_is_not_taken_for_finished(card, tools, tmp_path):
    runs = tmp_path / "bright_runs"
    tools.fail = interrupt
    with pytest.raises(KeyboardInterrupt):
        simulate.simulate_cards([card], tmp_path, 1, [])
    (runs / "run0000000001.dl1.h5.12345678.part").write_text("half")
    (runs / "merged.dl1.h5").write_text("half")
    tools.fail = lambda: None
    simulate.simulate_cards([card], tmp_path, 1, [])
    assert count_events(tmp_path / "bright.dl1.h5") == 2
    assert not runs.exists()


def test_runs_of_another_card_are_not_mixed_in(card, tools, tmp_path):
    tools.fail = interrupt
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            simulate.simulate_cards([card], tmp_path, 1, [])
    with pytest.raises(ToolConfigurationError, match="bright_runs is not of this card"):
        simulate.simulate_cards([card], tmp_path, 1, ["--log-level=INFO"])
    card.write_text(CARD.replace("300 GeV", "200 GeV"))
    with pytest.raises(ToolConfigurationError, match="bright_runs is not of this card"):
        simulate.simulate_cards([card], tmp_path, 1, [])


def test_a_finished_file_is_not_the_answer_to_another_card(card, tools, tmp_path):
    output = tmp_path / "bright.dl1.h5"
    simulate.simulate_cards([card], tmp_path, 1, [])
    content = output.read_bytes()
    tools.calls.clear()
    simulate.simulate_cards([card], tmp_path, 1, [])
    config = tmp_path / "more.yaml"
    config.write_text("a: 1")
    for options in (["--log-level=INFO"], [f"--config={config}"]):
        with pytest.raises(ToolConfigurationError, match=r"bright\.dl1\.h5 is there"):
            simulate.simulate_cards([card], tmp_path, 1, options)
    card.write_text(CARD.replace("300 GeV", "200 GeV"))
    with pytest.raises(ToolConfigurationError, match=r"bright\.dl1\.h5 is there"):
        simulate.simulate_cards([card], tmp_path, 1, [])
    assert tools.calls == []
    assert output.read_bytes() == content


def test_a_file_that_an_option_names_is_part_of_what_is_made(card, tmp_path):
    config = tmp_path / "more.yaml"
    config.write_text("a: 1")
    before = simulate.checksum(card, [f"--config={config}"])
    config.write_text("a: 2")
    assert simulate.checksum(card, [f"--config={config}"]) != before


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("bright_runs/notes.txt", "not of this card"),
        ("bright.dl1.h5", r"bright\.dl1\.h5 cannot be read: it is damaged"),
    ],
)
def test_what_somebody_else_has_there_is_left_alone(card, tools, tmp_path, name, says):
    kept = tmp_path / name
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("mine")
    with pytest.raises(ToolConfigurationError, match=says):
        simulate.simulate_cards([card], tmp_path, 1, [])
    assert kept.read_text() == "mine"
    assert tools.calls == []


def test_only_what_was_written_is_removed(card, tools, tmp_path):
    names = ["merged.txt", "notes.txt", "run0000000003.dl1.h5", "run_x.dl1.h5"]
    names += ["run_x.part", "run_x.provenance.log"]

    def leave_files():
        for name in names:
            (tmp_path / "bright_runs" / name).write_text("mine")

    tools.fail = leave_files
    simulate.simulate_cards([card], tmp_path, 1, [])
    left = sorted(path.name for path in (tmp_path / "bright_runs").iterdir())
    assert left == names
    assert count_events(tmp_path / "bright.dl1.h5") == 2


def test_one_process_at_a_time_simulates_a_card(card, tools, tmp_path):
    def start_another():
        with pytest.raises(ToolConfigurationError, match="another process is at work"):
            simulate.simulate_cards([card], tmp_path, 1, [])

    tools.fail = start_another
    simulate.simulate_cards([card], tmp_path, 1, [])
    assert len(tools.calls) == 3
    assert count_events(tmp_path / "bright.dl1.h5") == 2
    assert not (tmp_path / "bright_runs").exists()


def test_a_log_has_lines(card, tools, tmp_path, capsys):
    for _ in range(2):
        simulate.simulate_cards([card], tmp_path, 1, [])
    said = capsys.readouterr().err.splitlines()
    assert "is compiled" in said[0]
    assert said[1:] == [
        "1 of 2 runs",
        "2 of 2 runs",
        f"{tmp_path}/bright.dl1.h5 is complete already",
    ]


def test_links_are_followed(card, tools, tmp_path):
    sample, elsewhere = tmp_path / "sample", tmp_path / "elsewhere"
    sample.mkdir()
    (elsewhere / "runs").mkdir(parents=True)
    (sample / "bright.dl1.h5").symlink_to(elsewhere / "gamma.dl1.h5")
    (sample / "bright_runs").symlink_to(elsewhere / "runs")
    simulate.simulate_cards([card], sample, 1, [])
    assert count_events(elsewhere / "gamma.dl1.h5") == 2
    assert (sample / "bright.dl1.h5").is_symlink()
    assert (sample / "bright_runs").is_symlink()


def test_an_output_that_is_no_file(card, tools, tmp_path):
    output = tmp_path / "bright.dl1.h5"
    os.mkfifo(output)
    with pytest.raises(ToolConfigurationError, match="is a pipe"):
        simulate.simulate_cards([card], tmp_path, 1, [])
    assert output.is_fifo()
    assert tools.calls == []


def test_files_that_lost_something_are_not_finished(card, tools, tmp_path, monkeypatch):
    """As on a full disk, of which HDF5 may say nothing."""
    write = write_rows

    def truncate(path, rows):
        write(path, rows)
        path.write_bytes(path.read_bytes()[:1000])

    monkeypatch.setattr(sys.modules[__name__], "write_rows", truncate)
    with pytest.raises(ToolConfigurationError, match="is the disk full"):
        simulate.simulate_cards([card], tmp_path, 1, [])
    assert list(tmp_path.glob("**/*.dl1.h5*")) == []


def test_a_merged_file_has_all_events(card, tools, tmp_path, monkeypatch):
    write = write_rows

    def lose_one(path, rows):
        write(path, min(rows, 1))

    monkeypatch.setattr(sys.modules[__name__], "write_rows", lose_one)
    with pytest.raises(ToolConfigurationError, match="is not complete"):
        simulate.simulate_cards([card], tmp_path, 1, [])
    assert list(tmp_path.glob("*.dl1.h5*")) == []


def test_a_merged_file_has_the_atmosphere_of_a_run(card, tools, tmp_path):
    simulate.simulate_cards([card], tmp_path, 1, [])
    with tables.open_file(tmp_path / "bright.dl1.h5") as file:
        assert simulate.ATMOSPHERE in file


def test_the_last_card_is_read_before_the_first_is_simulated(card, tools, tmp_path):
    bad = tmp_path / "bad.airshower.yaml"
    bad.write_text(CARD.replace("seed: 5", "seed: -5"))
    with pytest.raises(CardError, match=r"bad.airshower.yaml: seed"):
        simulate.simulate_cards([card, bad], tmp_path, 1, [])
    assert tools.calls == []


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("other/bright.airshower.yaml", "seed: 6", "would make the same file"),
        ("other.airshower.yaml", "runs: 1", "the same particle, seed and runs"),
        ("other.yaml", "seed: 6", r"ends in \.airshower\.yaml"),
    ],
)
def test_cards_that_do_not_go_together(card, tools, tmp_path, name, change, says):
    other = tmp_path / name
    other.parent.mkdir(exist_ok=True)
    key = change.partition(":")[0]
    other.write_text(re.sub(f"{key}: .*", change, CARD))
    with pytest.raises(ToolConfigurationError, match=says):
        simulate.simulate_cards([card, other], tmp_path, 1, [])
    assert tools.calls == []


def test_another_particle_or_other_runs_go_together(card, tools, tmp_path):
    proton = tmp_path / "proton.airshower.yaml"
    proton.write_text(CARD.replace("gamma", "proton"))
    later = tmp_path / "later.airshower.yaml"
    later.write_text(CARD + "first_run: 3\n")
    simulate.simulate_cards([card, proton, later], tmp_path, 2, [])
    assert len(list(tmp_path.glob("*.dl1.h5"))) == 3


def test_names_that_a_file_system_allows(tools, tmp_path):
    directory = tmp_path / "-a [b]=c: $HOME ü"
    card = directory / "-x=[1] $HOME ü.airshower.yaml"
    card.parent.mkdir()
    card.write_text(CARD)
    simulate.simulate_cards([card], directory, 1, [])
    assert count_events(directory / "-x=[1] $HOME ü.dl1.h5") == 2
    for _, options in tools.calls:
        assert options["output"].startswith(("run", "merged"))


def run_script(*arguments, **options):
    command = [sys.executable, simulate.__file__, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, **options)


def test_a_failure_is_told_with_an_exit_status(card, tmp_path):
    card.write_text(CARD.replace("runs: 2", "runs: 1"))
    with pytest.raises(SystemExit) as ended:
        simulate.simulate_cards([card], tmp_path, 1, ["--no-such-option=1"])
    # A text is printed, and the status is 1.
    said = ended.value.code
    assert said.startswith("error: ctapipe.tools.process failed")
    assert "no-such-option" in said
    assert "Traceback" not in said
    assert not list(tmp_path.glob("*.dl1.h5"))


def test_wrong_input_is_told_with_an_exit_status(card, tmp_path):
    card.write_text(CARD + "colour: blue\n")
    ascii_only = os.environ | {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    result = run_script(card, "--output-dir", tmp_path / "ü", env=ascii_only)
    assert result.returncode == 2
    assert "colour: unknown key" in result.stderr
    assert "Traceback" not in result.stderr


def test_options_that_are_set_by_the_script(card, tools, tmp_path):
    with pytest.raises(ToolConfigurationError, match="--output=x: this is set here"):
        simulate.simulate_cards([card], tmp_path, 1, ["--output=x"])


def test_a_card_that_is_not_there(tools, tmp_path):
    with pytest.raises(CardError, match=r"no\.airshower\.yaml"):
        simulate.simulate_cards([tmp_path / "no.airshower.yaml"], tmp_path, 1, [])


def test_a_finished_file_is_told_where_nothing_but_ascii_can_be(card, tools, tmp_path):
    sample = tmp_path / "\u00fc\n"
    simulate.simulate_cards([card], sample, 1, [])
    ascii_only = os.environ | {"PYTHONIOENCODING": "ascii"}
    result = run_script(card, "--output-dir", sample, env=ascii_only)
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"{tmp_path}/\\xfc\\n/bright.dl1.h5\n"


def test_one_thread_at_a_time_reads(toy_file, monkeypatch):
    """PyTables, and HDF5, mix up what several threads open at once."""
    reading, at_once = [], []

    def contents(file):
        reading.append(file)
        time.sleep(0.02)
        at_once.append(len(reading))
        reading.remove(file)

    monkeypatch.setattr(simulate, "contents", contents)
    with ThreadPoolExecutor(4) as pool:
        rows = list(pool.map(simulate.count_rows, [toy_file] * 8))
    assert rows[0]
    assert rows == rows[:1] * 8
    assert at_once == [1] * 8


@pytest.mark.parametrize(("sent", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_ends_all_processes(card, tmp_path, sent, status):
    card.write_text(re.sub("showers: .*", "showers: 100000", CARD))
    process = subprocess.Popen(
        [sys.executable, simulate.__file__, card, "--output-dir", tmp_path],
        stderr=subprocess.PIPE,
    )
    try:
        until(lambda: len(psutil.Process(process.pid).children()) == 2)
        children = psutil.Process(process.pid).children()
        process.send_signal(getattr(signal, sent))
        process.wait(60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == status
    assert children
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive
    assert not list(tmp_path.glob("bright*.h5*"))


def until(happens, seconds=60):
    """Wait until something happens."""
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_the_sample_is_small():
    assert sum(path.stat().st_size for path in SAMPLES.values()) < 5e6


@pytest.mark.parametrize("name", SAMPLES)
def test_the_sample_has_images_with_their_truth(name):
    events = read_events(SAMPLES[name])
    assert len(events) > 200
    assert set(events["tel_id"]) == {1, 2, 3, 4}
    assert set(events["true_shower_primary_id"]) == {{"gamma": 0, "proton": 101}[name]}
    for column in ("image", "peak_time", "true_energy", "true_alt", "true_core_x"):
        assert np.isfinite(events[column]).all()


def test_images_of_the_sample_have_the_charge_of_their_light():
    events = read_events(SAMPLES["gamma"])
    true_sum, charge = (
        (events[column] * events["image_mask"]).sum(axis=1)
        for column in ("true_image", "image")
    )
    bright = true_sum > 200
    assert bright.sum() > 100
    # The integration window misses some light, and the night sky adds some.
    ratio = charge[bright] / true_sum[bright]
    assert np.median(ratio) == pytest.approx(0.98, abs=0.03)
    assert ratio.std() < 0.05


@pytest.mark.parametrize("name", SAMPLES)
def test_the_sample_is_what_its_card_says(name):
    card = read_card(EXAMPLES / "simulation" / f"sample_{name}.airshower.yaml")
    config = read_table(SAMPLES[name], "/configuration/simulation/run")
    assert config["n_showers"] == card.showers
    assert config["shower_reuse"] == card.reuse
    events = read_table(SAMPLES[name], "/simulation/event/subarray/shower")
    low, high = card.energy_min.to_value("TeV"), card.energy_max.to_value("TeV")
    assert low <= events["true_energy"].min()
    assert events["true_energy"].max() <= high
