"""Outputs appear whole, and nothing of anybody else's is lost by them."""

import fcntl
import json
import os
import socket
from pathlib import Path
from unittest.mock import Mock

import pytest
from disk import full_disk

from ctapipe_gammaphysnet.files.output import (
    OutputError,
    check_file,
    check_folder,
    real_path,
    remove_unfinished,
    whole_file,
    whole_folder,
    write_whole,
)

LISTING, PATTERNS = "report.files.json", ("report.html", "*.png")


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def write_report(folder, *names):
    with whole_folder(folder, LISTING, PATTERNS) as temporary:
        for name in names:
            (temporary / name).write_text("ours")


def test_a_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "a.txt"
    with whole_file(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
        assert temporary.parent == tmp_path
        assert temporary.name.startswith("a.txt.")
    assert path.read_text() == "new"
    assert names_in(tmp_path) == ["a.txt"]


def test_what_was_there_stays_if_something_goes_wrong(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write_half():
        with whole_file(path) as temporary:
            temporary.write_text("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "no hard links"])
def test_what_was_put_there_meanwhile_stays(tmp_path, monkeypatch, links):
    """And what was computed for hours is not lost either."""
    if not links:
        monkeypatch.setattr(os, "link", Mock(side_effect=PermissionError))
    path = tmp_path / "a"
    writing = whole_file(path)
    temporary = writing.__enter__()
    temporary.write_text("computed")
    path.write_text("precious")
    with pytest.raises(OutputError, match="a was written meanwhile") as info:
        writing.__exit__(None, None, None)
    assert path.read_text() == "precious"
    assert str(temporary) in str(info.value)
    assert temporary.read_text() == "computed"
    assert set(tmp_path.iterdir()) == {path, temporary}


@pytest.mark.parametrize("there", [True, False])
def test_without_hard_links_files_appear_too(tmp_path, monkeypatch, there):
    monkeypatch.setattr(os, "link", Mock(side_effect=PermissionError))
    path = tmp_path / "a"
    if there:
        path.write_text("old")
    with whole_file(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_an_error(tmp_path):
    path = tmp_path / "a.bin"
    with full_disk(1000), pytest.raises(OutputError, match="a.bin cannot be written"):
        write_whole(path, bytes(2000))
    assert names_in(tmp_path) == []
    write_whole(path, bytes(2000))
    assert path.read_bytes() == bytes(2000)


def test_what_is_lost_without_an_error_is_noticed(tmp_path, monkeypatch):
    path = tmp_path / "a.bin"
    original = type(path).write_bytes
    monkeypatch.setattr(type(path), "write_bytes", lambda p, c: original(p, c[:-1]))
    with pytest.raises(OutputError, match="a.bin cannot be written"):
        write_whole(path, b"content")
    assert names_in(tmp_path) == []


def test_a_name_as_long_as_a_file_system_allows(tmp_path):
    path = tmp_path / ("ü" * 125 + ".h5")
    check_file(path)
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_is_written_through(tmp_path, exists):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    if exists:
        (scratch / "target").write_text("old")
    (tmp_path / "second").symlink_to("scratch/target")
    (tmp_path / "first").symlink_to(tmp_path / "second")
    check_file(tmp_path / "first")
    write_whole(tmp_path / "first", b"new")
    assert (scratch / "target").read_text() == "new"
    assert not (scratch / "target").is_symlink()
    assert (tmp_path / "first").is_symlink()
    assert (tmp_path / "second").is_symlink()
    assert names_in(scratch) == ["target"]


@pytest.mark.parametrize("check", [check_file, real_path])
def test_links_in_a_circle_are_an_error(tmp_path, check):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OutputError, match="Give another path"):
        check(tmp_path / "a")
    with pytest.raises(OutputError, match="Give another path"):
        check(tmp_path / "a" / "file")


def make_pipe(path):
    os.mkfifo(path)


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def make_folder(path):
    path.mkdir()


@pytest.mark.parametrize("through_link", [False, True])
@pytest.mark.parametrize(
    ("make", "kind"),
    [(make_pipe, "a pipe"), (make_socket, "a socket"), (make_folder, "a folder")],
)
def test_what_is_no_plain_file_is_never_replaced(tmp_path, make, kind, through_link):
    path = special = tmp_path / "special"
    make(special)
    if through_link:
        path = tmp_path / "link"
        path.symlink_to(special)
    before = special.lstat()
    with pytest.raises(OutputError, match=f"is {kind}"):
        check_file(path)
    with pytest.raises(OutputError, match=f"is {kind}"):
        write_whole(path, b"new")
    if kind != "a folder":
        with pytest.raises(OutputError, match=f"is {kind}"):
            check_folder(path, LISTING, PATTERNS)
    assert special.lstat().st_ino == before.st_ino
    assert special.lstat().st_mode == before.st_mode


def test_a_file_that_another_program_writes_is_not_replaced(tmp_path):
    path = tmp_path / "busy"
    path.touch()
    check_file(path)
    with open(path, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(OutputError, match="busy is locked: another program"):
            check_file(path)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="not a folder"):
        check_folder(tmp_path / "file", LISTING, PATTERNS)
    with pytest.raises(OutputError, match="Give another path"):
        check_file(tmp_path / "file" / "a")
    with pytest.raises(OutputError, match="no such folder"):
        check_file(tmp_path / "none" / "a")


@pytest.mark.parametrize("link", [os.symlink, os.link, None])
def test_an_input_is_never_an_output(tmp_path, link):
    original = output = tmp_path / "input"
    original.write_text("mine")
    if link:
        output = tmp_path / "output"
        link(original, output)
    with pytest.raises(OutputError, match="is an input"):
        check_file(output, [original])
    check_file(tmp_path / "other", [original])


def test_a_folder_appears_when_it_is_complete(tmp_path):
    folder = tmp_path / "report"
    check_folder(folder, LISTING, PATTERNS)

    def write_half():
        with whole_folder(folder, LISTING, PATTERNS) as temporary:
            (temporary / "report.html").write_text("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert names_in(tmp_path) == []
    write_report(folder, "report.html", "a.png")
    assert names_in(tmp_path) == ["report"]
    assert names_in(folder) == ["a.png", "report.files.json", "report.html"]


def test_only_files_of_ours_are_replaced_and_removed(tmp_path):
    folder = tmp_path / "report"
    write_report(folder, "report.html", "a.png", "b.png")
    for name in ("notes.pdf", "data.h5"):
        (folder / name).write_text("mine")
    (folder / "sub").mkdir()
    check_folder(folder, LISTING, PATTERNS)
    write_report(folder, "report.html", "c.png")
    assert names_in(folder) == [
        *("c.png", "data.h5", "notes.pdf", "report.files.json", "report.html", "sub")
    ]
    assert (folder / "notes.pdf").read_text() == "mine"


def test_overwriting_is_asked_for_where_something_is_replaced(tmp_path):
    folder = tmp_path / "report"
    folder.mkdir()
    check_folder(folder, LISTING, PATTERNS, overwrite=False)
    (folder / "notes.pdf").write_text("mine")
    check_folder(folder, LISTING, PATTERNS, overwrite=False)
    write_report(folder, "report.html")
    with pytest.raises(OutputError, match="report has files .* --overwrite"):
        check_folder(folder, LISTING, PATTERNS, overwrite=False)
    check_folder(folder, LISTING, PATTERNS, overwrite=True)
    (folder / "report.html").unlink()
    check_folder(folder, LISTING, PATTERNS, overwrite=False)


@pytest.mark.parametrize("name", ["report.html", "figure.png"])
def test_a_file_of_others_with_our_name_is_an_error(tmp_path, name):
    folder = tmp_path / "report"
    folder.mkdir()
    (folder / name).write_text("mine")
    with pytest.raises(OutputError, match=name):
        check_folder(folder, LISTING, PATTERNS)
    with pytest.raises(OutputError, match="it stays"):
        write_report(folder, "report.html", "figure.png")
    assert (folder / name).read_text() == "mine"
    assert_kept(folder, [name], ["figure.png", "report.html"])


def assert_kept(folder, there, computed):
    """What was there, and beside it what had been computed."""
    (kept,) = folder.glob("*.part")
    assert names_in(folder) == sorted([*there, kept.name])
    assert names_in(kept) == computed


def test_a_report_that_appears_meanwhile_stays(tmp_path):
    folder = tmp_path / "report"
    folder.mkdir()
    writing = whole_folder(folder, LISTING, PATTERNS, overwrite=False)
    with writing as temporary:
        (temporary / "report.html").write_text("first")
    before = names_in(folder)
    other = whole_folder(folder, LISTING, PATTERNS, overwrite=False)
    (other.__enter__() / "figure.png").write_text("second")
    with pytest.raises(OutputError, match="report.html was written meanwhile"):
        other.__exit__(None, None, None)
    assert (folder / "report.html").read_text() == "first"
    assert_kept(folder, before, ["figure.png"])


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_inputs_stay_even_if_they_are_listed(tmp_path, link):
    folder = tmp_path / "report"
    write_report(folder, "report.html")
    data = tmp_path / "data.h5"
    data.write_text("mine")
    link(data, folder / "data.png")
    listed = {"files": ["report.html", "data.png"]}
    (folder / LISTING).write_text(json.dumps(listed))
    with pytest.raises(OutputError, match=r"data\.png"):
        check_folder(folder, LISTING, PATTERNS, [data])


def test_a_hostile_list_reaches_nothing(tmp_path):
    """Only plain names, in the folder, of the kind that is written."""
    folder = tmp_path / "report"
    write_report(folder, "report.html")
    outside = tmp_path / "precious.png"
    for path in (outside, folder / "notes.txt"):
        path.write_text("mine")
    (folder / "sub.png").mkdir()
    (folder / "link.png").symlink_to(outside)
    hostile = [str(outside), "../precious.png", "notes.txt", "..", "", "sub.png"]
    hostile.append("link.png")
    (folder / LISTING).write_text(json.dumps({"files": ["report.html", *hostile]}))
    with pytest.raises(OutputError, match=r"link\.png"):
        check_folder(folder, LISTING, PATTERNS)
    (folder / "link.png").unlink()
    with pytest.raises(OutputError, match=r"sub\.png"):
        check_folder(folder, LISTING, PATTERNS)
    (folder / "sub.png").rmdir()
    write_report(folder, "report.html")
    assert outside.read_text() == (folder / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("text", ["", "[]", '{"files": [1]}', '{"files": "a"}', "\xff"])
def test_what_is_no_list_is_an_error(tmp_path, text):
    folder = tmp_path / "report"
    folder.mkdir()
    (folder / LISTING).write_text(text, encoding="latin1")
    with pytest.raises(OutputError, match=r"report\.files\.json does not list"):
        check_folder(folder, LISTING, PATTERNS)


def test_a_folder_that_is_a_link_is_written_through(tmp_path):
    (tmp_path / "scratch").mkdir()
    (tmp_path / "report").symlink_to("scratch")
    (tmp_path / "dangling").symlink_to("elsewhere")
    for name, target in (("report", "scratch"), ("dangling", "elsewhere")):
        check_folder(tmp_path / name, LISTING, PATTERNS)
        write_report(tmp_path / name, "report.html")
        assert (tmp_path / name).is_symlink()
        assert names_in(tmp_path / target) == ["report.files.json", "report.html"]
    assert names_in(tmp_path) == ["dangling", "elsewhere", "report", "scratch"]


@pytest.mark.parametrize("name", ["[a] 1.ckpt", "x" * 200 + ".ckpt"])
def test_what_was_left_unfinished_is_removed(tmp_path, name):
    """Nothing else, as of a file whose name is alike."""
    path, other = tmp_path / name, tmp_path / "a 1.ckpt"
    with whole_file(other) as kept:
        kept.write_bytes(b"being written")
        # As a process that is killed leaves it.
        whole_file(path).__enter__().write_bytes(b"half of")
        assert len(list(tmp_path.iterdir())) == 2
        remove_unfinished(path)
        assert list(tmp_path.iterdir()) == [kept]
    assert list(tmp_path.iterdir()) == [other]


@pytest.mark.parametrize("is_new", [True, False])
def test_files_are_on_the_disk_before_they_have_their_names(
    tmp_path, monkeypatch, is_new
):
    folder = tmp_path / "report"
    if not is_new:
        folder.mkdir()
    synced = set()

    def record(descriptor, original=os.fsync):
        name = Path(os.readlink(f"/proc/self/fd/{descriptor}")).name
        if name == "report.html":
            assert not (folder / name).exists()
        synced.add(name)
        original(descriptor)

    with whole_folder(folder, LISTING, PATTERNS) as temporary:
        (temporary / "report.html").write_text("all of it")
        monkeypatch.setattr(os, "fsync", record)
    assert "report.html" in synced
