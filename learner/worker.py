"""One rank of the learner: takes batches, steps, writes checkpoints, commits.

Waits for the queue whenever it holds no full batch; nobody waits for it. All
ranks ask for the same step and get the same batch, so they need no broadcast.
A step becomes final in the order: optimizer step, checkpoint on disk, commit.
A learner that dies between any two of these continues from its newest sound
checkpoint, and the queue hands the later exposures out again.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from common.config import LearnerSettings
from common.metrics import Snapshot
from common.records import Rollout, unpack_rollout
from common.rundir import RunDir, read_jsonl, write_atomic
from learner import checkpoint
from learner.packing import Row, pack, share
from learner.schedule import learning_rate

_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Batch:
    """Reply to "give me step N": (epoch, packed rollout) pairs.

    ``ready`` false: wait. Ready and empty: training is over.
    ``total``: exposures of the whole run, once they are known.
    """

    ready: bool
    items: list[tuple[int, bytes]]
    total: int | None


class BatchSource(Protocol):
    """The queue as the learner sees it."""

    def sample(self, step: int) -> Batch: ...
    def commit(self, step: int) -> None: ...
    def restore(self, step: int) -> None: ...
    def last_step(self) -> int: ...


class Trainer(checkpoint.Exporter, Protocol):
    """What a rank needs of :class:`learner.engine.TrainingEngine`."""

    def step(
        self, rows: list[Row | None], num_target_tokens: int, lr: float
    ) -> tuple[float, float]: ...
    def load_state(self, folder: Path) -> None: ...


class Learner:
    """One rank.

    Args:
        engine: this rank's training engine.
        source: the queue.
        settings: the learner section.
        run: where checkpoints and ``steps.jsonl`` go.
        model_dir: where the tokenizer of exported models comes from.
        rank: this rank; 0 writes.
        say: takes a line for the run's log.
    """

    def __init__(
        self,
        engine: Trainer,
        source: BatchSource,
        settings: LearnerSettings,
        run: RunDir,
        model_dir: Path,
        rank: int,
        say: Callable[[str], None],
    ) -> None:
        self._engine = engine
        self._source = source
        self._settings = settings
        self._run = run
        self._model_dir = model_dir
        self._rank = rank
        self._say = say
        self._stop = threading.Event()
        self._done = 0
        self._waiting = ""
        self._metrics: dict[str, float] = {
            "mixsd_learner_step": 0.0,
            "mixsd_learner_tokens_total": 0.0,
            "mixsd_learner_target_tokens_total": 0.0,
            "mixsd_learner_wait_seconds_total": 0.0,
        }

    @property
    def progress(self) -> float:
        """Steps and checkpoints done by this process."""
        return self._done

    @property
    def waiting(self) -> str:
        """What it waits for, or empty."""
        return self._waiting

    def drain(self) -> None:
        """Return from :meth:`run` after the step in progress.

        Ranks stop together only if all are told between the same steps, so a
        group of several is ended instead.
        """
        self._stop.set()

    def snapshot(self) -> Snapshot:
        """Current metrics; called from another thread."""
        return dict(self._metrics)

    def run(self) -> int:
        """Train until the exposures are used up; returns the last step."""
        step = self._resume()
        saved = step
        while not self._stop.is_set():
            batch = self._next_batch(step + 1)
            if batch is None:
                return saved
            if not batch.items:
                break
            step += 1
            self._train(step, batch)
            if step % self._settings.checkpoint_every == 0:
                self._save(step)
                saved = step
        if saved != step and not self._stop.is_set():
            self._save(step)
        return step

    def _resume(self) -> int:
        found, problems = checkpoint.newest_sound(self._run.checkpoints, self._source.last_step())
        # Every rank has looked before the first one changes anything.
        self._engine.barrier()
        step = found.step if found else 0
        if self._rank == 0:
            for problem in problems:
                self._say(problem)
            checkpoint.discard_after(self._run.checkpoints, step)
            kept = [line for line in read_jsonl(self._run.steps) if line["step"] <= step]
            write_atomic(self._run.steps, "".join(json.dumps(line) + "\n" for line in kept))
            self._source.restore(step)
        if found:
            self._engine.load_state(found.folder / checkpoint.STATE)
            if self._rank == 0:
                self._say(f"learner resumes from step {step}")
        self._metrics["mixsd_learner_step"] = step
        self._engine.barrier()
        return step

    def _next_batch(self, step: int) -> Batch | None:
        """The batch of ``step``; None if told to stop meanwhile."""
        began = time.monotonic()
        while not self._stop.is_set():
            batch = self._source.sample(step)
            if batch.ready:
                self._metrics["mixsd_learner_wait_seconds_total"] += time.monotonic() - began
                self._waiting = ""
                return batch
            self._waiting = f"the batch of step {step}"
            self._stop.wait(_POLL_S)
        return None

    def _train(self, step: int, batch: Batch) -> None:
        began = time.monotonic()
        rollouts = [unpack_rollout(payload) for _, payload in batch.items]
        examples = [(rollout.prompt_ids, rollout.target_ids) for rollout in rollouts]
        rows = share(pack(examples, self._settings.row_tokens), self._settings.ranks)[self._rank]
        num_targets = sum(len(rollout.target_ids) for rollout in rollouts)
        total_steps = batch.total and math.ceil(batch.total / self._settings.batch_size)
        lr = learning_rate(self._settings, step, total_steps)
        loss, norm = self._engine.step(rows, num_targets, lr)
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the loss of step {step} is {loss}; lower learner.lr (now {lr:g})"
            )
        self._done += 1
        seconds = time.monotonic() - began
        num_tokens = num_targets + sum(len(rollout.prompt_ids) for rollout in rollouts)
        self._metrics.update(
            mixsd_learner_step=step,
            mixsd_learner_loss=loss,
            mixsd_learner_grad_norm=norm,
            mixsd_learner_learning_rate=lr,
            mixsd_learner_step_seconds=seconds,
        )
        self._metrics["mixsd_learner_tokens_total"] += num_tokens
        self._metrics["mixsd_learner_target_tokens_total"] += num_targets
        if self._rank == 0:
            self._record(step, loss, norm, lr, seconds, num_tokens, rollouts, batch)

    def _record(
        self,
        step: int,
        loss: float,
        norm: float,
        lr: float,
        seconds: float,
        num_tokens: int,
        rollouts: list[Rollout],
        batch: Batch,
    ) -> None:
        line = {
            "step": step,
            "loss": loss,
            "grad_norm": norm,
            "lr": lr,
            "seconds": seconds,
            "tokens": num_tokens,
            "time": time.time(),
            "exposures": [
                [rollout.fact_id, rollout.draw, epoch]
                for rollout, (epoch, _) in zip(rollouts, batch.items, strict=True)
            ],
        }
        with self._run.steps.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def _save(self, step: int) -> None:
        began = time.monotonic()
        checkpoint.write(
            self._engine,
            self._run.checkpoints,
            step,
            self._model_dir,
            first_rank=self._rank == 0,
            keep_states=self._settings.keep_states,
        )
        if self._rank == 0:
            self._source.commit(step)
        self._done += 1
        self._metrics["mixsd_learner_checkpoint_seconds"] = time.monotonic() - began
