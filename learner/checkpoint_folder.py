"""The folder of a run's checkpoints: how they appear, move aside and go.

Only retirement removes a checkpoint, and only after a newer one is on disk and committed.
What recovery has no use for, damaged or ahead of the ledger, is moved to ``.superseded/``,
where people find it. Every other name with a dot is left over from work that a kill ended.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from common import durable
from common.errors import UserError
from learner.checkpoint import (
    STATE,
    Checkpoint,
    CheckpointDamaged,
    existing,
    scan,
    step_of,
)

SUPERSEDED = ".superseded"


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """Where training continues: ``checkpoint``, or None for the base model.

    ``aside`` maps the folders to set aside to the reasons: the newer ones, all of no use, and
    any that is not a checkpoint.
    """

    checkpoint: Checkpoint | None
    aside: dict[Path, str]

    @property
    def step(self) -> int:
        """The last step that the weights have taken."""
        return self.checkpoint.step if self.checkpoint else 0


class CheckpointFolder:
    """The checkpoints under ``root``; one process at a time changes them."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def of(self, step: int) -> Path:
        """Where the checkpoint of ``step`` is."""
        return self._root / f"step_{step}"

    def staging(self, step: int, generation: int) -> Path:
        """Where the learner of ``generation`` builds the checkpoint of ``step``."""
        return self._root / f".step_{step}-{generation}.partial"

    def publish(self, staging: Path, step: int) -> None:
        """Give a complete checkpoint its name; a folder that has the name is set aside.

        Called again after an error, it does what is left.
        """
        target = self.of(step)
        if not staging.exists():
            durable.sync(self._root)
            return
        if target.exists():
            self.set_aside(target)
        durable.rename(staging, target)

    def retire(
        self,
        keep_states: int,
        keep_exports: int | None,
        progress: Callable[[], None] = lambda: None,
    ) -> None:
        """Remove the training state, or all, of checkpoints that newer ones replace.

        Args:
            keep_states: newest checkpoints that keep their training state.
            keep_exports: newest checkpoints that are kept at all; None keeps every one.
            progress: called after each removal.
        """
        found = existing(self._root)
        if keep_exports is not None:
            resumable = [one.step for one in found if one.resumable][:keep_states]
            for old in found[keep_exports:]:
                if old.step not in resumable:
                    durable.remove(old.folder, self._root / f".{old.folder.name}.retired")
                    progress()
        for old in [one for one in found if one.resumable][keep_states:]:
            durable.remove(old.folder / STATE, self._root / f".{old.folder.name}-{STATE}.retired")
            progress()

    def sweep(self) -> None:
        """Remove what a killed learner left: unfinished checkpoints, and retired ones."""
        for folder in self._root.glob(".step_*"):
            shutil.rmtree(folder, ignore_errors=True)

    def resume_point(
        self, last_step: int, progress: Callable[[], None] = lambda: None
    ) -> ResumePoint:
        """The newest sound checkpoint with its training state; nothing is changed.

        Args:
            last_step: the last step in the ledger.
            progress: called after each file that was read.

        Raises:
            UserError: a checkpoint is ahead of the ledger.
        """
        self.check_ledger(last_step)
        found, aside = scan(self._root)
        for checkpoint in found:
            problem = _problem(checkpoint, progress)
            if problem is None:
                return ResumePoint(checkpoint, aside)
            aside[checkpoint.folder] = problem
        return ResumePoint(None, aside)

    def check_ledger(self, last_step: int) -> None:
        """Check that no checkpoint is ahead of the ledger, whose last step is ``last_step``.

        A checkpoint gets its name only after its steps are on disk in the ledger, so this
        shows that the ledger was lost or replaced.

        Raises:
            UserError: one is ahead.
        """
        ahead = self.ahead_of(last_step)
        if ahead:
            names = f"{ahead[0].name} … {ahead[-1].name}" if len(ahead) > 1 else ahead[0].name
            raise UserError(
                f"{self._root}: the ledger beside it ends at step {last_step}, before {names}; "
                "it was lost or replaced by an older copy. Put its newest copy in its place, or "
                "continue with --accept-older-ledger: what the ledger lacks is drawn and trained "
                f"again, and the newer checkpoints are kept in {SUPERSEDED}/"
            )

    def ahead_of(self, last_step: int) -> list[Path]:
        """Folders of checkpoints after ``last_step``, oldest first."""
        steps = {folder: step_of(folder) for folder in self._root.glob("step_*")}
        return sorted(
            (folder for folder, step in steps.items() if step is not None and step > last_step),
            key=lambda folder: step_of(folder) or 0,
        )

    def set_aside(self, folder: Path) -> Path:
        """Move a checkpoint to ``.superseded/``; gives its new path."""
        aside = self._root / SUPERSEDED
        if not aside.is_dir():
            aside.mkdir()
            durable.sync(self._root)
        target = aside / folder.name
        number = 1
        while target.exists():
            number += 1
            target = aside / f"{folder.name}-{number}"
        durable.rename(folder, target)
        return target


def _problem(checkpoint: Checkpoint, progress: Callable[[], None]) -> str | None:
    """Why training cannot resume from a checkpoint, or None."""
    if not checkpoint.resumable:
        return "it has no training state"
    try:
        checkpoint.verify(progress)
    except CheckpointDamaged as damage:
        return str(damage)
    return None
