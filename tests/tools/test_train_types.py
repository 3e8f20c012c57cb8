"""Telescope types that are trained one after the other, into one model."""

import shutil

import numpy as np
import pytest
import toy_sample
from ctapipe.core import ToolConfigurationError, run_tool
from ctapipe.io import read_table

from ctapipe_gammaphysnet.model.file import read_card
from ctapipe_gammaphysnet.tools.apply import ApplyGammaPhysNet
from ctapipe_gammaphysnet.tools.train import TrainGammaPhysNet

TOYCAM, OTHERCAM = "LST_LST_ToyCam", "LST_LST_OtherCam"
#: A telescope of each.
ARRAY = [
    *toy_sample.small_array(5, positions=[(0.0, 0.0, 0.0)]),
    *toy_sample.small_array(4, "OtherCam", positions=[(60.0, 40.0, 10.0)]),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("types")
    return [
        toy_sample.write_toy_file(
            folder / f"{particle}.dl1.h5", particle, 40, 1, array=ARRAY, obs_id=obs_id
        )
        for obs_id, particle in enumerate(("gamma", "proton"), 1)
    ]


def train(files, output, telescope, *options):
    argv = [
        *(f"--signal={files[0]}", f"--background={files[1]}", f"--output={output}"),
        *("--telescope-types", telescope, "--no-progress", "--epochs=1"),
        *("--channels", "4", "--hidden=4", "--add-members", *options),
    ]
    run_tool(TrainGammaPhysNet(), argv=argv, cwd=output.parent, raises=True)


def apply(model, dl1, output, *options):
    argv = [f"--model={model}", f"--input={dl1}", f"--output={output}", *options]
    run_tool(ApplyGammaPhysNet(), argv=argv, cwd=output.parent, raises=True)
    group = "/dl2/event/telescope/energy/GammaPhysNetEnergy"
    return [read_table(output, f"{group}/tel_{tel_id:03d}") for tel_id in (1, 2)]


def test_each_type_has_its_own_recipe(files, tmp_path):
    both, first = tmp_path / "both.safetensors", tmp_path / "first.safetensors"
    train(files, both, TOYCAM, "--blocks=1")
    shutil.copy(both, first)
    second = "--tasks", "energy", "--errors", "--conditions", "zenith", "--blocks=2"
    train(files, both, OTHERCAM, *second)
    networks = read_card(both).networks
    assert [card.telescope.type for card in networks] == [TOYCAM, OTHERCAM]
    assert networks[0] == read_card(first).networks[0]
    assert [card.network.blocks for card in networks] == [1, 2]

    # The first predicts what it did alone.
    dl1 = files[0]
    alone, _ = apply(
        first,
        dl1,
        tmp_path / "first.dl2.h5",
        "--GammaPhysNetReconstructor.missing_network=ignore",
    )
    toycam, othercam = apply(both, dl1, tmp_path / "both.dl2.h5")
    name = "GammaPhysNetEnergy_tel_energy"
    np.testing.assert_array_equal(toycam[name], alone[name])
    assert np.isfinite(toycam[name]).sum() > 10
    assert np.isfinite(othercam[name]).sum() > 10


def test_the_second_type_is_there_already(files, tmp_path):
    model = tmp_path / "model.safetensors"
    for telescope in (TOYCAM, OTHERCAM):
        train(files, model, telescope, "--blocks=1")
    with pytest.raises(ToolConfigurationError, match=rf"seeds \[0\] for {OTHERCAM}"):
        train(files, model, OTHERCAM, "--blocks=1")
