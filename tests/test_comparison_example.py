"""The experiment of the paper and its baseline run, on toy showers."""

import importlib.util
from pathlib import Path

import pytest
import toy_sample
import yaml
from astropy.table import Table
from ctapipe.core import run_tool
from ctapipe.reco import DispReconstructor, EnergyRegressor, ParticleClassifier
from traitlets.config import Config

from ctapipe_gammaphysnet.evaluation import plots
from ctapipe_gammaphysnet.events.quality import TrainingQualityQuery
from ctapipe_gammaphysnet.model.file import read_card
from ctapipe_gammaphysnet.tools.evaluate import EvaluateGammaPhysNet
from ctapipe_gammaphysnet.tools.train import TrainGammaPhysNet
from ctapipe_gammaphysnet.training.recipe import Recipe

FOLDER = Path(__file__).absolute().parents[1] / "examples" / "comparison"
ARRAY = toy_sample.small_array(3)
#: A network, a recipe and a selection for a few toy showers.
TINY = {
    "TrainGammaPhysNet": {
        "seeds": [3, 5],
        "blocks": 1,
        "channels": [4],
        "hidden": 4,
        "n_jobs": 1,
    },
    "Recipe": {"epochs": 1, "batch_size": 8},
    "TrainingQualityQuery": {"quality_criteria": [["signal", "morphology_n_pixels>0"]]},
    "EvaluateGammaPhysNet": {"min_events": 5, "n_bootstrap": 2, "n_jobs": 1},
}


TOOLS = {"train": TrainGammaPhysNet, "evaluate": EvaluateGammaPhysNet}


@pytest.fixture
def experiment(folder, monkeypatch):
    """The script, which runs its tools in this process."""
    spec = importlib.util.spec_from_file_location(
        "experiment", FOLDER / "experiment.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def call(tool, *arguments):
        run_tool(TOOLS[tool](), [*map(str, arguments)], cwd=folder, raises=True)

    monkeypatch.setattr(module, "call", call)
    # Drawing takes longer than all the rest.
    monkeypatch.setattr(plots, "draw_all", lambda *arguments: {})
    monkeypatch.chdir(folder)
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Toy showers, and the experiment that was made on them."""
    folder = tmp_path_factory.mktemp("experiment")
    for stem, seed in (("train", 1), ("test", 2)):
        for particle in ("gamma", "proton"):
            toy_sample.write_toy_file(
                folder / f"{stem}_{particle}.dl1.h5", particle, 30, seed, array=ARRAY
            )
    # The evaluation, too, reads its settings from there.
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    return folder


OPTIONS = [
    "--config=tiny.yaml",
    "--signal=train_gamma.dl1.h5",
    "--background=train_proton.dl1.h5",
    "--test-signal=test_gamma.dl1.h5",
    "--test-background=test_proton.dl1.h5",
    "--output-dir=out",
]


def test_both_networks_are_trained_and_evaluated(folder, experiment):
    experiment.main([*OPTIONS, "--", "--epochs=2"])
    for name, attention in (("gamma-PhysNet", False), ("gamma-PhysNet_DA", True)):
        (network,) = read_card(folder / f"out/{name}.safetensors").networks
        assert [member.seed for member in network.members] == [3, 5]
        assert network.network.attention is attention
    overall = Table.read(folder / "out/evaluation/overall.ecsv")
    assert list(overall["algorithm"]) == ["gamma-PhysNet", "gamma-PhysNet DA"]
    assert (overall["auc_members_std"] > 0).all()

    # What is trained stays; another model is evaluated beside it.
    before = (folder / "out/gamma-PhysNet.safetensors").stat().st_mtime_ns
    experiment.main([*OPTIONS, "--model", "again=out/gamma-PhysNet.safetensors"])
    assert (folder / "out/gamma-PhysNet.safetensors").stat().st_mtime_ns == before
    overall = Table.read(folder / "out/evaluation/overall.ecsv")
    first, _, again = overall
    assert again["algorithm"] == "again"
    assert again["auc"] == first["auc"]


@pytest.mark.parametrize("name", ["paper", "small"])
def test_recipes_are_understood(name):
    config = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    assert Recipe(config=Config(config)).epochs == (25 if name == "paper" else 1)


def test_the_recipe_of_the_paper_is_the_default():
    config = yaml.safe_load((FOLDER / "paper.yaml").read_text())
    default = Recipe()
    for trait, value in config["Recipe"].items():
        assert getattr(default, trait) == value


@pytest.mark.parametrize(
    ("name", "tool", "component"),
    [
        ("energy", "TrainEnergyRegressor", EnergyRegressor),
        ("disp", "TrainDispReconstructor", DispReconstructor),
        ("classifier", "TrainParticleClassifier", ParticleClassifier),
    ],
)
def test_forests_learn_from_the_same_images(name, tool, component, toy_subarray):
    config = yaml.safe_load((FOLDER / f"forests_{name}.yaml").read_text())[tool]
    forest = component(toy_subarray, config=Config(config))
    assert forest.prefix.startswith("Forests")
    selection = [tuple(c) for c in forest.quality_query.quality_criteria]
    ours = [tuple(c) for c in TrainingQualityQuery().quality_criteria]
    assert selection[: len(ours)] == ours
    # Each telescope is on its own.
    assert not [feature for feature in forest.features if "Hillas" in feature]
