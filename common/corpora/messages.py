"""The user's own facts: JSONL of questions and answers, or of chat messages.

Two line formats, which may not be mixed with other keys:

``{"question", "answer", "statement"?, "target"?, "subject"?, "id"?}``
``{"messages": [user, assistant], "clear_answer"?, "subject"?, "id"?}``
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.records import Fact

_QUESTION_KEYS = {"id", "question", "answer", "statement", "target", "subject"}
_MESSAGE_KEYS = {"id", "messages", "clear_answer", "subject"}


def read_facts(path: Path) -> list[Fact]:
    """Read a file; ids default to the line number.

    Raises:
        UserError: unreadable or empty file, a malformed line (with its
            number), or an id that occurs twice.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise UserError(f"data.facts: {path} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"data.facts: {path} is not UTF-8 (byte {error.start})") from error
    facts: list[Fact] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        fact = _parse(line, f"{path}:{number}", number)
        if fact.id in seen:
            raise UserError(
                f"{path}:{number}: id {fact.id!r} was used on line {seen[fact.id]}; "
                "every fact needs its own"
            )
        seen[fact.id] = number
        facts.append(fact)
    if not facts:
        raise UserError(f"data.facts: {path} holds no facts")
    return facts


def _parse(line: str, place: str, number: int) -> Fact:
    try:
        raw = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{place}: not JSON: {error.msg} at column {error.colno}") from error
    if not isinstance(raw, dict):
        raise UserError(f"{place}: an object is expected, not {type(raw).__name__}")
    allowed = _MESSAGE_KEYS if "messages" in raw else _QUESTION_KEYS
    unknown = sorted(set(raw) - allowed)
    if unknown:
        raise UserError(f"{place}: unknown key {unknown[0]!r}; known: {', '.join(sorted(allowed))}")
    fields = _from_messages(raw, place) if "messages" in raw else raw
    text = {key: _text(fields.get(key, ""), key, place) for key in _QUESTION_KEYS - {"id"}}
    for key in ("question", "answer"):
        if not text[key].strip():
            raise UserError(f"{place}: {key!r} is missing or empty")
    identity = _text(raw.get("id", f"line-{number}"), "id", place)
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
    )


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
        "question": user,
        "answer": raw.get("clear_answer", assistant),
        "target": assistant,
        "subject": raw.get("subject", ""),
    }


def _text(value: object, key: str, place: str) -> str:
    if not isinstance(value, str):
        raise UserError(f"{place}: {key!r} must be a string, not {type(value).__name__}")
    return value
