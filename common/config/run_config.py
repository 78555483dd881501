"""The configuration of one run: its settings, their ranges, and what follows from them.

The file is YAML, and may extend others (``layers``). An unknown key is an error that suggests the
nearest known one. This module imports nothing heavy, so a bad file fails at once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError, model_validator

from common.config import consistency, layers, yaml_file
from common.config.run_settings import RunSettings
from common.config.sections import (
    ReplaySettings,
)
from common.config.validation import explain, explain_keys
from common.corpora.settings import DataSettings
from common.errors import UserError, shown

# Of a file; each is a line.
MOST_ERRORS = 20


class RunConfig(RunSettings):
    """Everything that defines a run."""

    @model_validator(mode="after")
    def _sections_fit(self) -> RunConfig:
        consistency.check(self)
        return self


def load(path: Path, overrides: Sequence[str] = (), overlays: Sequence[Path] = ()) -> RunConfig:
    """Read a YAML file, then ``overlays``, which win, and apply ``a.b=c`` overrides.

    Any of the files may extend others, and overlays add to the run's name (see ``layers``). Other
    relative paths are relative to the working directory, as on a command line.

    Raises:
        UserError: a file is unreadable or not YAML, a key is unknown, or a value is out of range;
            the message names the file of the key.
    """
    raw, origins = layers.read(path, overlays)
    for override in overrides:
        apply(raw, override)
        layers.note(origins, tuple(override.partition("=")[0].split(".")), path)
    return parse(raw, str(path), origins)


def parse(raw: dict[str, Any], source: str, origins: layers.Origins | None = None) -> RunConfig:
    """Validate a mapping; ``source`` names it in errors, or the file in ``origins`` of a key."""
    try:
        return RunConfig.model_validate(raw)
    except ValidationError as error:
        lines = [
            f"{layers.origin(origins or {}, key) or source}: {line}"
            for key, line in explain_keys(error, RunConfig)
        ]
        if (more := len(lines) - MOST_ERRORS) > 0:
            lines[MOST_ERRORS:] = [f"{source}: {more} more errors"]
        raise UserError("\n".join(lines)) from error


def live_change(config: RunConfig, replay: ReplaySettings) -> RunConfig:
    """``config`` with another replay section, if a live run can change to it.

    Raises:
        UserError: the change concerns a setting that is fixed when the run starts.
    """
    if replay.first_epoch != config.replay.first_epoch:
        raise UserError("replay.first_epoch: the order cannot change after the run has started")
    if (replay.max_lag is None) != (config.replay.max_lag is None):
        raise UserError(
            "replay.max_lag: only its value can change during a run; it cannot be added or removed "
            "because actors stay longer where it is set"
        )
    return config.model_copy(update={"replay": replay})


def parse_data(raw: dict[str, Any]) -> DataSettings:
    """Validate the data section alone, outside of a run.

    Raises:
        UserError: a value is out of range, or there is not exactly one source.
    """
    try:
        return DataSettings.model_validate(raw)
    except ValidationError as error:
        raise UserError("\n".join(explain(error, RunConfig, within=("data",)))) from error


def dump(config: RunConfig) -> str:
    """The resolved configuration as YAML; :func:`load` reads it back."""
    text: str = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    return text


def is_writable(folder: Path) -> bool:
    """Whether a file can be created in ``folder`` or, if missing, in its nearest parent."""
    while not folder.exists():
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def apply(raw: dict[str, Any], override: str) -> None:
    """Set one ``a.b=c`` in a raw mapping, in place."""
    source = f"--set {shown(override)}"
    path, equals, text = override.partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z_]+(\.[A-Za-z_]+)*", path):
        raise UserError(f"{source}: expected KEY=VALUE, like learner.lr=1e-5")
    value = yaml_file.parse(text, source)
    *parents, leaf = path.split(".")
    node = raw
    for parent in parents:
        child = node.setdefault(parent, {})
        if not isinstance(child, dict):
            raise UserError(f"{source}: {parent} is a value, not a section")
        node = child
    node[leaf] = value
