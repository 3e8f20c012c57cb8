"""The examples run as they stand, on what the repository carries."""

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
def output(tmp_path_factory):
    """The file that the README's first command makes."""
    folder = tmp_path_factory.mktemp("example")
    argv = [
        "--config=examples/gpn.yaml",
        f"--output={folder / 'toy_lst.dl2.h5'}",
        f"--provenance-log={folder / 'provenance.log'}",
    ]
    # A second time, over the file of the first.
    for _ in range(2):
        run_tool(ProcessorTool(), argv=argv, cwd=ROOT, raises=True)
    return folder / "toy_lst.dl2.h5"


def test_the_example_reconstructs_the_toy_showers(output):
    """The carried model has learnt: it is far better than the best constant."""
    with TableLoader(output) as loader:
        table = loader.read_telescope_events(dl2=True, simulated=True)
    valid = table["GammaPhysNetEnergy_tel_is_valid"]
    assert valid.sum() > 0.8 * len(table)
    table = table[valid]
    is_gamma = np.asarray(table["true_shower_primary_id"]) == 0
    assert roc_auc_score(is_gamma, table["GammaPhysNetClassifier_tel_prediction"]) > 0.9
    gammas = table[is_gamma]
    for quantity, column, factor in (
        (np.log10, "Energy_tel_energy", 3),
        (np.array, "Geometry_tel_alt", 1.4),
        (np.array, "Geometry_tel_az", 1.4),
    ):
        truth = quantity(gammas[f"true_{column.split('_tel_')[1]}"])
        prediction = quantity(gammas[f"GammaPhysNet{column}"])
        error = np.abs(prediction - truth).mean()
        assert error < np.abs(truth - np.median(truth)).mean() / factor


def test_the_stereo_combination_is_in_the_example(output):
    with TableLoader(output) as loader:
        table = loader.read_subarray_events(dl2=True)
    valid = table["GammaPhysNetGeometry_is_valid"]
    assert valid.sum() > 0.9 * len(table)
    several = valid & (table["GammaPhysNetGeometry_telescopes"].sum(axis=1) > 1)
    assert np.isfinite(table["GammaPhysNetGeometry_core_uncert_x"][several]).all()
    assert "HillasReconstructor_alt" in table.colnames
