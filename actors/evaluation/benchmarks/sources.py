"""Rows of published data sets: from local copies, or from the Hub.

Files are read as they are published (JSONL, JSON, CSV, Parquet, plain text,
each possibly gzipped); the fields of a row and their types are each benchmark's own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import ConfigDict

from actors.evaluation.benchmarks.base import NotMeasured
from common import files
from common.corpora import tables
from common.errors import UserError
from common.settings import Settings

_KINDS = (".jsonl", ".json", ".csv", ".parquet", ".txt")

RowT = TypeVar("RowT", bound="Row")


class Row(Settings):
    """Base of the rows: what a benchmark uses of a published record; it may have more."""

    model_config = ConfigDict(extra="ignore")


@dataclass(frozen=True, slots=True)
class Source:
    """A data set: ``root/folder/stem.*`` locally; ``hub`` and a pattern of its files there."""

    folder: str
    stem: str
    hub: str
    pattern: str


def read(source: Source, root: Path | None, *shapes: type[RowT]) -> list[RowT]:
    """All rows; from ``root`` where it is given, else from the Hub.

    Args:
        source: the data set.
        root: folder of local copies.
        shapes: forms in which it is published; a row is of the first whose fields it has.

    Raises:
        NotMeasured: there is no such file, it cannot be read or has no rows, a row is of no shape
            (names file, row and field), or the Hub refused.
    """
    paths = _local(source, root) if root is not None else _hub(source)
    try:
        rows = [tables.parse(record, *shapes) for path in paths for record in _records(path)]
    except UserError as error:
        raise NotMeasured(str(error)) from error
    if not rows:
        raise NotMeasured(f"{paths[0]}: no rows")
    return rows


def _local(source: Source, root: Path) -> list[Path]:
    folder = root / source.folder
    for kind in _KINDS:
        for ending in ("", ".gz"):
            path = folder / f"{source.stem}{kind}{ending}"
            # Not pathlib, which raises for a name that is too long.
            if os.path.isfile(path):
                return [path]
    raise NotMeasured(
        f"evaluator.data_root: no {source.stem}.jsonl (or {', '.join(_KINDS[1:])}, .gz) in {folder}"
    )


def _hub(source: Source) -> list[Path]:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        folder = Path(
            snapshot_download(source.hub, repo_type="dataset", allow_patterns=[source.pattern])
        )
    except (OSError, HFValidationError) as error:
        reason = str(error).strip().split("\n")[0]
        raise NotMeasured(
            f"the Hub did not give {source.hub} ({reason}); set evaluator.data_root to a folder "
            f"with {source.folder}/{source.stem}.jsonl"
        ) from error
    files = sorted(path for path in folder.glob(f"**/{source.pattern}") if path.is_file())
    if not files:
        raise NotMeasured(f"{source.hub} on the Hub has no file {source.pattern}")
    return files


def _records(path: Path) -> Iterator[tables.Record]:
    if tables.suffix(path) == ".txt":
        return iter((tables.Record(str(path), "text", {"text": files.read_text(path)}),))
    return tables.read(path)
