"""The folder of public simulation files, which the repository does not carry."""

import os
from pathlib import Path

DATA = Path(
    os.environ.get(
        "CTAPIPE_GAMMAPHYSNET_TEST_DATA", Path(__file__).parents[2] / "shared/data"
    )
)
REASON = (
    "needs simulation files that the repository does not carry: set "
    "CTAPIPE_GAMMAPHYSNET_TEST_DATA to their folder"
)
