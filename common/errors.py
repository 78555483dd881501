"""Errors whose message is meant for the person who runs a command."""

from __future__ import annotations


class UserError(ValueError):
    """Something the user gave cannot work; says what, the bound, and the remedy.

    The command line prints the message alone and exits with 2.
    """


class RunError(RuntimeError):
    """A run failed; the message begins with the cause.

    The command line prints the message alone and exits with 1.
    """


def first_line(error: BaseException) -> str:
    """What an error says, in one line; its kind where it says nothing."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
