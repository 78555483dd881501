"""Checkpoints written in the background, with parts from several ranks."""

from __future__ import annotations

import json
import threading
import time

import pytest
import torch

from learner import checkpoint_writer
from learner.checkpoint import discard_after, existing, newest_valid
from learner.checkpoint_writer import CheckpointWriter, TrainingState


class Rank:
    """A state source with fixed tensors."""

    def __init__(self, rank: int = 0, world_size: int = 1) -> None:
        self.rank, self.world_size = rank, world_size

    def snapshot(self) -> TrainingState:
        name = f"weight{self.rank}"
        return TrainingState(
            self.rank,
            self.world_size,
            {name: torch.full((2,), float(self.rank))},
            {f"master/{name}": torch.zeros(2)},
            7,
            {"config.json": b"{}"} if self.rank == 0 else {},
        )

    def barrier(self) -> None:
        pass


@pytest.fixture
def model_dir(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "tokenizer.json").write_text("{}")
    return folder


def writer(tmp_path, model_dir, **settings) -> CheckpointWriter:
    return CheckpointWriter(
        tmp_path / "runs", model_dir, **{"keep_states": 2, "keep_exports": None, **settings}
    )


def test_a_checkpoint_is_complete_and_hashed(tmp_path, model_dir):
    writing = writer(tmp_path, model_dir)
    writing.begin(Rank(), 3)
    assert writing.wait() == 3
    (found,) = existing(tmp_path / "runs")
    assert set(found.manifest["files"]) == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "state/rank-0.json",
        "state/rank-0.safetensors",
    }
    assert found.manifest["num_updates"] == 7
    assert found.damage() is None


def test_a_changed_byte_is_noticed_and_the_previous_checkpoint_is_used(tmp_path, model_dir):
    writing = writer(tmp_path, model_dir)
    for step in (1, 2):
        writing.begin(Rank(), step)
        writing.wait()
    with (tmp_path / "runs/step_2/model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x01")
    found, problems = newest_valid(tmp_path / "runs", last_step=2)
    assert found.step == 1
    assert problems == ["checkpoint step_2 is skipped: model.safetensors does not match its hash"]


def test_it_gets_its_name_only_after_every_rank_has_written_its_part(tmp_path, model_dir):
    first, second = (writer(tmp_path, model_dir) for _ in range(2))
    first.begin(Rank(0, 2), 5)
    assert first.finished() is None
    assert existing(tmp_path / "runs") == []
    second.begin(Rank(1, 2), 5)
    assert (first.wait(), second.wait()) == (5, 5)
    (found,) = existing(tmp_path / "runs")
    index = json.loads((found.folder / "model.safetensors.index.json").read_text())
    assert index["weight_map"] == {
        "weight0": "model-00001-of-00002.safetensors",
        "weight1": "model-00002-of-00002.safetensors",
    }


def test_training_goes_on_while_it_is_written(tmp_path, model_dir, monkeypatch):
    slow_disk = threading.Event()
    hash_file = checkpoint_writer._durable_sha256
    monkeypatch.setattr(
        checkpoint_writer, "_durable_sha256", lambda path: (slow_disk.wait(10), hash_file(path))[1]
    )
    writing = writer(tmp_path, model_dir)
    writing.begin(Rank(), 1)
    assert writing.finished() is None
    slow_disk.set()
    assert writing.wait() == 1
    assert writing.finished() is None


def test_a_failure_in_the_background_surfaces_in_the_loop(tmp_path, model_dir):
    writing = writer(tmp_path, model_dir)
    (tmp_path / "runs/step_4").mkdir(parents=True)
    (tmp_path / "runs/step_4/in the way").touch()
    writing.begin(Rank(), 4)
    with pytest.raises(OSError, match="not empty"):
        writing.wait()


def test_older_checkpoints_lose_their_state_then_everything(tmp_path, model_dir):
    writing = writer(tmp_path, model_dir, keep_states=1, keep_exports=2)
    for step in (1, 2, 3):
        writing.begin(Rank(), step)
        writing.wait()
    found = existing(tmp_path / "runs")
    assert [(each.step, each.resumable) for each in found] == [(3, True), (2, False)]


def test_unfinished_checkpoints_are_removed_on_resuming(tmp_path, model_dir):
    writing = writer(tmp_path, model_dir)
    for step in (1, 2):
        writing.begin(Rank(), step)
        writing.wait()
    (tmp_path / "runs/.step_3.partial").mkdir()
    discard_after(tmp_path / "runs", 1)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["step_1"]


def test_a_checkpoint_ahead_of_the_queue_is_skipped_with_a_reason(tmp_path, model_dir):
    """Its exposures are not in the ledger: resuming from it would train some of them twice."""
    writing = writer(tmp_path, model_dir)
    for step in (10, 20):
        writing.begin(Rank(), step)
        writing.wait()
    root = tmp_path / "runs"
    assert newest_valid(root, last_step=20)[0].step == 20
    found, problems = newest_valid(root, last_step=19)
    assert found.step == 10
    assert problems == [
        "checkpoint step_20 is skipped: the queue's file was cut short and has steps up to 19 only"
    ]
    assert newest_valid(root, last_step=0)[0] is None


def test_a_checkpoint_that_does_not_fit_waits_for_room(tmp_path, model_dir, monkeypatch):
    """safetensors raises its own error for a full disk, without errno."""
    full, durable = threading.Event(), checkpoint_writer._durable_sha256
    full.set()

    def broken(path):
        if full.is_set():
            raise RuntimeError("I/O error: No space left on device (os error 28)")
        return durable(path)

    monkeypatch.setattr(checkpoint_writer, "_durable_sha256", broken)
    monkeypatch.setattr(checkpoint_writer, "_RETRY_PAUSE_S", 0.01)
    writing = writer(tmp_path, model_dir)
    writing.begin(Rank(), 1)
    while not writing.waiting:
        time.sleep(0.01)
    assert writing.waiting == "disk space for checkpoint step_1"
    assert writing.finished() is None
    full.clear()
    assert writing.wait() == 1
    assert writing.waiting == ""
    assert existing(tmp_path / "runs")[0].damage() is None


def test_any_other_error_of_a_checkpoint_is_raised(tmp_path, model_dir, monkeypatch):
    def broken(path):
        raise RuntimeError("write failed")

    monkeypatch.setattr(checkpoint_writer, "_durable_sha256", broken)
    writing = writer(tmp_path, model_dir)
    writing.begin(Rank(), 1)
    with pytest.raises(RuntimeError, match="write failed"):
        writing.wait()
