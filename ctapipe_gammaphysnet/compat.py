"""Differences between the supported versions of ctapipe, and fixes of them."""

import numpy as np
from ctapipe.containers import ReconstructedContainer
from ctapipe.reco import telescope_event_handling
from numba import config

__all__ = ["PARTICLE_TYPE"]

#: Name of the particle type's field and group: "classification" until ctapipe 0.28.
PARTICLE_TYPE = (
    "particle_type"
    if "particle_type" in ReconstructedContainer.fields
    else "classification"
)

if config.DISABLE_JIT:
    # ctapipe combines tables with numba's uint64, which is not a dtype if nothing is
    # compiled.
    telescope_event_handling.uint64 = np.uint64
