"""A task that only this test knows goes through training, DL2, evaluation and maps."""

import json

import numpy as np
import pytest
import tables
import toy_sample
from astropy.table import Table
from ctapipe.core import run_tool
from ctapipe.io import read_table

from ctapipe_gammaphysnet.model.file import read_model
from ctapipe_gammaphysnet.tasks import TASKS
from ctapipe_gammaphysnet.tasks.metric import CONTAINMENT, distance_metric, resolution
from ctapipe_gammaphysnet.tasks.task import Movement, Output, Task
from ctapipe_gammaphysnet.tools.apply import ApplyGammaPhysNet
from ctapipe_gammaphysnet.tools.evaluate import EvaluateGammaPhysNet
from ctapipe_gammaphysnet.tools.explain import ExplainGammaPhysNet
from ctapipe_gammaphysnet.tools.train import TrainGammaPhysNet

pytestmark = pytest.mark.usefixtures("quick_figures")

ARRAY = toy_sample.small_array(3, positions=[(0.0, 0.0, 0.0), (60.0, 40.0, 10.0)])
NAME = "core_distance"
#: In m: of the order of the deviations of a network that is hardly trained.
UNCERTAINTY = 5000.0
#: What is reconstructed, so that the same is trained on and evaluated.
SELECTION = [["signal after cleaning", "morphology_n_pixels > 0"]]


class CoreDistance(Task):
    """Distance of the impact point from the array's centre, in km."""

    name = compared = error = NAME
    optional = True
    meaning = "distance of the core / km"
    colour = "#000001"
    validation_metrics = {
        "core distance / km": lambda out, true: resolution(np.abs(out - true))
    }
    # The container has no fields for it: these are empty otherwise.
    columns = {NAME: ("geometry", "average_intensity", "")}
    uncertainties = {f"{NAME}_uncert": ("geometry", "goodness_of_fit", "")}
    metrics = {
        "core_distance_resolution": distance_metric(NAME, "m", "Core distance", "of it")
    }
    outputs = {NAME: Output(NAME, 0, "Core distance", "km")}
    movement = Movement(
        NAME, "Core distance / km", lambda old, new: (new - old)[..., 0]
    )

    def to_target(self, events):
        distance = np.hypot(events["true_core_x"], events["true_core_y"])
        return distance.to_value("km")[:, np.newaxis]

    def dl2(self, images):
        distance = images.mean(NAME)[:, 0]
        uncertainty = np.full_like(distance, UNCERTAINTY / 1000)
        columns = {"average_intensity": distance, "goodness_of_fit": uncertainty}
        return {"geometry": columns}

    def compare(self, predictions, events):
        true = np.hypot(*(np.asarray(events[f"true_core_{i}"]) for i in "xy"))
        return np.abs(1000 * predictions[NAME] - true)

    def uncertainty(self, predictions):
        return 1000 * predictions[f"{NAME}_uncert"]

    def pull(self, predictions, events):
        return self.compare(predictions, events) / self.uncertainty(predictions)

    def fact(self, output, error):
        return f"core at {output.mean():.3f} km"


@pytest.fixture(scope="module", autouse=True)
def registered():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TASKS, NAME, CoreDistance())
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("task")


def run(tool, folder, *argv):
    log = f"--provenance-log={folder / 'provenance.log'}"
    config = folder / "selection.json"
    criteria = {"TrainingQualityQuery": {"quality_criteria": SELECTION}}
    config.write_text(json.dumps(criteria))
    argv = [*map(str, argv), log, "--no-progress"]
    if not isinstance(tool, ApplyGammaPhysNet):
        argv.append(f"--config={config}")
    run_tool(tool, argv=argv, cwd=folder, raises=True)


@pytest.fixture(scope="module")
def dl1(folder):
    return [
        toy_sample.write_toy_file(
            folder / f"{particle}.dl1.h5", particle, 25, seed=3, array=ARRAY
        )
        for particle in ("gamma", "proton")
    ]


