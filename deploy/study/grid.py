"""Expands the axes of a study to its cells."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from common.config import layers, run_config
from common.config.layers import Inline
from common.errors import UserError, shown
from deploy.study.cells import LR, SEED, Cell
from deploy.study.settings import Axes, Level, StudySettings

MAX_CELLS = 4096
_MOST_NAME = 64


@dataclass(frozen=True, slots=True)
class _Choice:
    """One level of one axis. ``name`` is its part of a cell's name."""

    axis: str
    label: str
    name: str
    layer: Path | Inline


def expand(study: StudySettings, path: Path) -> list[Cell]:
    """All cells, those of the first axis' first level first.

    Args:
        study: as it is written.
        path: its file, to which others are relative.

    Raises:
        UserError: an axis or level is malformed, a cell's configuration is invalid, two cells are
            the same, or there are too many.
    """
    base = [path.parent / name for name in study.base]
    combinations = list(islice(_combinations(study.axes, path, ()), MAX_CELLS + 1))
    if len(combinations) > MAX_CELLS:
        raise UserError(f"{path}: axes: more than {MAX_CELLS} cells; split the study")
    shared: list[Path | Inline] = [*base, Inline(study.settings, path)]
    files: dict[Path, Any] = {}
    cells = []
    for choices in combinations:
        parts = [*shared, *(choice.layer for choice in choices)]
        cells.append(_cell(parts, choices, path, files))
    _check_distinct(cells, path)
    if study.lr_seeds is not None:
        _check_lr_seeds(cells, study.lr_seeds, path)
    return cells


def _combinations(axes: Axes, path: Path, within: tuple[str, ...]) -> Iterator[tuple[_Choice, ...]]:
    """One choice for each axis, and for each axis that a chosen level has of its own."""
    if not axes:
        yield ()
        return
    (axis, levels), *rest = axes.items()
    if axis in within:
        raise UserError(f"{path}: axes: {axis} is in two axes, one within the other; remove one")
    for label, level in _labelled(axis, levels, path):
        choice, inner = _choice(axis, label, level, path)
        for nested in _combinations(inner, path, (*within, axis)):
            for others in _combinations(dict(rest), path, (*within, axis)):
                yield (choice, *nested, *others)


def _labelled(
    axis: str, levels: Sequence[Level] | Mapping[str, Level], path: Path
) -> Iterator[tuple[str | None, Level]]:
    if not levels:
        raise UserError(f"{path}: axes.{axis}: no levels; give at least one, or remove the axis")
    if isinstance(levels, Mapping):
        yield from levels.items()
        return
    for level in levels:
        if isinstance(level, dict):
            raise UserError(
                f"{path}: axes.{axis}: settings in a list have no label; write {axis}: "
                "{LABEL: {…}, …}"
            )
        yield None, level


def _choice(axis: str, label: str | None, level: Level, path: Path) -> tuple[_Choice, Axes]:
    """The choice of a level, and the axes that only its cells vary."""
    if isinstance(level, dict):
        assert label is not None
        settings = dict(level)
        inner = settings.pop("axes", {})
        if not isinstance(inner, dict):
            raise UserError(f"{path}: axes.{axis}.{label}.axes: expected a mapping of axes")
        return _Choice(axis, label, label, Inline(settings, path)), inner
    if isinstance(level, str) and level.endswith((".yaml", ".yml")):
        label = label or Path(level).stem
        return _Choice(axis, label, label, path.parent / level), {}
    if not re.fullmatch(r"[A-Za-z_]+(\.[A-Za-z_]+)*", axis):
        raise UserError(
            f"{path}: axes.{shown(axis)}: {level} is a value, so the axis must be the name of a "
            "setting, like learner.lr"
        )
    value = label or _text(level)
    name = label or f"{axis.rpartition('.')[2]}{value}"
    return _Choice(axis, value, name, Inline(_nested(axis, level), path)), {}


def _text(level: bool | int | float | str) -> str:
    """A value as a label; YAML reads 1e-5 as a text."""
    try:
        return str(level) if isinstance(level, bool | int) else f"{float(level):g}"
    except ValueError:
        return str(level)


def _nested(key: str, value: Any) -> dict[str, Any]:
    """``{"a": {"b": value}}`` for ``a.b``."""
    for part in reversed(key.split(".")):
        value = {part: value}
    assert isinstance(value, dict)
    return value


def _cell(
    parts: Sequence[Path | Inline], choices: Sequence[_Choice], path: Path, files: dict[Path, Any]
) -> Cell:
    """The cell of some choices; ``files`` has the content of what was read before."""
    name = _name([choice.name for choice in choices])
    factors = {choice.axis: choice.label for choice in choices}
    try:
        raw, origins = layers.merge(parts, files)
        config = run_config.parse({**raw, "name": name}, str(path), origins)
    except UserError as error:
        raise UserError(f"cell {name}: {error}") from error
    return Cell(name, factors, config)


def _name(parts: Sequence[str]) -> str:
    """A run's name; a long one is cut and ends in a hash of the whole."""
    whole = "-".join(parts)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", whole).lstrip("._-")
    if len(name) <= _MOST_NAME:
        return name
    digest = hashlib.sha256(whole.encode()).hexdigest()[:8]
    return f"{name[: _MOST_NAME - len(digest) - 1]}-{digest}"


def _check_distinct(cells: Sequence[Cell], path: Path) -> None:
    names: dict[str, Cell] = {}
    contents: dict[str, Cell] = {}
    for cell in cells:
        if cell.name in names:
            raise UserError(
                f"{path}: two cells have the name {cell.name}; give their levels other labels"
            )
        content = cell.config.model_dump_json(exclude={"name"})
        if (other := contents.get(content)) is not None:
            raise UserError(
                f"{path}: cells {other.name} and {cell.name} have the same configuration; remove a "
                "level, or move its axis into the level that it concerns"
            )
        names[cell.name] = contents[content] = cell


def _check_lr_seeds(cells: Sequence[Cell], seeds: Sequence[int], path: Path) -> None:
    """Every arm must have these seeds, and a learning rate to choose."""
    if not any(LR in cell.factors for cell in cells):
        raise UserError(f"{path}: lr_seeds: there is no axis {LR}; add one, or remove lr_seeds")
    known = {cell.factors.get(SEED) for cell in cells}
    if missing := [seed for seed in seeds if str(seed) not in known]:
        raise UserError(f"{path}: lr_seeds: {missing[0]} is not a level of the axis {SEED}")
