"""The model card: a model's description of itself, stored with its weights.

The card describes the telescopes, cameras and optics that a model was trained for, and
the architecture, inputs, outputs and training of its networks. It is stored as JSON
inside the model file (see `ctapipe_gammaphysnet.model.file`). Importing this module
imports neither torch nor ctapipe.
"""

import hashlib
import json
from datetime import datetime, timedelta
from typing import Annotated, Literal

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    FailFast,
    Field,
    JsonValue,
    ValidationError,
    field_validator,
    model_validator,
)

from ..network.config import NetworkConfig
from ..tasks import TASKS
from ..terminal import without_commands
from .strict_json import StrictJsonError, check_size, strict_json

__all__ = [
    "FORMAT",
    "FORMAT_VERSION",
    "CameraCard",
    "CardError",
    "DomainCard",
    "InputCard",
    "MemberCard",
    "ModelCard",
    "NetworkCard",
    "NewerFormatError",
    "OpticsCard",
    "TelescopeCard",
    "card_from_json",
    "card_to_json",
    "geometry_sha256",
    "is_complete",
]

FORMAT = "ctapipe_gammaphysnet"
#: Increases when older versions of this package could misunderstand a new file.
FORMAT_VERSION = 2
#: Meaning of the outputs in format 1, whatever the network's tasks are.
_TARGETS_1 = {
    "energy": "log10(E/TeV)",
    "direction": "fov_lon, fov_lat / deg, TelescopeFrame",
    "impact": "core - telescope / km, TiltedGroundFrame of the telescope pointing",
}

# Beyond this many errors, listing them takes more memory than the card.
_MAX_LISTED_ERRORS = 1000


class CardError(ValueError):
    """A text is not a valid model card."""


class NewerFormatError(CardError):
    """A model card has a format that only a newer version of this package reads."""


def geometry_sha256(x, y):
    """Fingerprint of a camera's pixel positions.

    Parameters
    ----------
    x, y : array_like
        Pixel positions in the CameraFrame, in m, shape (n_pixels,).

    Returns
    -------
    str
        SHA-256 of the little-endian float64 bytes of x, then y, as 64 hexadecimal
        digits.
    """
    digest = hashlib.sha256()
    for values in (x, y):
        digest.update(np.asarray(values, dtype="<f8").tobytes())
    return digest.hexdigest()


def _finite(value):
    # JsonValue lets an infinite number written as 1e999 pass.
    json.dumps(value, allow_nan=False)
    return value


Text = Annotated[str, Field(min_length=1, max_length=1000)]
PositiveFloat = Annotated[float, Field(gt=0)]
# FailFast: listing the errors of each pixel takes more memory than the pixels. None of
# these has a minimum length, which would report a second error after any first one.
PerPixel = Annotated[tuple[float, ...], Field(max_length=50_000), FailFast()]
FreeForm = Annotated[dict[str, JsonValue], AfterValidator(_finite)]


class _Card(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False
    )


class CameraCard(_Card):
    """Camera geometry a network was trained for; at most 50,000 pixels."""

    name: Text = Field(description="Name of the camera, for example LSTCam.")
    pix_x_m: PerPixel = Field(description="Pixel positions, x, CameraFrame, m.")
    pix_y_m: PerPixel = Field(description="Pixel positions, y, CameraFrame, m.")
    pix_area_m2: PerPixel = Field(description="Pixel areas, m².")
    pix_type: Literal["hexagon", "square"] = Field(description="Shape of the pixels.")
    pix_rotation_deg: float = Field(description="Rotation of each pixel, deg.")
    cam_rotation_deg: float = Field(description="Rotation of the camera, deg.")
    geometry_sha256: str = Field(
        description="Fingerprint of pix_x_m and pix_y_m: 64 hexadecimal digits."
    )

    @model_validator(mode="after")
    def _consistent(self):
        sizes = {len(self.pix_x_m), len(self.pix_y_m), len(self.pix_area_m2)}
        if len(sizes) != 1:
            raise ValueError("pix_x_m, pix_y_m and pix_area_m2 differ in length")
        if sizes == {0}:
            raise ValueError("it has no pixels")
        if min(self.pix_area_m2) <= 0:
            raise ValueError("pix_area_m2 must be positive")
        if self.geometry_sha256 != geometry_sha256(self.pix_x_m, self.pix_y_m):
            raise ValueError("geometry_sha256 does not belong to the pixel positions")
        return self


