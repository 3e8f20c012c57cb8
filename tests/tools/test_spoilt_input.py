"""Every tool refuses input that is spoilt, names it, and writes nothing."""

import shutil

import pytest
from ctapipe.core import ToolConfigurationError, run_tool
from spoil import change_length, lose_attributes, remove

from ctapipe_gammaphysnet.model.file import write_model
from ctapipe_gammaphysnet.tools.apply import ApplyGammaPhysNet
from ctapipe_gammaphysnet.tools.evaluate import EvaluateGammaPhysNet
from ctapipe_gammaphysnet.tools.explain import ExplainGammaPhysNet
from ctapipe_gammaphysnet.tools.train import TrainGammaPhysNet

TOOLS = {
    ApplyGammaPhysNet: "--input={} --model={model} --output={out}",
    EvaluateGammaPhysNet: "--signal={} --model={model} --output-dir={out}",
    ExplainGammaPhysNet: "--input={} --model={model} --output-dir={out}",
    TrainGammaPhysNet: "--signal={} --background={other} --output={out}",
}


def other_length(path):
    change_length(path, "/dl1/event/telescope/images/tel_002", -1)
    return "images/tel_002 has 60 pixels, but the camera of telescope 2 has 61"


def lost_attributes(path):
    lose_attributes(path, "/dl1/event/telescope/parameters/tel_002")
    return "parameters/tel_002 has no unit"


def lost_events(path):
    remove(path, "/dl1/event")
    return "has no table /dl1/event/subarray/trigger"


@pytest.mark.parametrize("spoil", [other_length, lost_attributes, lost_events])
@pytest.mark.parametrize("tool", TOOLS)
def test_spoilt_input_is_refused(toy_file, toy_model, tmp_path, tool, spoil):
    path = shutil.copy(toy_file, tmp_path / "spoilt.dl1.h5")
    message = spoil(path)
    options = TOOLS[tool].format(
        path, model=toy_model, other=toy_file, out=tmp_path / "out"
    )
    with pytest.raises(ToolConfigurationError, match=f"spoilt.dl1.h5.*{message}"):
        run_tool(tool(), argv=options.split(), cwd=tmp_path, raises=True)
    assert not (tmp_path / "out").exists()


def test_without_pointing_only_what_needs_none_is_predicted(
    toy_file, toy_subarray, toy_model, make_model, tmp_path
):
    path = shutil.copy(toy_file, tmp_path / "spoilt.dl1.h5")
    remove(path, "/configuration/telescope/pointing/tel_003")
    options = [f"--input={path}", f"--output={tmp_path / 'out.dl2.h5'}"]
    with pytest.raises(ToolConfigurationError, match="pointing of telescope 3: "):
        run_tool(
            ApplyGammaPhysNet(),
            argv=[*options, f"--model={toy_model}"],
            cwd=tmp_path,
            raises=True,
        )
    assert not (tmp_path / "out.dl2.h5").exists()
    model = tmp_path / "energy.safetensors"
    write_model(model, make_model(toy_subarray.telescope_types, tasks=("energy",)))
    run_tool(
        ApplyGammaPhysNet(),
        argv=[*options, f"--model={model}"],
        cwd=tmp_path,
        raises=True,
    )
    assert (tmp_path / "out.dl2.h5").exists()
