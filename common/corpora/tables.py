"""Records of a JSONL, JSON, CSV or Parquet file, which may be gzipped.

A record is a dictionary and its place in the file. The caller interprets the keys.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import UserError


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a file. If it is malformed, ``fields`` is None and ``problem`` is the cause.

    ``label`` is unique within the file. ``is_tabular`` is True for CSV and Parquet, whose
    tables may have unrelated columns.
    """

    place: str
    label: str
    fields: dict[str, Any] | None
    problem: str = ""
    is_tabular: bool = False


def read(path: Path) -> Iterator[Record]:
    """The records of a file, in order; blank lines are skipped.

    Raises:
        UserError: the whole file cannot be read: it is missing, not UTF-8 or of an unknown
            kind, or pyarrow is missing. A malformed record is returned with its problem.
    """
    kind = suffix(path)
    if kind not in _READERS:
        known = ", ".join(_READERS)
        raise UserError(f"{path}: unknown kind of file {kind!r}; known: {known}, each also .gz")
    return _READERS[kind](path)


def suffix(path: Path) -> str:
    """``.csv`` for ``a.csv`` and ``a.csv.gz``."""
    return (path.with_suffix("") if path.suffix == ".gz" else path).suffix


def is_readable(path: Path) -> bool:
    """Whether :func:`read` supports the file's suffix."""
    return suffix(path) in _READERS


def _jsonl(path: Path) -> Iterator[Record]:
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            yield _record(place, f"line-{number}", json.loads(line))
        except json.JSONDecodeError as error:
            problem = f"not JSON: {error.msg} at column {error.colno}"
            yield Record(place, f"line-{number}", None, problem)


def _json(path: Path) -> Iterator[Record]:
    try:
        values = json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: not JSON: {error.msg}") from error
    if not isinstance(values, list):
        raise UserError(f"{path}: expected a list of objects, not {type(values).__name__}")
    for number, value in enumerate(values, start=1):
        yield _record(f"{path}: record {number}", f"row-{number}", value)


def _csv(path: Path) -> Iterator[Record]:
    reader = csv.DictReader(io.StringIO(_text(path).removeprefix("\ufeff"), newline=""))
    try:
        for number, cells in enumerate(reader, start=1):
            place = f"{path}:{reader.line_num}"
            if None in cells:
                problem = f"more cells than the header's {len(reader.fieldnames or [])}"
                yield Record(place, f"row-{number}", None, problem)
            else:
                fields = {key: value for key, value in cells.items() if value}
                yield Record(place, f"row-{number}", fields, is_tabular=True)
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: not CSV: {error}") from error


def _parquet(path: Path) -> Iterator[Record]:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise UserError(
            f"{path}: Parquet requires the package pyarrow; install it ('pip install pyarrow') "
            "or convert the file to JSONL or CSV"
        ) from error
    try:
        values = parquet.read_table(io.BytesIO(_bytes(path))).to_pylist()
    except ValueError as error:
        raise UserError(f"{path}: not Parquet: {error}") from error
    for number, value in enumerate(values, start=1):
        fields = {key: cell for key, cell in value.items() if cell is not None}
        yield Record(f"{path}: row {number}", f"row-{number}", fields, is_tabular=True)


_READERS: dict[str, Callable[[Path], Iterator[Record]]] = {
    ".jsonl": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
}


def _record(place: str, label: str, value: object) -> Record:
    if isinstance(value, dict):
        return Record(place, label, value)
    return Record(place, label, None, f"expected an object, not {type(value).__name__}")


def _bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if path.suffix == ".gz" else data
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path} cannot be read ({reason})") from error


def _text(path: Path) -> str:
    try:
        return _bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 (byte {error.start})") from error
