"""The cards and the script of examples/simulation, and the sample made with them."""

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import tables
from ctapipe.core import run_tool
from ctapipe.io import TableLoader, read_table
from ctapipe.tools.process import ProcessorTool

from ctapipe_gammaphysnet.output import OutputError
from ctapipe_gammaphysnet.simulation.card import CardError, read_card

EXAMPLES = Path(__file__).absolute().parents[1] / "examples"
CARDS = sorted((EXAMPLES / "simulation").glob("*.airshower.yaml"))
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


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """A card, and the file that the script makes of it."""
    directory = tmp_path_factory.mktemp("simulated")
    card = directory / "bright.airshower.yaml"
    card.write_text(CARD)
    simulate.simulate_cards([card], directory / "sample", 2, [])
    return card, directory / "sample" / "bright.dl1.h5"


def test_a_file_of_all_runs_is_all_that_is_left(simulated):
    _, path = simulated
    assert list(path.parent.iterdir()) == [path]


def read_events(path):
    """Truth and images of a file, sorted by event and telescope."""
    with TableLoader(path) as loader:
        events = loader.read_telescope_events(dl1_images=True, true_images=True)
    events.sort(["obs_id", "event_id", "tel_id"])
    return events


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


def test_what_is_done_is_not_done_again(simulated, monkeypatch):
    card, path = simulated

    def refuse(*args):
        raise AssertionError("was called")

    monkeypatch.setattr(simulate, "call", refuse)
    simulate.simulate_cards([card], path.parent, 1, [])


def test_what_is_done_is_not_taken_for_something_else(simulated, tmp_path):
    """Neither for other options nor for another card, and it stays."""
    card, path = simulated
    with pytest.raises(SystemExit, match=r"bright\.dl1\.h5 exists, but is not of this"):
        simulate.simulate_cards([card], path.parent, 1, ["--log-level=INFO"])
    other = tmp_path / card.name
    other.write_text(CARD.replace("seed: 5", "seed: 6"))
    with pytest.raises(SystemExit, match=r"bright\.dl1\.h5 exists, but is not of this"):
        simulate.simulate_cards([other], path.parent, 1, [])
    (tmp_path / path.name).write_text("mine")
    with pytest.raises(SystemExit, match=r"bright\.dl1\.h5 exists, but is not of this"):
        simulate.simulate_cards([card], tmp_path, 1, [])
    assert (tmp_path / path.name).read_text() == "mine"


def test_an_output_that_is_a_link_or_no_file(tmp_path, monkeypatch):
    card = tmp_path / "bright.airshower.yaml"
    card.write_text(CARD)
    output = tmp_path / "bright.dl1.h5"

    def write_nothing(module, *arguments):
        path = next(a[9:] for a in arguments if str(a).startswith("--output="))
        tables.open_file(path, "w").close()

    monkeypatch.setattr(simulate, "call", write_nothing)
    (tmp_path / "scratch").mkdir()
    output.symlink_to("scratch/target.h5")
    simulate.simulate_cards([card], tmp_path, 1, [])
    assert output.is_symlink()
    assert [path.name for path in (tmp_path / "scratch").iterdir()] == ["target.h5"]
    output.unlink()
    os.mkfifo(output)
    with pytest.raises(OutputError, match="is a pipe"):
        simulate.simulate_cards([card], tmp_path, 1, [])
    assert output.is_fifo()


def test_files_of_others_stay_beside_the_runs(tmp_path):
    card, runs = tmp_path / "bright.airshower.yaml", tmp_path / "bright_runs"
    card.write_text(CARD)
    simulate.prepare(card, runs, [])
    (runs / "notes.txt").write_text("mine")
    run = runs / "run000001.dl1.h5"
    run.touch()
    simulate.remove_runs(runs, [run])
    assert [path.name for path in runs.iterdir()] == ["notes.txt"]
    (runs / "notes.txt").unlink()
    simulate.remove_runs(runs, [run])
    assert not runs.exists()


