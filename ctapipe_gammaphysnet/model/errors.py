"""What is wrong with a model, or with the use that is made of it.

Needs no ctapipe. Nothing else is one of these: an error in the code itself is never
taken for one.
"""

__all__ = ["ModelError", "ModelFileError"]


class ModelError(ValueError):
    """A model cannot be used as asked for; the message says why."""


class ModelFileError(ModelError):
    """A model file cannot be read or written; the message says why."""
