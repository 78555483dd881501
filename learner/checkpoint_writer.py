"""Writes checkpoints in the background, one part a rank.

State is stored by parameter name, not by rank: float32 weights and Adam's moments in
safetensors. So any number of ranks, at any ZeRO stage, can resume from it. Each rank
writes the parameters it owns; no rank holds the whole model.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypedDict, cast

from common.errors import is_disk_full
from common.rundir import read_json, write_atomic
from common.weights import file_hash
from learner.checkpoint import MANIFEST, STATE, Manifest, existing

_INDEX = "model.safetensors.index.json"
_PART_DEADLINE_S = 600.0
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

    ``weights`` and ``state`` map names to tensors. ``files`` maps relative paths to bytes:
    the model's configuration and adapters; only rank 0 has them.
    """

    rank: int
    world_size: int
    weights: Mapping[str, Any]
    state: Mapping[str, Any]
    num_updates: int
    files: Mapping[str, bytes]


class StateSource(Protocol):
    """The part of the training engine that a checkpoint needs; all ranks call together."""

    def snapshot(self) -> TrainingState: ...
    def barrier(self) -> None: ...


class _Part(TypedDict):
    """What one rank reports to rank 0: its weights' names and its files' SHA-256."""

    weights: list[str]
    hashes: dict[str, str]


class CheckpointWriter:
    """Writes checkpoints in the background; all ranks make the same calls.

    Training stops only for the snapshot. A step may be committed only after
    :meth:`finished` or :meth:`wait` has returned it. On a full disk the write is retried
    until there is space.

    Args:
        root: folder of the checkpoints.
        model_dir: source of the tokenizer files.
        keep_states: newest checkpoints that keep their training state.
        keep_exports: newest checkpoints that are kept at all; None keeps every one.
    """

    def __init__(
        self, root: Path, model_dir: Path, *, keep_states: int, keep_exports: int | None
    ) -> None:
        self._root = root
        self._model_dir = model_dir
        self._keep_states = keep_states
        self._keep_exports = keep_exports
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[int] | None = None
        self._blocked_step: int | None = None

    @property
    def waiting(self) -> str:
        """What the pending checkpoint waits for, or empty."""
        step = self._blocked_step
        return "" if step is None else f"disk space for checkpoint step_{step}"

    def begin(self, source: StateSource, step: int) -> None:
        """Take a snapshot at ``step`` and start to write it; no write may be pending."""
        assert self._pending is None
        staging = self._root / f".step_{step}.partial"
        snapshot = source.snapshot()
        if snapshot.rank == 0:
            shutil.rmtree(staging, ignore_errors=True)
            (staging / STATE).mkdir(parents=True)
        source.barrier()
        self._pending = self._thread.submit(self._write_with_retries, snapshot, staging, step)

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

    def _write_with_retries(self, snapshot: TrainingState, staging: Path, step: int) -> int:
        pause = _RETRY_PAUSE_S
        while True:
            try:
                self._write(snapshot, staging, step)
                self._blocked_step = None
                return step
            except Exception as error:
                if not is_disk_full(error):
                    raise
            self._blocked_step = step
            for name in _own_files(snapshot):
                (staging / name).unlink(missing_ok=True)
            time.sleep(pause)
            pause = min(2 * pause, _MAX_RETRY_PAUSE_S)

    def _write(self, snapshot: TrainingState, staging: Path, step: int) -> None:
        from safetensors.torch import save_file

        own = _own_files(snapshot)
        save_file(dict(snapshot.weights), staging / own[0], metadata={"format": "pt"})
        save_file(dict(snapshot.state), staging / own[1])
        for name, content in snapshot.files.items():
            (staging / name).parent.mkdir(exist_ok=True)
            (staging / name).write_bytes(content)
        if snapshot.rank == 0:
            _copy_tokenizer(self._model_dir, staging)
        part: _Part = {
            "weights": list(snapshot.weights),
            "hashes": {name: _durable_sha256(staging / name) for name in own},
        }
        write_atomic(_part_file(staging, snapshot.rank), json.dumps(part))
        if snapshot.rank == 0:
            self._complete(snapshot, staging, step)

    def _complete(self, snapshot: TrainingState, staging: Path, step: int) -> None:
        """Wait for every rank's part, write the manifest and give the folder its name."""
        parts = [_await_part(staging, rank) for rank in range(snapshot.world_size)]
        if snapshot.world_size > 1:
            write_atomic(staging / _INDEX, _index(parts))
        hashes = {name: digest for part in parts for name, digest in part["hashes"].items()}
        hashes |= {
            str(path.relative_to(staging)): _durable_sha256(path)
            for path in sorted(staging.rglob("*"))
            if path.is_file() and str(path.relative_to(staging)) not in hashes
        }
        manifest: Manifest = {"step": step, "num_updates": snapshot.num_updates, "files": hashes}
        write_atomic(staging / MANIFEST, json.dumps(manifest, indent=1))
        staging.rename(self._root / f"step_{step}")
        self._retire()

    def _retire(self) -> None:
        found = existing(self._root)
        for old in found[self._keep_states :]:
            shutil.rmtree(old.folder / STATE, ignore_errors=True)
        if self._keep_exports is not None:
            for old in found[max(self._keep_exports, self._keep_states) :]:
                shutil.rmtree(old.folder, ignore_errors=True)


def _copy_tokenizer(source: Path, target: Path) -> None:
    for pattern in _TOKENIZER_FILES:
        for path in source.glob(pattern):
            shutil.copy2(path, target / path.name)


def _weights_name(rank: int, world_size: int) -> str:
    if world_size == 1:
        return "model.safetensors"
    return f"model-{rank + 1:05d}-of-{world_size:05d}.safetensors"


def _state_name(rank: int) -> str:
    return f"{STATE}/rank-{rank}.safetensors"


def _own_files(snapshot: TrainingState) -> list[str]:
    """A rank's weights and state, relative to the checkpoint."""
    return [_weights_name(snapshot.rank, snapshot.world_size), _state_name(snapshot.rank)]


def _part_file(staging: Path, rank: int) -> Path:
    return staging / STATE / f"rank-{rank}.json"


def _await_part(staging: Path, rank: int) -> _Part:
    deadline = time.monotonic() + _PART_DEADLINE_S
    while (part := read_json(_part_file(staging, rank))) is None:
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"{staging}: rank {rank} did not write its part within {_PART_DEADLINE_S:g} s"
            )
        time.sleep(_POLL_S)
    return cast("_Part", part)


def _index(parts: list[_Part]) -> str:
    """The file of each weight, in the format of Hugging Face loaders."""
    files = {
        name: _weights_name(rank, len(parts))
        for rank, part in enumerate(parts)
        for name in part["weights"]
    }
    return json.dumps({"metadata": {}, "weight_map": files}, indent=1)


def _durable_sha256(path: Path) -> str:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return file_hash(path)
