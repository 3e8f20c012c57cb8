"""What all tools have in common: configuration, options, messages, terminals."""

import io
import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from ctapipe.core import ToolConfigurationError, run_tool, traits
from ctapipe.io import read_table
from traitlets import TraitError

from ctapipe_gammaphysnet.events.quality import ImageQualityQuery
from ctapipe_gammaphysnet.tools.apply import ApplyGammaPhysNet
from ctapipe_gammaphysnet.tools.base import GammaPhysNetTool
from ctapipe_gammaphysnet.tools.evaluate import EvaluateGammaPhysNet
from ctapipe_gammaphysnet.tools.explain import ExplainGammaPhysNet
from ctapipe_gammaphysnet.tools.import_model import ImportGammaPhysNet
from ctapipe_gammaphysnet.tools.show import main as show_model
from ctapipe_gammaphysnet.tools.train import TrainGammaPhysNet

ROOT = Path(__file__).parents[2]
TOOLS = (
    ApplyGammaPhysNet,
    EvaluateGammaPhysNet,
    ExplainGammaPhysNet,
    ImportGammaPhysNet,
    TrainGammaPhysNet,
)
all_tools = pytest.mark.parametrize("tool", TOOLS)


class Tool(GammaPhysNetTool):
    """Does nothing but keep its configuration."""

    name = "ctapipe-tool"
    files = traits.List(traits.Unicode()).tag(config=True)
    number = traits.Int(0).tag(config=True)
    aliases = {("f", "files"): "Tool.files"}
    classes = [ImageQualityQuery]

    def setup(self):
        """Do nothing."""

    start = finish = setup


def configured(tool, tmp_path, *argv):
    tool = tool()
    os.chdir(tmp_path)
    tool.initialize(list(argv))
    return tool


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(path, **sections):
    path.write_text(json.dumps(sections))
    return f"--config={path}"


@all_tools
def test_all_tools_understand_the_same_file(tool, tmp_path):
    """That of the README for ctapipe-process, and those of each other."""
    nested = {"GammaPhysNetReconstructor": {"device": "cpu"}, "reconstructor_types": []}
    config = write(
        tmp_path / "c.json",
        ShowerProcessor=nested,
        ProcessorTool={"progress_bar": False},
        Recipe={"epochs": 7},
        ApplyGammaPhysNet={"chunk_size": 7},
        TrainGammaPhysNet={"blocks": 7},
    )
    found = configured(tool, tmp_path, config).config
    assert found["GammaPhysNetReconstructor"]["device"] == "cpu" or (
        tool is not ApplyGammaPhysNet
    )
    assert found["Recipe"]["epochs"] == 7
    configured(tool, tmp_path, f"--config={ROOT / 'examples/gpn.yaml'}")


def test_sections_nested_for_ctapipe_process_count(tmp_path):
    """The more special one wins, and the command line over all."""
    section = {"ImageQualityQuery": {"quality_criteria": [["a", "b > 1"]]}}
    config = write(
        tmp_path / "c.json",
        GammaPhysNetReconstructor={"prefix": "Top", "n_jobs": 1, "device": "cuda"},
        ShowerProcessor={"GammaPhysNetReconstructor": section | {"prefix": "Nested"}},
        DataWriter={"Contact": {"name": "Somebody"}},
        ApplyGammaPhysNet={"GammaPhysNetReconstructor": {"precision": "bfloat16"}},
    )
    tool = configured(ApplyGammaPhysNet, tmp_path, config, "--device=cpu")
    found = tool.config["GammaPhysNetReconstructor"]
    assert {k: v for k, v in found.items() if k != "ImageQualityQuery"} == {
        "prefix": "Nested",
        "n_jobs": 1,
        "device": "cpu",
        "precision": "bfloat16",
    }
    assert found["ImageQualityQuery"] == section["ImageQualityQuery"]
    assert tool.config["Contact"]["name"] == "Somebody"


def test_the_command_line_wins_over_nested_files(toy_file, toy_model, tmp_path):
    config = write(
        tmp_path / "c.json",
        ApplyGammaPhysNet={
            "GammaPhysNetReconstructor": {
                "prefix": "File",
                "ImageQualityQuery": {
                    "quality_criteria": [["none", "hillas_intensity > 1e9"]]
                },
            }
        },
    )
    argv = [
        *(config, f"--input={toy_file}", f"--model={toy_model}", "--output=a.dl2.h5"),
        "--GammaPhysNetReconstructor.prefix=Mine",
        "--ImageQualityQuery.quality_criteria=[('any', 'hillas_intensity > 0')]",
    ]
    with pytest.warns(DeprecationWarning, match="for containers is deprecated"):
        run_tool(ApplyGammaPhysNet(), argv=argv, cwd=tmp_path, raises=True)
    table = read_table("a.dl2.h5", "/dl2/event/subarray/energy/MineEnergy")
    assert table["MineEnergy_is_valid"].any()


