"""LSTs and MSTs of one simulation: reconstructed, trained on, and predicted for."""

from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from ctapipe.core import run_tool
from ctapipe.io import TableLoader
from ctapipe.tools.process import ProcessorTool
from device import DEVICE

from ctapipe_gammaphysnet.model.file import read_card
from ctapipe_gammaphysnet.simulation.instruments import ARRAYS
from ctapipe_gammaphysnet.tools.apply import ApplyGammaPhysNet
from ctapipe_gammaphysnet.tools.train import TrainGammaPhysNet

pytestmark = pytest.mark.slow

CONFIG = Path(__file__).parents[1] / "examples/simulation/process.yaml"
CARD = """\
particle: {particle}
showers: {showers}
seed: 11
reuse: 4
energy_min: 300 GeV
energy_max: 5 TeV
spectral_index: -1.5
view_cone: 1 deg
scatter_radius: 250 m
array: lst4_mst9
"""
SHOWERS = {"gamma": 45, "proton": 20}
#: Reconstructed quantities, and how well at least.
TRUTH = {
    "alt": 0.07 * u.deg,
    "az": 0.07 * u.deg,
    "core_x": 12 * u.m,
    "core_y": 12 * u.m,
}
TYPES = "LST_LST_LSTCam", "MST_MST_NectarCam"


def run(tool, output, *options):
    argv = [*options, f"--output={output}", f"--provenance-log={output}.log"]
    run_tool(tool, argv, cwd=output.parent, raises=True)
    return output


def process(path, output, *options):
    return run(ProcessorTool(), output, f"--input={path}", *options)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Images of each particle."""
    folder = tmp_path_factory.mktemp("array")
    for particle, showers in SHOWERS.items():
        card = folder / f"{particle}.airshower.yaml"
        card.write_text(CARD.format(particle=particle, showers=showers))
    return {
        particle: process(
            folder / f"{particle}.airshower.yaml",
            folder / f"{particle}.h5",
            f"--config={CONFIG}",
        )
        for particle in SHOWERS
    }


@pytest.fixture(scope="module")
def model(files):
    """Networks for both types, of which little is expected."""
    return run(
        TrainGammaPhysNet(),
        files["gamma"].with_name("model.safetensors"),
        f"--signal={files['gamma']}",
        f"--background={files['proton']}",
        "--no-progress",
        "--blocks=1",
        *("--channels", "8", "16"),
        "--hidden=16",
        "--epochs=1",
        "--batch-size=32",
        f"--device={DEVICE}",
    )


@pytest.fixture(scope="module")
def dl2_file(files, model):
    """What the event loop makes of the gammas, with ctapipe's own reconstruction."""
    return process(
        files["gamma"],
        files["gamma"].with_name("loop.dl2.h5"),
        "--write-showers",
        "--reconstructor=HillasReconstructor",
        "--reconstructor=GammaPhysNetReconstructor",
        f"--GammaPhysNetReconstructor.load_path={model}",
        f"--GammaPhysNetReconstructor.device={DEVICE}",
    )


def read(path):
    with TableLoader(path) as loader:
        return loader.read_subarray_events(dl2=True)


def test_directions_are_without_bias(dl2_file):
    """Those of ctapipe's own stereo reconstruction, from the images of both types."""
    with TableLoader(dl2_file) as loader:
        images = loader.read_telescope_events(instrument=True)
    assert set(images["tel_id"]) == set(ARRAYS["lst4_mst9"])
    table = read(dl2_file)
    table = table[table["HillasReconstructor_is_valid"]]
    assert len(table) > 0.9 * 4 * SHOWERS["gamma"]
    true = {name: table[f"true_{name}"].quantity for name in TRUTH}
    offset = {
        name: table[f"HillasReconstructor_{name}"].quantity - true[name]
        for name in TRUTH
    }
    offset["az"] = (offset["az"] + 180 * u.deg) % (360 * u.deg) - 180 * u.deg
    offset["az"] *= np.cos(true["alt"])
    for name, within in TRUTH.items():
        spread = np.quantile(np.abs(offset[name]), 0.68)
        assert spread < within
        # The uses of a shower are not independent: at worst, as few as the showers.
        error = 1.25 * spread / np.sqrt(SHOWERS["gamma"])
        assert np.abs(np.median(offset[name])) < 3 * error


def test_both_types_are_trained(model):
    networks = read_card(model).networks
    assert {network.telescope.type for network in networks} == set(TYPES)


def test_event_loop_and_bulk_predict_the_same_for_both_types(files, model, dl2_file):
    bulk = run(
        ApplyGammaPhysNet(),
        dl2_file.with_name("bulk.dl2.h5"),
        f"--input={files['gamma']}",
        f"--model={model}",
        f"--device={DEVICE}",
        "--no-progress",
    )
    for type_ in TYPES:
        tables = []
        for path in (bulk, dl2_file):
            with TableLoader(path) as loader:
                tables.append(loader.read_telescope_events([type_], dl2=True))
        one, other = tables
        valid = one["GammaPhysNetEnergy_tel_is_valid"]
        assert valid.sum() > 100
        np.testing.assert_array_equal(valid, other["GammaPhysNetEnergy_tel_is_valid"])
        for name in ("Energy_tel_energy", "Classifier_tel_prediction"):
            np.testing.assert_allclose(
                one[f"GammaPhysNet{name}"][valid],
                other[f"GammaPhysNet{name}"][valid],
                rtol=1e-3,
            )
    stereo = [read(path) for path in (bulk, dl2_file)]
    for name in ("Energy_energy", "Geometry_alt", "Classifier_prediction"):
        one, other = (table[f"GammaPhysNet{name}"] for table in stereo)
        np.testing.assert_allclose(one, other, rtol=1e-3)
        assert np.isfinite(one).sum() > 100
