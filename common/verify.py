"""Answer extraction and verdicts. Pure text in, verdict out."""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

Mode = Literal["contains", "boxed", "exact"]

_BOX = "\\boxed{"


def accepts(mode: Mode, response: str, answer: str) -> bool:
    """Whether ``response`` gives ``answer`` under ``mode``.

    ``contains``  the answer stands in the response as whole words
    ``boxed``     the last complete ``\\boxed{…}`` holds the answer
    ``exact``     the response is the answer
    """
    wanted = normalise(answer)
    if mode == "contains":
        return bool(re.search(rf"(?<!\w){re.escape(wanted)}(?!\w)", normalise(response)))
    if mode == "boxed":
        box = last_boxed(response)
        return box is not None and normalise(box) == wanted
    return normalise(response) == wanted


def last_boxed(text: str) -> str | None:
    """Content of the last ``\\boxed{…}`` whose braces balance; None if there is none."""
    end = len(text)
    while (start := text.rfind(_BOX, 0, end)) >= 0:
        depth = 1
        for index in range(start + len(_BOX), len(text)):
            depth += {"{": 1, "}": -1}.get(text[index], 0)
            if depth == 0:
                return text[start + len(_BOX) : index]
        end = start
    return None


def normalise(text: str) -> str:
    """Fold case, width and white space; drop the full stop a sentence ends with."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(folded.split()).strip(" .")
