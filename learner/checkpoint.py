"""Checkpoints: immutable folders that load as Hugging Face models.

``step_N/`` holds the exported model and tokenizer, ``state/`` with what it takes to
resume unless it is an export alone, and ``manifest.json``: the step, and the SHA-256 of every
file and of the manifest itself. A folder is built under a temporary name and renamed when
complete, so ``step_N`` is always whole; the hashes tell whether it still is.
``checkpoint_writer`` writes them, and ``checkpoint_folder`` moves and removes them.
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import ValidationError

from common.json_model import JsonModel
from common.weights import file_hash, weights_hash

STATE = "state"
MANIFEST = "manifest.json"

# Of a disk that lost the file. Others, such as a server that does not answer, may pass.
_LOST = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EIO, errno.EUCLEAN, errno.EBADMSG}


class CheckpointDamaged(RuntimeError):
    """A checkpoint's files are missing, changed or unreadable; the message says which."""


class Manifest(JsonModel):
    """Content of ``manifest.json``.

    ``files`` maps relative paths to SHA-256 digests; ``sha256`` is that of the other fields.
    """

    step: int
    num_updates: int
    files: dict[str, str]
    sha256: str

    @classmethod
    def of(cls, step: int, num_updates: int, files: Mapping[str, str]) -> Self:
        """A manifest with its own hash."""
        digest = _digest(step, num_updates, files)
        return cls(step=step, num_updates=num_updates, files=dict(files), sha256=digest)

    @property
    def has_state(self) -> bool:
        """Whether it was written with training state: it is not an export alone."""
        return state_name(0) in self.files

    def is_intact(self) -> bool:
        """Whether the fields are those that were written."""
        return self.sha256 == _digest(self.step, self.num_updates, self.files)


def _digest(step: int, num_updates: int, files: Mapping[str, str]) -> str:
    content = json.dumps([step, num_updates, sorted(files.items())])
    return hashlib.sha256(content.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete checkpoint on disk."""

    step: int
    folder: Path
    manifest: Manifest

    @property
    def weights_hash(self) -> str:
        """One hash over the exported weights; it identifies evaluation results."""
        return weights_hash(self.manifest.files)

    @property
    def resumable(self) -> bool:
        """Whether there is training state, and it is still there."""
        return self.manifest.has_state and (self.folder / STATE).is_dir()

    def verify(self, progress: Callable[[], None] = lambda: None) -> None:
        """Compare every file with its hash; ``progress`` is called after each.

        Raises:
            CheckpointDamaged: a file is missing, changed or unreadable.
        """
        for name, digest in self.manifest.files.items():
            try:
                found = file_hash(self.folder / name)
            except OSError as error:
                raise _damage(name, error) from error
            if found != digest:
                raise CheckpointDamaged(f"{name} does not match its hash")
            progress()


def state_name(rank: int) -> str:
    """The file of a rank's training state, relative to the checkpoint."""
    return f"{STATE}/rank-{rank}.safetensors"


def state_files(folder: Path) -> list[Path]:
    """The training state of every rank that wrote a checkpoint, by rank."""
    ranks = len([*(folder / STATE).glob("rank-*.safetensors")])
    # Not sorted as text, where rank-10 comes before rank-2.
    return [folder / state_name(rank) for rank in range(ranks)]


def step_of(folder: Path) -> int | None:
    """The step in the name of a checkpoint's folder; None if it is not such a name."""
    match = re.fullmatch(r"step_(0|[1-9][0-9]*)", folder.name)
    return int(match[1]) if match else None


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a checkpoint's folder.

    Raises:
        CheckpointDamaged: it is missing, changed or unreadable.
    """
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except OSError as error:
        raise _damage(MANIFEST, error) from error
    except ValidationError as error:
        raise CheckpointDamaged(f"{MANIFEST} is not one") from error
    if not manifest.is_intact():
        raise CheckpointDamaged(f"{MANIFEST} does not match its own hash")
    if manifest.step != step_of(folder):
        raise CheckpointDamaged(f"{MANIFEST} is that of step {manifest.step}")
    return manifest


def scan(root: Path) -> tuple[list[Checkpoint], dict[Path, str]]:
    """The checkpoints under ``root``, newest first, and the damage of folders that are none.

    Only manifests are read here; :meth:`Checkpoint.verify` reads the rest.
    """
    found, damaged = [], {}
    for folder in root.glob("step_*"):
        step = step_of(folder)
        if step is None:
            continue
        try:
            found.append(Checkpoint(step, folder, read_manifest(folder)))
        except CheckpointDamaged as damage:
            damaged[folder] = str(damage)
    return sorted(found, key=lambda checkpoint: checkpoint.step, reverse=True), damaged


def existing(root: Path) -> list[Checkpoint]:
    """Complete checkpoints under ``root``, newest first; the files' hashes are not checked."""
    return scan(root)[0]


def _damage(name: str, error: OSError) -> Exception:
    """The error to raise for a file that cannot be read."""
    if error.errno not in _LOST:
        return error
    reason = "is missing" if error.errno == errno.ENOENT else f"cannot be read ({error.strerror})"
    return CheckpointDamaged(f"{name} {reason}")
