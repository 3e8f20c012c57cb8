"""What differs between the supported versions of ctapipe."""

from ctapipe.containers import ReconstructedContainer

__all__ = ["PARTICLE_TYPE"]

#: Name of the particle type's field and group: "classification" until ctapipe 0.28.
PARTICLE_TYPE = (
    "particle_type"
    if "particle_type" in ReconstructedContainer.fields
    else "classification"
)