class OpticsCard(_Card):
    """Optics of the telescope a network was trained for."""

    name: Text = Field(description="Name of the optics, for example LST.")
    equivalent_focal_length_m: PositiveFloat = Field(
        description="Nominal focal length, m."
    )
    effective_focal_length_m: PositiveFloat | None = Field(
        description="Focal length with the mean coma aberration, m; null if unknown."
    )
    mirror_area_m2: PositiveFloat = Field(description="Area of the mirrors, m².")
    n_mirrors: Annotated[int, Field(ge=1)] = Field(description="Number of mirrors.")


class TelescopeCard(_Card):
    """Telescope type a network was trained for."""

    type: Text = Field(
        description="Telescope type as ctapipe writes it, for example LST_LST_LSTCam."
    )
    optics: OpticsCard = Field(description="Optics of the telescope.")
    camera: CameraCard = Field(description="Camera of the telescope.")


class InputCard(_Card):
    """Input of a network: charge and peak time of each pixel.

    The defaults are the paper's: both unchanged, for all pixels.
    """

    image: Literal["raw", "cleaned"] = Field(
        "raw",
        description="All pixels (raw), or only those in the image mask (cleaned): "
        "pixels outside the mask are 0 in both channels.",
    )
    charge_reference: Literal["none", "background"] = Field(
        "none",
        description="Charge subtracted from those of pixels outside the image mask: "
        "none, or that of the background pixels of the same image (background), the "
        "mean of their quantiles from 45 % to 55 %.",
    )
    charge_unit: Literal["p.e.", "noise"] = Field(
        "p.e.",
        description="Unit of the charge: p.e., or the noise of the background pixels "
        "of the same image (noise): half of the range of their central 68 %, whose "
        "ends are means of quantiles over 10 %, as is a normal distribution's of the "
        "width 1.",
    )
    background_rings: Annotated[int, Field(ge=0, le=10)] = Field(
        2,
        description="Background pixels are all outside the image mask and this number "
        "of rings of neighbours around it.",
    )
    charge: Literal["linear", "arcsinh"] = Field(
        "linear",
        description="Scaling of the charge: divided by charge_scale (linear), or the "
        "inverse hyperbolic sine of that (arcsinh).",
    )
    charge_scale: PositiveFloat = Field(
        1.0, description="Divisor of the charge, in charge_unit."
    )
    peak_time_unit: Literal["ns"] = Field("ns", description="Unit of the peak time.")
    peak_time_reference: Literal["none", "image"] = Field(
        "none",
        description="Time subtracted from the peak times: none, or the mean over the "
        "pixels in the image mask, weighted by charge (image); none if they have no "
        "charge.",
    )
    peak_time_scale: PositiveFloat = Field(
        1.0, description="Divisor of the peak time after that, ns."
    )
    peak_time_pixels: Literal["all", "cleaned"] = Field(
        "all",
        description="Pixels whose peak times are used: all, or those in the image mask "
        "and around it (cleaned); the other peak times are 0.",
    )
    peak_time_rings: Annotated[int, Field(ge=0, le=10)] = Field(
        0, description="With cleaned, number of rings of neighbours around the mask."
    )
    missing_pixels: Literal["zero", "separate"] = Field(
        "zero",
        description="Values that are not finite: both channels of the pixel are 0 "
        "(zero), or a charge is 0 and a peak time -20 ns, each on its own, as in "
        "gammalearn (separate).",
    )

    @model_validator(mode="after")
    def _separate_is_raw(self):
        if self.missing_pixels == "separate" and self.needs_mask:
            raise ValueError("missing_pixels can be separate only without image mask")
        return self

    @property
    def needs_mask(self):
        """Whether the image mask, from the image cleaning, is needed."""
        return (
            self.image == "cleaned"
            or self.peak_time_reference == "image"
            or self.peak_time_pixels == "cleaned"
            or self.needs_background
        )

    @property
    def needs_background(self):
        """Whether charges are relative to the background of their image."""
        return self.charge_reference == "background" or self.charge_unit == "noise"


