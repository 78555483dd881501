"""A learner and its queue in one process, on a toy engine whose weights count each fact.

Called as ``python -m tests.faults.toy_training FOLDER``; resumes what is there. Prints ``step N``
once the checkpoint of step N is committed, and ``done`` in the end.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from actors.replay.queue import ReplayQueue
from common.config import run_config
from common.config.run_config import RunConfig
from common.ledger import Ledger
from common.records import PackedRollout, Rollout
from common.rundir import RunDir
from learner.checkpoint import STATE
from learner.checkpoint_writer import TrainingState
from learner.interfaces import Batch
from learner.worker import Learner

FACTS, EPOCHS, BATCH = 40, 20, 4
_FIRST_TARGET = 10


class Engine:
    """One rank; a step adds one to the count of each fact in its batch."""

    def __init__(self) -> None:
        self.counts = torch.zeros(FACTS)
        self.progress = 0

    def step(self, rows: Any, num_target_tokens: int, lr: float, inputs: Any = ()) -> Any:
        for row in rows:
            for target in row.targets_K:
                self.counts[int(target) - _FIRST_TARGET] += 1
        return 1.0, 1.0

    def snapshot(self, with_state: bool) -> TrainingState:
        counts = self.counts.clone()
        state = {"master/counts": counts} if with_state else {}
        return TrainingState(0, 1, {"counts": counts}, state, 0, {"config.json": b"{}"})

    def load_state(self, folder: Path) -> None:
        self.counts = load_file(folder / STATE / "rank-0.safetensors")["master/counts"]

    def policy(self) -> Iterator[tuple[str, Any]]:
        yield "counts", self.counts

    def barrier(self) -> None: ...

    def agree(self, values: tuple[int, ...]) -> tuple[int, ...]:
        return values


class Source:
    """The queue in this process; says what is committed."""

    def __init__(self, queue: ReplayQueue) -> None:
        self._queue = queue

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)

    def sample(self, generation: int, step: int) -> Batch:
        return Batch(*self._queue.sample(generation, step))

    def commit(self, generation: int, step: int) -> None:
        self._queue.commit(generation, step)
        print(f"step {step}", flush=True)


def config() -> RunConfig:
    """One that keeps the state of one checkpoint, and writes one after each step."""
    raw = {
        "name": "toy",
        "method": {"name": "sft"},
        "data": {"kgfact": {}},
        "learner": {
            "device": "cpu",
            "epochs": EPOCHS,
            "batch_size": BATCH,
            "checkpoint_every": 1,
            "keep_states": 1,
            "keep_exports": 2,
        },
    }
    return run_config.parse(json.loads(json.dumps(raw)), "toy")


def main() -> None:
    settings, run = config(), RunDir(Path(sys.argv[1]))
    run.create()
    (run.root / "model").mkdir(exist_ok=True)
    queue = ReplayQueue(Ledger(run.ledger, epochs=EPOCHS, seed=0), settings)
    queue.add_facts([str(fact) for fact in range(FACTS)])
    while work := queue.lease("actor", 8, []).work:
        for item in work:
            target = [_FIRST_TARGET + int(item.fact_id)]
            rollout = Rollout(
                item.fact_id, item.draw, 0, [1], target, [], [], [], [], None, 0, "", True
            )
            queue.insert_many([PackedRollout.of(rollout, 1)])
    engine: Any = Engine()
    source: Any = Source(queue)
    Learner(engine, source, settings.learner, run, run.root / "model", 0, lambda line: None).run()
    print("done", flush=True)


if __name__ == "__main__":
    main()
