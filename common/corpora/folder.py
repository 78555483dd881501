"""A built corpus on disk: one JSONL per split, and a card with counts and hashes.

The same splits give the same bytes on every machine.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from common import files
from common.errors import UserError, invalid_value
from common.records import EvalItem, Fact

TRAIN = "train"
CARD = "card.json"


class Split(BaseModel):
    """A split on a card."""

    count: int
    sha256: str


class Card(BaseModel):
    """What is read of a card; the names of splits are names of files."""

    corpus: str
    splits: dict[Annotated[str, Field(pattern="^[a-z0-9_]{1,64}$")], Split]


def write(
    out: Path,
    corpus: str,
    arguments: Mapping[str, object],
    splits: Mapping[str, Sequence[Fact | EvalItem]],
    remarks: Sequence[str] = (),
) -> dict[str, Any]:
    """Write a corpus, all or nothing, and return its card.

    Args:
        out: a folder that is missing or empty.
        corpus: the builder's name.
        arguments: the builder's arguments, for the card.
        splits: name -> records; ``train`` holds the facts.
        remarks: notes for the reader, for the card.

    Raises:
        UserError: the folder is not empty or cannot be written.
    """
    if out.is_dir() and any(out.iterdir()):
        raise UserError(f"--out {out}: not empty; choose another folder or remove it first")
    card: dict[str, Any] = {"corpus": corpus, "arguments": dict(arguments), "splits": {}}
    try:
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.absolute().parent))
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written ({error.strerror})") from error
    try:
        for name, records in splits.items():
            data = "".join(map(_line, records)).encode("utf-8")
            (staging / f"{name}.jsonl").write_bytes(data)
            digest = hashlib.sha256(data).hexdigest()
            card["splits"][name] = {"count": len(records), "sha256": digest}
        card["remarks"] = list(remarks)
        text = json.dumps(card, indent=1, ensure_ascii=False) + "\n"
        (staging / CARD).write_text(text, encoding="utf-8")
        staging.chmod(0o755)
        staging.rename(out)
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written ({error.strerror})") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return card


def is_built(folder: Path) -> bool:
    """Whether the folder has a card."""
    return (folder / CARD).is_file()


def read_card(folder: Path) -> Card:
    """The card of a built corpus.

    Raises:
        UserError: the card is damaged.
    """
    try:
        card = Card.model_validate(files.read_json(folder / CARD))
        if TRAIN in card.splits:
            return card
        reason = f"it has no split {TRAIN}"
    except ValidationError as error:
        reason = invalid_value(error.errors()[0])
    except UserError as error:
        reason = str(error)
    raise UserError(f"{folder / CARD}: not the card of a built corpus; build it again ({reason})")


def file_of(folder: Path, split: str) -> Path:
    """The file of a split."""
    return folder / f"{split}.jsonl"


def check_hashes(folder: Path) -> list[str]:
    """One message for each split whose file is missing or differs from its hash."""
    problems = []
    for name, entry in read_card(folder).splits.items():
        path = file_of(folder, name)
        if not path.is_file():
            problems.append(f"{path}: missing")
        elif hashlib.sha256(files.read_bytes(path)).hexdigest() != entry.sha256:
            problems.append(
                f"{path}: changed since it was built (its sha256 differs from the card's)"
            )
    return problems


def _line(record: Fact | EvalItem) -> str:
    fields = {key: value for key, value in asdict(record).items() if value}
    return json.dumps(fields, ensure_ascii=False) + "\n"
