"""Records of a JSONL, JSON, CSV or Parquet file, which may be gzipped.

A record is a dictionary and its place in the file. The caller interprets the keys, by hand or
with :func:`parse`.
"""

from __future__ import annotations

import csv
import io
import reprlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from common import files
from common.errors import UserError, first_line, invalid_value, shown

ShapeT = TypeVar("ShapeT", bound=BaseModel)

# Rows of Parquet that are Python objects at once.
_BATCH_ROWS = 1024


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


def parse(record: Record, *shapes: type[ShapeT]) -> ShapeT:
    """The record as an object: of the first shape whose fields it has, else of the first.

    Raises:
        UserError: names the place, the field, what is expected and what is there.
    """
    if record.fields is None:
        raise UserError(f"{record.place}: {record.problem}")
    has = record.fields.keys()
    fitting = (shape for shape in shapes if shape.model_fields.keys() <= has)
    try:
        return next(fitting, shapes[0]).model_validate(record.fields)
    except ValidationError as error:
        raise UserError(f"{record.place}: {invalid_value(error.errors()[0])}") from error


def suffix(path: Path) -> str:
    """``.csv`` for ``a.csv`` and ``a.csv.gz``."""
    return (path.with_suffix("") if path.suffix == ".gz" else path).suffix


def is_readable(path: Path) -> bool:
    """Whether :func:`read` supports the file's suffix."""
    return suffix(path) in _READERS


def _jsonl(path: Path) -> Iterator[Record]:
    # Not splitlines(): a JSON string may hold U+2028.
    for number, line in enumerate(files.read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        place, label = f"{path}:{number}", f"line-{number}"
        try:
            value = files.parse_json(line)
        except ValueError as error:
            problem = str(error).replace(" at line 1 column", " at column")
            yield Record(place, label, None, f"not JSON: {shown(problem)}")
        else:
            yield _record(place, label, value)


def _json(path: Path) -> Iterator[Record]:
    values = files.read_json(path)
    if not isinstance(values, list):
        raise UserError(f"{path}: expected a list of objects, not {type(values).__name__}")
    for number, value in enumerate(values, start=1):
        yield _record(f"{path}: record {number}", f"row-{number}", value)


def _csv(path: Path) -> Iterator[Record]:
    # Strict: a quote that is never closed would swallow the rows after it.
    text = io.StringIO(files.read_text(path), newline="")
    reader = csv.DictReader(text, strict=True)
    try:
        _check_columns(reader.fieldnames or (), path)
        for number, cells in enumerate(reader, start=1):
            place = f"{path}:{reader.line_num}"
            if None in cells:
                problem = f"more cells than the header's {len(reader.fieldnames or [])}"
                yield Record(place, f"row-{number}", None, problem)
            else:
                fields = {key: value for key, value in cells.items() if value}
                yield Record(place, f"row-{number}", fields, is_tabular=True)
    except csv.Error as error:
        # The row that is malformed begins after the last good one.
        raise UserError(f"{path}:{reader.line_num + 1}: not CSV: {error}") from error


def _parquet(path: Path) -> Iterator[Record]:
    for number, value in enumerate(_rows(path), start=1):
        fields = {key: cell for key, cell in value.items() if cell is not None}
        yield Record(f"{path}: row {number}", f"row-{number}", fields, is_tabular=True)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise UserError(
            f"{path}: Parquet requires the package pyarrow; install it ('pip install pyarrow') "
            "or convert the file to JSONL or CSV"
        ) from error
    content, size = files.read_bytes(path), 0
    try:
        file = parquet.ParquetFile(pyarrow.BufferReader(content))
        _check_columns(file.schema_arrow.names, path)
        # Not iter_batches(): on some damaged files pyarrow 26 ends the process there.
        for group in range(file.num_row_groups):
            size += file.metadata.row_group(group).total_byte_size
            if size > files.MAX_BYTES:
                raise UserError(f"{path}: over {files.MAX_BYTES} bytes of content; split the file")
            for batch in file.read_row_group(group, use_threads=False).to_batches(_BATCH_ROWS):
                yield from batch.to_pylist()
    except UserError:
        raise
    except Exception as error:
        # A damaged file makes pyarrow raise its own errors and nearly every builtin one.
        raise UserError(f"{path}: not Parquet: {shown(first_line(error))}") from error


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


def _check_columns(names: Sequence[str], path: Path) -> None:
    """Of columns with one name all but the last would be lost."""
    repeated = [name for name, count in Counter(names).items() if name and count > 1]
    if repeated:
        raise UserError(
            f"{path}: the column {reprlib.repr(repeated[0])} occurs twice; rename or remove one"
        )
