"""Writes checkpoints in the background, one part a rank.

State is stored by parameter name, not by rank: float32 weights and Adam's moments in
safetensors. So any number of ranks, at any ZeRO stage, can resume from it. Each rank
writes the parameters it owns; no rank holds the whole model.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypedDict, cast

from common import durable
from common.errors import is_disk_full
from common.rundir import read_json, write_atomic
from common.weights import file_hash
from learner.checkpoint import MANIFEST, STATE, Manifest, state_name
from learner.checkpoint_folder import CheckpointFolder

_INDEX = "model.safetensors.index.json"
_POLL_S = 0.05
# Pauses between retries on a full disk: the first one, doubled up to the longest.
_RETRY_PAUSE_S, _MAX_RETRY_PAUSE_S = 1.0, 60.0
# Every file that a tokenizer of any kind is saved as.
_TOKENIZER_FILES = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
    "vocab*",
    "merges.txt",
    "*.model",
    "generation_config.json",
)


@dataclass(frozen=True, slots=True)
class TrainingState:
    """One rank's part of a checkpoint, copied to CPU memory.

    ``weights`` and ``state`` map names to tensors; ``state`` is empty in an export. ``files``
    maps relative paths to bytes: the model's configuration and adapters; only rank 0 has them.
    """

    rank: int
    world_size: int
    weights: Mapping[str, Any]
    state: Mapping[str, Any]
    num_updates: int
    files: Mapping[str, bytes]


class StateSource(Protocol):
    """The part of the training engine that a checkpoint needs; all ranks call together."""

    def snapshot(self, with_state: bool) -> TrainingState: ...
    def barrier(self) -> None: ...


class _Part(TypedDict):
    """What one rank reports to rank 0: its weights' names and its files' SHA-256."""

    weights: list[str]
    hashes: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Write:
    """One rank's share of writing one checkpoint."""

    snapshot: TrainingState
    staging: Path
    generation: int
    step: int

    def is_told(self) -> bool:
        """Whether rank 0 may know of this rank's files, so that they must stay.

        A try can fail after that: the name is there, and the disk has no room to keep it.
        """
        return _part_file(self.staging, self.snapshot.rank).exists() or not self.staging.exists()


