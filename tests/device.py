"""Where the tests compute."""

import os

#: The CPU, unless the environment says otherwise: GAMMAPHYSNET_TEST_DEVICE=cuda pytest
DEVICE = os.environ.get("GAMMAPHYSNET_TEST_DEVICE", "cpu")
if DEVICE == "cpu":
    # Programs for GPUs are interpreted. Triton reads this when it is imported.
    os.environ["TRITON_INTERPRET"] = "1"
