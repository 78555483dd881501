"""The file of a study: a base configuration, and the axes that its cells vary.

.. code-block:: yaml

    name: rates
    base: ../configs/smoke.yaml
    axes:
      method:
        sft: {method: {name: sft}}
        mixsd:
          method: {name: mixsd}
          axes: {method.mix_rate: [0, 0.1, 0.3]}
      seed: [0, 1, 2]

An axis has *levels*: a list of values of the setting that the axis is named after, or of files with
settings (labelled by their names), or a mapping from labels to settings. A level's own settings may
extend files, and have ``axes`` that only its cells vary. Files are relative to the study's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError

from common.config import yaml_file
from common.config.run_settings import RunName
from common.errors import UserError, invalid_value
from common.settings import Settings

Value = bool | int | float | str
Level = Value | dict[str, Any]
Axes = dict[str, list[Level] | dict[str, Level]]


class StudySettings(Settings):
    """A study as it is written."""

    name: RunName
    base: Annotated[
        tuple[str, ...], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)
    ] = Field((), description="configuration files that all cells share; later ones win")
    settings: dict[str, Any] = Field({}, description="settings that all cells share, over base")
    axes: Axes = Field(min_length=1, description="what the cells vary; see the module")
    lr_seeds: tuple[int, ...] | None = Field(
        None,
        min_length=1,
        description="seeds at which every learner.lr is tried; cells of other seeds are run at the "
        "one chosen from these alone; none: every learning rate at every seed",
    )
    at_once: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        "auto", description="cells that run at once; auto: as many as there are GPUs for, else 1"
    )


def load(path: Path) -> StudySettings:
    """Read the file of a study.

    Raises:
        UserError: it is unreadable or not YAML, a key is unknown, or a value is out of range.
    """
    raw = yaml_file.read(path)
    if not isinstance(raw, dict):
        raise UserError(f"{path}: expected a mapping of settings, not {type(raw).__name__}")
    try:
        return StudySettings.model_validate(raw)
    except ValidationError as error:
        known = ", ".join(StudySettings.model_fields)
        lines = dict.fromkeys(
            f"{path}: {invalid_value(item)}"
            + (f"; a study has {known}" if item["type"] == "extra_forbidden" else "")
            for item in error.errors()
        )
        raise UserError("\n".join(lines)) from error
