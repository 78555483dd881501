"""How fast the queue is: ``python tests/benchmarks/replay.py``, or ``make bench-replay``.

Two layers, with rollouts of 100 target tokens as they cross the wire:

- the ledger alone in this process, at several sizes: seconds a rollout for
  lease and insert (64 at a time) and for samples (20 a step, as the learner
  asks) in the first epoch and in a permuted one;
- the queue as a Ray actor on a cluster of its own, with callers in processes
  of their own, each with one call in flight.

Prints a table and, last, one line of JSON. ``growth_1e6_over_1e4`` is the
larger of the ratios of times a rollout (insert, sample) between the largest
and the smallest size.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import tempfile
import time
from pathlib import Path

from common.config import run_config as configuration
from common.config.run_config import RunConfig
from common.ledger import Accepted, Ledger
from common.records import PackedRollout, Rollout, pack_rollout
from common.rundir import RunDir
from deploy.cluster import ray_cluster as cluster
from deploy.control import roles
from deploy.control.queue_client import QueueClient
from deploy.control.role_kind import REPLAY_ACTOR

TOKENS, PROMPT_TOKENS, CHUNK, BATCH = 100, 40, 64, 20
# A later epoch of a large ledger is sampled in part.
MOST_STEPS = 5000


def rollout(fact_id: str) -> bytes:
    """A packed rollout with plausible values."""
    rng = random.Random(fact_id)
    return pack_rollout(
        Rollout(
            fact_id=fact_id,
            draw=0,
            attempt=0,
            prompt_ids=[rng.randrange(49152) for _ in range(PROMPT_TOKENS)],
            target_ids=[rng.randrange(49152) for _ in range(TOKENS)],
            naive=[rng.randrange(2) for _ in range(TOKENS)],
            logprobs=[-rng.expovariate(1) for _ in range(TOKENS)],
            base_logprobs=[-rng.expovariate(1) for _ in range(TOKENS)],
            canonical_logprobs=[-rng.expovariate(1) for _ in range(TOKENS)],
            mix_rate=0.3,
            num_protected=0,
            fallback="",
            verified=True,
        )
    )


def time_ledger(folder: Path, size: int) -> dict[str, float]:
    """Seconds a rollout and bytes a rollout at one size."""
    path = Path(tempfile.mkdtemp(dir=folder)) / "ledger.db"
    ledger = Ledger(path, epochs=2, seed=0)
    ledger.add_work((f"fact-{index}", 0) for index in range(size))
    payload = rollout("fact-0")
    began, arrived = time.perf_counter(), 0
    while arrived < size:
        work = ledger.lease("actor", CHUNK, now=0.0, duration=60.0)
        ledger.insert_many([Accepted(item.fact_id, item.draw, payload, 1) for item in work])
        arrived += len(work)
    insert_s = (time.perf_counter() - began) / size

    learner = ledger.register("learner")
    ledger.restore(learner, 0)
    step, sample_s = 0, []
    for steps in (size // BATCH, min(size // BATCH, MOST_STEPS)):
        began = time.perf_counter()
        for _ in range(steps):
            step += 1
            batch = ledger.sample(learner, step, BATCH)
            assert batch is not None
            assert len(batch) == BATCH
        sample_s.append((time.perf_counter() - began) / (steps * BATCH))
    ledger.prepare(learner, step)
    ledger.commit(learner, step)
    assert ledger.counts() == ledger.recount()
    ledger.close()
    size_bytes = path.stat().st_size
    path.unlink()
    return {
        "insert_s": insert_s,
        "first_epoch_s": sample_s[0],
        "later_epoch_s": sample_s[1],
        "bytes": size_bytes / size,
    }


class Caller:
    """An actor's side of the queue, in a process of its own."""

    def __init__(self, size: int) -> None:
        self._queue = QueueClient(60.0)
        self._payloads = {f"fact-{index}": rollout(f"fact-{index}") for index in range(size)}

    def insert_all(self, name: str) -> tuple[float, float]:
        """Roll out until nothing is left; when it began and ended."""
        began = time.time()
        while work := self._queue.lease(name, CHUNK, []).work:
            self._queue.insert_many(
                [
                    PackedRollout(item.fact_id, item.draw, self._payloads[item.fact_id], 1)
                    for item in work
                ]
            )
        return began, time.time()

    def sample_all(self) -> tuple[float, float]:
        """Sample to the end; when it began and ended."""
        learner = self._queue.register("learner")
        self._queue.restore(learner, 0)
        began, step = time.time(), 1
        while self._queue.sample(learner, step).items:
            step += 1
        return began, time.time()


