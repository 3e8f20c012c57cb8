"""The commands in the tools' help are commands that one can type."""

import shlex
import shutil
import sys
from pathlib import Path

import pytest
from ctapipe.core import run_tool

from ctapipe_gammaphysnet.tools.apply import ApplyGammaPhysNet

sys.path.insert(0, str(Path(__file__).parents[2] / "docs"))
from command_reference import TOOLS


def commands(tool):
    """The commands in the examples of a tool, as lists of words."""
    text = tool.examples.replace("\\\n", " ")
    lines = (line.strip() for line in text.splitlines())
    words = [shlex.split(line[1:]) for line in lines if line.startswith(">")]
    return [argv for name, *argv in words if name == tool.name]


CASES = [(tool, argv) for tool in TOOLS for argv in commands(tool)]


def test_all_tools_have_examples():
    assert {tool for tool, _ in CASES} == set(TOOLS)


@pytest.mark.parametrize(("tool", "argv"), CASES)
def test_options_of_examples_are_known(tool, argv, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for word in argv:
        if word.endswith((".safetensors", ".h5", ".ckpt", ".json", ".gz")):
            (tmp_path / word.rpartition("=")[2].replace("*", "1")).touch()
    application = tool()
    application.parse_command_line(argv)
    values = [word for word in argv if not word.startswith("-")]
    configured = str(application.config)
    assert all(value.partition("=")[0] in configured for value in values)


@pytest.mark.parametrize("argv", commands(ApplyGammaPhysNet))
def test_examples_run(argv, toy_file, toy_model, tmp_path):
    for word in argv:
        if word.endswith(".dl1.h5"):
            shutil.copy(toy_file, tmp_path / word)
        elif word == "lst.safetensors":
            shutil.copy(toy_model, tmp_path / word)
    (tmp_path / "dl2").mkdir()
    run_tool(
        ApplyGammaPhysNet(), argv=[*argv, "--no-progress"], cwd=tmp_path, raises=True
    )
    n_inputs = sum(word.endswith(".dl1.h5") for word in argv)
    assert len(list(tmp_path.glob("**/*.dl2.h5"))) == n_inputs
