"""Checkpoints: immutable folders that load as Hugging Face models.

``step_N/`` holds the exported model and tokenizer, ``state/`` with what it
takes to resume, and ``manifest.json``: step, and the SHA-256 of every file. A
folder is built under another name and renamed when complete, so what is called
``step_N`` is whole; hashes tell if it still is.

State is kept by parameter name, not by rank: float32 weights and Adam's moments
in safetensors. So any number of ranks, at any ZeRO stage, can continue from it.
Each rank writes the parameters it is given; none holds the whole model.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from common.errors import lacks_room
from common.rundir import read_json, write_atomic
from common.weights import file_hash, weights_hash

STATE = "state"
_MANIFEST = "manifest.json"
_INDEX = "model.safetensors.index.json"
_PART_DEADLINE_S = 600.0
_POLL_S = 0.05
# Between tries on a full disk: the first pause, doubled up to the longest.
_ROOM_PAUSE_S, _LONGEST_ROOM_PAUSE_S = 1.0, 60.0
# Everything a tokenizer is saved as, whichever kind it is.
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
    """One rank's part of a checkpoint, copied to CPU memory: tensors by name.

    ``config`` files and adapters come from rank 0 as (relative path, bytes).
    """

    rank: int
    world_size: int
    weights: Mapping[str, Any]
    state: Mapping[str, Any]
    num_updates: int
    files: Mapping[str, bytes]


class Source(Protocol):
    """What a checkpoint needs of the training engine; collective calls."""

    def snapshot(self) -> TrainingState: ...
    def barrier(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete checkpoint on disk."""

    step: int
    folder: Path
    manifest: dict[str, Any]

    @property
    def weights_hash(self) -> str:
        """One hash over the exported weights; evaluations are keyed by it."""
        return weights_hash(self.manifest["files"])

    @property
    def resumable(self) -> bool:
        """Whether the optimizer's state is still kept."""
        return (self.folder / STATE).is_dir()

    def damage(self) -> str | None:
        """The first file whose content is not what was written, or None."""
        for name, digest in self.manifest["files"].items():
            path = self.folder / name
            if not path.is_file():
                return f"{name} is missing"
            if file_hash(path) != digest:
                return f"{name} does not match its hash"
        return None