def test_later_files_win_over_earlier_ones(tmp_path):
    one = write(tmp_path / "1.json", Tool={"number": 1, "files": ["a"]})
    two = write(tmp_path / "2.json", Tool={"number": 2})
    tool = configured(Tool, tmp_path, one, two)
    assert (tool.number, tool.files) == (2, ["a"])
    both = ("-c", "1.json", "2.json", "--Tool.number=3")
    assert configured(Tool, tmp_path, *both).number == 3
    assert configured(Tool, tmp_path, "-c", "[0-9].json").number == 2


def test_later_files_win_over_nested_sections(tmp_path):
    """As a shared file for ctapipe-process, and a small one of one's own."""
    section = {"GammaPhysNetReconstructor": {"prefix": "Shared", "n_jobs": 1}}
    shared = write(tmp_path / "1.json", ShowerProcessor=section)
    mine = write(tmp_path / "2.json", GammaPhysNetReconstructor={"prefix": "Mine"})
    for files, prefix in (((shared, mine), "Mine"), ((mine, shared), "Shared")):
        tool = configured(ApplyGammaPhysNet, tmp_path, *files)
        found = tool.config["GammaPhysNetReconstructor"]
        assert found == {"prefix": prefix, "n_jobs": 1}


def test_lists_take_several_values_however_they_are_given(tmp_path):
    for argv in (
        ("-f", "a", "b"),
        ("--files=a", "b"),
        ("--files", "a", "-f", "b"),
        ("--Tool.files", "a", "b"),
    ):
        assert configured(Tool, tmp_path, *argv).files == ["a", "b"]


def test_a_file_whose_name_begins_with_a_dash_is_no_option(tmp_path):
    for name in ("-x.h5", "--y", "-q"):
        (tmp_path / name).touch()
    tool = configured(Tool, tmp_path, "-f", "-x.h5", "--y")
    assert tool.files == ["./-x.h5", "./--y"]
    assert configured(Tool, tmp_path, "-q", "-f", "a").quiet


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--deviec=cpu", "no option --deviec: did you mean --device"),
        ("--input-dir", "no option --input-dir: did you mean --output-dir or --input"),
        ("-x.h5", r"no option -x.h5: .*a file of this name is ./-x.h5"),
        ("--Recpe.epochs=3", "section Recpe .* did you mean Recipe"),
        ("--Recipe.epoch=3", "Recipe has no option epoch: did you mean epochs"),
        ("stray", "not understood: stray"),
        ("--config=no.yaml", "there is no file .*/no.yaml"),
        ("--log-file=no/a.log", "cannot write the log to .*/no/a.log"),
        ("--provenance-log=.", "provenance_log: .* is a folder"),
        ("--model=no.safetensors", "load_path: there is no file .*/no.safetensors"),
        ("--output-dir=no/dl2", "cannot make the folder .*/no/dl2: No such file"),
    ],
)
def test_what_is_the_matter_is_said(option, message, toy_file, tmp_path):
    """With exit status 2, and neither a tuple nor the address of an object."""
    argv = [f"--input={toy_file}", "--output-dir=."]
    if option.startswith("--output-dir"):
        argv = argv[:1]
    argv.append(option)
    with pytest.raises((ToolConfigurationError, TraitError), match=message) as found:
        run_tool(ApplyGammaPhysNet(), argv=argv, cwd=tmp_path, raises=True)
    assert "object at 0x" not in str(found.value)
    assert run_tool(ApplyGammaPhysNet(), argv=argv, cwd=tmp_path, raises=False) == 2


def test_an_option_without_a_section_is_an_error(tmp_path):
    config = write(tmp_path / "c.json", epoch=3)
    with pytest.raises(ToolConfigurationError, match=r"did you mean Recipe\.epochs"):
        configured(Tool, tmp_path, config)
    config = write(tmp_path / "c.json", recipe={"epochs": 3})
    with pytest.raises(ToolConfigurationError, match="did you mean Recipe"):
        configured(Tool, tmp_path, config)


