"""Where the tests compute."""

import os

#: The CPU, unless the environment says otherwise: GAMMAPHYSNET_TEST_DEVICE=cuda pytest
DEVICE = os.environ.get("GAMMAPHYSNET_TEST_DEVICE", "cpu")
