"""The examples run as they stand, on what the repository carries."""

import re
from pathlib import Path

import numpy as np
import pytest
from ctapipe.core import run_tool
from ctapipe.io import TableLoader
from ctapipe.tools.process import ProcessorTool
from sklearn.metrics import roc_auc_score

ROOT = Path(__file__).parents[1]

# The sample was made with ctapipe 0.28: newer versions say so when they join tables.
pytestmark = pytest.mark.filterwarnings(
    "ignore::astropy.utils.metadata.MergeConflictWarning"
)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """The file that the README's first command makes, and the same for protons."""
    folder = tmp_path_factory.mktemp("example")
    outputs = {}
    for particle in ("gamma", "proton"):
        outputs[particle] = folder / f"{particle}.dl2.h5"
        argv = [
            "--config=examples/gpn.yaml",
            f"--input=examples/data/sample_{particle}.dl1.h5",
            f"--output={outputs[particle]}",
            f"--provenance-log={folder / 'provenance.log'}",
        ]
        # Over a file that is there, of few events.
        for options in (["--max-events=3"], []):
            run_tool(ProcessorTool(), argv=[*argv, *options], cwd=ROOT, raises=True)
    return outputs


def read(path):
    with TableLoader(path) as loader:
        table = loader.read_telescope_events(
            dl1_parameters=True, dl2=True, simulated=True
        )
    valid = table["GammaPhysNetEnergy_tel_is_valid"]
    assert valid.sum() > 0.5 * len(table)
    selected = (table["hillas_intensity"] > 100) & (
        table["leakage_intensity_width_2"] < 0.2
    )
    return table[valid & selected]


def test_the_example_reconstructs_the_sample(outputs):
    """The carried model has learnt: it is far better than the best constant."""
    gammas, protons = (read(outputs[particle]) for particle in ("gamma", "proton"))
    gammaness = [t["GammaPhysNetClassifier_tel_prediction"] for t in (gammas, protons)]
    is_gamma = np.repeat([True, False], [len(gammas), len(protons)])
    assert roc_auc_score(is_gamma, np.concatenate(gammaness)) > 0.7
    for quantity, column, factor in (
        (np.log10, "Energy_tel_energy", 2),
        (np.array, "Geometry_tel_alt", 1.5),
        (np.array, "Geometry_tel_az", 1.5),
    ):
        truth = quantity(gammas[f"true_{column.split('_tel_')[1]}"])
        prediction = quantity(gammas[f"GammaPhysNet{column}"])
        error = np.abs(prediction - truth).mean()
        assert error < np.abs(truth - np.median(truth)).mean() / factor


def test_the_first_plot_is_drawn(outputs, tmp_path, monkeypatch, capsys):
    """The page that gets one started."""
    page = (ROOT / "docs/getting_started.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.S | re.M)
    (tmp_path / "sample_gamma.dl2.h5").symlink_to(outputs["gamma"])
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "getting_started.md", "exec"), {})
    share, number = re.fullmatch(
        r"(\d+)% of (\d+) inside the 68 % radius\n", capsys.readouterr().out
    ).groups()
    assert 50 < int(share) < 85
    assert int(number) > 90
    assert (tmp_path / "theta2.png").stat().st_size > 1000


def test_the_stereo_combination_is_in_the_example(outputs):
    with TableLoader(outputs["gamma"]) as loader:
        table = loader.read_subarray_events(dl2=True)
    valid = table["GammaPhysNetGeometry_is_valid"]
    assert valid.sum() > 0.5 * len(table)
    several = valid & (table["GammaPhysNetGeometry_telescopes"].sum(axis=1) > 1)
    assert np.isfinite(table["GammaPhysNetGeometry_core_uncert_x"][several]).all()
    assert "HillasReconstructor_alt" in table.colnames
