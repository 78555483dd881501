"""How far the cells of a study are, from their folders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from common.rundir import RunDir
from deploy.observability import status
from deploy.observability.run_status import RunView
from deploy.study.cells import Cell

CellState = Literal["not started", "running", "interrupted", "stopped", "failed", "finished"]


@dataclass(frozen=True, slots=True)
class CellProgress:
    """One cell. ``view``: the status of its run; None before it starts."""

    cell: Cell
    state: CellState
    view: RunView | None = None

    @property
    def targets_drawn(self) -> bool:
        """Whether all of its targets are drawn."""
        queue = None if self.view is None else self.view.queue
        return queue is not None and queue.settled


def progress_of(cell: Cell, study: Path) -> CellProgress:
    """The state of one cell."""
    run = cell.run(study)
    if not run.config.exists():
        return CellProgress(cell, "not started")
    view = status.read(run)
    return CellProgress(cell, _state(run, view), view)


def _state(run: RunDir, view: RunView) -> CellState:
    if view.live:
        return "running"
    if view.state in ("finished", "failed", "stopped"):
        return view.state  # type: ignore[return-value]
    return "interrupted"
