"""Files that cannot be read: the message says what is the matter with each."""

import fcntl
import os
import shutil

import pytest
import tables
from ctapipe.core import ToolConfigurationError

from ctapipe_gammaphysnet.evaluation.events import read_events
from ctapipe_gammaphysnet.events.opening import open_events, read_subarray
from ctapipe_gammaphysnet.events.quality import ImageQualityQuery
from ctapipe_gammaphysnet.explanation.images import read_batches
from ctapipe_gammaphysnet.files.input_file import DL1FileError, open_input, reading
from ctapipe_gammaphysnet.training.index import check_file

QUERY = ImageQualityQuery(quality_criteria=[])
#: All that open input files: apply, train, evaluate and explain go through these.
READERS = {
    "open_events": open_events,
    "read_subarray": read_subarray,
    "check_file": check_file,
    "read_events": lambda path: read_events(path, 0, QUERY, [1]),
    "read_batches": lambda path: list(read_batches(path, [], QUERY, 1)),
}


def folder(path):
    path.mkdir()
    return f"{path} is a folder, not a file.*dl1.h5'"


def missing(path):
    return f"there is no file {path}"


def link_to_nowhere(path):
    path.symlink_to("nowhere")
    return f"there is no file {path}"


def pipe(path):
    os.mkfifo(path)
    return f"{path} is not a regular file"


def empty(path):
    path.touch()
    return f"{path} is empty"


def text(path):
    path.write_text("no HDF5")
    return f"{path} is not a ctapipe DL1 file"


def other_hdf5(path):
    tables.open_file(path, "w").close()
    return f"{path} is an HDF5 file, but not .* no attribute 'CTA PRODUCT DATA MODEL"


def cut(path):
    path.write_bytes(path.read_bytes()[:5000])
    return f"{path} cannot be read: it is damaged"


def newer(path):
    with tables.open_file(path, "r+") as file:
        file.root._v_attrs["CTA PRODUCT DATA MODEL VERSION"] = "v99.0.0"
    return f"{path} .*: its data model is v99.0.0, and ctapipe .* reads v"


@pytest.mark.filterwarnings("ignore::tables.NaturalNameWarning")
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "spoil",
    [folder, missing, link_to_nowhere, pipe, empty, text, other_hdf5, cut, newer],
)
def test_the_message_says_what_is_the_matter(toy_file, tmp_path, spoil, reader):
    path = tmp_path / "bad.dl1.h5"
    if spoil in (cut, newer):
        shutil.copy(toy_file, path)
    message = spoil(path)
    with pytest.raises(DL1FileError, match=message) as info:
        READERS[reader](path)
    assert ("damaged" in str(info.value)) == (spoil is cut)


def test_names_that_hdf5_cannot_open_are_said_to_be_such(toy_file, tmp_path):
    path = tmp_path / os.fsdecode(b"m\xe9.dl1.h5")
    shutil.copy(toy_file, path)
    with pytest.raises(DL1FileError, match=r"m\\udce9.dl1.h5' .*is not UTF-8"):
        open_input(path)


@pytest.mark.parametrize("reader", READERS)
def test_a_file_that_another_program_writes_is_locked(toy_file, tmp_path, reader):
    path = shutil.copy(toy_file, tmp_path / "busy.dl1.h5")
    # As HDF5 does that writes it.
    with open(path, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(DL1FileError, match=r"busy.*locked.*HDF5_USE_FILE_LOCKING"):
            READERS[reader](path)
    read_subarray(path)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError(13, "denied"), "a.h5 cannot be read: you have no permission"),
        (OSError(5, "whatever"), "a.h5 cannot be read: Input/output error"),
        (KeyError("NAME"), "a.h5 cannot be read: it is damaged.*KeyError: 'NAME'"),
        (EOFError(), "a.h5 cannot be read: it is damaged.*EOFError: no reason"),
    ],
)
def test_errors_of_libraries_become_ones_that_name_the_file(error, message):
    with pytest.raises(DL1FileError, match=message), reading("a.h5"):
        raise error


def test_our_own_errors_stay_what_they_are():
    with pytest.raises(ToolConfigurationError, match="^ours$"), reading("a.h5"):
        raise ToolConfigurationError("ours")
