"""Custom data: records of questions and answers, or of chat messages.

There are three kinds of record, each with a fixed set of keys:

``{"question", "answer", "statement"?, "target"?, …}``
``{"messages": [user, assistant], "clear_answer"?, "ground_truth_answer"?, …}``
``{"instruction", "input"?, "output", …}``

All may have ``id``, ``subject``, ``aliases``, ``replaces`` and ``retract``. ``aliases`` are further
spellings of the answer: a list, or in CSV one cell separated by ``|``. ``replaces`` is the id of a
fact of an earlier batch that this one edits (see ``batches``). With ``"retract": true`` the answer
is the one to be given no more.

The paper's released data has the second and third kind; ``chats`` reads them.
``mixsd-cluster rollout`` writes the second kind (see ``released``) with more keys:
``question`` is the user turn without the preset's wording, ``tokens`` holds the ids of both
turns, and ``mix_meta`` is how the target was drawn.

Records come from JSONL, CSV (not the second kind) or Parquet (see ``tables``). Other columns
of a table are ignored.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from common.corpora import chats, released, tables
from common.corpora.fields import flag, identity, text, texts
from common.errors import UserError
from common.records import EvalItem, Fact
from common.verification.verifier import normalise

_TEXT_KEYS = {"question", "answer", "statement", "target", "subject"}
_QUESTION_KEYS = {"id", "aliases", "replaces", "retract", *_TEXT_KEYS}
_ITEM_KEYS = {"id", "question", "answer", "context", "aliases"}
_ITEM_LISTS = ("context", "aliases")
_SHOWN_PROBLEMS = 10


class _Kind(NamedTuple):
    keys: Set[str]
    read: Callable[[dict[str, Any], str], Mapping[str, Any]]


# Each kind of record by the key that identifies it, in this order: a table of questions may
# have an unrelated column "instruction".
_KINDS = {
    "messages": _Kind(chats.MESSAGE_KEYS, chats.from_messages),
    "question": _Kind(_QUESTION_KEYS, lambda raw, place: raw),
    "instruction": _Kind(chats.INSTRUCTION_KEYS, chats.from_instruction),
}


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
    raw, place = _fields(record, lambda raw: _kind(raw).keys), record.place
    fields = _kind(raw).read(raw, place)
    found = {key: text(fields.get(key, ""), key, place) for key in _TEXT_KEYS}
    for key in ("question", "answer"):
        if not found[key].strip():
            raise UserError(f"{place}: {key!r} is missing or empty")
    retract = flag(raw.get("retract", False), "retract", place)
    return Fact(
        id=identity(raw.get("id", record.label), place),
        question=found["question"],
        answer=found["answer"],
        # The guidance shows the statement; without one it shows the target or the answer, and of a
        # retracted fact what the preset says instead.
        statement=found["statement"] or found["target"] or ("" if retract else found["answer"]),
        target=found["target"],
        subject=found["subject"],
        tokens=None if (ids := raw.get("tokens")) is None else released.token_ids(ids, place),
        aliases=_aliases(raw.get("aliases", []), record),
        replaces=text(raw.get("replaces", ""), "replaces", place),
        retract=retract,
    )


def _kind(raw: dict[str, Any]) -> _Kind:
    return _KINDS[next((key for key in _KINDS if key in raw), "question")]


def _item(record: tables.Record) -> EvalItem:
    raw = _fields(record, lambda _: _ITEM_KEYS)
    found, question, answer = (
        text(raw.get(key, ""), key, record.place) for key in ("id", "question", "answer")
    )
    if not (found and question.strip() and answer.strip()):
        raise UserError(f"{record.place}: 'id', 'question' and 'answer' are required")
    context, aliases = (texts(raw.get(key, []), key, record.place) for key in _ITEM_LISTS)
    return EvalItem(found, question, answer, context, aliases)


def _fields(record: tables.Record, allowed: Callable[[dict[str, Any]], Set[str]]) -> dict[str, Any]:
    if record.fields is None:
        raise UserError(f"{record.place}: {record.problem}")
    known = allowed(record.fields)
    if record.is_tabular:
        # A table's id is often a number.
        fields = {key: value for key, value in record.fields.items() if key in known}
        numbers = {
            key: str(number) for key in ("id", "replaces") if type(number := fields.get(key)) is int
        }
        return {**fields, **numbers}
    unknown = sorted(record.fields.keys() - known)
    if unknown:
        raise UserError(
            f"{record.place}: unknown key {reprlib.repr(unknown[0])}; "
            f"known: {', '.join(sorted(known))}"
        )
    return record.fields


def _aliases(value: object, record: tables.Record) -> tuple[str, ...]:
    is_cell = record.is_tabular and isinstance(value, str)
    aliases = texts(str(value).split("|") if is_cell else value, "aliases", record.place)
    if not all(map(normalise, aliases)):
        raise UserError(f"{record.place}: 'aliases' has one with nothing to verify; remove it")
    return aliases
