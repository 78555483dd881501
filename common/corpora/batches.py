"""Facts of earlier batches, and what later batches made of them.

A chain of runs teaches one batch of facts after another. A later fact *edits* an earlier one if
it has the same question and another answer, or if it ``replaces`` the earlier one's id; the
earlier answer is right no more. If the later one is a retraction, no answer is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from common.errors import UserError, shown
from common.records import Fact
from common.verification.verifier import normalise


@dataclass(frozen=True, slots=True)
class EarlierFact:
    """A fact of an earlier batch.

    ``batch`` counts from 1. ``now`` is the fact whose answer holds now: ``fact`` itself, unless a
    later one edits or retracts it. ``outdated`` are spellings of answers that are right no more.
    """

    batch: int
    fact: Fact
    now: Fact
    outdated: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether its own answer is still right."""
        return self.now is self.fact and not self.is_retracted

    @property
    def is_retracted(self) -> bool:
        """Whether no answer is right any more."""
        return self.now.retract

    @property
    def is_edited(self) -> bool:
        """Whether another answer than its own is right."""
        return not self.holds and not self.is_retracted


def follow(batches: Sequence[Sequence[Fact]]) -> list[EarlierFact]:
    """The facts of all batches but the last, after the edits and retractions of every later one.

    Of several facts with the id that ``replaces`` names, that of the latest batch is meant. With
    a fact all earlier ones are edited that have its question, or that it has edited itself.

    Raises:
        UserError: a fact replaces one that no earlier batch has.
    """
    known: list[EarlierFact] = []
    for number, facts in enumerate(batches, 1):
        known = _after(known, facts)
        if number < len(batches):
            known += [EarlierFact(number, fact, fact) for fact in facts]
    return known


def _after(known: Sequence[EarlierFact], facts: Sequence[Fact]) -> list[EarlierFact]:
    """The known facts after one more batch."""
    asked, named = _by_question(known), {one.fact.id: one for one in known}
    edits: dict[int, Fact] = {}
    for fact in facts:
        edited = [*asked.get(normalise(fact.question), ())]
        if fact.replaces:
            if fact.replaces not in named:
                raise UserError(
                    f"data: fact {shown(fact.id)} replaces {shown(fact.replaces)}, but no earlier "
                    "batch has a fact with that id; correct 'replaces', or remove it"
                )
            edited += asked[normalise(named[fact.replaces].fact.question)]
        for old in edited:
            if not _is_same(old, fact):
                edits[id(old)] = fact
    return [_edited(one, edits[id(one.now)]) if id(one.now) in edits else one for one in known]


def _by_question(known: Sequence[EarlierFact]) -> dict[str, list[Fact]]:
    """What holds now for each question that was taught."""
    found: dict[str, list[Fact]] = {}
    for one in known:
        found.setdefault(normalise(one.fact.question), []).append(one.now)
    return found


def _is_same(old: Fact, new: Fact) -> bool:
    """Whether both teach or retract the same answer, in any spelling."""
    if old.retract != new.retract:
        return False
    return not {*map(normalise, old.spellings)}.isdisjoint(map(normalise, new.spellings))


def _edited(one: EarlierFact, new: Fact) -> EarlierFact:
    right = set() if new.retract else {*map(normalise, new.spellings)}
    retracted = new.spellings if new.retract else ()
    given = dict.fromkeys((*one.outdated, *one.now.spellings, *retracted))
    outdated = tuple(answer for answer in given if normalise(answer) not in right)
    return replace(one, now=new, outdated=outdated)
