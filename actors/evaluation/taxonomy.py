"""What is wrong with a wrong response: four classes, the first that fits.

The paper's own classes are in ``released_taxonomy``.

``collapse``  the model no longer writes language: nothing at all, one piece
              repeated to the end, or hardly two different words in a long text
``leakage``   it names a trained entity (a fact's subject or answer) that the
              question and its context do not mention: new knowledge where it
              has no place
``format``    no answer could be extracted from it
``genuine``   an answer, extracted, and wrong

Entities are names: at least four letters, one of them a capital. A corpus whose
entities are known to the world (MQuAKE) names them outside it too; what the base
model scores there is the rate of such coincidences.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from common.records import Fact

Error = Literal["collapse", "leakage", "format", "genuine"]
ERRORS: tuple[Error, ...] = ("collapse", "leakage", "format", "genuine")

# A text of this many words is long enough to be judged by how few differ.
_LONG = 30
_FEW = 0.1
# A unit that fills the end of a text this many times is a loop.
_LOOPS = 6
_MAX_UNIT_WORDS = 16


class Entities:
    """The names that training taught, found in text as whole words."""

    def __init__(self, facts: Iterable[Fact]) -> None:
        # First word -> names, longest first.
        self._by_word: dict[str, list[tuple[str, ...]]] = defaultdict(list)
        names = {name for fact in facts for name in (fact.subject, fact.answer) if _is_name(name)}
        for words in sorted({tuple(_words(name)) for name in names}, key=len, reverse=True):
            self._by_word[words[0]].append(words)

    def named_in(self, text: str) -> set[tuple[str, ...]]:
        """Names, as folded words, that ``text`` mentions."""
        words = _words(text)
        return {
            name
            for start, word in enumerate(words)
            for name in self._by_word.get(word, ())
            if tuple(words[start : start + len(name)]) == name
        }


@dataclass(frozen=True, slots=True)
class WrongResponse:
    """A response that was found wrong.

    ``asked`` is the question with its context, ``answer`` the gold answer, ``extracted`` the
    answer that the grader found, None if it found none.
    """

    benchmark: str
    asked: str
    answer: str
    text: str
    extracted: str | None


Classifier = Callable[[WrongResponse], str]


def classifier(facts: Iterable[Fact]) -> Classifier:
    """Gives the class of a response of a model that was trained on ``facts``."""
    return partial(classify, Entities(facts))


def classify(entities: Entities, wrong: WrongResponse) -> Error:
    """The class of a wrong response."""
    if is_collapsed(wrong.text):
        return "collapse"
    if entities.named_in(wrong.text) - entities.named_in(wrong.asked):
        return "leakage"
    return "format" if wrong.extracted is None else "genuine"


def is_collapsed(text: str) -> bool:
    """Whether a text is empty, ends in a loop, or is long with hardly a new word."""
    words = text.split()
    if not any(map(str.isalnum, text)):
        return True
    if len(words) >= _LONG:
        counts = Counter(words)
        if len(counts) <= max(2, _FEW * len(words)):
            return True
    # One "word" that is itself a loop, as in "aaaa…" or "_11_11…"; a ruled line is none.
    looped = re.search(r"(\S{1,8}?)\1{19,}\S{0,8}\Z", text.rstrip())
    if looped is not None and any(map(str.isalnum, looped[1])):
        return True
    for size in range(1, min(_MAX_UNIT_WORDS, len(words) // _LOOPS) + 1):
        tail = words[-size * _LOOPS :]
        if tail == tail[:size] * _LOOPS and size * _LOOPS >= 12:
            return True
    return False


def _is_name(text: str) -> bool:
    return sum(map(str.isalpha, text)) >= 4 and any(map(str.isupper, text))


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())