def test_rows_that_a_merged_file_lacks_are_noticed(simulated, tmp_path):
    _, path = simulated
    simulate.check_merged([path], path, path)
    lacking = tmp_path / "lacking.dl1.h5"
    shutil.copy(path, lacking)
    with tables.open_file(lacking, "a") as file:
        file.remove_node("/dl1/event/telescope/parameters", recursive=True)
    with pytest.raises(OutputError, match="is the disk full"):
        simulate.check_merged([path], lacking, lacking)


def test_it_goes_on_where_it_was_interrupted(simulated, tmp_path, monkeypatch):
    card, _ = simulated
    made = []

    def interrupt_second_run(module, *arguments):
        output = next(Path(a[9:]) for a in arguments if a.startswith("--output="))
        if len(made) == 1:
            made.append(None)
            raise SystemExit("interrupted")
        made.append(output.name)
        tables.open_file(output, "w").close()

    monkeypatch.setattr(simulate, "call", interrupt_second_run)
    with pytest.raises(SystemExit, match="interrupted"):
        simulate.simulate_cards([card], tmp_path, 1, [])
    assert not (tmp_path / "bright.dl1.h5").exists()

    calls = []

    def note(module, *arguments):
        calls.append(module)
        output = next(a[9:] for a in arguments if str(a).startswith("--output="))
        tables.open_file(output, "w").close()

    monkeypatch.setattr(simulate, "call", note)
    simulate.simulate_cards([card], tmp_path, 1, [])
    assert calls == ["ctapipe.tools.process", "ctapipe.tools.merge"]
    assert (tmp_path / "bright.dl1.h5").exists()


def test_runs_of_another_card_are_not_mixed_in(tmp_path):
    card = tmp_path / "bright.airshower.yaml"
    card.write_text(CARD)
    runs = tmp_path / "bright_runs"
    simulate.prepare(card, runs, [])
    simulate.prepare(card, runs, [])
    with pytest.raises(SystemExit, match="not of this card"):
        simulate.prepare(card, runs, ["--log-level=INFO"])
    card.write_text(CARD.replace("300 GeV", "200 GeV"))
    with pytest.raises(SystemExit, match="not of this card"):
        simulate.prepare(card, runs, [])


def test_a_directory_of_somebody_else_is_left_alone(tmp_path):
    card = tmp_path / "bright.airshower.yaml"
    card.write_text(CARD)
    kept = tmp_path / "bright_runs" / "notes.txt"
    kept.parent.mkdir()
    kept.write_text("mine")
    with pytest.raises(SystemExit, match="not of this card"):
        simulate.simulate_cards([card], tmp_path, 1, [])
    assert kept.read_text() == "mine"


def test_the_last_card_is_read_before_the_first_is_simulated(tmp_path, monkeypatch):
    good, bad = tmp_path / "good.airshower.yaml", tmp_path / "bad.airshower.yaml"
    good.write_text(CARD)
    bad.write_text(CARD.replace("seed: 5", "seed: -5"))
    monkeypatch.setattr(simulate, "call", lambda *args: pytest.fail("was called"))
    with pytest.raises(CardError, match="bad.airshower.yaml: seed"):
        simulate.simulate_cards([good, bad], tmp_path, 1, [])


def test_what_a_tool_says_when_it_fails_is_passed_on(tmp_path):
    card = tmp_path / "bad.airshower.yaml"
    card.write_text(CARD + "colour: blue\n")
    with pytest.raises(SystemExit, match="colour"):
        simulate.call("ctapipe.tools.process", f"--input={card}", "--output=x.dl1.h5")


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
    true_sum = events["true_image"].sum(axis=1)
    bright = true_sum > 300
    # Some light is outside the cleaned pixels, some night sky inside.
    ratio = events["hillas_intensity"][bright] / true_sum[bright]
    assert np.median(ratio) == pytest.approx(0.85, abs=0.1)


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
