"""What a card takes is estimated before it starts, and refused if it is too much."""

import numpy as np
import pytest

from ctapipe_gammaphysnet.simulation.card import AirShowerCard, CardError, read_card
from ctapipe_gammaphysnet.simulation.limits import (
    MAX_RUNS,
    mean_energy_gev,
    particles,
    photoelectrons,
)
from ctapipe_gammaphysnet.simulation.primaries import draw_primary
from ctapipe_gammaphysnet.simulation.source import AirShowerEventSource


def make_card(**values):
    return AirShowerCard(**{"particle": "gamma", "showers": 10, "seed": 1} | values)


@pytest.mark.parametrize("index", [-3.0, -2.0, -1.5, -1.0, -1e-9])
def test_mean_energy_is_that_of_the_showers(index):
    card = make_card(spectral_index=index, energy_min="20 GeV", energy_max="100 GeV")
    energies = [draw_primary(card, 1, i)[0].energy_gev for i in range(1, 1500)]
    error = np.std(energies) / np.sqrt(len(energies))
    assert mean_energy_gev(card) == pytest.approx(np.mean(energies), abs=4 * error)


def test_mean_of_a_single_energy():
    assert mean_energy_gev(make_card(energy_min="1 TeV", energy_max="1 TeV")) == 1000


def test_work_grows_with_all_that_makes_it():
    card = make_card()
    assert particles(card, 3) == pytest.approx(3 * particles(card, 1))
    for more in (
        {"reuse": 20},
        {"array": "lst4"},
        {"scatter_radius": "200 m"},
        {"night_sky_rate": "10 GHz"},
        {"energy_min": "1 TeV"},
    ):
        assert photoelectrons(make_card(**more), 1) > photoelectrons(card, 1)


@pytest.mark.parametrize(
    "values",
    [
        {"showers": 100_000},
        {"showers": 100_000, "array": "lst4", "scatter_radius": "200 m"},
        {"showers": 100_000, "particle": "proton", "energy_max": "100 TeV"},
        {"showers": 1000, "energy_min": "100 TeV", "energy_max": "100 TeV"},
        {"showers": 2500, "particle": "proton", "runs": 100_000, "array": "lst4"},
    ],
)
def test_productions_are_allowed(values):
    make_card(**values)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (
            {"showers": 20_000_000},
            r"showers: 20000000 would make 9\.\de\+11 photoelectrons, more than one "
            r"process should \(1e\+11\); lower it to \d+ and raise runs",
        ),
        (
            {"showers": 100_000, "energy_min": "100 TeV", "energy_max": "100 TeV"},
            "particles",
        ),
        (
            {"showers": 100_000, "reuse": 100, "night_sky_rate": "10 GHz"},
            "photoelectrons",
        ),
        (
            {"energy_max": "100 TeV", "reuse": 100, "scatter_radius": "0 m"},
            r"reuse: a shower of 100 TeV that is used 100 times would make 2\.0e\+08 "
            r"photoelectrons in lst1, and at most 1e\+08 fit into memory; lower reuse "
            "to 50, or energy_max",
        ),
    ],
)
def test_endless_ones_are_refused(values, says):
    with pytest.raises(ValueError, match=says):
        make_card(**values)


@pytest.fixture
def write(tmp_path):
    """Function that writes a card and returns its path."""

    def write(lines):
        path = tmp_path / "test.airshower.yaml"
        path.write_text(f"particle: gamma\nseed: 1\n{lines}\n")
        return path

    return write


def test_the_advice_is_allowed(write):
    with pytest.raises(CardError, match="lower it to") as error:
        read_card(write("showers: 20000000"))
    showers = str(error.value).partition("lower it to ")[2].split()[0]
    assert read_card(write(f"showers: {showers}")).showers == int(showers)


def test_runs_that_one_process_cannot_do_are_shared(write):
    path = write("showers: 100000\nruns: 1000")
    with pytest.raises(
        CardError,
        match=r"test\.airshower\.yaml: showers: 100000000 would make .* at most \d+ "
        "runs in one process, with AirShowerEventSource.runs",
    ) as error:
        AirShowerEventSource(path)
    runs = str(error.value).partition("at most ")[2].split()[0]
    assert 1 < int(runs) < 1000
    AirShowerEventSource(path, runs=list(range(1, int(runs) + 1)))


def test_runs_whose_numbers_fit_into_no_file(write):
    path = write(f"showers: 1\nruns: {MAX_RUNS + 1}\nfirst_run: 2000000000")
    with pytest.raises(CardError, match=r"5001 runs are more than the 5000"):
        AirShowerEventSource(path)
    numbers = ",".join(map(str, read_card(path).run_numbers[1:]))
    assert len(numbers) < 2**16 - 2**10  # of an attribute of HDF5, and its header
