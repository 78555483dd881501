"""Errors whose message is meant for the person who runs a command."""

from __future__ import annotations

import errno
import reprlib
from collections.abc import Mapping
from typing import Any

_SHOWN_CHARS = 200


class UserError(ValueError):
    """Only a person can mend it. The message names the input, the bound and the remedy.

    The command line prints only the message and exits with 2. A role that fails with it is
    not started again; one that fails with any other error is.
    """


class RunError(RuntimeError):
    """A run failed. The message starts with the cause.

    The command line prints only the message and exits with 1.
    """


class RunInterrupted(RunError):
    """Nobody works on a run any more, though it has not ended."""


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error, or one that caused it, means that a disk is full.

    Some libraries raise their own errors for this, without an errno.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            return True
        if is_disk_full_text(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def is_disk_full_text(message: str) -> bool:
    """Whether an error's message means that a disk is full."""
    return "no space left" in message.lower() or "disk is full" in message.lower()


def first_line(error: BaseException) -> str:
    """The first line of an error's message; the name of its type if it has none."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def shown(text: str) -> str:
    """A text of the user's in a message: as it is, but cut if long and quoted if unprintable."""
    short = text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"
    return short if short.isprintable() else repr(short)


def invalid_value(item: Mapping[str, Any]) -> str:
    """One of pydantic's errors as a line: the field, what is expected and what is there."""
    field = shown(".".join(map(str, item["loc"])))
    before = f"{field}: " if field else ""
    if item["type"] == "missing":
        return f"{field!r} is missing"
    message = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] == "value_error":
        return before + message
    return f"{before}{message[0].lower()}{message[1:]}, not {reprlib.repr(item['input'])}"
