"""From DL1 to instrument response functions, by the example's script."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
import yaml
from astropy.coordinates import angular_separation
from astropy.table import QTable
from ctapipe.core import run_tool
from ctapipe.io import TableLoader, read_table
from ctapipe.tools.process import ProcessorTool

from ctapipe_gammaphysnet.dl2.containers import group_names

EXAMPLES = Path(__file__).absolute().parents[1] / "examples"
FOLDER = EXAMPLES / "irf"

# The proton sample was written with another version of ctapipe.
pytestmark = pytest.mark.filterwarnings("ignore:Cannot merge meta key")


def simulate(particle, showers, folder):
    """Simulate a part of the showers of a card of the example."""
    card = folder / f"few_{particle}.airshower.yaml"
    text = (FOLDER / f"{particle}.airshower.yaml").read_text()
    text = text.replace("showers: 500", f"showers: {showers}")
    card.write_text(text.replace("runs: 4", "runs: 1"))
    argv = [
        f"--config={EXAMPLES / 'simulation/process.yaml'}",
        f"--input={card}",
        f"--output={folder / particle}.dl1.h5",
    ]
    run_tool(ProcessorTool(), argv=argv, cwd=folder, raises=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The script's output, from few showers."""
    folder = tmp_path_factory.mktemp("irf")
    simulate("gamma", 50, folder)
    simulate("electron", 20, folder)
    shutil.copy(EXAMPLES / "data/sample_proton.dl1.h5", folder / "proton.dl1.h5")
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(
        [FOLDER / "make_irf.sh", folder],
        env={**os.environ, "PATH": programs},
        check=True,
        capture_output=True,
    )
    return folder


@pytest.fixture(scope="module")
def show_irf():
    """The script that prints the response, as a module."""
    pytest.importorskip("gammapy", reason="gammapy opens the response")
    spec = importlib.util.spec_from_file_location("show_irf", FOLDER / "show_irf.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_settings_name_our_groups():
    settings = yaml.safe_load((FOLDER / "irf.yaml").read_text())
    names = settings["DL2EventPreprocessor"]
    criteria = names.pop("DL2EventQualityQuery")["quality_criteria"]
    groups = set(group_names("GammaPhysNet").values())
    assert set(names.values()) == groups
    assert {criterion for _, criterion in criteria} == {f"{g}_is_valid" for g in groups}


@pytest.mark.slow
def test_effective_area_is_the_share_of_the_simulated_gammas(folder, show_irf):
    irf = show_irf.load_irf_dict_from_file(folder / "irf.fits.gz")["aeff"]
    edges, (_, offset, _) = (irf.axes[name].edges for name in ("energy_true", "offset"))
    with TableLoader(folder / "gamma.dl2.h5") as loader:
        events = loader.read_subarray_events(dl2=True, simulated=True)
        (run,) = loader.read_simulation_configuration()
        (n_shots,) = loader.read_shower_distribution()["n_entries"]
    for name in ("Energy", "Geometry", "Classifier"):
        events = events[events[f"GammaPhysNet{name}_is_valid"]]
    cuts = QTable.read(folder / "cuts.fits", hdu="GH_CUTS")
    energy = events["GammaPhysNetEnergy_energy"].quantity
    cut = cuts["cut"][np.searchsorted(cuts["high"], energy)]
    from_centre = angular_separation(
        events["true_az"].quantity,
        events["true_alt"].quantity,
        run["max_az"] * u.rad,
        run["max_alt"] * u.rad,
    )
    is_selected = events["GammaPhysNetClassifier_prediction"] >= cut
    selected = events[is_selected & (from_centre < offset)]
    assert 20 < len(selected) < len(events)
    counts, _ = np.histogram(selected["true_energy"].quantity.to(edges.unit), edges)

    # Showers are drawn from E^-2, and from the whole view cone.
    first, last = (run[f"energy_range_{end}"] * u.TeV for end in ("min", "max"))
    low, high = np.maximum(edges[:-1], first), np.minimum(edges[1:], last)
    share = (1 / low - 1 / high) / (1 / first - 1 / last)
    view_cone = run["max_viewcone_radius"] * u.deg
    share *= (1 - np.cos(offset)) / (1 - np.cos(view_cone))
    area = np.pi * (run["max_scatter_range"] * u.m) ** 2
    expected = counts / (n_shots * share) * area
    inside = high > low
    assert inside.sum() > 10
    np.testing.assert_allclose(
        irf.quantity[inside, 0].to_value("m2"),
        expected[inside].to_value("m2"),
        rtol=1e-3,
    )


@pytest.mark.slow
def test_gammapy_reads_all_parts(folder, show_irf):
    irf = show_irf.load_irf_dict_from_file(folder / "irf.fits.gz")
    assert set(irf) == {"aeff", "edisp", "psf", "bkg"}
    assert irf["bkg"].quantity.sum() > 0
    table = show_irf.describe(folder / "irf.fits.gz", 0.5 * u.deg)
    seen = table["effective area"] > 0
    assert seen.sum() > 2
    assert (table["psf 68 %"][seen] < 1 * u.deg).all()
    # At the threshold, only showers that look brighter are seen.
    assert (np.abs(table["energy bias"][seen])[1:] < 1).all()


@pytest.mark.slow
def test_all_electrons_are_in_dl2(folder):
    images = [
        read_table(folder / f"electron.{level}.h5", "/dl1/event/subarray/trigger")
        for level in ("dl1", "dl2")
    ]
    assert len(images[0]) == len(images[1]) > 3
