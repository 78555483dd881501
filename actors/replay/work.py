"""The work of a run: which fact is drawn when, and how often."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from common import corpora
from common.config.run_config import RunConfig
from common.corpora import rehearsal
from common.ledger import Accepted, Quarantined
from common.ledger.order import epoch_order
from common.records import Fact, PackedRollout, WireError


def work_items(config: RunConfig, fact_ids: Sequence[str]) -> Iterator[tuple[str, int]]:
    """(fact, draw) pairs in the order in which they are to be rolled out.

    Draw e · n + s is the rollout s of n in epoch e; where epochs share their rollouts, e is 0.
    Epochs after the first are the ledger's permutations. What ``learner.max_steps`` leaves no
    step for is not drawn by the student.
    """
    return islice(_draws(config, fact_ids), config.num_work_items(len(fact_ids)))


def _draws(config: RunConfig, fact_ids: Sequence[str]) -> Iterator[tuple[str, int]]:
    method, size = config.method, len(fact_ids)
    count = method.draws_per_epoch
    for epoch in range(config.learner.epochs if method.draws_every_epoch else 1):
        order = epoch_order(config.seed, epoch, size) if epoch else range(size).__getitem__
        for index in range(size):
            for draw in range(epoch * count, (epoch + 1) * count):
                yield fact_ids[order(index)], draw


def trained_facts(config: RunConfig) -> list[Fact]:
    """The facts of the corpus, and among them the generic prompts that the method rehearses.

    Raises:
        UserError: facts or prompts cannot be read, or there are too few prompts.
    """
    facts, chosen = corpora.load(config.data).facts, config.method.rehearsal
    if chosen is None:
        return facts
    return rehearsal.add(
        facts,
        rehearsal.read_prompts(chosen.file),
        chosen.num_prompts(len(facts)),
        answers_differ=config.rollout.temperature > 0,
    )


def outcome_of(item: PackedRollout) -> Accepted | Quarantined:
    """What becomes of the work item of a rollout that an actor sent."""
    try:
        version = item.unpack().policy_version
    except WireError as error:
        reason = f"its rollout is invalid: {error}"
        return Quarantined(item.fact_id, item.draw, reason, item.attempts)
    return Accepted(item.fact_id, item.draw, item.payload, item.attempts, version)
