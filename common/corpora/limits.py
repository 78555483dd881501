"""Which facts a limit keeps: as many of each stratum as there is room for.

A stratum is an operation of KGFunc or a pair of domains of KGFact; of other facts it is the
subject, if subjects have ten facts each on average. MQuAKE has a rule of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from common.records import Fact

_FACTS_PER_SUBJECT = 10


def keep(facts: Sequence[Fact], limit: int) -> list[Fact]:
    """The first fact of each stratum, the second of each, and so on; in the given order."""
    seen: Counter[str] = Counter()
    ranks = []
    for index, stratum in enumerate(_strata(facts)):
        ranks.append((seen[stratum], index))
        seen[stratum] += 1
    return [facts[index] for index in sorted(index for _, index in sorted(ranks)[:limit])]


def _strata(facts: Sequence[Fact]) -> list[str]:
    if all(fact.id.startswith(("kgfact-", "kgfunc-")) for fact in facts):
        # A generated id ends with a number, after the two domains or the operation.
        return [fact.id.partition("#")[0].rpartition("-")[0] for fact in facts]
    subjects = [fact.subject for fact in facts]
    are_few = len(set(subjects)) * _FACTS_PER_SUBJECT <= len(facts)
    return subjects if are_few else [""] * len(facts)
