"""A file is given once, whatever it is called."""

import os

import pytest
from ctapipe.core import ToolConfigurationError

from ctapipe_gammaphysnet.tools.same_file import refuse_same_files


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