#: 5 % quantile, median and 95 % quantile.
Quantiles = Annotated[tuple[float, float, float], FailFast()]


class DomainCard(_Card):
    """Conditions of the images that a network was trained on, as augmented.

    Quantiles are those of the images: 5 %, 50 % and 95 %.
    """

    pedestal_pe: Quantiles = Field(
        description="Charge of the background pixels of an image, p.e., as for "
        "charge_reference."
    )
    noise_pe: Quantiles = Field(
        description="Noise of the background pixels of an image, p.e., as for "
        "charge_unit."
    )
    missing_pixels: Quantiles = Field(description="Fraction of missing pixels.")
    peak_time_spread_ns: Quantiles = Field(
        description="Standard deviation of the peak times of the background pixels, ns."
    )
    intensity_pe: Quantiles = Field(
        description="Charge of the pixels in the image mask, p.e."
    )
    energy_tev: Annotated[tuple[float, float], FailFast()] = Field(
        description="Lowest and highest energy of the gammas, TeV."
    )
    pointings_deg: Annotated[
        tuple[tuple[float, float], ...], Field(max_length=10_000), FailFast()
    ] = Field(
        description="Altitudes and azimuths at which the telescopes pointed, to 0.1 "
        "deg, or to 1 and 10 deg if they are more than 1000."
    )
    image_extractors: tuple[Text, ...] = Field(
        (), description="ctapipe's image extractors of the images; none if not known."
    )
    image_cleaners: tuple[Text, ...] = Field(
        (), description="ctapipe's image cleaners of the masks; none if not known."
    )


def _meanings(tasks):
    return {task: TASKS[task].meaning for task in tasks}


