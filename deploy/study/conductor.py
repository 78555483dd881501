"""Runs the cells of a study to their end, from the foreground.

Each cell is an ordinary run with a controller of its own, on one Ray head that all cells use. The
conductor only starts them and looks at their folders, so it may be killed: its cells go on, and the
next conductor takes them as it finds them.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from common.errors import RunError, UserError
from common.rundir import RunDir
from deploy.cluster import ray_cluster
from deploy.cluster.run_lock import RunLock
from deploy.control import launch
from deploy.study import sharing
from deploy.study.cells import Cell
from deploy.study.folder import Study, head_of
from deploy.study.lr_stage import LrStage, Stage
from deploy.study.progress import CellProgress, progress_of
from deploy.study.schedule import Waiting, may_start

_LOCK = ".study.lock"
# While it is there, no cell starts.
_STOP = "stop"
_TICK_S = 1.0
# Ray may be at work on a controller that died.
_INTERRUPTED_S = 5.0
# Of one cell in a row, by one conductor.
_MOST_STARTS = 3


class Conductor:
    """Starts the cells of a study as places become free.

    Args:
        study: its cells.
        folder: of the study; :func:`deploy.study.folder.save` has been called.
        say: receives a line for each event.
        at_once: most cells that go on at the same time.
    """

    def __init__(
        self, study: Study, folder: Path, say: Callable[[str], None], at_once: int
    ) -> None:
        self._study = study
        self._folder = folder
        self._say = say
        self._at_once = at_once
        self._head = head_of(folder)
        self._starts: Counter[str] = Counter()
        self._interrupted: dict[str, float] = {}
        self._said: dict[str, str] = {}
        self._lr_stage = LrStage(study.lr_seeds, self._choose_lr, say)
        self._stage = Stage()
        # Why cells could not be started.
        self.refused: dict[str, str] = {}

    def run(self, show: Callable[[list[CellProgress], list[Waiting]], None]) -> None:
        """Work until no cell is running and none can start; ``show`` receives every state.

        Raises:
            UserError: another conductor works on the study.
        """
        with _alone(self._head):
            (self._folder / _STOP).unlink(missing_ok=True)
            while self._tick(show):
                time.sleep(_TICK_S)
            ray_cluster.stop_local(self._head)

    def _tick(self, show: Callable[[list[CellProgress], list[Waiting]], None]) -> bool:
        progress = self.progress()
        self._tell(progress)
        left_out = self._left_out(progress)
        given_up = {
            one.cell.name
            for one in progress
            if one.cell.name in left_out and one.state not in ("running", "interrupted")
        }
        self._stage = self._lr_stage.look(progress, given_up)
        cells, waiting = may_start(progress, self._at_once, left_out | self._stage.names)
        show(progress, [*waiting, *self._stage.waiting])
        if (self._folder / _STOP).exists():
            self._say("the study is stopped; start it again to go on")
            return False
        for cell in cells:
            self._start(cell)
        return bool(cells) or any(
            one.state == "running"
            or (one.state == "interrupted" and one.cell.name not in self.refused)
            for one in progress
        )

    def progress(self) -> list[CellProgress]:
        """The state of every cell."""
        return [progress_of(cell, self._folder) for cell in self._study.cells]

    def unfinished(self) -> dict[str, str]:
        """Cells that the study needs and that have not finished, each with the reason."""
        not_needed = {cell.name for cell in self._stage.not_chosen}
        return {
            one.cell.name: self.refused.get(one.cell.name) or one.state
            for one in self.progress()
            if one.state != "finished" and one.cell.name not in not_needed
        }

    def _choose_lr(self, cells: Sequence[Cell]) -> str | None:
        from deploy.study.report.lr_selection import choose_from_cells

        return choose_from_cells(cells, self._folder).label

    def _left_out(self, progress: list[CellProgress]) -> set[str]:
        """Cells that are not started: they ended under this conductor, or may yet go on."""
        now, found = time.monotonic(), set(self.refused)
        for one in progress:
            name = one.cell.name
            if one.state != "interrupted":
                self._interrupted.pop(name, None)
                if self._starts[name]:
                    found.add(name)
            elif now - self._interrupted.setdefault(name, now) < _INTERRUPTED_S:
                found.add(name)
            elif self._starts[name] >= _MOST_STARTS:
                self.refused[name] = f"interrupted {_MOST_STARTS} times"
                found.add(name)
        return found

    def _start(self, cell: Cell) -> None:
        self._starts[cell.name] += 1
        self._interrupted.pop(cell.name, None)
        run = cell.run(self._folder)
        try:
            config = launch.settled(cell.config, run)
            is_new = launch.check_folder(config, run) == "new"
            donor = sharing.prepare(cell, self._folder, self._ended()) if is_new else ""
            of = f", with the targets of {donor}" if donor else ""
            self._say(f"cell {cell.name}: {'starts' if is_new else 'resumes'}{of}")
            if config.cluster.address is None and ray_cluster.head_pid(self._head) is None:
                ray_cluster.stop_local(self._head)
                ray_cluster.start_local(self._head, config.cluster)
            launch.start(config, run, self._note(cell), host=self._head)
        except (UserError, RunError) as error:
            self.refused[cell.name] = str(error)
            self._say(f"cell {cell.name}: not started: {error}")

    def _note(self, cell: Cell) -> Callable[[str], None]:
        """Of what a start says, a study repeats the remarks only."""

        def say(line: str) -> None:
            if line.startswith("note: "):
                self._say(f"cell {cell.name}: {line}")

        return say

    def _ended(self) -> list[Cell]:
        """Cells whose ledgers nobody has open."""
        return [
            one.cell
            for one in self.progress()
            if one.state not in ("not started", "running") and one.targets_drawn
        ]

    def _tell(self, progress: list[CellProgress]) -> None:
        """Say what has changed since the last look."""
        for one in progress:
            name = one.cell.name
            if self._said.get(name, "not started") == one.state:
                continue
            self._said[name] = one.state
            if one.state in ("finished", "failed", "stopped", "interrupted"):
                cause = f": {one.view.cause}" if one.view is not None and one.view.cause else ""
                done = sum(other.state == "finished" for other in progress)
                self._say(
                    f"cell {name}: {one.state}{cause} ({done} of {len(progress)} cells finished)"
                )


@contextlib.contextmanager
def _alone(head: RunDir) -> Iterator[None]:
    """Only one conductor works on a study."""
    lock = RunLock(head, _LOCK)
    if not lock.acquire(wait=False):
        raise UserError(
            f"study {head.name} is in use by another command; look at it with "
            f"'mixsd-cluster study status {head.name}'"
        )
    try:
        yield
    finally:
        lock.release()


def stop(study: Study, folder: Path) -> int:
    """Stop all cells that are running, and the study's Ray head; returns their number.

    A command that conducts the study sees it and ends.
    """
    (folder / _STOP).touch()
    stopped = 0
    for cell in study.cells:
        run = cell.run(folder)
        if run.config.exists() and launch.is_live(run):
            launch.stop(run)
            stopped += 1
    ray_cluster.stop_local(head_of(folder))
    return stopped
