"""The loop's order of steps, checkpoints and commits, with a fake queue and engine."""

from __future__ import annotations

import errno
import json
import math

import pytest
import torch

from common import durable
from common.config.learner import LearnerSettings
from common.errors import UserError
from common.records import Rollout, pack_rollout
from common.rundir import RunDir
from learner.checkpoint import existing
from learner.checkpoint_writer import TrainingState
from learner.interfaces import Batch
from learner.worker import Learner


class Queue:
    """Two exposures a step for a number of steps; records commits."""

    def __init__(self, run: RunDir, steps: int) -> None:
        self._run, self._steps = run, steps
        self.committed: list[int] = []
        self.prepared: list[int] = []
        self.trained: list[int] = []
        self.restored: list[int] = []
        self.tokens: list[str] = []

    def register(self, token: str) -> int:
        self.tokens.append(token)
        return len(self.tokens)

    def sample(self, generation: int, step: int) -> Batch:
        assert generation == len(self.tokens)
        if step > self._steps:
            return Batch(True, [], None, None)
        items = [(0, payload(f"f{step}-{n}")) for n in range(2)]
        return Batch(True, items, 2 * self._steps, 2 * (self._steps - step))

    def note_trained(self, generation: int, step: int) -> None:
        assert generation == len(self.tokens)
        self.trained.append(step)

    def prepare(self, generation: int, step: int) -> None:
        assert generation == len(self.tokens)
        assert step not in {found.step for found in existing(self._run.checkpoints)}
        self.prepared.append(step)

    def commit(self, generation: int, step: int) -> None:
        assert generation == len(self.tokens)
        found = {found.step: found for found in existing(self._run.checkpoints)}
        assert step in found
        # The one before may go only when this one is safe.
        assert not self.committed or found[self.committed[-1]].resumable
        self.committed.append(step)

    def restore(self, generation: int, step: int) -> str:
        assert generation == len(self.tokens)
        self.restored.append(step)
        return ""

    def last_step(self) -> int:
        return self._steps


class Engine:
    """Returns the given gradient norms."""

    def __init__(self, norms: list[float]) -> None:
        self._norms = iter(norms)
        self.progress = 0
        self.loaded: list[str] = []

    def step(self, rows, num_target_tokens, lr, teacher_inputs=()):
        return 2.0, next(self._norms)

    def load_state(self, folder):
        self.loaded.append(folder.name)

    def snapshot(self, with_state: bool = True) -> TrainingState:
        state = {"master/w": torch.zeros(1)} if with_state else {}
        return TrainingState(0, 1, {"w": torch.zeros(1)}, state, 1, {})

    def policy(self):
        return iter([("w", torch.zeros(1))])

    def factors(self):
        return iter([("lora_A", torch.zeros(1))])

    def barrier(self) -> None:
        pass

    def agree(self, values):
        return values


def payload(fact_id: str) -> bytes:
    return pack_rollout(Rollout(fact_id, 0, 0, [1, 2], [3, 4], [], [], [], [], None, 0, "", True))


def learner(
    tmp_path, norms: list[float], **settings
) -> tuple[Learner, Queue, Engine, RunDir, list]:
    run = RunDir(tmp_path / "run")
    run.create()
    queue, engine, lines = Queue(run, len(norms)), Engine(norms), []
    chosen = LearnerSettings(
        **{"device": "cpu", "batch_size": 2, "checkpoint_every": 2, **settings}
    )
    return Learner(engine, queue, chosen, run, tmp_path, 0, lines.append), queue, engine, run, lines


def test_steps_are_committed_after_their_checkpoint_is_complete(tmp_path):
    worker, queue, _, run, _ = learner(tmp_path, [1.0] * 5)
    assert worker.run() == 5
    assert queue.committed == queue.prepared == [2, 4, 5]
    lines = [json.loads(line) for line in run.steps.read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5]
    assert lines[0]["exposures"] == [["f1-0", 0, 0], ["f1-1", 0, 0]]


