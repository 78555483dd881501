"""Which cases of MQuAKE a number of facts has room for."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence, Set
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Case:
    """``relation`` of its first edit, ids of its ``facts`` by hop, and its multi-hop questions.

    All questions have the one ``answer``, and its ``aliases``.
    """

    relation: str
    facts: tuple[str, ...]
    questions: tuple[str, ...]
    answer: str
    aliases: tuple[str, ...]


def choose(cases: Sequence[Case], budget: int, rng: random.Random) -> list[Case]:
    """Cases with at most ``budget`` different facts, in the order in which they are chosen.

    The relations take turns. Each takes its case with the fewest facts that are not chosen
    yet, or none if even that one exceeds the budget, until no relation can take one. ``rng``
    decides between equals and the order of the relations. This is the rule of the paper's
    released converter (``generate_from_mquake``).
    """
    groups: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        groups[case.relation].append(case)
    for group in groups.values():
        rng.shuffle(group)
    relations = [*groups]
    rng.shuffle(relations)
    chosen: list[Case] = []
    facts: set[str] = set()

    def cost(case: Case) -> int:
        return len(set(case.facts) - facts)

    is_growing = True
    while is_growing:
        is_growing = False
        for relation in relations:
            group = groups[relation]
            group.sort(key=cost)
            if group and len(facts) + cost(group[0]) <= budget:
                chosen.append(group.pop(0))
                facts.update(chosen[-1].facts)
                is_growing = True
    return chosen


def apart(cases: Sequence[Case], trained: Set[str]) -> list[Case]:
    """Cases that share no fact with the trained ones."""
    return [case for case in cases if trained.isdisjoint(case.facts)]
