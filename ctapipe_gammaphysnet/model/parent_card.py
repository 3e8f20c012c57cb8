"""The part of the model card that describes the network a training began with."""

import base64
from typing import Annotated

from pydantic import FailFast, Field, field_validator

from .card_fields import Card, Text
from .input_card import DomainCard

__all__ = ["MAX_ANCESTORS", "MAX_NOTE", "ParentCard", "ShowersCard"]

#: Models before the parent that a card names.
MAX_ANCESTORS = 8
#: Characters of the parent's note that a card keeps.
MAX_NOTE = 1000

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$", max_length=64)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
#: 100,000 numbers of 4 bytes.
Base64 = Annotated[str, Field(max_length=533_336)]


class ShowersCard(Card):
    """Showers that networks were trained on, as `describe_showers` describes them."""

    showers: Annotated[int, Field(ge=0)] = Field(
        description="Number of showers, or the smallest that it can be."
    )
    smallest_numbers: Base64 = Field(
        description="Upper 32 bits of the smallest 100,000 of their numbers: base64 of "
        "little-endian uint32."
    )

    @field_validator("smallest_numbers")
    @classmethod
    def _are_numbers(cls, text):
        if len(base64.b64decode(text, validate=True)) % 4 != 0:
            raise ValueError("these are no numbers of 32 bits")
        return text

    @property
    def description(self):
        """The same, as `describe_showers` returns it."""
        return {
            "showers": self.showers,
            "smallest numbers": self.smallest_numbers,
        }


class ParentCard(Card):
    """The network whose weights a training began with."""

    type: Text = Field(description="Telescope type that it was trained for.")
    sha256: Sha256 = Field(description="SHA-256 of its model file.")
    created: Annotated[str, Field(max_length=100)] = Field(
        description="Time at which its model file was written."
    )
    note: Annotated[str, Field(max_length=MAX_NOTE)] = Field(
        description="The beginning of the note in its model file."
    )
    seeds: Annotated[tuple[Seed, ...], Field(max_length=64), FailFast()] = Field(
        description="Seeds of its members. A member began with that of its own seed, "
        "or with the only one."
    )
    domain: DomainCard | None = Field(
        description="Conditions that its training saw; null if they were not recorded."
    )
    showers: ShowersCard | None = Field(
        description="Showers that it, and all networks before it, were trained on, as "
        "far as known; null if none are."
    )
    knows_all_showers: bool = Field(
        description="Whether they are known of it, and of all networks before it."
    )
    before: Annotated[
        tuple[Sha256, ...], Field(max_length=MAX_ANCESTORS), FailFast()
    ] = Field(
        description="SHA-256 of the model files before it, the nearest first, at most "
        "8."
    )