@pytest.fixture(scope="module")
def model(dl1, folder):
    path = folder / "model.safetensors"
    run(
        TrainGammaPhysNet(),
        folder,
        *(f"--signal={dl1[0]}", f"--background={dl1[1]}", f"--output={path}"),
        *("--tasks", "energy", "direction", "class", NAME),
        *("--blocks=1", "--channels", 4, "--hidden=8", "--seeds", 0),
        *("--epochs=1", "--batch-size=8", "--device=cpu"),
    )
    return path


@pytest.fixture(scope="module")
def dl2(dl1, model, folder):
    run(
        ApplyGammaPhysNet(),
        folder,
        *(f"--input={dl1[0]}", f"--model={model}", f"--output={folder / 'dl2.h5'}"),
        "--dl1-images",
    )
    return folder / "dl2.h5"


def test_it_is_trained(model, folder):
    content = read_model(model)
    (card,), ((weights,),) = content.card.networks, content.weights
    assert card.network.tasks == ("energy", "direction", "class", NAME)
    assert card.targets[NAME] == CoreDistance.meaning
    assert weights[f"heads.{NAME}.weight"].shape == (1, 8)
    last = card.members[0].training["after the last epoch"]
    assert {f"training loss {NAME}", f"validation loss {NAME}"} <= last.keys()
    assert last["core distance / km"] > 0


def predicted_and_true(dl2):
    """In m, of the images with a prediction."""
    showers = read_table(dl2, "/simulation/event/subarray/shower")
    true = np.hypot(showers["true_core_x"], showers["true_core_y"])
    true = dict(zip(showers["event_id"].tolist(), true, strict=True))
    column = "GammaPhysNetGeometry_tel_average_intensity"
    pairs = []
    with tables.open_file(dl2) as file:
        for node in file.root.dl2.event.telescope.geometry.GammaPhysNetGeometry:
            table = node[:]
            found = [true[event] for event in table["event_id"].tolist()]
            pairs.append([1000 * table[column], found])
    predicted, true = np.concatenate(pairs, axis=1)
    known = np.isfinite(predicted)
    return predicted[known], true[known]


def test_it_is_written_and_evaluated(dl1, dl2, model, folder):
    run(
        EvaluateGammaPhysNet(),
        folder,
        *(f"--signal={dl2}", f"--model=net={model}", "--reference=GammaPhysNet"),
        *(f"--output-dir={folder / 'report'}", "--min-events=1"),
        "--allow-training-showers",
        "--EvaluateGammaPhysNet.n_bootstrap=2",
    )
    overall = Table.read(folder / "report" / "overall.ecsv")
    predicted, true = predicted_and_true(dl2)
    assert len(predicted) > 10
    expected = np.quantile(np.abs(predicted - true), CONTAINMENT, method="inverted_cdf")
    for row in overall:
        assert row["core_distance_resolution"] == pytest.approx(expected, rel=1e-4)
        assert row["n_gammas"] == len(predicted)
    judged = Table.read(folder / "report" / "uncertainty_overall.ecsv")
    covered = np.mean(np.abs(predicted - true) <= UNCERTAINTY)
    assert 0 < covered < 1
    assert judged["core_distance_coverage"].tolist() == [covered, covered]
    report = (folder / "report" / "report.html").read_text()
    assert "Core distance / m" in report


@pytest.mark.slow
def test_it_is_explained(dl1, model, folder):
    run(
        ExplainGammaPhysNet(),
        folder,
        *(f"--input={dl1[0]}", f"--model=net={model}"),
        f"--output-dir={folder / 'maps'}",
        *("--statistics", "--best=1", "--worst=0", "--random=0"),
    )
    with tables.open_file(folder / "maps" / "explanation.h5") as file:
        names = {n for t in file.walk_nodes("/", "Table") for n in t.colnames}
    assert {f"{NAME}_mean", f"{NAME}_share_edge", f"error_{NAME}"} <= names
