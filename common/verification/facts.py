"""Whether a response is right about a fact, which may be retracted."""

from __future__ import annotations

from common.records import Fact
from common.verification.verifier import Mode, accepts


def is_right(mode: Mode, response: str, fact: Fact) -> bool:
    """Whether the response gives the fact's answer under ``mode``.

    Of a retracted fact: whether it says something without the answer, in the sense of
    ``contains``, whatever the mode; a refusal needs no box.
    """
    if fact.retract:
        return any(map(str.isalnum, response)) and not accepts(
            "contains", response, *fact.spellings
        )
    return accepts(mode, response, *fact.spellings)
