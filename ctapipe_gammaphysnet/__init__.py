"""γ-PhysNet as a ctapipe plugin: from DL1 camera images to DL2 event properties."""

from importlib.metadata import version

__version__ = version(__name__)
