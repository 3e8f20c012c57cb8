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
    FailFast,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from ..network.config import NetworkConfig
from ..tasks import TASKS
from ..terminal import without_commands
from .calibration_card import CalibrationCard
from .card_fields import (
    Card,
    FreeForm,
    GeomagneticField,
    PerPixel,
    PositiveFloat,
    Text,
)
from .input_card import DomainCard, InputCard
from .parent_card import ParentCard
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
    "ParentCard",
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


class CameraCard(Card):
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


class OpticsCard(Card):
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


class TelescopeCard(Card):
    """Telescope type a network was trained for."""

    type: Text = Field(
        description="Telescope type as ctapipe writes it, for example LST_LST_LSTCam."
    )
    optics: OpticsCard = Field(description="Optics of the telescope.")
    camera: CameraCard = Field(description="Camera of the telescope.")


def _meanings(tasks):
    return {task: TASKS[task].meaning for task in tasks}


class MemberCard(Card):
    """One member of an ensemble: the same network, trained from another seed."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(
        description="Seed of the member's initial weights and of its order of images."
    )
    training: FreeForm = Field(
        default_factory=dict, description="Results of this member's training."
    )
    calibration: CalibrationCard = Field(
        CalibrationCard(), description="Calibration of errors and gammaness."
    )


class NetworkCard(Card):
    """The networks of one telescope type."""

    telescope: TelescopeCard = Field(description="Telescope type it was trained for.")
    network: NetworkConfig = Field(description="Architecture of the network.")
    input: InputCard = Field(InputCard(), description="Input of the network.")
    geomagnetic_field_ut: GeomagneticField | None = Field(
        None,
        description="Geomagnetic field of the training's showers to the north, to the "
        "west and up, µT; null unless it is one of the network's conditions.",
    )
    domain: DomainCard | None = Field(
        None,
        description="Conditions that the training saw; null if they were not recorded.",
    )
    parent: ParentCard | None = Field(
        None,
        description="The network whose weights its training began with; null if it "
        "began with random ones.",
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

    @model_validator(mode="after")
    def _field_if_needed(self):
        if self.network.needs_field != (self.geomagnetic_field_ut is not None):
            raise ValueError(
                "geomagnetic_field_ut must be given if, and only if, the field is one "
                "of the network's conditions"
            )
        return self

    @model_validator(mode="after")
    def _calibrations_are_of_errors(self):
        tasks = self.network.tasks if self.network.errors else ()
        for member in self.members:
            calibration = member.calibration
            calibrated = {*calibration.errors, *calibration.offsets}
            calibrated.update(calibration.axis.log_radius if calibration.axis else ())
            if unknown := calibrated.difference(tasks):
                raise ValueError(
                    f"the calibration is of {min(unknown)}, whose errors the network "
                    "does not predict"
                )
        return self

    @field_validator("members")
    @classmethod
    def _unique_seeds(cls, members):
        if not members:
            raise ValueError("there must be at least one")
        if len({member.seed for member in members}) != len(members):
            raise ValueError("two members have the same seed")
        return members


class ModelCard(Card):
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
