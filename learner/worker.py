"""The training loop of one rank: request a batch, step, write checkpoints, commit.

All ranks request the same step and get the same batch, so they need no broadcast. A
step becomes final in this order: optimizer step, checkpoint written, step on disk in the
ledger, checkpoint named, commit. Checkpoints are written in the background; after each step
the loop commits one that has completed, and only then may an older one go. A learner that
dies between any two of these resumes from its newest sound checkpoint, and the queue serves
the later training examples again.

A step with a non-finite gradient updates nothing. Its batch counts as consumed (the same
data would give the same gradient) and is logged as skipped.
"""

from __future__ import annotations

import json
import math
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common.config.learner import LearnerSettings
from common.errors import UserError
from common.metrics import MetricValues
from common.records import Rollout, unpack_rollout
from common.rundir import RunDir, append_jsonl, iter_jsonl, replacing
from learner.checkpoint_folder import CheckpointFolder
from learner.checkpoint_writer import CheckpointWriter
from learner.interfaces import Batch, BatchSource, Trainer, WeightPublisher
from learner.packing import rows_of_rank
from learner.schedule import learning_rate
from learner.teacher_inputs import TeacherInputBuilder
from learner.tracking import Trackers

_POLL_S = 0.2


class Learner:
    """One rank of the learner.

    Args:
        engine: this rank's training engine.
        source: the replay queue.
        settings: the learner section.
        run: folder for checkpoints and ``steps.jsonl``.
        model_dir: source of the tokenizer files of exported models.
        rank: this rank; 0 writes.
        log: receives a line for the run's log.
        build_teacher_inputs: builds the teacher inputs of a row; None without a teacher.
        publisher: sends the weights to rollout engines; None if they keep the base model.
    """

    def __init__(
        self,
        engine: Trainer,
        source: BatchSource,
        settings: LearnerSettings,
        run: RunDir,
        model_dir: Path,
        rank: int,
        log: Callable[[str], None],
        build_teacher_inputs: TeacherInputBuilder | None = None,
        publisher: WeightPublisher | None = None,
    ) -> None:
        self._build_teacher_inputs, self._publisher = build_teacher_inputs, publisher
        self._engine = engine
        self._source = source
        self._settings = settings
        self._run = run
        self._rank = rank
        self._log = log
        self._stop = threading.Event()
        self._done = 0
        self._waiting = ""
        # Identifies this learner to the ledger, however often its calls arrive.
        self._token = secrets.token_hex(8)
        self._generation = 0
        self._folder = CheckpointFolder(run.checkpoints)
        self._writer = CheckpointWriter(self._folder, model_dir, source.prepare)
        self._trackers = Trackers(settings, run) if rank == 0 else None
        self._saving_since = 0.0
        self._committed = 0
        self._skipped_in_a_row = 0
        self._publish_seconds: dict[str, float] = {}
        self._metrics: dict[str, float] = {
            "mixsd_learner_step": 0.0,
            "mixsd_learner_tokens_total": 0.0,
            "mixsd_learner_target_tokens_total": 0.0,
            "mixsd_learner_wait_seconds_total": 0.0,
            "mixsd_learner_skipped_total": 0.0,
        }

    @property
    def progress(self) -> float:
        """Steps, passes and checkpoints done by this process, and MiB of checkpoints written."""
        return self._done + self._engine.progress + self._writer.progress

    @property
    def milestone(self) -> float:
        """The last step that was taken; a resumed learner takes some again."""
        return self._metrics["mixsd_learner_step"]

    @property
    def waiting(self) -> str:
        """What the learner waits for, or empty."""
        return self._writer.waiting or self._waiting

    @property
    def is_disk_full(self) -> bool:
        """Whether the disk is too full for a checkpoint; training stops at the next one."""
        return self._writer.is_disk_full

    def drain(self) -> None:
        """Return from :meth:`run` after the step in progress.

        For a single rank only: several ranks would stop between different steps, so
        the controller kills the whole group instead.
        """
        self._stop.set()

    def metrics(self) -> MetricValues:
        """Current metrics; called from another thread."""
        if not self._publish_seconds:
            return dict(self._metrics)
        return {**self._metrics, "mixsd_learner_publish_seconds": self._publish_seconds}

    def run(self) -> int:
        """Train until the queue has no further step; returns the last committed one."""
        step = begun = self._committed = self._resume()
        if self._publisher is not None and not self._is_over(step + 1):
            self._publish(step, due=True)
        while not self._stop.is_set():
            batch = self._next_batch(step + 1)
            if batch is None or not batch.items:
                break
            step += 1
            self._train(step, batch)
            if self._rank == 0:
                self._source.note_trained(self._generation, step)
            if batch.left != 0:
                # No rollout uses the last weights.
                self._publish(step)
            self._commit(self._writer.finished())
            if self._settings.has_checkpoint(step):
                with_state = self._settings.has_state(step) or batch.left == 0
                self._save(step, with_state)
                begun = step if with_state else begun
        if begun != step and not self._stop.is_set():
            self._save(step)
        self._commit(self._written())
        self._writer.close()
        if step == self._settings.max_steps and self._rank == 0:
            self._log(f"training ends at step {step} (learner.max_steps)")
        if self._trackers is not None:
            self._trackers.close()
        return self._committed

    def _resume(self) -> int:
        """Continue from the newest sound checkpoint; the step to continue after."""
        self._waiting = "the newest checkpoint to be read"
        # Rank 0 alone chooses: what it moves aside, others could still find.
        chosen = self._restore() if self._rank == 0 else (0, 0)
        self._generation, step = self._engine.agree(chosen)
        if step:
            self._engine.load_state(self._folder.of(step))
            if self._rank == 0:
                self._log(f"learner resumes from step {step}")
        self._metrics["mixsd_learner_step"] = step
        self._engine.barrier()
        self._waiting = ""
        return step

    def _restore(self) -> tuple[int, int]:
        """Bring checkpoints, ledger and ``steps.jsonl`` to one step; (generation, step)."""
        generation = self._source.register(self._token)
        self._folder.sweep()
        found = self._folder.resume_point(self._source.last_step(), self._made_progress)
        for folder, reason in found.aside.items():
            kept = self._folder.set_aside(folder).relative_to(self._run.root)
            self._log(f"checkpoint {folder.name} is set aside as {kept}: {reason}")
            self._made_progress()
        with replacing(self._run.steps) as file:
            for line in iter_jsonl(self._run.steps):
                if line["step"] <= found.step:
                    file.write(json.dumps(line) + "\n")
        self._made_progress()
        remark = self._source.restore(generation, found.step)
        if remark:
            self._log(remark)
        return generation, found.step

    def _made_progress(self) -> None:
        self._done += 1

    def _is_over(self, step: int) -> bool:
        """Whether nothing is left to train; then no engine waits for weights either."""
        batch = self._source.sample(self._generation, step)
        return batch.ready and not batch.items

    def _next_batch(self, step: int) -> Batch | None:
        """Wait for the batch of ``step``; None if the learner is drained meanwhile."""
        began = time.monotonic()
        while not self._stop.is_set():
            batch = self._source.sample(self._generation, step)
            if batch.ready:
                self._metrics["mixsd_learner_wait_seconds_total"] += time.monotonic() - began
                self._waiting = ""
                return batch
            self._waiting = f"the batch of step {step}"
            if self._publisher is not None:
                self._publisher.check()
            self._commit(self._writer.finished())
            self._stop.wait(_POLL_S)
        return None

    def _train(self, step: int, batch: Batch) -> None:
        began = time.monotonic()
        rollouts = [unpack_rollout(payload) for _, payload in batch.items]
        examples = [(rollout.prompt_ids, rollout.target_ids) for rollout in rollouts]
        rows = rows_of_rank(examples, self._settings, self._rank)
        build_teacher_inputs = self._build_teacher_inputs
        teacher_inputs = (
            [build_teacher_inputs(row, rollouts) if row else None for row in rows]
            if build_teacher_inputs
            else []
        )
        num_targets = sum(len(rollout.target_ids) for rollout in rollouts)
        total_steps = batch.total and math.ceil(batch.total / self._settings.batch_size)
        lr = learning_rate(self._settings, step, total_steps)
        loss, norm = self._engine.step(rows, num_targets, lr, teacher_inputs)
        self._done += 1
        skipped = not math.isfinite(norm)
        self._guard(step, lr, skipped)
        seconds = time.monotonic() - began
        num_tokens = num_targets + sum(len(rollout.prompt_ids) for rollout in rollouts)
        self._metrics.update(
            mixsd_learner_step=step,
            **({} if skipped else {"mixsd_learner_loss": loss, "mixsd_learner_grad_norm": norm}),
            mixsd_learner_learning_rate=lr,
            mixsd_learner_step_seconds=seconds,
        )
        self._metrics["mixsd_learner_tokens_total"] += num_tokens
        self._metrics["mixsd_learner_target_tokens_total"] += num_targets
        if self._rank == 0:
            # JSON has no infinity, so a skipped step has no loss.
            values = {"loss": loss, "grad_norm": norm} if not skipped else {"skipped": True}
            values |= {"lr": lr, "seconds": seconds, "tokens": num_tokens}
            self._record(step, values, rollouts, batch)

    def _publish(self, step: int, due: bool = False) -> None:
        """Publish the weights after ``step``."""
        if self._publisher is not None and (due or self._publisher.is_due(step)):
            weights = self._engine.factors if self._publisher.adapters else self._engine.policy
            self._publish_seconds = self._publisher.publish(step, weights)
            self._metrics["mixsd_learner_published_version"] = step
            self._done += 1

    def _guard(self, step: int, lr: float, skipped: bool) -> None:
        """Count a skipped step; fail after too many in a row."""
        self._skipped_in_a_row = self._skipped_in_a_row + 1 if skipped else 0
        if not skipped:
            return
        self._metrics["mixsd_learner_skipped_total"] += 1
        if self._rank == 0:
            self._log(f"step {step} is skipped: its gradient is not finite")
        if self._skipped_in_a_row > self._settings.max_skipped:
            raise UserError(
                f"the gradient is not finite in {self._skipped_in_a_row} steps in a row, up to "
                f"step {step} (learner.max_skipped={self._settings.max_skipped}); "
                f"lower learner.lr (now {lr:g}) or check the data of these steps"
            )

    def _record(
        self, step: int, values: dict[str, Any], rollouts: list[Rollout], batch: Batch
    ) -> None:
        if self._trackers is not None:
            self._trackers.log(step, values)
        line = {
            "step": step,
            **values,
            "time": time.time(),
            "exposures": [
                [rollout.fact_id, rollout.draw, epoch]
                for rollout, (epoch, _) in zip(rollouts, batch.items, strict=True)
            ],
        }
        append_jsonl(self._run.steps, line)

    def _save(self, step: int, with_state: bool = True) -> None:
        """Start the checkpoint of ``step``, after the previous one is complete."""
        self._commit(self._written())
        self._saving_since = time.monotonic()
        self._writer.begin(self._engine, self._generation, step, with_state=with_state)
        stall = time.monotonic() - self._saving_since
        self._metrics["mixsd_learner_checkpoint_stall_seconds"] = stall

    def _written(self) -> int | None:
        """Wait for the checkpoint that is being written; its step, or None."""
        self._waiting = "the checkpoint to be written"
        step = self._writer.wait()
        self._waiting = ""
        return step

    def _commit(self, step: int | None) -> None:
        """Commit ``step``, whose checkpoint is complete; None does nothing."""
        if step is None:
            return
        self._metrics["mixsd_learner_checkpoint_seconds"] = time.monotonic() - self._saving_since
        if self._rank == 0:
            self._source.commit(self._generation, step)
            self._writer.retire(self._settings.keep_states, self._settings.keep_exports)
        self._done += 1
        self._committed = step