def time_actor(folder: Path, size: int, callers: int) -> tuple[float, float]:
    """Inserts and samples a second through a Ray actor."""
    run = RunDir(folder / "queue")
    run.create()
    facts = folder / "facts.jsonl"
    facts.write_text(
        "".join(
            json.dumps({"id": f"fact-{index}", "question": "Who?", "answer": "Ada"}) + "\n"
            for index in range(size)
        )
    )
    config = RunConfig.model_validate(
        {
            "name": "queue",
            "method": {"name": "sft"},
            "data": {"facts": str(facts)},
            "learner": {"epochs": 2, "batch_size": BATCH},
        }
    )
    run.config.write_text(configuration.dump(config))
    cluster.start_local(run, config.cluster)
    try:
        with cluster.connected(run, None) as ray:
            queue = (
                ray.remote(roles.ReplayRole)
                .options(name=REPLAY_ACTOR, num_cpus=0, max_concurrency=8)
                .remote(REPLAY_ACTOR, str(run.root), "")
            )
            ray.get(queue.poll.remote())
            actors = [ray.remote(Caller).remote(size) for _ in range(callers)]
            spans = ray.get([a.insert_all.remote(f"caller-{i}") for i, a in enumerate(actors)])
            insert_s = max(end for _, end in spans) - min(began for began, _ in spans)
            assert ray.get(queue.poll.remote()).queue.accepted == size
            began, end = ray.get(actors[0].sample_all.remote())
            return size / insert_s, 2 * size / (end - began)
    finally:
        cluster.stop_local(run)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--actor-size", type=int, default=20_000)
    parser.add_argument("--callers", type=int, default=3)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-replay-"))
    try:
        print(f"{'rollouts':>9} {'inserts/s':>10} {'samples/s':>10} {'later/s':>10} {'bytes':>7}")
        found = []
        for size in arguments.sizes:
            # The smallest is over in a second: the middle one of three.
            repeats = 3 if size <= 20_000 else 1
            times = sorted(
                (time_ledger(folder, size) for _ in range(repeats)),
                key=lambda row: row["insert_s"],
            )
            row = times[repeats // 2]
            found.append(row)
            print(
                f"{size:>9} {1 / row['insert_s']:>10.0f} {1 / row['first_epoch_s']:>10.0f}"
                f" {1 / row['later_epoch_s']:>10.0f} {row['bytes']:>7.0f}",
                flush=True,
            )
        inserts, samples = time_actor(folder, arguments.actor_size, arguments.callers)
        print(f"through Ray, {arguments.callers} callers: {inserts:.0f} inserts/s,", end=" ")
        print(f"1 caller: {samples:.0f} samples/s")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    first, last = found[0], found[-1]
    growth = max(last[key] / first[key] for key in first if key.endswith("_s"))
    figures = {
        "ledger_inserts_per_s": round(1 / last["insert_s"]),
        # The slower of the two kinds of epoch.
        "ledger_samples_per_s": round(1 / max(last["first_epoch_s"], last["later_epoch_s"])),
        "actor_inserts_per_s": round(inserts),
        "actor_samples_per_s": round(samples),
        "growth_1e6_over_1e4": round(growth, 2),
        "bytes_per_rollout": round(last["bytes"]),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
