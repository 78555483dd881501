"""A replay queue over a new ledger, with its facts and its first learner."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from actors.replay.queue import ReplayQueue
from common.config.run_config import RunConfig, parse
from common.ledger import Ledger
from common.records import PackedRollout, Rollout, Work


def open_queue(path: Path, facts: int, **sections: Any) -> tuple[ReplayQueue, RunConfig]:
    """The queue of a run with that many facts, named "0", "1", …, and the run's configuration.

    ``sections``: of the configuration, whose learner has generation 1.
    """
    config = parse({"name": "q", "data": {"kgfact": {}}, **sections}, "test")
    ledger = Ledger(
        path / "ledger.db",
        epochs=config.exposures_per_rollout,
        seed=0,
        first_epoch=config.replay.first_epoch,
    )
    queue = ReplayQueue(ledger, config)
    queue.add_facts([str(fact) for fact in range(facts)])
    queue.restore(queue.register("learner"), 0)
    return queue, config


def insert(queue: ReplayQueue, works: Iterable[Work], version: int = 0) -> list[bool]:
    """Bring rollouts of two tokens, drawn by the weights of ``version``."""
    rollouts = [
        Rollout(work.fact_id, work.draw, 0, [1], [1, 1], [], [], [], [], None, 0, "", True, version)
        for work in works
    ]
    return queue.insert_many([PackedRollout.of(rollout, 1) for rollout in rollouts])
