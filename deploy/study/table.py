"""The cells of a study as a table in the terminal, or as lines in a log."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from actors.evaluation.scores import BenchmarkScore
from common.printable import printable
from deploy.observability.status import duration, plain_line
from deploy.study.progress import CellProgress
from deploy.study.schedule import Waiting

# Cells that a live table shows; a study may have thousands.
_MOST_ROWS = 24
_PLAIN_EVERY_S = 30.0


def table(
    progress: Sequence[CellProgress], waiting: Sequence[Waiting] = (), most: int | None = None
) -> Table:
    """One row for each cell.

    Args:
        progress: all cells.
        waiting: why cells do not start.
        most: rows at most; those of running cells and their neighbours are shown.
    """
    reasons = {one.cell.name: one.reason for one in waiting}
    shown = _window(progress, most)
    done = sum(one.state == "finished" for one in progress)
    found = Table(title=f"{done} of {len(progress)} cells finished", title_justify="left")
    for heading in ("cell", "state", "targets", "step", "recall", "left"):
        found.add_column(heading)
    for one in shown:
        found.add_row(*(Text(printable(cell)) for cell in _row(one, reasons)))
    if len(shown) < len(progress):
        found.caption = f"{len(progress) - len(shown)} more cells are not shown"
    return found


class Display:
    """Shows the cells while a study goes on; a context manager.

    In a terminal a live table below the lines of :meth:`say`, elsewhere a line for each running
    cell now and then.
    """

    def __init__(self) -> None:
        self._console = Console()
        self._live = Live(console=self._console, refresh_per_second=2)
        self._printed = 0.0

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def say(self, line: str) -> None:
        """Print a line that stays."""
        stamped = f"{time.strftime('%H:%M:%S')} {printable(line)}"
        if self._console.is_terminal:
            self._console.print(Text(stamped))
        else:
            print(stamped, flush=True)

    def show(self, progress: Sequence[CellProgress], waiting: Sequence[Waiting]) -> None:
        """Show the state of all cells."""
        if self._console.is_terminal:
            self._live.update(table(progress, waiting, _MOST_ROWS))
        elif time.monotonic() - self._printed >= _PLAIN_EVERY_S:
            self._printed = time.monotonic()
            for one in progress:
                if one.state == "running" and one.view is not None:
                    self.say(f"cell {one.cell.name}: {plain_line(one.view)}")


def _window(progress: Sequence[CellProgress], most: int | None) -> Sequence[CellProgress]:
    """The cells around the first that has not finished."""
    if most is None or len(progress) <= most:
        return progress
    first = next((i for i, one in enumerate(progress) if one.state != "finished"), len(progress))
    start = max(0, min(first - most // 4, len(progress) - most))
    return progress[start : start + most]


def _row(one: CellProgress, reasons: dict[str, str]) -> tuple[str, ...]:
    state: str = one.state
    if reason := reasons.get(one.cell.name):
        state = f"waits for {reason}"
    view = one.view
    if view is None or view.queue is None:
        return (one.cell.name, state, "", "", "", "")
    queue, left = view.queue, view.seconds_left
    return (
        one.cell.name,
        state,
        f"{queue.accepted}/{queue.work}",
        f"{queue.committed_step}/{queue.total_steps}",
        _recall(one),
        duration(left) if left is not None and one.state == "running" else "",
    )


def _recall(one: CellProgress) -> str:
    """That of the newest checkpoint which has one."""
    assert one.view is not None
    for scores in reversed(one.view.scores.values()):
        if isinstance(score := scores.get("recall"), BenchmarkScore):
            return f"{score.value:.2f}"
    return ""
