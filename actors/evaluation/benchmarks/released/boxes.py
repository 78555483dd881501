"""The two rules of the released code for the content of ``\\boxed{…}``."""

from __future__ import annotations

from typing import NamedTuple

_BOX = "\\boxed{"


class _Box(NamedTuple):
    """``end`` is the index after the closing brace; ``content`` None if it never closes."""

    content: str | None
    end: int


def last_opened(text: str) -> str | None:
    """Content of the last box, stripped; None if there is none or it never closes.

    In-domain scores, SimpleQA and the error classes use it (``eval_output``, ``simpleqa``).
    """
    start = text.rfind(_BOX)
    return None if start < 0 else _read(text, start).content


def last_outer(text: str) -> str | None:
    """Content of the last closed box that is not inside another, stripped; else None.

    A box that never closes hides all that follow it. Maths uses it (``math_verify``).
    """
    content, start = None, text.find(_BOX)
    while start >= 0:
        box = _read(text, start)
        content = content if box.content is None else box.content
        start = text.find(_BOX, box.end)
    return content


def _read(text: str, start: int) -> _Box:
    """The box that opens at ``start``."""
    begin = start + len(_BOX)
    depth = 1
    for index in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[index], 0)
        if depth == 0:
            return _Box(text[begin:index].strip(), index + 1)
    return _Box(None, len(text))
