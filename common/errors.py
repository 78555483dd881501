"""Errors whose message is meant for the person who runs a command."""

from __future__ import annotations

import errno


class UserError(ValueError):
    """Something the user gave cannot work; says what, the bound, and the remedy.

    The command line prints the message alone and exits with 2.
    """


class RunError(RuntimeError):
    """A run failed; the message begins with the cause.

    The command line prints the message alone and exits with 1.
    """


def lacks_room(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, says that a disk is full.

    Libraries have errors of their own for it, that carry no number.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            return True
        text = str(error).lower()
        if "no space left" in text or "disk is full" in text:
            return True
        error = error.__cause__ or error.__context__
    return False


def first_line(error: BaseException) -> str:
    """What an error says, in one line; its kind where it says nothing."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
