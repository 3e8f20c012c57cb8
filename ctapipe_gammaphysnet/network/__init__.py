"""γ-PhysNet in PyTorch: the camera's lattice, its convolution, the network."""

from .config import NetworkConfig
from .lattice import CameraLattice, LatticeError

__all__ = [
    "CameraLattice",
    "GammaPhysNet",
    "LatticeError",
    "NetworkConfig",
    "parameter_shapes",
]


def __getattr__(name):
    # Importing torch takes seconds: only code that needs the network itself waits.
    if name in {"GammaPhysNet", "parameter_shapes"}:
        from . import gammaphysnet

        return getattr(gammaphysnet, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
