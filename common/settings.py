"""The base of every section of a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

# Roles run elsewhere, with another working directory.
AbsolutePath = Annotated[Path, AfterValidator(Path.absolute)]


class Settings(BaseModel):
    """Base of every section: immutable, without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
