"""Rows of published data sets: from local copies, or from the Hub.

Files are read as they are published (JSONL, JSON, CSV, Parquet, plain text,
each possibly gzipped); what the fields mean is each benchmark's own business.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.evaluation.benchmarks.base import NotMeasured

_KINDS = (".jsonl", ".json", ".csv", ".parquet", ".txt")

DatasetRecord = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Source:
    """A data set: ``root/folder/stem.*`` locally; ``hub`` and a pattern of its files there."""

    folder: str
    stem: str
    hub: str
    pattern: str


def read(source: Source, root: Path | None) -> list[DatasetRecord]:
    """All records; from ``root`` where it is given, else from the Hub.

    Raises:
        NotMeasured: there is no such file, it cannot be read, or the Hub refused.
    """
    files = _local(source, root) if root is not None else _hub(source)
    try:
        return [record for file in files for record in _read(file)]
    except (OSError, ValueError, EOFError) as error:
        raise NotMeasured(f"{files[0]} cannot be read ({error})") from error


def _local(source: Source, root: Path) -> list[Path]:
    folder = root / source.folder
    for kind in _KINDS:
        for ending in ("", ".gz"):
            path = folder / f"{source.stem}{kind}{ending}"
            if path.is_file():
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


def _read(path: Path) -> list[DatasetRecord]:
    kind = Path(path.name.removesuffix(".gz")).suffix
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    if kind == ".parquet":
        from pyarrow import BufferReader, parquet

        records: list[DatasetRecord] = parquet.read_table(BufferReader(content)).to_pylist()
        return records
    text = content.decode("utf-8")
    if kind == ".jsonl":
        # Not splitlines(): a JSON string may hold U+2028.
        return [json.loads(line) for line in text.split("\n") if line.strip()]
    if kind == ".json":
        records = json.loads(text)
        return records
    if kind == ".csv":
        return list(csv.DictReader(io.StringIO(text, newline="")))
    return [{"text": text}]
