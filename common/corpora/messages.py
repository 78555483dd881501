"""The user's own facts: rows of questions and answers, or of chat messages.

Two kinds of row, which may not be mixed with other keys:

``{"question", "answer", "statement"?, "target"?, "subject"?, "id"?}``
``{"messages": [user, assistant], "clear_answer"?, "subject"?, "id"?}``

The second is what ``mixsd-cluster rollout`` writes too (see ``released``), with further
keys: ``question`` is the user turn without a preset's wording, ``tokens`` the ids of both
turns, ``mix_meta`` is for people.

Rows come from JSONL, CSV (the first kind only) or Parquet (see ``rows``); in a
table further columns are left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.corpora import released, tables
from common.errors import UserError
from common.records import EvalItem, Fact

_QUESTION_KEYS = {"id", "question", "answer", "statement", "target", "subject"}
_MESSAGE_KEYS = {"id", "messages", "clear_answer", "subject", "question", "mix_meta", "tokens"}
_ITEM_KEYS = {"id", "question", "answer", "context", "aliases"}
_SHOWN_PROBLEMS = 10


@dataclass
class Scan:
    """What a file holds: facts in order, the place of each id, and what is wrong."""

    facts: list[Fact] = field(default_factory=list)
    places: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def read_facts(paths: Sequence[Path]) -> list[Fact]:
    """Read the files of one corpus; ids default to the number of the line or row.

    Raises:
        UserError: unreadable or empty files, malformed rows (with their
            places), or an id that occurs twice.
    """
    scanned = scan(paths)
    if scanned.problems:
        hidden = len(scanned.problems) - _SHOWN_PROBLEMS
        more = [f"… and {hidden} more; see 'mixsd-cluster data check'"] if hidden > 0 else []
        raise UserError("\n".join([*scanned.problems[:_SHOWN_PROBLEMS], *more]))
    return scanned.facts


def scan(paths: Sequence[Path]) -> Scan:
    """Read files of facts and go on after a bad row; they are what ``up`` refuses.

    Raises:
        UserError: a file as a whole cannot be read.
    """
    found = Scan()
    for path in paths:
        for row in tables.read(path):
            try:
                fact = _fact(row)
                if fact.id in found.places:
                    raise UserError(
                        f"{row.place}: id {fact.id!r} was used at {found.places[fact.id]}; "
                        "every fact needs its own"
                    )
            except UserError as error:
                found.problems.append(str(error))
                continue
            found.places[fact.id] = row.place
            found.facts.append(fact)
    if not found.facts and not found.problems:
        found.problems.append(f"data.facts: {paths[0]} holds no facts")
    return found


def read_items(path: Path) -> tuple[EvalItem, ...]:
    """Read a split of questions that ``mixsd-cluster data build`` wrote.

    Raises:
        UserError: unreadable file, or the first malformed row.
    """
    return tuple(map(_item, tables.read(path)))


def _fact(row: tables.Record) -> Fact:
    raw = _fields(row, lambda raw: _MESSAGE_KEYS if "messages" in raw else _QUESTION_KEYS)
    place = row.place
    fields = _from_messages(raw, place) if "messages" in raw else raw
    text = {key: _text(fields.get(key, ""), key, place) for key in _QUESTION_KEYS - {"id"}}
    for key in ("question", "answer"):
        if not text[key].strip():
            raise UserError(f"{place}: {key!r} is missing or empty")
    identity = _text(raw.get("id", row.label), "id", place)
    if not identity:
        raise UserError(f"{place}: 'id' is empty; leave it out or name the fact")
    return Fact(
        id=identity,
        question=text["question"],
        answer=text["answer"],
        # A sentence is what guidance shows; without one the answer must do.
        statement=text["statement"] or text["target"] or text["answer"],
        target=text["target"],
        subject=text["subject"],
        tokens=released.token_ids(raw["tokens"], place) if raw.get("tokens") else None,
    )


def _item(row: tables.Record) -> EvalItem:
    raw = _fields(row, lambda _: _ITEM_KEYS)
    identity, question, answer = (
        _text(raw.get(key, ""), key, row.place) for key in ("id", "question", "answer")
    )
    if not (identity and question and answer):
        raise UserError(f"{row.place}: 'id', 'question' and 'answer' are needed")
    context, aliases = (
        tuple(_text(text, key, row.place) for text in raw.get(key, ()))
        for key in ("context", "aliases")
    )
    return EvalItem(identity, question, answer, context, aliases)


def _fields(row: tables.Record, allowed: Callable[[dict[str, Any]], set[str]]) -> dict[str, Any]:
    if row.fields is None:
        raise UserError(f"{row.place}: {row.problem}")
    known = allowed(row.fields)
    if not row.is_record:
        # A table's id is often a number.
        fields = {key: value for key, value in row.fields.items() if key in known}
        return {**fields, "id": str(fields["id"])} if "id" in fields else fields
    unknown = sorted(set(row.fields) - known)
    if unknown:
        raise UserError(
            f"{row.place}: unknown key {unknown[0]!r}; known: {', '.join(sorted(known))}"
        )
    return row.fields


def _from_messages(raw: dict[str, Any], place: str) -> dict[str, Any]:
    messages = raw["messages"]
    roles = [
        message.get("role") if isinstance(message, dict) else None
        for message in (messages if isinstance(messages, list) else [])
    ]
    if roles != ["user", "assistant"]:
        raise UserError(f"{place}: 'messages' must be one user and one assistant turn")
    user, assistant = (message.get("content", "") for message in messages)
    return {
        "question": raw.get("question", user),
        "answer": raw.get("clear_answer", assistant),
        "target": assistant,
        "subject": raw.get("subject", ""),
    }


def _text(value: object, key: str, place: str) -> str:
    if not isinstance(value, str):
        raise UserError(f"{place}: {key!r} must be a string, not {type(value).__name__}")
    return value
