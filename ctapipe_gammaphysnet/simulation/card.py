"""The card of a production of air showers: a short YAML file, ``*.airshower.yaml``.

The shortest card, which leaves everything else at its default::

    particle: gamma
    showers: 1000
    seed: 1

All keys are described in `AirShowerCard`.
"""

import difflib
from typing import Annotated, Literal

import astropy.units as u
from ctapipe.core import ToolConfigurationError
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    WrapValidator,
    field_validator,
    model_validator,
)

from ..files.paths import printable
from .card_quantities import (
    Angle,
    AngleRange,
    Energy,
    Length,
    RateRange,
    check_range,
    limits,
)
from .card_yaml import read_yaml, show
from .instruments import ARRAYS, SITES
from .limits import check_runs, check_shower

__all__ = ["PRIMARY_ID", "AirShowerCard", "CardError", "Pointing", "read_card"]

#: Code of each primary particle, as in sim_telarray.
PRIMARY_ID = {"gamma": 0, "electron": 1, "proton": 101}

#: Range of the energies that can be simulated, in GeV.
ENERGY_RANGE_GEV = {
    "gamma": (1.0, 1e5),
    "electron": (1.0, 1e5),
    "proton": (5.0, 1e5),
}
MIN_ALTITUDE = 30 * u.deg
#: Lowest altitude from which showers may come.
MIN_SHOWER_ALTITUDE = 20 * u.deg
#: Cameras of CTAO see up to 5 deg from the pointing, and light of a shower is spread
#: over some degrees.
MAX_SOURCE_OFFSET = 10 * u.deg
MAX_REUSE = 100

_DIFFUSE = {"view_cone": "5 deg", "scatter_radius": "500 m"}
_DEFAULTS = {
    "gamma": {
        "energy_min": "10 GeV",
        "energy_max": "10 TeV",
        "view_cone": "0 deg",
        "scatter_radius": "350 m",
    },
    "electron": {"energy_min": "10 GeV", "energy_max": "10 TeV"} | _DIFFUSE,
    "proton": {"energy_min": "40 GeV", "energy_max": "30 TeV"} | _DIFFUSE,
}

_MAX_ERRORS = 3  # in a message

# The largest number that ctapipe's tables hold: for runs, and for showers by way of
# their event numbers.
_MAX_INT32 = 2**31 - 1
_MAX_SHOWERS = _MAX_INT32 // MAX_REUSE - 1


class CardError(ToolConfigurationError, ValueError):
    """A file is not a valid card."""


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        arbitrary_types_allowed=True,
        validate_default=True,
    )


class Pointing(_Section):
    """Where the telescopes look, in all runs or, with ranges, in each of them."""

    altitude: AngleRange = Field(
        "70 deg",
        description="Angle above the horizon, from 30 deg to 90 deg; of a range, "
        "[40 deg, 80 deg], each run draws its own, uniform in solid angle.",
    )
    azimuth: AngleRange = Field(
        "180 deg",
        description="Angle from geographic north towards east, -180 deg to 360 deg; or "
        "a range, in which it is uniform.",
    )

    @field_validator("altitude")
    @classmethod
    def _altitude_in_range(cls, altitude):
        return check_range(
            altitude,
            MIN_ALTITUDE,
            90 * u.deg,
            " above the horizon: the simulated atmosphere is flat",
        )

    @field_validator("azimuth")
    @classmethod
    def _azimuth_in_range(cls, azimuth):
        return check_range(azimuth, -180 * u.deg, 360 * u.deg)


def _one_or_several(value, validate):
    """Read one pointing, or a list of pointings into a tuple."""
    if not isinstance(value, list | tuple):
        return validate(value)
    if not value:
        raise ValueError("is an empty list; name at least one pointing")
    return tuple(
        _entry(number, pointing, validate) for number, pointing in enumerate(value, 1)
    )