class CheckpointWriter:
    """Writes checkpoints in the background; all ranks make the same calls.

    Training stops only for the snapshot. A step may be committed only after
    :meth:`finished` or :meth:`wait` has returned it; they return None for an export. On a full
    disk the write is retried until there is space.

    Args:
        folder: of the checkpoints.
        model_dir: source of the tokenizer files.
        prepare: the queue's, called on rank 0 before a checkpoint gets its name.

    Attributes:
        waiting: what the pending checkpoint waits for, or empty.
        is_disk_full: whether it waits for room on the disk.
    """

    def __init__(
        self, folder: CheckpointFolder, model_dir: Path, prepare: Callable[[int, int], None]
    ) -> None:
        self._folder = folder
        self._model_dir = model_dir
        self._prepare = prepare
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[int | None] | None = None
        self._files: list[Path] = []
        self._num_done = 0
        self.waiting = ""
        self.is_disk_full = False

    @property
    def progress(self) -> float:
        """Files on disk, removals, and MiB of those files of its own that this rank wrote last."""
        sizes = 0
        for path in self._files:
            with contextlib.suppress(FileNotFoundError):
                sizes += path.stat().st_size
        return self._num_done + sizes / 2**20

    def begin(
        self, source: StateSource, generation: int, step: int, *, with_state: bool = True
    ) -> None:
        """Take a snapshot at ``step`` and start to write it; no write may be pending.

        Args:
            source: the training engine.
            generation: of this learner in the ledger.
            step: the last step that the weights have taken.
            with_state: False: an export, from which training cannot resume.
        """
        assert self._pending is None
        staging = self._folder.staging(step, generation)
        write = _Write(source.snapshot(with_state), staging, generation, step)
        if write.snapshot.rank == 0:
            shutil.rmtree(write.staging, ignore_errors=True)
            (write.staging / STATE).mkdir(parents=True)
        source.barrier()
        self._files = [write.staging / name for name in _own_files(write.snapshot)]
        self._pending = self._thread.submit(self._write_with_retries, write)

    def finished(self) -> int | None:
        """The step whose checkpoint has completed since the last call, else None.

        Raises:
            Exception: the background write failed with it, often an OSError.
        """
        return self.wait() if self._pending is not None and self._pending.done() else None

    def wait(self) -> int | None:
        """Like :meth:`finished`, but waits for a pending write."""
        if self._pending is None:
            return None
        pending, self._pending = self._pending, None
        return pending.result()

    def retire(self, keep_states: int, keep_exports: int | None) -> None:
        """Like :meth:`CheckpointFolder.retire`, in the background; the newest is committed."""
        self._thread.submit(self._folder.retire, keep_states, keep_exports, self._made_progress)

    def close(self) -> None:
        """Wait for all work in the background."""
        self._thread.shutdown()

    def _write_with_retries(self, write: _Write) -> int | None:
        pause = _RETRY_PAUSE_S
        while True:
            try:
                self._write(write)
                return write.step if write.snapshot.state else None
            except Exception as error:
                if not is_disk_full(error):
                    raise
            self.waiting = f"disk space for checkpoint step_{write.step}"
            self.is_disk_full = True
            if not write.is_told():
                for path in self._files:
                    path.unlink(missing_ok=True)
            time.sleep(pause)
            pause = min(2 * pause, _MAX_RETRY_PAUSE_S)

    def _write(self, write: _Write) -> None:
        if not write.is_told():
            self._write_part(write)
        self.waiting, self.is_disk_full = "", False
        if write.snapshot.rank == 0:
            if write.staging.exists():
                self._complete(write)
            self._folder.publish(write.staging, write.step)

    def _write_part(self, write: _Write) -> None:
        """Write this rank's files, and last the one that tells rank 0 of them."""
        from safetensors.torch import save_file

        snapshot, staging = write.snapshot, write.staging
        own = _own_files(snapshot)
        save_file(dict(snapshot.weights), staging / own[0], metadata={"format": "pt"})
        if snapshot.state:
            save_file(dict(snapshot.state), staging / own[1])
        for name, content in snapshot.files.items():
            (staging / name).parent.mkdir(exist_ok=True)
            (staging / name).write_bytes(content)
        if snapshot.rank == 0:
            _copy_tokenizer(self._model_dir, staging)
        part: _Part = {
            "weights": list(snapshot.weights),
            "hashes": {name: self._durable_sha256(staging / name) for name in own},
        }
        self._write_text(_part_file(staging, snapshot.rank), json.dumps(part))

    def _complete(self, write: _Write) -> None:
        """Wait for every rank's part, write the manifest and bring all to disk."""
        staging = write.staging
        parts = [self._await_part(write, rank) for rank in range(write.snapshot.world_size)]
        if len(parts) > 1:
            self._write_text(staging / _INDEX, _index(parts))
        hashes = {name: digest for part in parts for name, digest in part["hashes"].items()}
        others = {
            str(path.relative_to(staging)): path
            for path in sorted(staging.rglob("*"))
            if path.is_file()
        }
        for name, path in others.items():
            # An earlier try may have left a manifest.
            if name not in hashes and name != MANIFEST:
                hashes[name] = self._durable_sha256(path)
        manifest = Manifest.of(write.step, write.snapshot.num_updates, hashes)
        self._write_text(staging / MANIFEST, json.dumps(manifest.to_json(), indent=1))
        for folder in (staging, *(path for path in staging.rglob("*") if path.is_dir())):
            self._sync(folder)
        self._prepare(write.generation, write.step)

    def _made_progress(self) -> None:
        self._num_done += 1

    def _write_text(self, path: Path, text: str) -> None:
        write_atomic(path, text)
        self._made_progress()

    def _sync(self, path: Path) -> None:
        durable.sync(path)
        self._made_progress()

    def _durable_sha256(self, path: Path) -> str:
        self._sync(path)
        return file_hash(path)

    def _await_part(self, write: _Write, rank: int) -> _Part:
        """What ``rank`` has written; without a deadline, since its disk may be full.

        If it died, the controller ends this rank too.
        """
        while (part := read_json(_part_file(write.staging, rank))) is None:
            self.waiting = f"rank {rank}'s part of checkpoint step_{write.step}"
            time.sleep(_POLL_S)
        self.waiting = ""
        return cast("_Part", part)


def _copy_tokenizer(source: Path, target: Path) -> None:
    for pattern in _TOKENIZER_FILES:
        for path in source.glob(pattern):
            shutil.copy2(path, target / path.name)


def _weights_name(rank: int, world_size: int) -> str:
    if world_size == 1:
        return "model.safetensors"
    return f"model-{rank + 1:05d}-of-{world_size:05d}.safetensors"


def _own_files(snapshot: TrainingState) -> list[str]:
    """A rank's weights and state, relative to the checkpoint."""
    weights = _weights_name(snapshot.rank, snapshot.world_size)
    return [weights, state_name(snapshot.rank)] if snapshot.state else [weights]


def _part_file(staging: Path, rank: int) -> Path:
    return staging / STATE / f"rank-{rank}.json"


def _index(parts: list[_Part]) -> str:
    """The file of each weight, in the format of Hugging Face loaders."""
    files = {
        name: _weights_name(rank, len(parts))
        for rank, part in enumerate(parts)
        for name in part["weights"]
    }
    return json.dumps({"metadata": {}, "weight_map": files}, indent=1)
