"""Quantities of a card, with their unit: one, or a range that each run draws from."""

from typing import Annotated, NamedTuple

import astropy.units as u
import numpy as np
from pydantic import BeforeValidator, PlainValidator

__all__ = [
    "Angle",
    "AngleRange",
    "Energy",
    "Length",
    "Range",
    "RateRange",
    "check_range",
    "limits",
]


class Range(NamedTuple):
    """Limits of a quantity that each run draws for itself."""

    low: u.Quantity
    high: u.Quantity


def limits(value):
    """
    Find the lowest and the highest value.

    Parameters
    ----------
    value : astropy.units.Quantity or Range
        One value, or the range of several.

    Returns
    -------
    Range
        Lowest and highest; both are the same for one value.
    """
    return value if isinstance(value, Range) else Range(value, value)


def check_range(value, low, high, advice=""):
    """
    Check that a quantity is within limits.

    Parameters
    ----------
    value : astropy.units.Quantity or Range
        What a card holds.
    low, high : astropy.units.Quantity
        The limits, which are allowed themselves.
    advice : str
        What follows the limits in the message.

    Returns
    -------
    astropy.units.Quantity or Range
        The same value.

    Raises
    ------
    ValueError
        If it is outside.
    """
    outside = [limit for limit in limits(value) if not low <= limit <= high]
    if outside:
        which = f", and {outside[0]:g} is not" if isinstance(value, Range) else ""
        raise ValueError(f"must be from {low:g} to {high:g}{advice}{which}")
    return value


def _to_quantity(value, unit, kind, example):
    """Read a quantity that may be given as text."""
    if isinstance(value, list | tuple):
        raise ValueError(f"takes one value, not a list; write it like {example}")
    if isinstance(value, str):
        try:
            value = u.Quantity(value)
        except (TypeError, ValueError, ArithmeticError):
            raise ValueError(
                f"is not a number and a unit; write it like {example}"
            ) from None
    if not isinstance(value, u.Quantity) or value.unit == u.one:
        raise ValueError(f"has no unit; write it like {example}")
    if not value.isscalar or not np.isfinite(value):
        raise ValueError(f"is not one finite number; write it like {example}")
    if not value.unit.is_equivalent(unit):
        raise ValueError(f"is not {kind}; write it like {example}")
    return value


def _to_range(value, unit, kind, example):
    """Read a quantity, or the two limits of a range."""
    if not isinstance(value, list | tuple):
        return _to_quantity(value, unit, kind, example)
    example = f"{example}, or with both limits of a range: [lowest, highest]"
    if len(value) != 2:
        raise ValueError(f"is not two limits; write it like {example}")
    names = "lowest", "highest"
    low, high = (
        _to_limit(name, limit, unit, kind, example)
        for name, limit in zip(names, value, strict=True)
    )
    if high < low:
        raise ValueError("must have the lower limit first")
    return Range(low, high)


def _to_limit(name, limit, unit, kind, example):
    """Read one limit of a range."""
    try:
        return _to_quantity(limit, unit, kind, example)
    except ValueError as err:
        raise ValueError(f"has a {name} limit that {err}") from None


def _quantity(unit, kind, example):
    """Type of the quantities of one kind, from text such as 20 GeV."""
    return Annotated[
        u.Quantity, BeforeValidator(lambda v: _to_quantity(v, unit, kind, example))
    ]


def _range(unit, kind, example):
    """Type of the quantities of one kind that may be ranges."""
    return Annotated[
        u.Quantity | Range,
        PlainValidator(lambda v: _to_range(v, unit, kind, example)),
    ]


Energy = _quantity(u.TeV, "an energy", "20 GeV or 10 TeV")
Angle = _quantity(u.deg, "an angle", "70 deg")
Length = _quantity(u.m, "a length", "350 m")
AngleRange = _range(u.deg, "an angle", "70 deg")
RateRange = _range(u.GHz, "a rate", "0.24 GHz")
