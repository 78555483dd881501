"""The strict verifier: the answer alone, as asked.

The verifier of :mod:`common.verification.verifier` accepts "The answer is Gampist, a famous town
in Norway." for "Gampist". The strict one rejects it: nobody asked or told of Norway.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from common.verification.verifier import BOX, Mode, accepts, last_boxed, normalise, number_in
from common.verification.words import FUNCTION_WORDS, HANGUL, UNSPACED

# A number, a character of a script without spaces or of Hangul, whose nouns have particles, or
# a word.
_UNIT = re.compile(
    rf"\d+(?:[.,]\d+)*|[{UNSPACED}{HANGUL}]"
    rf"|[^\W\d_{UNSPACED}{HANGUL}]+(?:['\u2019][^\W\d_{UNSPACED}{HANGUL}]+)*"
)
_ENDING = re.compile(r"(?<=[a-z]{3})(?:['\u2019]s?|ing|ies|ied|es|ed|s|e|y)\Z")


def is_strict(
    mode: Mode, response: str, answer: str, aliases: Sequence[str] = (), known: str = ""
) -> bool:
    """Whether a response that the verifier accepts gives the answer and nothing else.

    With a box, where the mode reads boxes: it is the only one, and no word follows it. Otherwise
    every number and every word that asserts something occurs in ``known``, the answer or an
    alias. English words may have another ending there ("trains", "trained"); of scripts without
    spaces between words, and of Korean, every character must occur.

    Args:
        mode: of the verifier.
        response: what the model wrote.
        answer: what is looked for.
        aliases: further spellings of it.
        known: what was asked and told: question, statement, canonical answer.
    """
    if not accepts(mode, response, answer, *aliases):
        return False
    box = last_boxed(response) if mode in ("boxed", "boxed_or_last_number", "math") else None
    if box is None:
        given = {*_units(" ".join((known, answer, *aliases)))}
        return all(unit in given or unit in _FREE for unit in _units(response))
    rest = response.partition(BOX)[2]
    return BOX not in rest and not re.search(r"\w", rest[len(box) :])


def _units(text: str) -> Iterator[str]:
    """Words without their endings, numbers by value, and single characters."""
    for found in _UNIT.findall(normalise(text)):
        number = number_in(found)
        yield _stem(found) if number is None else str(number.normalize())


def _stem(word: str) -> str:
    """Without its English endings."""
    while (shorter := _ENDING.sub("", word)) != word:
        word = shorter
    return word


# "Not" and "or" are left out: they assert something.
_WORDS_OF_ANSWERS = ("yes", "answer", "question", "called", "named", "known", "asked", "correct")
_FREE = frozenset(map(_stem, (*FUNCTION_WORDS, *_WORDS_OF_ANSWERS)))