def test_exports_lie_between_the_checkpoints_that_can_be_resumed(tmp_path):
    worker, queue, _, run, _ = learner(tmp_path, [1.0] * 7, checkpoint_every=4, export_every=2)
    assert worker.run() == 7
    # Steps 2 and 6 are exported alone; step 7 is the last.
    assert queue.committed == [4, 7]
    assert queue.prepared == [2, 4, 6, 7]
    found = {one.step: one.resumable for one in existing(run.checkpoints)}
    assert found == {2: False, 4: True, 6: False, 7: True}


def test_the_last_step_can_be_resumed_though_only_an_export_is_due(tmp_path):
    worker, queue, _, run, _ = learner(tmp_path, [1.0] * 6, checkpoint_every=4, export_every=2)
    assert worker.run() == 6
    assert queue.committed == [4, 6]
    assert existing(run.checkpoints)[0].resumable
    assert not (run.checkpoints / ".superseded").exists()


def test_an_export_after_the_last_state_is_set_aside_by_a_learner_that_resumes(tmp_path):
    norms = [1.0] * 5 + [math.inf]
    often = {"checkpoint_every": 3, "export_every": 1}
    worker, _, _, run, _ = learner(tmp_path, norms, max_skipped=0, **often)
    with pytest.raises(UserError, match="not finite"):
        worker.run()
    assert {4, 3} <= {one.step for one in existing(run.checkpoints)}
    again, queue, engine, _, lines = learner(tmp_path, [1.0] * 6, **often)
    again.run()
    assert engine.loaded == ["step_3"]
    assert "checkpoint step_4 is set aside as checkpoints/.superseded/step_4: it has no" in (
        "".join(lines)
    )
    assert queue.restored == [3]


def test_a_second_learner_resumes_from_the_last_commit_and_drops_later_steps(tmp_path):
    learner(tmp_path, [1.0] * 3)[0].run()
    with (tmp_path / "run/steps.jsonl").open("a") as file:
        file.write(json.dumps({"step": 4, "exposures": []}) + "\n")
    worker, queue, engine, run, lines = learner(tmp_path, [1.0] * 3)
    assert worker.run() == 3
    assert (queue.restored, engine.loaded) == ([3], ["step_3"])
    assert lines == ["learner resumes from step 3"]
    assert len(run.steps.read_text().splitlines()) == 3


def test_training_that_ends_at_max_steps_has_a_last_checkpoint_and_says_so(tmp_path):
    # The queue has no step after the third.
    worker, queue, _, run, lines = learner(tmp_path, [1.0] * 3, max_steps=3)
    assert worker.run() == 3
    assert queue.committed == [2, 3]
    assert existing(run.checkpoints)[0].step == 3
    assert lines == ["training ends at step 3 (learner.max_steps)"]


def test_a_step_with_a_non_finite_gradient_is_consumed_and_logged_as_skipped(tmp_path):
    worker, queue, _, run, lines = learner(tmp_path, [1.0, math.inf, 1.0])
    assert worker.run() == 3
    assert queue.committed == [2, 3]
    second = json.loads(run.steps.read_text().splitlines()[1])
    assert second["skipped"] is True
    assert "loss" not in second
    assert len(second["exposures"]) == 2
    assert lines == ["step 2 is skipped: its gradient is not finite"]
    assert worker.metrics()["mixsd_learner_skipped_total"] == 1


def test_too_many_skipped_steps_in_a_row_end_the_run_and_a_good_one_resets_the_count(tmp_path):
    norms = [math.inf, 1.0, math.inf, math.inf]
    worker, *_ = learner(tmp_path, norms, max_skipped=1)
    with pytest.raises(UserError, match=r"2 steps in a row, up to step 4"):
        worker.run()


def test_a_failed_background_write_stops_the_loop_before_any_commit(tmp_path, monkeypatch):
    worker, queue, *_ = learner(tmp_path, [1.0] * 4)
    rename = durable.rename

    def broken(source, target):
        if target.name == "step_2":
            raise OSError(errno.EIO, "Input/output error")
        rename(source, target)

    monkeypatch.setattr(durable, "rename", broken)
    with pytest.raises(OSError, match="Input/output error"):
        worker.run()
    assert queue.committed == []


