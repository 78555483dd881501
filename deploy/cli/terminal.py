"""Progress of long work in a terminal or a log.

In a terminal, one live line on standard error, which disappears at the end;
elsewhere, a line for each stage or each tenth, without escape codes.
"""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from common.printable import printable
from deploy.cli.options import echo

_MARK = "…"


class _Line:
    """A moving line, drawn only in a terminal; a context manager."""

    def __init__(self, *columns: ProgressColumn) -> None:
        self._is_terminal = sys.stderr.isatty()
        # A descriptor of its own: an engine that starts sends those of this process to a log.
        file = os.fdopen(os.dup(2), "w") if self._is_terminal else sys.stderr
        self._progress = Progress(
            *columns,
            console=Console(file=file, force_terminal=self._is_terminal),
            transient=True,
            disable=not self._is_terminal,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def _end(self) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._progress.refresh()
            self._task = None


class Stages(_Line):
    """Prints stages; call it with a line of text.

    A line that ends in ``…`` is work that takes a while: a terminal shows it with
    the seconds that pass, until the next line.
    """

    def __init__(self) -> None:
        super().__init__(
            SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn()
        )

    def __call__(self, text: str) -> None:
        self._end()
        if self._is_terminal and text.endswith(_MARK):
            self._task = self._progress.add_task(printable(text), total=None)
        else:
            echo(text)


class Bar(_Line):
    """Counts items of one piece of work after another."""

    def __init__(self) -> None:
        super().__init__(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        self._shown: tuple[str, int] = ("", -1)

    def show(self, name: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` items of ``name`` are done."""
        if self._is_terminal:
            if self._shown[0] != name:
                self._end()
                self._task = self._progress.add_task(printable(name), total=total)
            assert self._task is not None
            self._progress.update(self._task, completed=done)
            self._shown = (name, done)
        elif self._shown != (name, done * 10 // max(total, 1)):
            self._shown = (name, done * 10 // max(total, 1))
            echo(f"{name}: {done} of {total}", err=True)