class Writer:
    """Writes checkpoints in the background; all ranks make the same calls.

    Training stops only for the snapshot. A checkpoint counts when :meth:`finished`
    or :meth:`wait` has named its step: only then may the step be committed. On a
    full disk it is tried again until there is room.

    Args:
        root: folder of the checkpoints.
        model_dir: where the tokenizer comes from.
        keep_states: older checkpoints keep their models, not what it takes to resume.
        keep_exports: older checkpoints are removed; None keeps all.
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
        self._lacks_room_for: int | None = None

    @property
    def waiting(self) -> str:
        """What a checkpoint waits for, or empty."""
        step = self._lacks_room_for
        return "" if step is None else f"room on the disk for checkpoint step_{step}"

    def begin(self, source: Source, step: int) -> None:
        """Take the snapshot of ``step`` and start writing it; none may be pending."""
        assert self._pending is None
        staging = self._root / f".step_{step}.partial"
        snapshot = source.snapshot()
        if snapshot.rank == 0:
            shutil.rmtree(staging, ignore_errors=True)
            (staging / STATE).mkdir(parents=True)
        source.barrier()
        self._pending = self._thread.submit(self._write_once_it_fits, snapshot, staging, step)

    def finished(self) -> int | None:
        """The step whose checkpoint has become complete since the last call, else None.

        Raises:
            OSError and the like: the background write failed.
        """
        return self.wait() if self._pending is not None and self._pending.done() else None

    def wait(self) -> int | None:
        """Like :meth:`finished`, but waits for the pending one."""
        if self._pending is None:
            return None
        pending, self._pending = self._pending, None
        return pending.result()

    def _write_once_it_fits(self, snapshot: TrainingState, staging: Path, step: int) -> int:
        pause = _ROOM_PAUSE_S
        while True:
            try:
                self._write(snapshot, staging, step)
                self._lacks_room_for = None
                return step
            except Exception as error:
                if not lacks_room(error):
                    raise
            self._lacks_room_for = step
            for name in _own_files(snapshot):
                (staging / name).unlink(missing_ok=True)
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_ROOM_PAUSE_S)

    def _write(self, snapshot: TrainingState, staging: Path, step: int) -> None:
        from safetensors.torch import save_file

        final = self._root / f"step_{step}"
        own = _own_files(snapshot)
        save_file(dict(snapshot.weights), staging / own[0], metadata={"format": "pt"})
        save_file(dict(snapshot.state), staging / own[1])
        for name, content in snapshot.files.items():
            (staging / name).parent.mkdir(exist_ok=True)
            (staging / name).write_bytes(content)
        if snapshot.rank == 0:
            _copy_tokenizer(self._model_dir, staging)
        part = {
            "weights": list(snapshot.weights),
            "hashes": {name: _durable_sha256(staging / name) for name in own},
        }
        write_atomic(_part(staging, snapshot.rank), json.dumps(part))
        if snapshot.rank > 0:
            return
        parts = [_await_part(staging, rank) for rank in range(snapshot.world_size)]
        if snapshot.world_size > 1:
            write_atomic(staging / _INDEX, _index(parts))
        hashes = {name: digest for part in parts for name, digest in part["hashes"].items()}
        hashes |= {
            str(path.relative_to(staging)): _durable_sha256(path)
            for path in sorted(staging.rglob("*"))
            if path.is_file() and str(path.relative_to(staging)) not in hashes
        }
        manifest = {"step": step, "num_updates": snapshot.num_updates, "files": hashes}
        write_atomic(staging / _MANIFEST, json.dumps(manifest, indent=1))
        staging.rename(final)
        self._retire()

    def _retire(self) -> None:
        found = existing(self._root)
        for old in found[self._keep_states :]:
            shutil.rmtree(old.folder / STATE, ignore_errors=True)
        if self._keep_exports is not None:
            for old in found[max(self._keep_exports, self._keep_states) :]:
                shutil.rmtree(old.folder, ignore_errors=True)


def existing(root: Path) -> list[Checkpoint]:
    """Complete checkpoints under ``root``, newest first; content is not checked."""
    found = []
    for folder in root.glob("step_*"):
        match = re.fullmatch(r"step_(\d+)", folder.name)
        manifest = read_json(folder / _MANIFEST) if match else None
        if match and manifest is not None:
            found.append(Checkpoint(int(match[1]), folder, manifest))
    return sorted(found, key=lambda checkpoint: checkpoint.step, reverse=True)


def newest_sound(root: Path, last_step: int) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint that can be resumed from, and why newer ones cannot.

    Args:
        last_step: the last step that the queue knows; only a queue whose
            storage lost its end knows less than the checkpoints.
    """
    problems: list[str] = []
    for checkpoint in existing(root):
        if not checkpoint.resumable:
            continue
        if checkpoint.step > last_step:
            problems.append(
                f"checkpoint step_{checkpoint.step} is skipped: the queue's file was cut short "
                f"and knows steps up to {last_step}"
            )
            continue
        damage = checkpoint.damage()
        if damage is None:
            return checkpoint, problems
        problems.append(f"checkpoint step_{checkpoint.step} is skipped: {damage}")
    return None, problems


def discard_after(root: Path, step: int) -> None:
    """Remove checkpoints that a resumed run will write again."""
    for checkpoint in existing(root):
        if checkpoint.step > step:
            shutil.rmtree(checkpoint.folder)
    for folder in root.glob(".step_*.partial"):
        shutil.rmtree(folder, ignore_errors=True)


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


def _part(staging: Path, rank: int) -> Path:
    return staging / STATE / f"rank-{rank}.json"


def _await_part(staging: Path, rank: int) -> dict[str, Any]:
    deadline = time.monotonic() + _PART_DEADLINE_S
    while (part := read_json(_part(staging, rank))) is None:
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"{staging}: rank {rank} has not written its part in {_PART_DEADLINE_S:g} s"
            )
        time.sleep(_POLL_S)
    return part


def _index(parts: list[dict[str, Any]]) -> str:
    """Which file holds which weight, as Hugging Face loaders read it."""
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