def _entry(number, pointing, validate):
    """Read one pointing of a list, so that errors name it."""
    try:
        return validate(pointing)
    except ValidationError as err:
        details = [
            {
                "type": error["type"],
                "loc": (f"entry {number}", *error["loc"]),
                "input": error["input"],
                "ctx": error.get("ctx", {}),
            }
            for error in err.errors(include_url=False)
        ]
        raise ValidationError.from_exception_data(err.title, details) from None


def _is_off_axis(offset):
    """Check whether an offset is given that is not 0."""
    try:
        return bool(u.Quantity(offset).value != 0)
    except (TypeError, ValueError, ArithmeticError):
        return False  # it is reported with the other errors


def _angle_or_random(value, validate):
    return value if isinstance(value, str) and value == "random" else validate(value)


class AirShowerCard(_Section):
    """What is simulated: the keys of an air-shower card.

    Quantities are written with their unit, as ``20 GeV`` or ``0.5 deg``, and are
    `astropy.units.Quantity` objects here. Only ``particle``, ``showers`` and ``seed``
    have no default.
    """

    particle: Literal[tuple(PRIMARY_ID)] = Field(
        description="Primary particle: gamma, electron or proton."
    )
    showers: Annotated[int, Field(ge=1, le=_MAX_SHOWERS)] = Field(
        description="Number of showers per run."
    )
    seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(
        description="Seed of the random numbers: the same card gives the same events. "
        "Cards with the same seed and particle start from the same random numbers, "
        "whatever else they say: another sample needs another seed or other runs."
    )
    first_run: Annotated[int, Field(ge=1, le=_MAX_INT32)] = Field(
        1, description="Number of the first run; run numbers become obs_ids."
    )
    runs: Annotated[int, Field(ge=1, le=100_000)] = Field(
        1, description="Number of runs, which count from first_run."
    )
    reuse: Annotated[int, Field(ge=1, le=MAX_REUSE)] = Field(
        10,
        description="Number of core positions at which each shower is used. Its events "
        "look alike: split data by shower, not by event.",
    )
    energy_min: Energy = Field(
        description="Lowest energy; default 10 GeV, protons 40 GeV. At least 1 GeV, "
        "protons 5 GeV."
    )
    energy_max: Energy = Field(
        description="Highest energy; default 10 TeV, protons 30 TeV. At most 100 TeV. "
        "If equal to energy_min, all showers have this energy."
    )
    spectral_index: Annotated[float, Field(ge=-10, lt=0)] = Field(
        -2.0, description="Exponent of the energy spectrum, a negative number."
    )
    pointing: Annotated[Pointing, WrapValidator(_one_or_several)] = Field(
        Pointing(),
        description="Where the telescopes look: altitude, default 70 deg, and azimuth, "
        "default 180 deg, south. If it is a list, runs take its pointings in turn: the "
        "first one is that of run 1.",
    )
    view_cone: Angle = Field(
        description="Largest angle between a shower and the pointing, uniform in solid "
        "angle; at 0 deg all showers come from the pointing. Default 0 deg for gammas "
        "and with source_offset, 5 deg for electrons and protons."
    )
    source_offset: Angle = Field(
        "0 deg",
        description="Angle between a point source and the pointing, instead of a "
        "view_cone; at most 10 deg. Default 0 deg, which is no such source.",
    )
    position_angle: Annotated[Angle, WrapValidator(_angle_or_random)] = Field(
        "random",
        description="Where a source with a source_offset is: angle around the pointing "
        "from the zenith towards larger azimuth, 0 deg to 360 deg, or random, which is "
        "another one for each shower. Default random.",
    )
    scatter_radius: Length = Field(
        description="Largest distance of a shower's axis from the centre of the array, "
        "uniform in area, perpendicular to the axis; at most 5 km. Default 350 m for "
        "gammas, 500 m for electrons and protons."
    )
    night_sky_rate: RateRange = Field(
        "0.24 GHz",
        description="Photoelectrons from the night sky per time in each pixel, at most "
        "10 GHz; of a range, [0.2 GHz, 0.4 GHz], each run draws its own, uniform.",
    )
    site: Literal[tuple(SITES)] = Field(
        "la_palma",
        description="Where the array stands: la_palma or paranal. Sets the height, "
        "the atmosphere and the geomagnetic field.",
    )
    array: Literal[tuple(ARRAYS)] = Field(
        "lst1",
        description="The telescopes: lst1 and lst4, the first and all four of the LSTs "
        "of CTAO-North, nectarcam1, the MST at its centre, or lst4_mst9, the four LSTs "
        "and nine MSTs with NectarCam.",
    )
    multiplicity: Annotated[int, Field(ge=1)] = Field(
        description="Number of telescopes that must trigger; default 2, or 1 if the "
        "array is a single telescope."
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_defaults(cls, values):
        """Add the defaults that depend on other values."""
        particle = values.get("particle")
        # If the particle or the array is wrong, only that should be reported.
        defaults = _DEFAULTS[particle if particle in list(_DEFAULTS) else "gamma"]
        array = values.get("array")
        n_telescopes = len(ARRAYS[array if array in list(ARRAYS) else "lst1"])
        defaults = defaults | {"multiplicity": min(2, n_telescopes)}
        if _is_off_axis(values.get("source_offset", 0)):
            defaults = defaults | {"view_cone": "0 deg"}
        return defaults | values

    @field_validator("runs")
    @classmethod
    def _run_numbers_fit(cls, runs, info: ValidationInfo):
        if info.data.get("first_run", 1) + runs - 1 > _MAX_INT32:
            raise ValueError(
                f"must be smaller: run numbers would exceed {_MAX_INT32}; lower "
                "first_run"
            )
        return runs

    @field_validator("energy_min", "energy_max")
    @classmethod
    def _energy_in_range(cls, energy, info: ValidationInfo):
        particle = info.data.get("particle", "gamma")
        low, high = ENERGY_RANGE_GEV[particle] * u.GeV
        return check_range(energy, low, high.to(u.TeV), f" for particle {particle}")

    @field_validator("energy_max")
    @classmethod
    def _energies_in_order(cls, energy_max, info: ValidationInfo):
        energy_min = info.data.get("energy_min", energy_max)
        if energy_max < energy_min:
            raise ValueError(f"must not be below energy_min, {energy_min:g}")
        return energy_max

    @field_validator("source_offset")
    @classmethod
    def _source_is_seen(cls, source_offset):
        if source_offset > MAX_SOURCE_OFFSET:
            raise ValueError(
                f"must be at most {MAX_SOURCE_OFFSET:g}: further off, no telescope "
                "sees the source"
            )
        return source_offset

    @field_validator("view_cone", "source_offset")
    @classmethod
    def _showers_come_from_above(cls, offset, info: ValidationInfo):
        if offset < 0 * u.deg:
            raise ValueError("must not be negative")
        pointing = info.data.get("pointing")
        if not pointing:
            return offset
        pointings = pointing if isinstance(pointing, tuple) else (pointing,)
        altitudes = [limits(each.altitude).low for each in pointings]
        lowest = min(altitudes)
        if lowest - offset < MIN_SHOWER_ALTITUDE:
            largest = (lowest - MIN_SHOWER_ALTITUDE).to(u.deg)
            number, n = altitudes.index(lowest) + 1, len(altitudes)
            where = "this pointing" if n == 1 else f"pointing {number} of {n}"
            raise ValueError(
                f"must be at most {largest:g} at {where}, down to an altitude of "
                f"{lowest:g}: showers must come from altitudes above "
                f"{MIN_SHOWER_ALTITUDE:g}"
            )
        return offset

    @field_validator("source_offset")
    @classmethod
    def _source_or_cone(cls, source_offset, info: ValidationInfo):
        view_cone = info.data.get("view_cone", 0 * u.deg)
        if source_offset > 0 * u.deg and view_cone > 0 * u.deg:
            raise ValueError(
                "is of a point source, and view_cone of diffuse showers; give only one"
            )
        return source_offset

    @field_validator("position_angle")
    @classmethod
    def _position_angle_in_range(cls, position_angle, info: ValidationInfo):
        if position_angle == "random":
            return position_angle
        if not info.data.get("source_offset", 1 * u.deg) > 0 * u.deg:
            raise ValueError("is of a source with a source_offset; give that, too")
        return check_range(position_angle, 0 * u.deg, 360 * u.deg)

    @field_validator("scatter_radius")
    @classmethod
    def _radius_in_range(cls, radius):
        return check_range(radius, 0 * u.m, 5000 * u.m)

    @field_validator("night_sky_rate")
    @classmethod
    def _rate_in_range(cls, rate):
        return check_range(rate, 0 * u.GHz, 10 * u.GHz)

    @field_validator("multiplicity")
    @classmethod
    def _enough_telescopes(cls, multiplicity, info: ValidationInfo):
        array = info.data.get("array")
        if array and multiplicity > len(ARRAYS[array]):
            raise ValueError(
                f"must be at most {len(ARRAYS[array])}, the number of telescopes of "
                f"{array}"
            )
        return multiplicity

    @model_validator(mode="after")
    def _can_be_simulated(self):
        check_shower(self)
        check_runs(self, 1)
        return self

    @property
    def run_numbers(self):
        """Numbers of the runs, a range."""
        return range(self.first_run, self.first_run + self.runs)


def _suggest(name, choices):
    closest = difflib.get_close_matches(str(name).lower(), choices, n=1)
    return f"did you mean {closest[0]}?" if closest else f"use {', '.join(choices)}"


def _describe(error):
    """Describe which key is wrong and what to do, from an error of pydantic."""
    name = ".".join(show(part) for part in error["loc"])
    value = error["input"]
    if not name:
        return error["msg"].removeprefix("Value error, ")
    *sections, key = error["loc"]
    if error["type"] == "missing":
        return f"{name}: this key is missing"
    if error["type"] in {"extra_forbidden", "invalid_key"}:
        keys = list((Pointing if sections else AirShowerCard).model_fields)
        return f"{name}: unknown key, {_suggest(key, keys)}"
    if error["type"] == "literal_error":
        choices = {"particle": PRIMARY_ID, "site": SITES, "array": ARRAYS}[key]
        shown = show(repr(value))
        return f"{name}: {shown} is unknown, {_suggest(value, list(choices))}"
    if error["type"] == "model_type":
        shown = show(repr(value))
        return f"{name}: {shown} must be given as keys, such as altitude: 70 deg"
    message = error["msg"].removeprefix("Value error, ")
    return f"{name}: {show(value)} {message.replace('Input should', 'should')}"


def _parse(values):
    try:
        return AirShowerCard.model_validate(values)
    except ValidationError as err:
        errors = err.errors(include_url=False, include_context=False)
        said = [_describe(error) for error in errors[:_MAX_ERRORS]]
        if len(errors) > _MAX_ERRORS:
            said.append(f"and {len(errors) - _MAX_ERRORS} more")
        raise CardError("; ".join(said)) from None


def read_card(path):
    """Read the card of a production of air showers.

    Parameters
    ----------
    path : pathlib.Path
        The YAML file.

    Returns
    -------
    AirShowerCard
        The validated card.

    Raises
    ------
    CardError
        If it cannot be read or is wrong; the message, one printable line, names the
        file, the keys, their values and what to do.
    """
    name = printable(str(path))
    try:
        return _parse(read_yaml(path))
    except OSError as err:
        raise CardError(f"{name}: cannot be read: {err.strerror}") from None
    except ValueError as err:
        raise CardError(f"{name}: {err}") from None
