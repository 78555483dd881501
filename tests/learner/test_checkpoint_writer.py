"""Checkpoints written in the background, with parts from several ranks."""

from __future__ import annotations

import json
import threading
import time

import pytest
import torch

from common import durable
from common.ledger import LedgerUnavailable, StaleLearner
from learner import checkpoint_writer
from learner.checkpoint import existing
from learner.checkpoint_folder import CheckpointFolder
from learner.checkpoint_writer import CheckpointWriter, TrainingState


class Rank:
    """A state source with fixed tensors."""

    def __init__(self, rank: int = 0, world_size: int = 1) -> None:
        self.rank, self.world_size = rank, world_size

    def snapshot(self, with_state: bool = True) -> TrainingState:
        name = f"weight{self.rank}"
        return TrainingState(
            self.rank,
            self.world_size,
            {name: torch.full((2,), float(self.rank))},
            {f"master/{name}": torch.zeros(2)} if with_state else {},
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


def writer(tmp_path, model_dir, prepare=lambda generation, step: None) -> CheckpointWriter:
    return CheckpointWriter(CheckpointFolder(tmp_path / "runs"), model_dir, prepare)


def test_a_checkpoint_is_complete_and_hashed(tmp_path, model_dir):
    writing = writer(tmp_path, model_dir)
    writing.begin(Rank(), 1, 3)
    assert writing.wait() == 3
    (found,) = existing(tmp_path / "runs")
    assert set(found.manifest.files) == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "state/rank-0.json",
        "state/rank-0.safetensors",
    }
    assert found.manifest.num_updates == 7
    found.verify()


def test_an_export_has_no_state_and_nothing_to_commit(tmp_path, model_dir):
    asked = []
    writing = writer(tmp_path, model_dir, lambda *place: asked.append(place))
    writing.begin(Rank(), 1, 3, with_state=False)
    assert writing.wait() is None
    (found,) = existing(tmp_path / "runs")
    assert not found.resumable
    assert "state/rank-0.safetensors" not in found.manifest.files
    assert (found.folder / "model.safetensors").is_file()
    # Its steps are on disk in the ledger all the same, or it would be ahead of it.
    assert asked == [(1, 3)]
    found.verify()


def test_it_gets_its_name_only_after_every_rank_has_written_its_part(tmp_path, model_dir):
    first, second = (writer(tmp_path, model_dir) for _ in range(2))
    first.begin(Rank(0, 2), 1, 5)
    assert first.finished() is None
    assert existing(tmp_path / "runs") == []
    second.begin(Rank(1, 2), 1, 5)
    assert (first.wait(), second.wait()) == (5, 5)
    (found,) = existing(tmp_path / "runs")
    index = json.loads((found.folder / "model.safetensors.index.json").read_text())
    assert index["weight_map"] == {
        "weight0": "model-00001-of-00002.safetensors",
        "weight1": "model-00002-of-00002.safetensors",
    }


def test_training_goes_on_while_it_is_written(tmp_path, model_dir, monkeypatch):
    slow_disk = threading.Event()
    hash_file = checkpoint_writer.file_hash
    monkeypatch.setattr(
        checkpoint_writer, "file_hash", lambda path: (slow_disk.wait(10), hash_file(path))[1]
    )
    writing = writer(tmp_path, model_dir)
    writing.begin(Rank(), 1, 1)
    assert writing.finished() is None
    slow_disk.set()
    assert writing.wait() == 1
    assert writing.finished() is None


def test_the_ledger_is_asked_before_the_name_is_given(tmp_path, model_dir):
    asked = []

    def prepare(generation, step):
        assert existing(tmp_path / "runs") == []
        asked.append((generation, step))

    writing = writer(tmp_path, model_dir, prepare)
    writing.begin(Rank(), 4, 8)
    writing.wait()
    assert asked == [(4, 8)]


def test_a_learner_that_the_ledger_refuses_names_nothing(tmp_path, model_dir):
    def refuse(generation, step):
        raise StaleLearner("learner 1 has a successor, learner 2")

    writing = writer(tmp_path, model_dir, refuse)
    writing.begin(Rank(), 1, 8)
    with pytest.raises(StaleLearner):
        writing.wait()
    assert existing(tmp_path / "runs") == []


