"""Traits for finite or limited numbers, and for names of groups."""

import math

from ctapipe.core.traits import Float, Int, TraitError, Unicode

__all__ = ["FiniteFloat", "GroupName", "LimitedInt"]


class _Limited:
    """Mixin that names the limits of a number in errors, also in lists.

    For lists, traitlets' own message shows the address of an object.
    """

    def info(self):
        limits = [
            f"{words} {limit}"
            for words, limit in (("at least", self.min), ("at most", self.max))
            if limit is not None and math.isfinite(limit)
        ]
        return super().info() + (" of " * bool(limits)) + " and ".join(limits)

    def validate(self, obj, value):
        try:
            return super().validate(obj, value)
        except TraitError:
            self.error(obj, value)


class LimitedInt(_Limited, Int):
    """A whole number; errors name its limits, also in a list."""

    info_text = "a whole number"


class FiniteFloat(_Limited, Float):
    """A number that is neither NaN nor infinite, unlike ctapipe's ``Float``.

    Parameters
    ----------
    *args
        As in ``Float``.
    positive : bool
        Whether it must be above 0.
    **kwargs
        As in ``Float``.
    """

    info_text = "a finite number"

    def __init__(self, *args, positive=False, **kwargs):
        super().__init__(*args, **kwargs)
        self._positive = positive
        if positive:
            self.info_text = "a finite number above 0"

    def validate(self, obj, value):
        """Check that a number is finite, and within its limits."""
        number = super().validate(obj, value)
        if not math.isfinite(number) or (self._positive and number <= 0):
            self.error(obj, value)
        return number


class GroupName(Unicode):
    """A prefix for names of groups in HDF5, and of fields of containers."""

    info_text = "ASCII letters, digits and underscores, the first no digit"

    def validate(self, obj, value):
        """Check that names of groups can begin with a prefix."""
        name = super().validate(obj, value)
        # It may be empty, since more follows.
        if not (name.isascii() and f"{name}_".isidentifier()):
            self.error(obj, value)
        return name
