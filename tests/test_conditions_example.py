"""The example of zenith angles and night skies: its cards and configurations."""

import runpy
import shutil
from itertools import combinations
from pathlib import Path

import astropy.units as u
import pytest

from ctapipe_gammaphysnet.simulation.card import read_card
from ctapipe_gammaphysnet.simulation.conditions import draw_conditions
from ctapipe_gammaphysnet.tools.train import TrainGammaPhysNet

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def cards(tmp_path_factory):
    """The cards by name, as the script writes them."""
    folder = tmp_path_factory.mktemp("examples")
    for name in ("conditions", "demonstration"):
        shutil.copytree(EXAMPLES / name, folder / name)
    runpy.run_path(str(folder / "conditions/make_cards.py"), run_name="__main__")
    paths = (folder / "conditions").glob("*.airshower.yaml")
    return {
        path.name.removesuffix(".airshower.yaml"): read_card(path) for path in paths
    }


def test_samples_of_zenith_angles_are_of_other_showers(cards):
    angles = [card for name, card in cards.items() if "zenith" in name]
    assert len(angles) == 9
    for one, other in combinations(angles, 2):
        assert one.seed != other.seed
    for name, card in cards.items():
        if "zenith" in name:
            zenith = 90 * u.deg - draw_conditions(card, 1).altitude
            assert zenith.to_value(u.deg) == pytest.approx(float(name[-2:]))


@pytest.mark.parametrize("sky", ["dark", "bright", "range"])
@pytest.mark.parametrize("particle", ["gamma", "proton"])
def test_night_skies_are_of_the_same_showers(cards, sky, particle):
    card = cards[f"train_{sky}_{particle}"]
    dark = read_card(EXAMPLES / f"demonstration/train_{particle}.airshower.yaml")
    changed = {"showers", "runs", "night_sky_rate"}
    assert card.model_dump(exclude=changed) == dark.model_dump(exclude=changed)
    # As many images as in the others, to a few per cent.
    assert card.showers * card.runs == pytest.approx(4 * dark.showers, rel=0.01)
    rates = [draw_conditions(c, 1).night_sky_rate for c in (card, dark)]
    assert (rates[0] > rates[1]) == (sky != "dark")


def test_a_range_of_night_skies_has_dark_and_bright_ones(cards):
    card = cards["train_range_gamma"]
    rates = [
        draw_conditions(card, run).night_sky_rate.to_value("1/ns")
        for run in range(1, card.runs + 1)
    ]
    assert sum(rate < 0.4 for rate in rates) >= 4
    assert sum(rate > 0.6 for rate in rates) >= 4


@pytest.mark.parametrize(
    ("options", "tasks"),
    [
        (["pointing.yaml"], ["energy", "direction"]),
        (
            ["pointing.yaml", "night_sky.yaml"],
            ["energy", "direction", "impact", "class"],
        ),
    ],
)
def test_configurations_are_read(options, tasks, tmp_path, monkeypatch):
    monkeypatch.chdir(EXAMPLES / "conditions")
    tool = TrainGammaPhysNet()
    tool.initialize(["--config", *options])
    assert tool.tasks == tasks
    assert tool.blocks == 1
