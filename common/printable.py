"""Text of models, data and logs, made safe for a terminal."""

from __future__ import annotations

import re

# Controls but tab and newline (C0, DEL, C1), marks that reorder text, other line ends, and
# halves of surrogate pairs, which no terminal's encoding has.
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    r"""``text`` with its control characters as escapes, such as ``\x1b``.

    A terminal obeys such characters: they can clear it, rename its window or hide text.
    Newlines and tabs stay.
    """
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
