"""Checkpoints: immutable folders that load as Hugging Face models.

``step_N/`` holds the exported model and tokenizer, ``deepspeed/`` with the
shards to resume from, and ``manifest.json``: step, time, and the SHA-256 of
every file. A folder is built under another name and renamed when complete, so
what is called ``step_N`` is whole; hashes tell if it still is.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from common.rundir import read_json, write_atomic
from common.weights import file_hash, weights_hash

STATE = "deepspeed"
_MANIFEST = "manifest.json"
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


class Exporter(Protocol):
    """What writing a checkpoint needs of the training engine; collective calls."""

    def export(self, folder: Path) -> None: ...
    def save_state(self, folder: Path) -> None: ...
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


def write(
    engine: Exporter, root: Path, step: int, model_dir: Path, *, first_rank: bool, keep_states: int
) -> None:
    """Write ``root/step_N`` from all ranks; returns when it is complete.

    Older checkpoints keep their models; only the newest ``keep_states`` keep
    what is needed to resume.
    """
    final = root / f"step_{step}"
    if final.exists():
        return
    staging = root / f".step_{step}.partial"
    if first_rank:
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        _copy_tokenizer(model_dir, staging)
    engine.barrier()
    engine.export(staging)
    engine.save_state(staging / STATE)
    engine.barrier()
    if first_rank:
        files = {
            str(path.relative_to(staging)): file_hash(path)
            for path in sorted(staging.rglob("*"))
            if path.is_file()
        }
        write_atomic(staging / _MANIFEST, json.dumps({"step": step, "files": files}, indent=1))
        staging.rename(final)
        for old in existing(root)[keep_states:]:
            shutil.rmtree(old.folder / STATE, ignore_errors=True)
    engine.barrier()


def existing(root: Path) -> list[Checkpoint]:
    """Complete checkpoints under ``root``, newest first; content is not checked."""
    found = []
    for folder in root.glob("step_*"):
        match = re.fullmatch(r"step_(\d+)", folder.name)
        manifest = read_json(folder / _MANIFEST) if match else None
        if match and manifest is not None:
            found.append(Checkpoint(int(match[1]), folder, manifest))
    return sorted(found, key=lambda checkpoint: checkpoint.step, reverse=True)


def newest_sound(root: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint that can be resumed from, and why newer ones cannot."""
    problems: list[str] = []
    for checkpoint in existing(root):
        if not checkpoint.resumable:
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


def _copy_tokenizer(source: Path, target: Path) -> None:
    for pattern in _TOKENIZER_FILES:
        for path in source.glob(pattern):
            shutil.copy2(path, target / path.name)
