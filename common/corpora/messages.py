"""Custom data: records of questions and answers, or of chat messages.

There are two kinds of record, each with a fixed set of keys:

``{"question", "answer", "statement"?, "target"?, "subject"?, "id"?}``
``{"messages": [user, assistant], "clear_answer"?, "subject"?, "id"?}``

``mixsd-cluster rollout`` writes the second kind (see ``released``) with more keys:
``question`` is the user turn without the preset's wording, ``tokens`` holds the ids of both
turns, and ``mix_meta`` is informational.

Records come from JSONL, CSV (the first kind only) or Parquet (see ``tables``). Other columns
of a table are ignored.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.corpora import released, tables
from common.errors import UserError
from common.records import MAX_FACT_ID, EvalItem, Fact

_QUESTION_KEYS = {"id", "question", "answer", "statement", "target", "subject"}
_MESSAGE_KEYS = {"id", "messages", "clear_answer", "subject", "question", "mix_meta", "tokens"}
_ITEM_KEYS = {"id", "question", "answer", "context", "aliases"}
_ITEM_LISTS = ("context", "aliases")
_SHOWN_PROBLEMS = 10


@dataclass
class Scan:
    """Contents of the files: facts in order, the place of each id, and the problems found."""

    facts: list[Fact] = field(default_factory=list)
    places: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def read_facts(paths: Sequence[Path]) -> list[Fact]:
    """Read the files of one corpus; ids default to the number of the line or record.

    Raises:
        UserError: a file is unreadable or empty, records are malformed (named with their
            places), or an id occurs twice.
    """
    scanned = scan(paths)
    if scanned.problems:
        hidden = len(scanned.problems) - _SHOWN_PROBLEMS
        more = [f"… and {hidden} more; see 'mixsd-cluster data check'"] if hidden > 0 else []
        raise UserError("\n".join([*scanned.problems[:_SHOWN_PROBLEMS], *more]))
    return scanned.facts


def scan(paths: Sequence[Path]) -> Scan:
    """Read files of facts and collect the problems of malformed records.

    Raises:
        UserError: a whole file cannot be read.
    """
    found = Scan()
    for path in paths:
        for record in tables.read(path):
            try:
                fact = _fact(record)
                if fact.id in found.places:
                    raise UserError(
                        f"{record.place}: id {reprlib.repr(fact.id)} was used at "
                        f"{found.places[fact.id]}; give every fact its own id"
                    )
            except UserError as error:
                found.problems.append(str(error))
                continue
            found.places[fact.id] = record.place
            found.facts.append(fact)
    if not found.facts and not found.problems:
        found.problems.append(f"data.facts: {paths[0]} contains no facts")
    return found


def read_items(path: Path) -> tuple[EvalItem, ...]:
    """Read a split of questions that ``mixsd-cluster data build`` wrote.

    Raises:
        UserError: the file is unreadable or a record is malformed (the first is named).
    """
    return tuple(map(_item, tables.read(path)))


def _fact(record: tables.Record) -> Fact:
    raw = _fields(record, lambda raw: _MESSAGE_KEYS if "messages" in raw else _QUESTION_KEYS)
    place = record.place
    fields = _from_messages(raw, place) if "messages" in raw else raw
    text = {key: _text(fields.get(key, ""), key, place) for key in _QUESTION_KEYS - {"id"}}
    for key in ("question", "answer"):
        if not text[key].strip():
            raise UserError(f"{place}: {key!r} is missing or empty")
    return Fact(
        id=_identity(raw.get("id", record.label), place),
        question=text["question"],
        answer=text["answer"],
        # The guidance shows the statement; without one it shows the target or the answer.
        statement=text["statement"] or text["target"] or text["answer"],
        target=text["target"],
        subject=text["subject"],
        tokens=None if (ids := raw.get("tokens")) is None else released.token_ids(ids, place),
    )


def _item(record: tables.Record) -> EvalItem:
    raw = _fields(record, lambda _: _ITEM_KEYS)
    identity, question, answer = (
        _text(raw.get(key, ""), key, record.place) for key in ("id", "question", "answer")
    )
    if not (identity and question.strip() and answer.strip()):
        raise UserError(f"{record.place}: 'id', 'question' and 'answer' are required")
    context, aliases = (_texts(raw.get(key, []), key, record.place) for key in _ITEM_LISTS)
    return EvalItem(identity, question, answer, context, aliases)


def _fields(record: tables.Record, allowed: Callable[[dict[str, Any]], set[str]]) -> dict[str, Any]:
    if record.fields is None:
        raise UserError(f"{record.place}: {record.problem}")
    known = allowed(record.fields)
    if record.is_tabular:
        # A table's id is often a number.
        fields = {key: value for key, value in record.fields.items() if key in known}
        identity = fields.get("id")
        return {**fields, "id": str(identity)} if type(identity) is int else fields
    unknown = sorted(set(record.fields) - known)
    if unknown:
        raise UserError(
            f"{record.place}: unknown key {reprlib.repr(unknown[0])}; "
            f"known: {', '.join(sorted(known))}"
        )
    return record.fields


def _from_messages(raw: dict[str, Any], place: str) -> dict[str, Any]:
    messages = raw["messages"]
    roles = [
        message.get("role") if isinstance(message, dict) else None
        for message in (messages if isinstance(messages, list) else [])
    ]
    if roles != ["user", "assistant"]:
        raise UserError(f"{place}: 'messages' must be one user and one assistant turn")
    user, assistant = (_text(message.get("content", ""), "content", place) for message in messages)
    return {
        "question": raw.get("question", user),
        "answer": raw.get("clear_answer", assistant),
        "target": assistant,
        "subject": raw.get("subject", ""),
    }


def _identity(value: object, place: str) -> str:
    """An id as the queue's wire format has it; it is also printed and stored."""
    identity = _text(value, "id", place)
    if not identity:
        raise UserError(f"{place}: 'id' is empty; set it or remove the key")
    if len(identity) > MAX_FACT_ID:
        raise UserError(
            f"{place}: 'id' has {len(identity)} characters, more than {MAX_FACT_ID}; shorten it"
        )
    if "\0" in identity:
        raise UserError(f"{place}: 'id' contains a NUL character; remove it")
    return identity


def _texts(value: object, key: str, place: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise UserError(f"{place}: {key!r} must be a list of strings, not {type(value).__name__}")
    return tuple(_text(text, key, place) for text in value)


def _text(value: object, key: str, place: str) -> str:
    if not isinstance(value, str):
        raise UserError(f"{place}: {key!r} must be a string, not {type(value).__name__}")
    return value
