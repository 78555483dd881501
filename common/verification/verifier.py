"""Verifiers: whether a response contains the answer. Pure functions of text.

A number is compared by value, so ``1,000`` equals ``1000`` and ``42.0`` equals ``42``. Any
other answer is compared after folding case, width and white space.
"""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal
from typing import Literal

Mode = Literal["boxed", "boxed_or_last_number", "last_number", "contains", "exact", "math"]
# Modes under which a text can fail before it ends, see :func:`can_still_accept`.
SETTLED_EARLY: frozenset[Mode] = frozenset({"exact"})

_BOX = "\\boxed{"
# A number does not begin inside a word or another number ("x5", "3.5", "1,5") and does not end
# before further digits, raised ones included. A sign counts where it is no hyphen ("1999-2005").
_NUMBER = re.compile(
    r"(?<![\w.,])(?:(?<!\d )[-+\u2212])?"
    r"(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d{1,3})?"
    r"(?!\d|[.,]\d|[\u00b2\u00b3\u00b9\u2070-\u2079])"
)
_LATEX_NOISE = re.compile(r"\\(?:left|right|displaystyle)(?![a-zA-Z])|\\[,;:!]|\$")
_LATEX_WRAPPED = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox)\{([^{}]*)\}")


def accepts(mode: Mode, response: str, answer: str) -> bool:
    """Whether ``response`` gives ``answer`` under ``mode``.

    ``boxed``                 the last complete ``\\boxed{…}`` holds the answer
    ``boxed_or_last_number``  ``boxed``; without a box, ``last_number``
    ``last_number``           the last number in the response equals the answer
    ``contains``              the response contains the answer as whole words, or as a
                              separate number
    ``exact``                 the response is the answer
    ``math``                  math-verify finds the last box, or without one the end of
                              the response, equal to the answer

    An empty answer is never accepted.
    """
    wanted = normalise(answer)
    if not wanted:
        return False
    if mode == "math":
        from common.verification.math_equality import equal

        box = last_boxed(response)
        return equal(response if box is None else f"\\boxed{{{box}}}", answer)
    if mode == "contains":
        return _contains(response, answer)
    if mode == "exact":
        return normalise(response) == wanted
    box = None if mode == "last_number" else last_boxed(response)
    if box is not None:
        return _same(box, answer)
    if mode == "boxed":
        return False
    number = number_in(answer)
    return number is not None and last_number(response) == number


def can_still_accept(mode: Mode, text: str, answer: str) -> bool:
    """Whether a response that begins with ``text`` may still be accepted.

    False is certain, True is not. Only ``exact`` can return False: a text fails once it
    deviates from everything that normalizes to the answer. In the other modes a later box,
    number or mention can always change the result.
    """
    if mode not in SETTLED_EARLY:
        return True
    # Bytes of an unfinished character decode to U+FFFD, and characters to come may compose
    # with the last ones; nothing composes with an ASCII character before it.
    text = text.rstrip("\ufffd")
    while text and not text[-1].isascii():
        text = text[:-1]
    begun = re.sub(r"\s+", " ", _fold(text[:-1])).lstrip(" .")
    wanted = normalise(answer)
    return wanted.startswith(begun) or begun.rstrip(" .") == wanted


def is_inside_answer(text: str, answer: str) -> bool:
    """Whether ``text`` ends in the middle of ``answer``: with a proper, non-empty prefix of it.

    The prefix begins where a word begins; case, width and white space are folded.
    """
    wanted = normalise(answer)
    # Bytes of an unfinished character decode to U+FFFD.
    text = text.rstrip("\ufffd")
    tail = re.sub(r"\s+", " ", _fold(text[-2 * len(answer) - 2 :]))
    return any(
        tail.endswith(wanted[:length]) and not re.search(r"\w\Z", tail[:-length])
        for length in range(1, min(len(wanted) - 1, len(tail)) + 1)
    )


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


def last_number(text: str) -> Decimal | None:
    """Value of the last number in ``text``."""
    found = None
    for found in _NUMBER.finditer(text):  # noqa: B007 (the last one is wanted)
        pass
    return None if found is None else _value(found[0])


def number_in(answer: str) -> Decimal | None:
    """Value of an answer that is a number, a currency or per cent sign aside; else None."""
    bare = answer.strip().strip("$\u20ac\u00a3%").rstrip(" .%")
    match = _NUMBER.fullmatch(bare)
    return None if match is None else _value(match[0])


def normalise(text: str) -> str:
    """Fold case, width and white space; drop the full stop a sentence ends with."""
    return " ".join(_fold(text).split()).strip(" .")


def _fold(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _value(number: str) -> Decimal:
    return Decimal(number.replace(",", "").replace("\u2212", "-"))


def _contains(response: str, answer: str) -> bool:
    number = number_in(answer)
    if number is not None:
        return any(
            _value(found[0]) == number and not re.match(r"\w", response[found.end() :])
            for found in _NUMBER.finditer(response)
        )
    wanted = normalise(answer)
    # "5 km" is not in "3.5 km", and "chapter 5" not in "chapter 5.1".
    before = r"(?<!\w)(?<!\d[.,])" if wanted[0].isdigit() else r"(?<!\w)"
    after = r"(?!\w)(?![.,]\d)" if wanted[-1].isdigit() else r"(?!\w)"
    return bool(re.search(before + re.escape(wanted) + after, normalise(response)))


def _same(box: str, answer: str) -> bool:
    """Equal as numbers, or as text without LaTeX's spacing and text commands."""
    found, wanted = _plain_latex(box), _plain_latex(answer)
    number = number_in(wanted)
    if number is not None:
        return number_in(found) == number
    return normalise(found) == normalise(wanted)


def _plain_latex(text: str) -> str:
    for command, plain in (("{,}", ","), ("\\%", "%"), ("\\ ", " "), ("~", " ")):
        text = text.replace(command, plain)
    return _LATEX_WRAPPED.sub(r"\1", _LATEX_NOISE.sub("", text)).strip()