@all_tools
def test_help_says_the_level_that_is_logged(tool, capsys):
    assert run_tool(tool(), argv=["--help"], raises=False) == 0
    text = capsys.readouterr().out
    assert "Default: 'INFO'" in text.partition("--log-level=")[2][:300]
    assert tool().log_level in ("INFO", logging.INFO)


@all_tools
@pytest.mark.parametrize(
    "sections",
    [
        {"EventSource": {"max_events": 3}},
        {"HDF5EventSource": {"allowed_tels": [1]}},
        {"ProcessorTool": {"EventSource": {"allowed_tels": [1]}}},
    ],
    ids=lambda sections: next(iter(sections)),
)
def test_all_events_of_a_file_are_taken(tool, sections, tmp_path):
    """What would be left out by ctapipe-process is no detail of the configuration."""
    message = "EventSource.(max_events|allowed_tels) does nothing here"
    with pytest.raises(ToolConfigurationError, match=message):
        configured(tool, tmp_path, write(tmp_path / "a.json", **sections))
    with pytest.raises(ToolConfigurationError, match=message):
        configured(tool, tmp_path, "--EventSource.max_events=3")
    configured(
        tool, tmp_path, write(tmp_path / "a.json", EventSource={"max_events": None})
    )


@all_tools
def test_the_version_is_ours(tool, capsys, tmp_path):
    assert run_tool(tool(), argv=["--version"], cwd=tmp_path, raises=False) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("ctapipe_gammaphysnet ")
    assert ", ctapipe 0." in printed.out
    assert not printed.err
    assert not list(tmp_path.iterdir())


class Terminal(io.StringIO):
    """Says that it is a terminal."""

    def isatty(self):
        """Say so."""
        return True


@pytest.mark.parametrize(
    ("options", "stream", "is_shown"),
    [
        ((), Terminal, True),
        (("--no-progress",), Terminal, False),
        (("--quiet",), Terminal, False),
        ((), io.StringIO, False),
    ],
)
def test_progress_is_shown_on_terminals(
    options, stream, is_shown, tmp_path, monkeypatch
):
    tool = configured(Tool, tmp_path, *options)
    monkeypatch.setattr(sys, "stderr", stream())
    with tool.progress("work", 2, "ev") as bar:
        bar.update()
    assert ("work" in sys.stderr.getvalue()) == is_shown


def test_quiet_is_quiet(capsys, tmp_path):
    assert run_tool(Tool(), argv=["-q"], cwd=tmp_path, raises=False) == 0
    assert capsys.readouterr() == ("", "")


def test_a_log_of_provenance_that_cannot_be_written_is_said(tmp_path, capsys):
    (tmp_path / "file").touch()
    argv = ["--provenance-log=file/a.log"]
    assert run_tool(Tool(), argv=argv, cwd=tmp_path, raises=False) == 0
    assert "--provenance-log" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--log-file", "--provenance-log"])
@pytest.mark.parametrize("kind", ["model", "dl1", "output", "config", "pipe"])
def test_a_log_is_added_to_logs_only(option, kind, toy_file, toy_model, tmp_path):
    """At the start, without a byte more in anything else."""
    paths = {name: tmp_path / name for name in ("model", "dl1", "config")}
    paths["model"].write_bytes(toy_model.read_bytes())
    paths["dl1"].write_bytes(toy_file.read_bytes())
    paths["config"] = tmp_path / "c.json"
    config = write(paths["config"], Recipe={"epochs": 3})
    paths["output"] = tmp_path / "new" / ".." / "a.dl2.h5"
    (tmp_path / "new").mkdir()
    paths["pipe"] = tmp_path / "pipe"
    os.mkfifo(paths["pipe"])
    before = {name: read_file(path) for name, path in paths.items()}
    argv = [
        *(f"--input={paths['dl1']}", f"--model={paths['model']}"),
        *(f"--output={tmp_path / 'a.dl2.h5'}", config),
        f"{option}={paths[kind]}",
    ]
    with pytest.raises(ToolConfigurationError, match=f"{option}: .* is ") as found:
        run_tool(ApplyGammaPhysNet(), argv=argv, cwd=tmp_path, raises=True)
    assert str(paths[kind].name) in str(found.value)
    assert run_tool(ApplyGammaPhysNet(), argv=argv, cwd=tmp_path, raises=False) == 2
    assert {name: read_file(path) for name, path in paths.items()} == before


def read_file(path):
    return path.read_bytes() if path.is_file() else path.exists()


