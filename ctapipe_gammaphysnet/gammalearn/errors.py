"""The error of everything that cannot be imported."""

from ctapipe.core import ToolConfigurationError

from ..model.errors import ModelError

__all__ = ["ImportedModelError"]


class ImportedModelError(ToolConfigurationError, ModelError):
    """A checkpoint or its settings cannot become a model; the message says why."""
