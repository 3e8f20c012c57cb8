"""Differences between the supported versions of ctapipe, and fixes of them."""

from inspect import signature

import numpy as np
from ctapipe.containers import ReconstructedContainer
from ctapipe.io import HDF5TableWriter
from ctapipe.reco import telescope_event_handling
from numba import config

__all__ = ["LOW_RESOLUTION", "PARTICLE_TYPE"]

#: Name of the particle type's field and group: "classification" until ctapipe 0.28.
PARTICLE_TYPE = (
    "particle_type"
    if "particle_type" in ReconstructedContainer.fields
    else "classification"
)

#: Option of ctapipe's writer with which times that are not known can be written: later
#: versions have it in the containers.
LOW_RESOLUTION = (
    {"time_format": "mjd"}
    if "time_format" in signature(HDF5TableWriter.write).parameters
    else {}
)

if config.DISABLE_JIT:
    # ctapipe combines tables with numba's uint64, which is not a dtype if nothing is
    # compiled.
    telescope_event_handling.uint64 = np.uint64