def test_a_rank_that_is_slow_is_named_and_waited_for(tmp_path, model_dir):
    first, second = (writer(tmp_path, model_dir) for _ in range(2))
    first.begin(Rank(0, 2), 1, 5)
    while not first.waiting:
        time.sleep(0.01)
    assert first.waiting == "rank 1's part of checkpoint step_5"
    assert not first.is_disk_full
    second.begin(Rank(1, 2), 1, 5)
    assert (first.wait(), first.waiting) == (5, "")


def test_a_checkpoint_that_does_not_fit_waits_for_room(tmp_path, model_dir, monkeypatch):
    """safetensors raises its own error for a full disk, without errno."""
    full, durable = threading.Event(), checkpoint_writer.file_hash
    full.set()

    def broken(path):
        if full.is_set():
            raise RuntimeError("I/O error: No space left on device (os error 28)")
        return durable(path)

    monkeypatch.setattr(checkpoint_writer, "file_hash", broken)
    monkeypatch.setattr(checkpoint_writer, "_RETRY_PAUSE_S", 0.01)
    writing = writer(tmp_path, model_dir)
    writing.begin(Rank(), 1, 1)
    while not writing.waiting:
        time.sleep(0.01)
    assert (writing.waiting, writing.is_disk_full) == ("disk space for checkpoint step_1", True)
    assert writing.finished() is None
    full.clear()
    assert writing.wait() == 1
    assert (writing.waiting, writing.is_disk_full) == ("", False)
    existing(tmp_path / "runs")[0].verify()


def test_files_of_a_part_that_was_told_stay_though_its_disk_is_full_in_that_moment(
    tmp_path, model_dir, monkeypatch
):
    """The part has its name, and then the folder cannot be forced to disk."""
    monkeypatch.setattr(checkpoint_writer, "_RETRY_PAUSE_S", 0.01)
    sync, full = durable.sync, threading.Event()

    def failing(path):
        if path.name == "state" and (path / "rank-1.json").exists() and not full.is_set():
            full.set()
            raise OSError(28, "No space left on device")
        sync(path)

    second = writer(tmp_path, model_dir)
    folder = CheckpointFolder(tmp_path / "runs")
    (folder.staging(5, 1) / "state").mkdir(parents=True)
    monkeypatch.setattr(durable, "sync", failing)
    second.begin(Rank(1, 2), 1, 5)
    assert second.wait() == 5
    assert full.is_set()
    for name in ("model-00002-of-00002.safetensors", "state/rank-1.safetensors"):
        assert (folder.staging(5, 1) / name).exists()


def test_rank_0_relies_on_nothing_that_another_rank_takes_back(tmp_path, model_dir, monkeypatch):
    """Rank 1 tries again and again for room; rank 0 has read its part meanwhile."""
    monkeypatch.setattr(checkpoint_writer, "_RETRY_PAUSE_S", 0.01)
    sync, refusals = durable.sync, [3]

    def failing(path):
        if path.name == "state" and (path / "rank-1.json").exists() and refusals[0]:
            refusals[0] -= 1
            raise OSError(28, "No space left on device")
        sync(path)

    monkeypatch.setattr(durable, "sync", failing)
    first, second = (writer(tmp_path, model_dir) for _ in range(2))
    first.begin(Rank(0, 2), 1, 5)
    second.begin(Rank(1, 2), 1, 5)
    assert (first.wait(), second.wait()) == (5, 5)
    (found,) = existing(tmp_path / "runs")
    found.verify()


def test_a_ledger_that_does_not_fit_on_the_disk_is_asked_again(tmp_path, model_dir, monkeypatch):
    monkeypatch.setattr(checkpoint_writer, "_RETRY_PAUSE_S", 0.01)
    asked = []

    def prepare(generation, step):
        asked.append(step)
        if len(asked) == 1:
            raise LedgerUnavailable("replay.sqlite: database or disk is full; nothing was changed")

    writing = writer(tmp_path, model_dir, prepare)
    writing.begin(Rank(), 1, 3)
    assert writing.wait() == 3
    assert asked == [3, 3]
    (found,) = existing(tmp_path / "runs")
    found.verify()


def test_any_other_error_of_a_checkpoint_is_raised(tmp_path, model_dir, monkeypatch):
    def broken(path):
        raise RuntimeError("write failed")

    monkeypatch.setattr(checkpoint_writer, "file_hash", broken)
    writing = writer(tmp_path, model_dir)
    writing.begin(Rank(), 1, 1)
    with pytest.raises(RuntimeError, match="write failed"):
        writing.wait()