@all_tools
@pytest.mark.parametrize("option", ["--log-file", "--provenance-log"])
def test_no_tool_adds_a_log_to_a_model(tool, option, toy_model, tmp_path):
    model = tmp_path / "a.safetensors"
    model.write_bytes(toy_model.read_bytes())
    argv = [f"{option}={model}"]
    with pytest.raises(ToolConfigurationError, match="is not a log"):
        run_tool(tool(), argv=argv, cwd=tmp_path, raises=True)
    assert model.read_bytes() == toy_model.read_bytes()


@pytest.mark.parametrize("option", ["--log-file", "--provenance-log"])
def test_a_log_is_not_a_file_of_the_output_folder(option, tmp_path):
    (tmp_path / "report.html").write_text("[mine]")
    argv = ["--output-dir=.", f"{option}=report.html"]
    with pytest.raises(ToolConfigurationError, match="another file of this run"):
        run_tool(EvaluateGammaPhysNet(), argv=argv, cwd=tmp_path, raises=True)
    assert (tmp_path / "report.html").read_text() == "[mine]"


def test_logs_are_added_to_again(tmp_path):
    argv = ["--log-file=a.log", "--log-file-level=INFO"]
    sizes = []
    for _ in range(2):
        assert run_tool(Tool(), argv=argv, cwd=tmp_path, raises=False) == 0
        names = ("a.log", "ctapipe-tool.provenance.log")
        sizes.append([(tmp_path / name).stat().st_size for name in names])
    assert all(0 < before < after for before, after in zip(*sizes, strict=True))
    argv = [f"--log-file={os.devnull}", f"--provenance-log={os.devnull}"]
    assert run_tool(Tool(), argv=argv[1:], cwd=tmp_path, raises=False) == 0
    assert run_tool(Tool(), argv=argv[:1], cwd=tmp_path, raises=False) == 0


def test_a_log_ends_with_its_tool(tmp_path):
    argv = ["--log-file=a.log", "--log-file-level=INFO"]
    tool = Tool()
    assert run_tool(tool, argv=argv, cwd=tmp_path, raises=False) == 0
    text = (tmp_path / "a.log").read_text()
    assert "Finished" in text
    logging.getLogger(tool.module_name).error("said later, by something else")
    assert (tmp_path / "a.log").read_text() == text


def test_the_end_by_a_signal_shows_in_the_exit_status(tmp_path, monkeypatch):
    for number, status in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        monkeypatch.setattr(
            Tool, "start", lambda tool, n=number: signal.raise_signal(n)
        )
        before = signal.getsignal(signal.SIGTERM)
        assert run_tool(Tool(), argv=[], cwd=tmp_path, raises=False) == status
        assert signal.getsignal(signal.SIGTERM) == before


def test_a_terminal_without_our_letters_gets_help_and_messages(toy_model, tmp_path):
    """Of the tools, and of the program that shows model files."""
    program = (
        "import sys\n"
        "from ctapipe.core import run_tool\n"
        "from ctapipe_gammaphysnet.tools.explain import ExplainGammaPhysNet as Tool\n"
        "from ctapipe_gammaphysnet.tools.show import main\n"
        f"assert main([{str(toy_model)!r}]) == 0\n"
        "assert main(['\\u03b3.safetensors']) == 1\n"
        "for argv, status in ((['--help-all'], 0), (['--input=\\u03b3'], 2)):\n"
        "    assert run_tool(Tool(), argv=argv, raises=False) == status\n"
    )
    environment = os.environ | {
        "PYTHONIOENCODING": "ascii",
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
    }
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
    )
    assert result.returncode == 0, result.stderr.decode()
    assert "gamma-PhysNet" in result.stdout.decode("ascii")
    assert "Traceback" not in result.stderr.decode("ascii")


def test_a_reader_of_a_card_may_stop(toy_model):
    program = "from ctapipe_gammaphysnet.tools.show import main; main()"
    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run(
        [sys.executable, "-c", program, toy_model],
        stdout=writer,
        stderr=subprocess.PIPE,
    )
    os.close(writer)
    assert (result.returncode, result.stderr) == (0, b"")


def test_a_log_file_has_any_letter(tmp_path):
    tool = configured(Tool, tmp_path, "--log-file=a.log", "--log-level=ERROR")
    tool.log.error("γ \udce9")
    for handler in tool.log.parent.handlers:
        handler.flush()
    text = (tmp_path / "a.log").read_text(encoding="utf-8")
    assert r"γ \udce9" in text


def test_a_model_that_is_not_there_is_said_by_name(tmp_path, capsys):
    assert show_model(["no.safetensors"]) == 1
    assert "no.safetensors" in capsys.readouterr().err
