"""Whether an answer still fits in the tokens that are left. Pure.

A text fails before it ends once the fewest tokens that could still write the answer are more
than are left. The bound counts pieces of the answer, each part of what one token can write. All
comparisons fold case, width and white space as :mod:`common.verification.verifier` does. Where
too little is known of how an answer may be written (numbers, letters beyond ASCII), one token is
assumed to suffice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from common.verification.verifier import (
    BOX,
    Mode,
    accepts,
    fold,
    last_boxed,
    normalise,
    number_in,
    plain_latex,
)

# Bytes of an unfinished character decode to it.
_UNFINISHED = "\ufffd"
_BOXED: frozenset[Mode] = frozenset({"boxed", "boxed_or_last_number"})
# Modes under which an answer may need several tokens.
BOUNDED: frozenset[Mode] = _BOXED | {"contains"}
# LaTeX that the verifier ignores in a box begins or ends with one of these.
_LATEX = re.compile(r"[\\{}$~]")
_ASCII_RUN = re.compile(r"[\x00-\x7f]+")


class TokenPieces:
    """What one token can write, in folded ASCII.

    Args:
        texts: of every token of the vocabulary.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        folded = {fold(text) for text in texts}
        # A token may end a character that others began, and go on after it.
        endings = {text.lstrip(_UNFINISHED) for text in folded if text.startswith(_UNFINISHED)}
        written = {*folded, *(run + ending for ending in {"", *endings} for run in _ascii_runs())}
        self._joined = _UNFINISHED.join(written)
        # Tokens of which LaTeX that is ignored may take away a middle part.
        self._latex = [text.replace("~", " ") for text in written if _LATEX.search(text)]

    @lru_cache(maxsize=4096)  # noqa: B019 (lives as long as its actor)
    def least(self, wanted: str, *, latex: bool = False) -> tuple[int, ...]:
        """Entry k: the least number of tokens that write ``wanted[k:]``, which may be more.

        Greedy, since a part of what a token writes is also part of what it writes.

        Args:
            wanted: folded ASCII.
            latex: whether LaTeX may stand between its letters.
        """
        ends, end = [], 0
        for start in range(len(wanted)):
            end = max(end, start + 1)
            while end < len(wanted) and self._has(wanted[start : end + 1], latex):
                end += 1
            ends.append(end)
        least = [0] * (len(wanted) + 1)
        for start in reversed(range(len(wanted))):
            least[start] = 1 + least[ends[start]]
        return tuple(least)

    def _has(self, piece: str, latex: bool) -> bool:
        return piece in self._joined or (
            latex and any(_is_subsequence(piece, text) for text in self._latex)
        )


class TokenBudget:
    """The tokens that one fact's answer needs.

    Args:
        mode: of the verifier.
        answers: spellings of the answer.
        pieces: what tokens can write.

    Attributes:
        most: tokens that a text without any part of the answer still needs, the stop token
            included.
    """

    def __init__(self, mode: Mode, answers: Sequence[str], pieces: TokenPieces) -> None:
        self._mode = mode
        self._answers = answers
        self._is_boxed = mode in _BOXED
        # Of each spelling, what is to be written, and how many tokens the rest of it needs.
        self._spellings = [
            (wanted, pieces.least(wanted, latex=self._is_boxed))
            for wanted in (_wanted(mode, answer) for answer in answers)
        ]
        self.most = 1 + min(max(1, least[0]) for _, least in self._spellings)

    def settled(self, text: str, tokens_left: int) -> bool:
        """Whether no text that begins with ``text`` can be accepted any more.

        True is certain, False is not.

        Args:
            text: so far, without a stop token.
            tokens_left: that may still be drawn, the stop token included.
        """
        needed = min(self._needed(wanted, least, text) for wanted, least in self._spellings)
        return tokens_left < needed + 1 and not accepts(self._mode, text, *self._answers)

    def _needed(self, wanted: str, least: Sequence[int], text: str) -> int:
        """The least number of tokens, from 1, after which a rejected text may be accepted."""
        if not wanted:
            return 1
        if self._is_boxed:
            start = text.rfind(BOX)
            if start >= 0 and last_boxed(text[start:]) is None:
                # The box is open.
                return 1
            written = range(len(BOX))
        else:
            text = fold(text.rstrip(_UNFINISHED))
            if wanted in text:
                # What follows a mention may still change whether it counts.
                return 1
            written = range(len(wanted))
        return min(least[k] for k in written if text.endswith(wanted[:k]))


def _wanted(mode: Mode, answer: str) -> str:
    """What is written, folded, in every text that gives the answer; empty if that is unknown."""
    is_number = number_in(answer) is not None
    if mode == "contains":
        wanted = normalise(answer)
        return wanted if wanted.isascii() and not is_number else ""
    if mode not in _BOXED or (is_number and mode == "boxed_or_last_number"):
        return ""
    plain = plain_latex(answer)
    content = normalise(plain)
    is_plain = re.fullmatch("[a-z0-9 ]+", content) and number_in(plain) is None
    return f"{BOX}{content}}}" if is_plain else BOX


@lru_cache(maxsize=1)
def _ascii_runs() -> frozenset[str]:
    """ASCII that one character beyond ASCII is folded to, such as a ligature or a unit."""
    return frozenset(
        run for code in range(0x80, 0x20000) for run in _ASCII_RUN.findall(fold(chr(code)))
    )


def _is_subsequence(piece: str, text: str) -> bool:
    rest = iter(text)
    return all(character in rest for character in piece)
