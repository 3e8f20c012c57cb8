"""The CWL descriptions are valid, and run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import toy_sample
import yaml
from conftest import small_cameras
from ctapipe.io import TableLoader, read_table
from ctapipe.tools.merge import MergeTool

from ctapipe_gammaphysnet.model.file import read_card
from ctapipe_gammaphysnet.tools.apply import ApplyGammaPhysNet
from ctapipe_gammaphysnet.tools.command_line import with_dashes
from ctapipe_gammaphysnet.tools.train import TrainGammaPhysNet

WORKFLOWS = Path(__file__).absolute().parents[1] / "workflows"
# The tools of this environment.
BIN = Path(sys.executable).parent
ENVIRONMENT = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}


def cwltool(*arguments):
    result = subprocess.run(
        [BIN / "cwltool", *map(str, arguments)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def run(workflow, folder, inputs):
    """Run a workflow in a folder; inputs and outputs are JSON, files are paths."""
    order = folder / "inputs.json"
    order.write_text(json.dumps(inputs))
    outputs = folder / "outputs"
    options = ("--quiet", "--outdir", outputs, "--tmpdir-prefix", f"{folder}/tmp_")
    return json.loads(cwltool(*options, WORKFLOWS / workflow, order))


def file(path):
    return {"class": "File", "path": str(path)}


@pytest.fixture(scope="module")
def dl1(tmp_path_factory):
    """Two observations."""
    folder = tmp_path_factory.mktemp("dl1")
    return [
        toy_sample.write_toy_file(
            folder / f"run{obs_id}.dl1.h5",
            "mixed",
            6,
            seed=obs_id,
            obs_id=obs_id,
            array=small_cameras(),
        )
        for obs_id in (1, 2)
    ]


@pytest.mark.parametrize("path", sorted(WORKFLOWS.glob("*.cwl")), ids=lambda p: p.name)
def test_descriptions_are_valid(path):
    assert "is valid CWL" in cwltool("--validate", path)


@pytest.mark.parametrize("tool", [ApplyGammaPhysNet, MergeTool, TrainGammaPhysNet])
def test_options_are_those_of_the_tool(tool):
    (name,) = {"apply", "merge", "train"} & set(tool.name.split("-"))
    description = yaml.safe_load((WORKFLOWS / f"{name}.cwl").read_text())
    command, *options = description["baseCommand"]
    bindings = [
        i["inputBinding"] for i in description["inputs"].values() if "inputBinding" in i
    ]
    bindings += description.get("arguments", [])
    options += [binding["prefix"] for binding in bindings if "prefix" in binding]
    options = {option for option in options if option.startswith("--")}
    instance = tool()
    known = (with_dashes(keys) for keys in (*instance.aliases, *instance.flags))
    assert command == tool.name
    assert options
    assert options <= {option for both in known for option in both}


@pytest.mark.slow
def test_many_files_are_reconstructed_and_merged(dl1, toy_model, tmp_path):
    outputs = run(
        "apply_and_merge.cwl",
        tmp_path,
        {
            "dl1": [file(path) for path in dl1],
            "model": file(toy_model),
            "device": "cpu",
            "output_name": "night.dl2.h5",
        },
    )
    merged = Path(outputs["dl2"]["path"])
    assert merged.name == "night.dl2.h5"
    assert [Path(log["path"]).name for log in outputs["provenance"]] == [
        "run1.dl1.provenance.log",
        "run2.dl1.provenance.log",
    ]
    events = read_table(merged, "/dl1/event/subarray/trigger")
    assert sorted(set(events["obs_id"])) == [1, 2]
    with TableLoader(merged) as loader:
        table = loader.read_subarray_events(dl2=True)
    assert len(table) == len(events) == 12
    assert table["GammaPhysNetEnergy_is_valid"].sum() > 6


@pytest.mark.slow
def test_a_network_is_trained(tmp_path):
    gamma, proton = (
        toy_sample.write_toy_file(
            tmp_path / f"{particle}.dl1.h5",
            particle,
            20,
            array=toy_sample.small_array(3),
        )
        for particle in ("gamma", "proton")
    )
    config = tmp_path / "train.yaml"
    config.write_text(
        "TrainGammaPhysNet: {blocks: 1, channels: [4, 8], hidden: 8}\n"
        "Recipe: {batch_size: 8}\n"
    )
    outputs = run(
        "train.cwl",
        tmp_path,
        {
            "signal": [file(gamma)],
            "background": [file(proton)],
            "config": file(config),
            "seeds": [3, 4],
            "epochs": 1,
            "device": "cpu",
        },
    )
    (network,) = read_card(outputs["model"]["path"]).networks
    assert [member.seed for member in network.members] == [3, 4]
    records = {entry["basename"] for entry in outputs["records"]["listing"]}
    assert "curves.png" in records
