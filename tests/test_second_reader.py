"""A second kind of input goes through all tools, and gives what the DL1 file gives."""

import numpy as np
import pytest
import toy_sample
from astropy import units as u
from ctapipe.core import run_tool
from ctapipe.io import read_table
from memory_reader import MemoryReader

from ctapipe_gammaphysnet.evaluation import plots
from ctapipe_gammaphysnet.events import opening
from ctapipe_gammaphysnet.events.opening import open_events
from ctapipe_gammaphysnet.events.quality import TrainingQualityQuery
from ctapipe_gammaphysnet.events.telescope_events import telescope_events
from ctapipe_gammaphysnet.explanation import run as explanation
from ctapipe_gammaphysnet.model.file import read_model
from ctapipe_gammaphysnet.tools.apply import ApplyGammaPhysNet
from ctapipe_gammaphysnet.tools.evaluate import EvaluateGammaPhysNet
from ctapipe_gammaphysnet.tools.explain import ExplainGammaPhysNet
from ctapipe_gammaphysnet.tools.train import TrainGammaPhysNet

ARRAY = toy_sample.small_array(3, positions=[(0.0, 0.0, 0.0), (60.0, 40.0, 10.0)])
KINDS = ("memory", "file")
# Of a card there is none for the provenance of a training.
pytestmark = pytest.mark.filterwarnings("ignore:Could not read reference metadata")


@pytest.fixture(scope="module", autouse=True)
def _readers():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opening, "READERS", (MemoryReader, *opening.READERS))
        yield


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """For each kind of input the paths of gammas and protons: the same events."""
    folder = tmp_path_factory.mktemp("inputs")
    paths = {kind: [] for kind in KINDS}
    for particle in ("gamma", "proton"):
        card = toy_sample.ToyCard(particle, 20, seed=3, array=ARRAY)
        paths["memory"].append(folder / f"{particle}.toy.yaml")
        card.write(paths["memory"][-1])
        path = folder / f"{particle}.dl1.h5"
        paths["file"].append(toy_sample.write_toy_file(path, **vars(card)))
    return paths


def run(tool, output, *options):
    argv = [f"--provenance-log={output}.log", "--no-progress", *map(str, options)]
    run_tool(tool, argv=argv, cwd=output.parent, raises=True)
    return output


@pytest.fixture(scope="module")
def models(inputs, tmp_path_factory):
    """A small network, trained for one epoch on each kind of input."""
    folder = tmp_path_factory.mktemp("models")
    small = ("--blocks=1", "--channels", 4, 8, "--hidden=8", "--epochs=1")
    return {
        kind: run(
            TrainGammaPhysNet(),
            folder / f"{kind}.safetensors",
            f"--signal={gamma}",
            f"--background={proton}",
            f"--output={folder / f'{kind}.safetensors'}",
            *small,
            "--batch-size=8",
        )
        for kind, (gamma, proton) in inputs.items()
    }


def both(tool, inputs, folder, options):
    """Run a tool on each kind of input; what it has written."""
    return [
        run(tool(), folder / kind, *options(folder / kind, *inputs[kind]))
        for kind in KINDS
    ]


def assert_same_table(one, other, path):
    found, expected = (read_table(file, path) for file in (one, other))
    assert found.colnames == expected.colnames
    assert len(found) == len(expected) > 0
    for name in found.colnames:
        values = np.asarray(found[name])
        if values.dtype.kind == "f":
            np.testing.assert_allclose(values, expected[name], 1e-5, 1e-6)
        else:
            np.testing.assert_array_equal(values, expected[name])


def test_events_are_the_same(inputs):
    """However many are read at once."""
    columns = {}
    for kind, size in (("memory", 7), ("file", 100)):
        with open_events(inputs[kind][1]) as reader:
            parts = telescope_events(
                reader,
                [1, 2],
                TrainingQualityQuery(),
                size,
                parameters=("intensity", "leakage", "cog_x", "cog_y", "length"),
                label=1,
            )
            parts = [part[part["tel_id"] == 1] for part in parts]
        names = parts[0].colnames
        columns[kind] = {n: np.concatenate([p[n] for p in parts]) for n in names}
    assert columns["memory"].keys() == columns["file"].keys()
    for name, values in columns["file"].items():
        assert len(values) > 3
        unit = getattr(values, "unit", u.one)
        found = u.Quantity(columns["memory"][name], dtype=float).to_value(unit)
        np.testing.assert_allclose(found, u.Quantity(values).value, err_msg=name)


def test_training_gives_the_same_weights(models):
    found, expected = (read_model(models[kind]) for kind in KINDS)
    for name, weights in expected.weights[0][0].items():
        np.testing.assert_allclose(found.weights[0][0][name], weights, 1e-5, 1e-7)
    images = [m.card.networks[0].training["images"] for m in (found, expected)]
    assert images[0] == images[1]


def test_apply_writes_the_same_file(inputs, models, tmp_path):
    files = both(
        ApplyGammaPhysNet,
        inputs,
        tmp_path,
        lambda path, gamma, _: (
            *(f"--input={gamma}", f"--model={models['file']}", f"--output={path}"),
        ),
    )
    for kind, name in (("energy", "Energy"), ("geometry", "Geometry")):
        for level in ("subarray/{}/{}", "telescope/{}/{}/tel_002"):
            node = level.format(kind, f"GammaPhysNet{name}")
            assert_same_table(*files, f"/dl2/event/{node}")
    assert_same_table(*files, "/simulation/event/subarray/shower")


def test_evaluation_says_the_same(inputs, models, tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "draw_all", lambda *arguments: {})
    folders = both(
        EvaluateGammaPhysNet,
        inputs,
        tmp_path,
        lambda path, gamma, proton: (
            *(f"--signal={gamma}", f"--background={proton}", f"--output-dir={path}"),
            *(f"--model=DA={models['file']}", "--allow-training-showers"),
            *("--min-events=2", "--EvaluateGammaPhysNet.n_bootstrap=2"),
            "--EvaluateGammaPhysNet.signal_spectrum=CRAB_HEGRA",
        ),
    )
    assert_same_table(*(folder / "tables.h5" for folder in folders), "/overall")


def test_explanations_are_the_same(inputs, models, tmp_path, monkeypatch):
    # Drawing takes longer than all the rest.
    monkeypatch.setattr(explanation, "write_figures", lambda *arguments: None)
    folders = both(
        ExplainGammaPhysNet,
        inputs,
        tmp_path,
        lambda path, gamma, _: (
            *(f"--input={gamma}", f"--model=DA={models['file']}"),
            *(f"--output-dir={path}", "--best=1", "--statistics"),
        ),
    )
    files = [folder / "explanation.h5" for folder in folders]
    for node in ("/events", "/statistics/events", "/statistics/models/DA"):
        assert_same_table(*files, node)
