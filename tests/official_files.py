"""The folder of public simulation files, which the repository does not carry."""

import os
from pathlib import Path

import pytest

DATA = Path(
    os.environ.get(
        "CTAPIPE_GAMMAPHYSNET_TEST_DATA", Path(__file__).parents[2] / "shared/data"
    )
)


def needs(*names):
    """Skip tests where some of the files are missing."""
    return pytest.mark.skipif(
        not all((DATA / name).exists() for name in names),
        reason="needs simulation files that the repository does not carry: set "
        "CTAPIPE_GAMMAPHYSNET_TEST_DATA to their folder",
    )