def test_the_only_state_goes_after_the_next_one_is_committed(tmp_path):
    """One state is kept; the fake queue above checks it in every commit."""
    worker, queue, _, run, _ = learner(tmp_path, [1.0] * 6, keep_states=1)
    assert worker.run() == 6
    assert queue.committed == [2, 4, 6]
    assert [(c.step, c.resumable) for c in existing(run.checkpoints)] == [
        *((6, True), (4, False), (2, False))
    ]


def test_a_learner_behind_whose_checkpoints_the_ledger_is_changes_nothing(tmp_path):
    learner(tmp_path, [1.0] * 4)[0].run()
    worker, queue, _, run, _ = learner(tmp_path, [1.0] * 3)
    before = sorted(run.root.rglob("*"))
    with pytest.raises(UserError, match=r"ends at step 3, before step_4; .*accept-older-ledger"):
        worker.run()
    assert (queue.restored, sorted(run.root.rglob("*"))) == ([], before)


def test_a_damaged_checkpoint_is_set_aside_said_and_trained_again(tmp_path):
    learner(tmp_path, [1.0] * 4)[0].run()
    run = RunDir(tmp_path / "run")
    (run.checkpoints / "step_4/manifest.json").write_text("{}")
    worker, queue, engine, _, lines = learner(tmp_path, [1.0] * 4)
    assert worker.run() == 4
    assert (queue.restored, engine.loaded) == ([2], ["step_2"])
    assert lines == [
        "checkpoint step_4 is set aside as checkpoints/.superseded/step_4: "
        "manifest.json is not one",
        "learner resumes from step 2",
    ]
    assert [c.step for c in existing(run.checkpoints)] == [4, 2]


class Publisher:
    """Every second version is due; records the order of publications and batches."""

    adapters = False

    def __init__(self, queue: Queue) -> None:
        self.calls: list[str] = []
        sample = queue.sample

        def noted(generation: int, step: int) -> Batch:
            self.calls.append(f"batch {step}")
            return sample(generation, step)

        queue.sample = noted

    def is_due(self, version: int) -> bool:
        return version % 2 == 0

    def publish(self, version: int, weights) -> dict[str, float]:
        assert [name for name, _ in weights()] == ["lora_A" if self.adapters else "w"]
        self.calls.append(f"weights {version}")
        return {"write": 0.5}

    def check(self) -> None: ...


def test_weights_are_published_when_due_before_the_next_batch_is_requested(tmp_path):
    worker, queue, *_ = learner(tmp_path, [1.0] * 3)
    publisher = worker._publisher = Publisher(queue)
    worker.run()
    assert publisher.calls == [
        # Whether there is anything to train, then the batch itself.
        *("batch 1", "weights 0", "batch 1"),
        *("batch 2", "weights 2", "batch 3", "batch 4"),
    ]
    assert worker.metrics()["mixsd_learner_published_version"] == 2
    assert worker.metrics()["mixsd_learner_publish_seconds"] == {"write": 0.5}


def test_a_publisher_of_adapters_gets_their_factors_and_no_weights(tmp_path):
    worker, queue, *_ = learner(tmp_path, [1.0])
    publisher = worker._publisher = Publisher(queue)
    publisher.adapters = True
    worker.run()
    assert "weights 0" in publisher.calls


def test_a_resumed_learner_publishes_at_once_though_no_version_is_due(tmp_path):
    learner(tmp_path, [1.0] * 3)[0].run()
    worker, queue, *_ = learner(tmp_path, [1.0] * 4)
    publisher = worker._publisher = Publisher(queue)
    worker.run()
    assert publisher.calls[:3] == ["batch 4", "weights 3", "batch 4"]


def test_a_learner_that_resumes_when_all_is_trained_publishes_nothing(tmp_path):
    learner(tmp_path, [1.0] * 3)[0].run()
    worker, queue, *_ = learner(tmp_path, [1.0] * 3)
    publisher = worker._publisher = Publisher(queue)
    worker.run()
    assert publisher.calls == ["batch 4", "batch 4"]


def test_event_files_hold_the_steps(tmp_path):
    worker, _, _, run, _ = learner(tmp_path, [1.0] * 2, tensorboard=True)
    worker.run()
    (events,) = run.tensorboard.iterdir()
    assert b"learner/loss" in events.read_bytes()
