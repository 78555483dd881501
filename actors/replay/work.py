"""The work of a run: which fact is drawn when, and how often."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from common.config.run_config import RunConfig
from common.ledger.order import epoch_order


def work_items(config: RunConfig, fact_ids: Sequence[str]) -> Iterator[tuple[str, int]]:
    """(fact, draw) pairs in the order in which they are to be rolled out.

    The student draws anew in every epoch, so each has its own: draw e · n + s is sample s
    of n in epoch e. Epochs after the first are the ledger's permutations.
    """
    student = config.student
    if student is None:
        yield from ((fact_id, 0) for fact_id in fact_ids)
        return
    size = len(fact_ids)
    for epoch in range(config.learner.epochs):
        order = epoch_order(config.seed, epoch, size) if epoch else range(size).__getitem__
        for index in range(size):
            first = epoch * student.samples
            for draw in range(first, first + student.samples):
                yield fact_ids[order(index)], draw