class MemberCard(_Card):
    """One member of an ensemble: the same network, trained from another seed."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(
        description="Seed of the member's initial weights and of its order of images."
    )
    training: FreeForm = Field(
        default_factory=dict, description="Results of this member's training."
    )


class NetworkCard(_Card):
    """The networks of one telescope type."""

    telescope: TelescopeCard = Field(description="Telescope type it was trained for.")
    network: NetworkConfig = Field(description="Architecture of the network.")
    input: InputCard = Field(InputCard(), description="Input of the network.")
    domain: DomainCard | None = Field(
        None,
        description="Conditions that the training saw; null if they were not recorded.",
    )
    targets: dict[str, Text] = Field(
        default_factory=lambda data: _meanings(data["network"].tasks),
        description="Meaning of the outputs of each task.",
    )
    training: FreeForm = Field(
        default_factory=dict,
        description="Training: settings, ranges of energy and pointing, noise, files, "
        "counts.",
    )
    members: Annotated[tuple[MemberCard, ...], Field(max_length=64), FailFast()] = (
        Field(description="Members of the ensemble, in the order of their weights.")
    )

    @field_validator("targets")
    @classmethod
    def _meant(cls, targets, info):
        if "network" not in info.data:
            return targets
        meanings = _meanings(info.data["network"].tasks)
        for name, meaning in meanings.items():
            known = [meaning, *TASKS[name].other_targets]
            if targets.get(name) not in known:
                choices = " or ".join(map(repr, known))
                raise ValueError(f"targets.{name} must be {choices}")
        if unknown := targets.keys() - meanings:
            raise ValueError(f"targets.{min(unknown)}: the network has no such task")
        return targets

    @field_validator("members")
    @classmethod
    def _unique_seeds(cls, members):
        if not members:
            raise ValueError("there must be at least one")
        if len({member.seed for member in members}) != len(members):
            raise ValueError("two members have the same seed")
        return members


class ModelCard(_Card):
    """Card of a model: one entry per telescope type."""

    format: Literal["ctapipe_gammaphysnet"] = Field(
        FORMAT, description="Identifies this kind of file."
    )
    format_version: Annotated[int, Field(ge=1, le=FORMAT_VERSION)] = Field(
        FORMAT_VERSION, description="Version of the format of card and weights."
    )
    note: str = Field("", description="Free text, for example on the intended use.")
    created: str = Field(description="Time of writing: ISO 8601, UTC.")
    software: dict[str, str] = Field(
        description="Versions of the software used for the training, by name."
    )
    networks: Annotated[tuple[NetworkCard, ...], Field(max_length=64), FailFast()] = (
        Field(description="Networks, in the order of their weights.")
    )

    @field_validator("created")
    @classmethod
    def _utc(cls, created):
        try:
            offset = datetime.fromisoformat(created).utcoffset()
        except ValueError:
            offset = None
        if offset != timedelta(0):
            raise ValueError(
                f"must be a time in UTC like 2030-01-31T12:00:00+00:00, got {created!r}"
            )
        return created

    @field_validator("networks")
    @classmethod
    def _unique_types(cls, networks):
        if not networks:
            raise ValueError("there must be at least one")
        types = {network.telescope.type for network in networks}
        if len(types) != len(networks):
            raise ValueError("two networks are for the same telescope type")
        return networks


def is_complete(member):
    """Check whether a member is fully trained.

    Parameters
    ----------
    member : MemberCard
        The member.

    Returns
    -------
    bool
        False if its card says that its training was interrupted.
    """
    return member.training.get("complete", True) is not False


def _check_format(values):
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise CardError(f"it does not have the format {FORMAT!r}")
    version = values.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise NewerFormatError(
            f"was written by a newer {FORMAT} (format {version}); this version reads "
            f"up to {FORMAT_VERSION}: upgrade {FORMAT}"
        )


def _with_own_targets(text, values):
    """Return the text of a card without the targets of format 1, which has them all."""
    version = values.get("format_version")
    if type(version) is not int or version != 1:
        return text
    networks = values.get("networks")
    for network in networks if isinstance(networks, list) else ():
        if isinstance(network, dict) and network.get("targets") == _TARGETS_1:
            del network["targets"]
    return json.dumps(values)


def _describe(err):
    """Summarise a ValidationError: the first fields and their errors."""
    count = err.error_count()
    if count > _MAX_LISTED_ERRORS:
        return f"{count} fields are wrong"
    errors = err.errors(include_url=False, include_context=False, include_input=False)
    texts = [
        without_commands(
            f"{'.'.join(map(str, error['loc'])) or 'card'}: {error['msg']}"[:300]
        )
        for error in errors[:5]
    ]
    if count > len(texts):
        texts.append(f"and {count - len(texts)} more")
    return "; ".join(texts)


def card_from_json(text):
    """Read a model card.

    Parameters
    ----------
    text : str
        JSON text, as written by `card_to_json` in this format or in format 1.

    Returns
    -------
    ModelCard
        The validated card.

    Raises
    ------
    NewerFormatError
        If the card has a newer format.
    CardError
        If the text is not a valid model card; the message names the fields.
    """
    try:
        check_size(text)
        values = strict_json(text)
        _check_format(values)
        text = _with_own_targets(text, values)
        del values  # large, in a hostile file
    except (StrictJsonError, RecursionError) as err:
        raise CardError(str(err)) from None
    try:
        return ModelCard.model_validate_json(text)
    except ValidationError as err:
        raise CardError(f"its values are not valid: {_describe(err)}") from None


def card_to_json(card):
    """Write a model card as JSON, in the current format.

    Parameters
    ----------
    card : ModelCard
        The card.

    Returns
    -------
    str
        JSON text, ASCII only.
    """
    values = card.model_dump(mode="json") | {"format_version": FORMAT_VERSION}
    return json.dumps(values, allow_nan=False)
