"""Base class of everything that has options, and types of options.

The `description` of a type completes the message "<key> must be ...".
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError


def _no_bool(value: object) -> object:
    if isinstance(value, bool):
        raise PydanticCustomError("no_number", "Input should be a number")
    return value


Number = Annotated[float, BeforeValidator(_no_bool)]
Whole = Annotated[int, BeforeValidator(_no_bool)]
PositiveWhole = Annotated[Whole, Field(ge=1, description="a whole number >= 1")]
Flag = Annotated[bool, Field(strict=True, description="true or false")]
Text = Annotated[str, Field(min_length=1, description="a text that is not empty")]


class Section(BaseModel):
    """Base class of a part of the config: typed fields, immutable, without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)
