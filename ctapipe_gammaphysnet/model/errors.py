"""Errors in a model, or in its use.

They need no ctapipe. A bug in the code is never reported as one of them.
"""

__all__ = ["ModelError", "ModelFileError"]


class ModelError(ValueError):
    """A model cannot be used as requested; the message says why."""


class ModelFileError(ModelError):
    """A model file cannot be read or written; the message says why."""
