"""The base of every section of a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

# Roles run elsewhere, with another working directory.
AbsolutePath = Annotated[Path, AfterValidator(Path.absolute)]
# A wait of the operating system cannot be longer than about 9e9 s.
Seconds = Annotated[float, Field(le=1e9)]


def _filled(text: str) -> str:
    if not text.strip():
        raise ValueError("a text is expected, but it is empty")
    return text


# A text as it is, which says something; and one without white space around it.
Filled = Annotated[str, AfterValidator(_filled)]
Text = Annotated[Filled, AfterValidator(str.strip)]

MAX_INTEGER = 2**63 - 1


class Settings(BaseModel):
    """Base of every section: immutable, without unknown keys, numbers that are finite."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _no_number_is_true_or_false(cls, values: Any) -> Any:
        """Python takes ``true`` for 1, and YAML ``yes`` for ``true``; words are no numbers."""
        if not isinstance(values, dict):
            return values
        return {
            name: str(value).lower() if isinstance(value, bool) and cls._is_number(name) else value
            for name, value in values.items()
        }

    @field_validator("*", mode="after")
    @classmethod
    def _integers_are_of_64_bits(cls, value: Any) -> Any:
        if type(value) is int and abs(value) > MAX_INTEGER:
            raise ValueError(f"an integer of at most {MAX_INTEGER} is expected, not {value}")
        return value

    @classmethod
    def _is_number(cls, name: str) -> bool:
        kind = cls.model_fields[name].annotation if name in cls.model_fields else None
        kinds = {kind, *get_args(kind)}
        return bool(kinds & {int, float}) and bool not in kinds
