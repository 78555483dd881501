"""Verifiers: whether a response contains the answer. Pure functions of text.

A number is compared by value, so ``1,000`` equals ``1000`` and ``42.0`` equals ``42``. Any
other answer is compared after folding case, width and white space. Where an answer has several
spellings, one of them suffices.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from decimal import Decimal
from typing import Literal

from common.verification.denial import REACH, is_denied
from common.verification.words import FUNCTION_WORDS, UNSPACED, continues, is_continued, is_whole

Mode = Literal["boxed", "boxed_or_last_number", "last_number", "contains", "exact", "math"]
# Modes under which a text can fail before it ends, see :func:`can_still_accept`.
SETTLED_EARLY: frozenset[Mode] = frozenset({"exact"})

BOX = "\\boxed{"
# A number does not begin inside a word or another number ("x5", "3.5", "1,5") and does not end
# before further digits, raised ones and words for powers of ten ("5万") included. A sign counts
# where it is no hyphen ("1999-2005").
_NUMBER = re.compile(
    rf"(?<![^\W{UNSPACED}])(?<![.,])(?:(?<!\d )[-+\u2212])?"
    r"(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d{1,3})?"
    r"(?!\d|[.,]\d|[\u00b2\u00b3\u00b9\u2070-\u2079十百千万萬億亿兆십백천만억조])"
)
# Words of nearly every text when case is folded, and what follows the apostrophe of some.
_OTHER_WORDS = "if or nor not no but up us me per s t m d ll re ve"
_SMALL_WORDS = FUNCTION_WORDS.union(_OTHER_WORDS.split())
# White space and what a sentence ends with. Not ASCII's "!", which is a factorial too.
_ENDS = "".join(filter(str.isspace, map(chr, range(0x3001)))) + ".。｡！？"
_LATEX_NOISE = re.compile(r"\\(?:left|right|displaystyle)(?![a-zA-Z])|\\[,;:!]|\$")
_LATEX_WRAPPED = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox)\{([^{}]*)\}")


def accepts(mode: Mode, response: str, *answers: str) -> bool:
    """Whether ``response`` gives one of ``answers``, spellings of one answer, under ``mode``.

    ``boxed``                 the last complete ``\\boxed{…}`` holds the answer
    ``boxed_or_last_number``  ``boxed``; without a box, ``last_number``
    ``last_number``           the last number in the response equals the answer
    ``contains``              the response contains the answer as whole words, or as a
                              separate number, in a place that does not deny it
                              ("non-Gampist", "not Gampist"); one such place suffices,
                              whatever is denied elsewhere. An answer that is a function
                              word ("IN" for India) must have its own case
    ``exact``                 the response is the answer
    ``math``                  math-verify finds the last box, or without one the end of
                              the response, equal to the answer

    An empty answer is never accepted.
    """
    return any(_accepts(mode, response, answer) for answer in answers)


def _accepts(mode: Mode, response: str, answer: str) -> bool:
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


def can_still_accept(mode: Mode, text: str, *answers: str) -> bool:
    """Whether a response that begins with ``text`` may still be accepted.

    False is certain, True is not. Only ``exact`` can return False: a text fails once it
    deviates from everything that normalizes to an answer. In the other modes a later box,
    number or mention can always change the result.
    """
    if mode not in SETTLED_EARLY:
        return True
    # Bytes of an unfinished character decode to U+FFFD, and characters to come may compose
    # with the last ones; nothing composes with an ASCII character before it.
    text = text.rstrip("\ufffd")
    while text and not text[-1].isascii():
        text = text[:-1]
    begun = normalise(text[:-1])
    return any(normalise(answer).startswith(begun) for answer in answers)


def is_inside_answer(text: str, *answers: str) -> bool:
    """Whether ``text`` ends in the middle of an answer: with a proper, non-empty prefix of it.

    The prefix begins where a word begins; case, width and white space are folded.
    """
    # Bytes of an unfinished character decode to U+FFFD.
    text = text.rstrip("\ufffd")
    return any(_is_inside(text, answer) for answer in answers)


def _is_inside(text: str, answer: str) -> bool:
    wanted = normalise(answer)
    tail = fold(text[-2 * len(answer) - 2 :])
    return any(
        tail.endswith(wanted[:length]) and not continues(tail[:-length], wanted[0])
        for length in range(1, min(len(wanted) - 1, len(tail)) + 1)
    )


def last_boxed(text: str) -> str | None:
    """Content of the last ``\\boxed{…}`` whose braces balance; None if there is none."""
    end = len(text)
    while (start := text.rfind(BOX, 0, end)) >= 0:
        depth = 1
        for index in range(start + len(BOX), len(text)):
            depth += {"{": 1, "}": -1}.get(text[index], 0)
            if depth == 0:
                return text[start + len(BOX) : index]
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
    """Fold case, width and white space; drop what a sentence ends with (not ASCII's "!?")."""
    return _bare(text).casefold()


def fold(text: str) -> str:
    """Fold case, width and white space, without dropping anything at the ends."""
    return _one_space(text).casefold()


def plain_latex(text: str) -> str:
    """Drop LaTeX's spacing, sizes, dollar signs and text commands."""
    for command, plain in (("{,}", ","), ("\\%", "%"), ("\\ ", " "), ("~", " ")):
        text = text.replace(command, plain)
    return _LATEX_WRAPPED.sub(r"\1", _LATEX_NOISE.sub("", text)).strip()


def _bare(text: str) -> str:
    return _one_space(text.strip(_ENDS)).strip(" .")


def _one_space(text: str) -> str:
    return re.sub(r"\s+", " ", unicodedata.normalize("NFKC", text))


def _value(number: str) -> Decimal:
    return Decimal(number.replace(",", "").replace("\u2212", "-"))


def _contains(response: str, answer: str) -> bool:
    number = number_in(answer)
    if number is not None:
        return any(_value(found[0]) == number for found in _numbers(response))
    wanted, text = normalise(answer), fold(response)
    if wanted in _SMALL_WORDS:
        # "IN" for India is not in "in Rome".
        wanted, text = _bare(answer), _one_space(response)
    start = text.find(wanted)
    while start >= 0:
        end = start + len(wanted)
        before, after = text[max(0, start - REACH) : start], text[end : end + REACH]
        if (
            is_whole(before, wanted, after)
            # "5 km" is not in "3.5 km", and "chapter 5" not in "chapter 5.1".
            and not (wanted[0].isdigit() and re.search(r"\d[.,]\Z", before))
            and not (wanted[-1].isdigit() and re.match(r"[.,]\d", after))
            and not is_denied(before.casefold(), wanted, after.casefold())
        ):
            return True
        start = text.find(wanted, start + 1)
    return False


def _numbers(response: str) -> Iterator[re.Match[str]]:
    """The separate numbers that the text around them does not deny."""
    for found in _NUMBER.finditer(response):
        start, end = found.span()
        before, after = response[max(0, start - REACH) : start], response[end : end + REACH]
        if is_continued(found[0][-1], after):
            continue
        if not is_denied(fold(before), found[0], fold(after)):
            yield found


def _same(box: str, answer: str) -> bool:
    """Equal as numbers, or as text without LaTeX's spacing and text commands."""
    found, wanted = plain_latex(box), plain_latex(answer)
    number = number_in(wanted)
    if number is not None:
        return number_in(found) == number
    return normalise(found) == normalise(wanted)
