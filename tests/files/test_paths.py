"""Paths as users write them are the files that they mean."""

import os
from pathlib import Path

import pytest
from ctapipe.core import Component, ToolConfigurationError
from traitlets import TraitError

from ctapipe_gammaphysnet.files.paths import (
    FilePath,
    Names,
    find_file,
    find_files,
    named_models,
    printable,
    refuse_same_files,
    resolve,
)

#: Any name is allowed that a file system allows.
NAMES = (
    "a b.h5",
    "[a].h5",
    "[1]",
    "run[1].h5",
    "zenith=20.h5",
    "a:b.h5",
    "a,b;c#d?e.h5",
    "-x.h5",
    "'a'",
    '"a".h5',
    "None",
    "100%.h5",
    "a\nb.h5",
    "$HOME",
    "~",
    "γ.h5",
    "a" * 255,
    os.fsdecode(b"\xe9.h5"),
    "http:",
    "*",
    "{a}",
)


class Reader(Component):
    """Has paths of all kinds."""

    file = FilePath(exists=True, directory_ok=False).tag(config=True)
    output = FilePath(directory_ok=False).tag(config=True)
    folder = FilePath(file_ok=False).tag(config=True)
    names = Names().tag(config=True)


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_found_by_its_name_whatever_that_is(name, tmp_path):
    # Written plainly it is something else; what exists under the name wins.
    path = tmp_path / name
    path.touch()
    (tmp_path / "1").touch()
    assert find_files(name) == [path]
    assert Reader(file=name, output=name).file == path
    assert named_models(name) == [(printable(path.stem), path)]
    assert named_models(f"DA={name}") == [("DA", path)]


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("$HOME", "~")])
def test_an_output_can_have_any_name(name, tmp_path):
    assert Reader(output=name).output == tmp_path / name


def test_variables_home_and_relative_paths_are_understood(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA", str(tmp_path / "data[1]"))
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / "data[1]" / "a.h5"
    path.parent.mkdir()
    path.touch()
    for text in ("$DATA/a.h5", "${DATA}/a.h5", "~/data[1]/a.h5", "data[1]/a.h5"):
        assert resolve(text) == path
        assert find_file(text) == Reader(file=text).file == path
        assert Reader(output=text).output == path
        assert named_models(f"DA={text}") == [("DA", path)]
    assert find_files("$DATA/*.h5") == find_files("data[1]/[a-b].h5") == [path]


def test_a_variable_that_is_not_set_is_named(monkeypatch):
    monkeypatch.delenv("NO_DATA", raising=False)
    message = "the environment variable NO_DATA .* is not set"
    for text in ("$NO_DATA/a.h5", "${NO_DATA}/*.h5"):
        with pytest.raises(ToolConfigurationError, match=message):
            find_files(text)
        with pytest.raises(ToolConfigurationError, match=message):
            named_models(f"DA={text}")
        with pytest.raises(TraitError, match=f"Reader.output: {message}"):
            Reader(output=text)


def test_patterns_are_sorted_and_a_single_file_must_be_one(tmp_path):
    for name in ("b.h5", "a.h5", "c.txt"):
        (tmp_path / name).touch()
    assert find_files("*.h5") == [tmp_path / "a.h5", tmp_path / "b.h5"]
    assert Reader(file="*.txt").file == tmp_path / "c.txt"
    assert [name for name, _ in named_models("*.h5")] == ["a", "b"]
    with pytest.raises(TraitError, match=r"\*.h5 matches 2 files"):
        Reader(file="*.h5")
    with pytest.raises(ToolConfigurationError, match="matches 2 files"):
        named_models("DA=*.h5")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("no.h5", "there is no file .*/no.h5$"),
        ("no*.h5", r"there is no file .*/no\*.h5$"),
        ("folder", "folder is a folder: give files"),
        ("link", "link is a link to nowhere, which does not exist"),
        ("file/a.h5", "file/a.h5 cannot be found: Not a directory"),
        ("", "'' is not a path"),
        ("a\0", "is not a path"),
    ],
)
def test_what_is_the_matter_with_a_path_is_said(text, reason, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(ToolConfigurationError, match=reason):
        find_files(text)
    with pytest.raises(ToolConfigurationError, match=reason):
        named_models(text)
    with pytest.raises(TraitError, match=f"^Reader.file: .*{reason}") as found:
        Reader(file=text)
    assert "object at 0x" not in str(found.value)


def test_outputs_are_files_or_folders(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(TraitError, match=r"^Reader.output: .* is a folder$"):
        Reader(output=str(tmp_path))
    with pytest.raises(TraitError, match=r"^Reader.folder: .*file is a file, not a"):
        Reader(folder="file")
    with pytest.raises(TraitError, match="'output' trait .* not the int 3"):
        Reader(output=3)
    assert Reader(folder=Path("new")).folder == tmp_path / "new"


def test_a_model_of_the_whole_name_wins(tmp_path):
    """NAME=FILE, but for a file that is called so; the first = that gives a file."""
    for name in ("zenith=20", "20"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.safetensors").touch()
    (tmp_path / "b=20").mkdir()
    path = tmp_path / "zenith=20" / "a.safetensors"
    assert named_models("zenith=20/a.safetensors") == [("a", path)]
    assert named_models("b=zenith=20/a.safetensors") == [("b", path)]
    other = tmp_path / "20" / "a.safetensors"
    assert named_models("b=20/a.safetensors") == [("b", other)]
    with pytest.raises(ToolConfigurationError, match="/no.h5, to be called DA"):
        named_models("DA=no.h5")
    with pytest.raises(ToolConfigurationError, match="to be called zenith"):
        named_models("zenith=20/no.h5")
    # A name has no folders.
    with pytest.raises(ToolConfigurationError, match=r"file .*/data/zenith=20/no\.h5$"):
        named_models("data/zenith=20/no.h5")


def test_names_can_be_printed_and_stored():
    assert printable("γ a=1") == "γ a=1"
    assert printable("a\nb") == r"a\nb"
    assert printable(os.fsdecode(b"\xe9")) == r"\xe9"
    assert printable("\ud800") == r"\ud800"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "gamma.dl1.h5"
    path.write_text("images")
    return path


def test_different_files_may_have_the_same_content(file, tmp_path):
    other = tmp_path / "other.dl1.h5"
    other.write_text("images")
    refuse_same_files([file, other])
    # Nor does another name of a file matter that is given once.
    os.link(file, tmp_path / "linked.dl1.h5")
    refuse_same_files([file, other])


def test_the_same_path_is_refused(file):
    with pytest.raises(ToolConfigurationError, match="gamma.dl1.h5 is given 3 times"):
        refuse_same_files([file] * 3)


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_links_are_the_same_file(file, tmp_path, link):
    linked = tmp_path / "linked.dl1.h5"
    link(file, linked)
    message = "gamma.dl1.h5 and .*linked.dl1.h5 are one file, which is given 2 times"
    with pytest.raises(ToolConfigurationError, match=message):
        refuse_same_files([file, linked])
