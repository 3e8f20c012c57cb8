"""What the parts of a model card have in common."""

import json
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    FailFast,
    Field,
    JsonValue,
)

__all__ = [
    "Card",
    "FreeForm",
    "GeomagneticField",
    "PerPixel",
    "PositiveFloat",
    "Text",
]


def _finite(value):
    # JsonValue lets an infinite number written as 1e999 pass.
    json.dumps(value, allow_nan=False)
    return value


Text = Annotated[str, Field(min_length=1, max_length=1000)]
PositiveFloat = Annotated[float, Field(gt=0)]
# FailFast: listing the errors of each pixel takes more memory than the pixels. None of
# these has a minimum length, which would report a second error after any first one.
PerPixel = Annotated[tuple[float, ...], Field(max_length=50_000), FailFast()]
# In µT: it is weaker than 70 µT anywhere on Earth.
_Component = Annotated[float, Field(ge=-100, le=100)]
GeomagneticField = tuple[_Component, _Component, _Component]
FreeForm = Annotated[dict[str, JsonValue], AfterValidator(_finite)]


class Card(BaseModel):
    """A part of a model card: strict, without unknown fields, frozen."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False
    )
