"""The command that shows a model file."""

import subprocess
import sys

import pytest

from ctapipe_gammaphysnet.model.card import FORMAT_VERSION
from ctapipe_gammaphysnet.tools.show import main

COMMAND = [sys.executable, "-W", "error", "-m", "ctapipe_gammaphysnet.tools.show"]


@pytest.fixture
def damaged(toy_model, tmp_path):
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(toy_model.read_bytes()[:-1])
    return path


def test_it_verifies_a_file_and_prints_its_card(toy_model, damaged, capsys):
    assert main([str(toy_model)]) == 0
    out, err = capsys.readouterr()
    assert "telescope LST_LST_ToyCam:" in out
    assert err == ""

    assert main([str(damaged)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(str(damaged))
    assert err.count("\n") == 1


def test_it_shows_the_format_of_the_file(toy_model, capsys):
    main([str(toy_model)])
    (first, *_) = capsys.readouterr().out.splitlines()
    assert first == f"Model of ctapipe_gammaphysnet, format {FORMAT_VERSION}"


@pytest.mark.parametrize(
    ("argv", "status", "said"),
    [
        ([], 2, "required: file"),
        (["a", "b"], 2, "unrecognized arguments: b"),
        (["--help"], 0, "usage: ctapipe-show-gammaphysnet"),
        (["--version"], 0, "ctapipe_gammaphysnet "),
    ],
)
def test_it_has_help_and_a_version(argv, status, said, capsys):
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == status
    out, err = capsys.readouterr()
    assert said in (err if status else out)


def test_it_needs_no_torch(toy_model):
    code = (
        "import sys; from ctapipe_gammaphysnet.tools.show import main; "
        f"main([{str(toy_model)!r}]); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_missing_file_is_told(tmp_path):
    path = tmp_path / "none.safetensors"
    done = subprocess.run([*COMMAND, path], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == f"{path} does not exist: check the path\n"
    assert done.stdout == ""
