"""Finds the subject of each fact in its prompt. Needs no torch."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from common.prompts import Prompts
from common.records import Fact
from learner.editing.requests import Essence, Site


def sites_of(prompts: Prompts, facts: Sequence[Fact]) -> dict[tuple[int, ...], Site]:
    """Where each fact is edited, by the ids of its naive prompt x.

    Facts without a subject, or whose prompt does not contain it, are left out.
    """
    found = {}
    for fact in facts:
        ids = prompts.naive(fact)
        position = last_token_of(prompts, ids, fact.subject)
        if position is not None:
            found[tuple(ids)] = Site(position, _essence(prompts, fact.subject))
    return found


def last_token_of(prompts: Prompts, ids: Sequence[int], words: str) -> int | None:
    """Index of the token with the last character of the last occurrence of ``words``."""
    start = prompts.text(ids).rfind(words)
    if not words or start < 0:
        return None
    end = start + len(words)
    return bisect_left(range(len(ids)), end, key=lambda at: len(prompts.text(ids[: at + 1])))


def _essence(prompts: Prompts, subject: str) -> Essence | None:
    """The neutral prompt of the KL term, 'SUBJECT is a' (arXiv 2202.05262, §3.1)."""
    ids = prompts.encode(f"{subject} is a")
    position = last_token_of(prompts, ids, subject)
    return None if position is None else Essence(tuple(ids), position)
