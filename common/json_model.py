"""Typed objects of the project's JSON files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict


class JsonModel(BaseModel):
    """An object of a JSON file, as an older or a newer version may have written it.

    Unknown keys are kept, and keys that were absent stay absent:
    ``from_json(value).to_json()`` equals ``value``.
    """

    model_config = ConfigDict(frozen=True, extra="allow", defer_build=True)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read the object.

        Raises:
            pydantic.ValidationError: a key is missing or of the wrong type.
        """
        return cls.model_validate(value)

    def to_json(self) -> dict[str, Any]:
        """Give the object with its keys in the order of the fields."""
        return self.model_dump(exclude_unset=True)
