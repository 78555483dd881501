"""Checkpoints: immutable folders that load as Hugging Face models.

``step_N/`` holds the exported model and tokenizer, ``state/`` with what it takes to
resume, and ``manifest.json``: the step, and the SHA-256 of every file. A folder is built
under a temporary name and renamed when complete, so ``step_N`` is always whole; the
hashes tell whether it still is. ``checkpoint_writer`` writes them.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, cast

from common.rundir import read_json
from common.weights import file_hash, weights_hash

STATE = "state"
MANIFEST = "manifest.json"


class Manifest(TypedDict):
    """Content of ``manifest.json``; ``files`` maps relative paths to SHA-256 digests."""

    step: int
    num_updates: int
    files: dict[str, str]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete checkpoint on disk."""

    step: int
    folder: Path
    manifest: Manifest

    @property
    def weights_hash(self) -> str:
        """One hash over the exported weights; it identifies evaluation results."""
        return weights_hash(self.manifest["files"])

    @property
    def resumable(self) -> bool:
        """Whether the optimizer state is still there."""
        return (self.folder / STATE).is_dir()

    def damage(self) -> str | None:
        """What is wrong with the first missing or changed file, or None."""
        for name, digest in self.manifest["files"].items():
            path = self.folder / name
            if not path.is_file():
                return f"{name} is missing"
            if file_hash(path) != digest:
                return f"{name} does not match its hash"
        return None


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a checkpoint folder; None if it has none."""
    return cast("Manifest | None", read_json(folder / MANIFEST))


def existing(root: Path) -> list[Checkpoint]:
    """Complete checkpoints under ``root``, newest first; the hashes are not checked."""
    found = []
    for folder in root.glob("step_*"):
        match = re.fullmatch(r"step_(\d+)", folder.name)
        manifest = read_manifest(folder) if match else None
        if match and manifest is not None:
            found.append(Checkpoint(int(match[1]), folder, manifest))
    return sorted(found, key=lambda checkpoint: checkpoint.step, reverse=True)


def newest_valid(root: Path, last_step: int) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint to resume from, and one line for each newer one that is skipped.

    Args:
        root: folder of the checkpoints.
        last_step: the last step in the ledger; it is behind the checkpoints only if the
            ledger's file lost its end.
    """
    problems: list[str] = []
    for checkpoint in existing(root):
        if not checkpoint.resumable:
            continue
        if checkpoint.step > last_step:
            problems.append(
                f"checkpoint step_{checkpoint.step} is skipped: the queue's file was cut short "
                f"and has steps up to {last_step} only"
            )
            continue
        damage = checkpoint.damage()
        if damage is None:
            return checkpoint, problems
        problems.append(f"checkpoint step_{checkpoint.step} is skipped: {damage}")
    return None, problems


def discard_after(root: Path, step: int) -> None:
    """Remove checkpoints after ``step``, and unfinished ones: a resumed run writes them again."""
    for checkpoint in existing(root):
        if checkpoint.step > step:
            shutil.rmtree(checkpoint.folder)
    for folder in root.glob(".step_*.partial"):
        shutil.rmtree(folder, ignore_errors=True)
