"""Configuration files that extend others: what is read, in which order, and who wins.

A file may begin with ``extends``: a file or a list of files, relative to the file itself. What
they set comes first; later files of the list win, and the file's own settings win over all.
Sections merge key by key; lists and values replace. ``data`` and ``method`` are replaced as a
whole by a file that names another source or method, whose settings the rest would not fit.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.config import yaml_file
from common.corpora.settings import SOURCES
from common.errors import UserError, shown

EXTENDS = "extends"
# A file that is named twice is read twice, so few levels can name very many.
MAX_FILES = 64

# Keys from the top to a setting, and the file that set it last.
Origins = dict[tuple[str, ...], Path]


@dataclass(frozen=True, slots=True)
class Inline:
    """Settings that are written in ``path`` where a file of their own could be named.

    They too may begin with ``extends``, relative to ``path``.
    """

    settings: Mapping[str, Any]
    path: Path


def merge(
    layers: Sequence[Path | Inline], known: dict[Path, Any] | None = None
) -> tuple[dict[str, Any], Origins]:
    """The settings of all ``layers``, and of what they extend; later ones win.

    Args:
        layers: files, or settings in files.
        known: the content of files that were read before; it grows.

    Returns, Raises:
        as :func:`read`; no layer adds to the name.
    """
    reader = _Reader(known)
    for layer in layers:
        reader.add_layer(layer)
    return reader.settings, reader.origins


def read(path: Path, overlays: Sequence[Path] = ()) -> tuple[dict[str, Any], Origins]:
    """The settings of a file, of overlays and of all that they extend; later files win.

    Unless an overlay names the run, its name is that of the file and of all overlays, so that each
    combination is a run of its own: ``kgfact.yaml`` with ``qwen3-8b.yaml`` is kgfact-qwen3-8b.

    Returns:
        The merged mapping, and where its parts are from; see :func:`origin`.

    Raises:
        UserError: a file is unreadable, not YAML or no mapping, ``extends`` is malformed, a file
            extends itself, or there are too many.
    """
    reader = _Reader()
    reader.add(path, ())
    named = reader.origins.get(("name",))
    for overlay in overlays:
        reader.add(overlay, ())
    if overlays and named is not None and reader.origins["name",] == named:
        stems = (overlay.stem for overlay in overlays)
        reader.settings["name"] = "-".join([str(reader.settings["name"]), *stems])
    return reader.settings, reader.origins


def origin(origins: Mapping[tuple[str, ...], Path], key: Sequence[object]) -> Path | None:
    """The file that set ``key``, or the section around it, last; None if no file did."""
    parts = tuple(map(str, key))
    for length in range(len(parts), 0, -1):
        if (found := origins.get(parts[:length])) is not None:
            return found
    return None


def note(origins: Origins, key: tuple[str, ...], path: Path) -> None:
    """``path`` has set ``key`` with all that is in it."""
    for inner in [one for one in origins if one[: len(key)] == key]:
        del origins[inner]
    origins[key] = path


class _Reader:
    def __init__(self, known: dict[Path, Any] | None = None) -> None:
        self._known = {} if known is None else known
        self.settings: dict[str, Any] = {}
        self.origins: Origins = {}
        self._num_files = 0

    def add_layer(self, layer: Path | Inline) -> None:
        """Merge one layer."""
        if isinstance(layer, Path):
            self.add(layer, ())
        else:
            self._add_settings(layer.settings, layer.path, ())

    def add(self, path: Path, within: tuple[Path, ...]) -> None:
        """Merge ``path``, which the files ``within`` extend, the outermost first."""
        self._check(path, within)
        if path not in self._known:
            self._known[path] = yaml_file.read(path)
        raw = self._known[path]
        if not isinstance(raw, dict):
            raise UserError(f"{path}: expected a mapping of settings, not {type(raw).__name__}")
        self._add_settings(raw, path, within)

    def _add_settings(
        self, settings: Mapping[str, Any], path: Path, within: tuple[Path, ...]
    ) -> None:
        raw = copy.deepcopy(dict(settings))
        for base in _extended(raw.pop(EXTENDS, []), path):
            self.add(path.parent / base, (*within, path))
        self._merge(self.settings, raw, path, ())

    def _check(self, path: Path, within: tuple[Path, ...]) -> None:
        self._num_files += 1
        if self._num_files > MAX_FILES:
            raise UserError(f"{within[0] if within else path}: more than {MAX_FILES} files")
        if os.path.realpath(path) in map(os.path.realpath, within):
            chain = " extends ".join(map(str, (*within, path)))
            raise UserError(f"{within[-1]}: {EXTENDS}: {path} would extend itself: {chain}")
        if within and not os.path.isfile(path):
            raise UserError(
                f"{within[-1]}: {EXTENDS}: no file {shown(str(path))}; names are relative to the "
                "file's own folder"
            )

    def _merge(
        self, settings: dict[Any, Any], raw: dict[Any, Any], path: Path, key: tuple[str, ...]
    ) -> None:
        for name, value in raw.items():
            where = (*key, str(name))
            old: Any = settings.get(name)
            both = isinstance(old, dict) and isinstance(value, dict)
            if both and not _replaces(where, old, value):
                self._merge(old, value, path, where)
            else:
                settings[name] = value
                note(self.origins, where, path)


def _extended(given: object, path: Path) -> list[str]:
    """The files that ``extends`` names."""
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise UserError(f"{path}: {EXTENDS}: expected a file or a list of files")
    return names


def _replaces(key: tuple[str, ...], old: dict[Any, Any], new: dict[Any, Any]) -> bool:
    """Whether the section ``new`` names another method or source of facts than ``old``."""
    if key == ("method",):
        return "name" in new and new["name"] != old.get("name")
    if key == ("data",):
        return bool(_sources(old) and _sources(new)) and _sources(old) != _sources(new)
    return False


def _sources(data: dict[Any, Any]) -> set[str]:
    return {name for name in SOURCES if data.get(name) is not None}
