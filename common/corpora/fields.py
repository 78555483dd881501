"""Values of a record's keys: their types, and what an id may be."""

from __future__ import annotations

import reprlib

from common.errors import UserError
from common.records import MAX_FACT_ID


def text(value: object, key: str, place: str) -> str:
    """The value, which must be a string.

    Raises:
        UserError: it is not.
    """
    if not isinstance(value, str):
        raise UserError(f"{place}: {key!r} must be a string, not {type(value).__name__}")
    return value


def texts(value: object, key: str, place: str) -> tuple[str, ...]:
    """The value, which must be a list of strings.

    Raises:
        UserError: it is not.
    """
    if not isinstance(value, list):
        raise UserError(f"{place}: {key!r} must be a list of strings, not {type(value).__name__}")
    return tuple(text(one, key, place) for one in value)


def flag(value: object, key: str, place: str) -> bool:
    """The value, which must be true or false; in a cell of text also as a word, or empty.

    Raises:
        UserError: it is not.
    """
    words = {"true": True, "false": False, "": False}
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    if not isinstance(value, bool):
        raise UserError(f"{place}: {key!r} must be true or false, not {reprlib.repr(value)}")
    return value


def identity(value: object, place: str) -> str:
    """An id as the queue's wire format has it; it is also printed and stored.

    Raises:
        UserError: it is no string, empty or too long, or contains a NUL character.
    """
    found = text(value, "id", place)
    if not found:
        raise UserError(f"{place}: 'id' is empty; set it or remove the key")
    if len(found) > MAX_FACT_ID:
        raise UserError(
            f"{place}: 'id' has {len(found)} characters, more than {MAX_FACT_ID}; shorten it"
        )
    if "\0" in found:
        raise UserError(f"{place}: 'id' contains a NUL character; remove it")
    return found
