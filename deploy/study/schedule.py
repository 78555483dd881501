"""Which cells of a study may start now. Pure: knows their states, no folders and no clocks."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from deploy.study.cells import Cell
from deploy.study.progress import CellProgress
from deploy.study.sharing import targets_key


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why a cell that is open does not start, as text."""

    cell: Cell
    reason: str


def may_start(
    progress: Sequence[CellProgress], at_once: int, left_out: Collection[str]
) -> tuple[list[Cell], list[Waiting]]:
    """The cells to start now, in order, and those that must wait.

    A cell whose targets another one is drawing waits until that one has ended, and then gets them;
    so the first cells of different targets come first where several may go on at once.

    Args:
        progress: all cells, in the order of the study.
        at_once: most cells that go on at the same time.
        left_out: names of cells that are not started, whatever their state.
    """
    running = [one.cell for one in progress if one.state == "running"]
    ended = [
        one.cell
        for one in progress
        if one.state not in ("not started", "running") and one.targets_drawn
    ]
    drawing = _by_key(running)
    known = _by_key(ended)
    chosen: list[Cell] = []
    waiting: list[Waiting] = []
    for one in progress:
        if one.state in ("running", "finished") or one.cell.name in left_out:
            continue
        key = targets_key(one.cell.config)
        is_drawn = one.state != "not started" or key is None or key in known
        if not is_drawn and key is not None and key in drawing:
            waiting.append(Waiting(one.cell, f"targets of {drawing[key].name}"))
        elif len(running) + len(chosen) >= at_once:
            waiting.append(Waiting(one.cell, "a free place"))
        else:
            chosen.append(one.cell)
            if key is not None:
                drawing.setdefault(key, one.cell)
    return chosen, waiting


def _by_key(cells: Sequence[Cell]) -> dict[str, Cell]:
    found: dict[str, Cell] = {}
    for key, cell in _keys(cells):
        found.setdefault(key, cell)
    return found


def _keys(cells: Sequence[Cell]) -> Iterator[tuple[str, Cell]]:
    for cell in cells:
        if (key := targets_key(cell.config)) is not None:
            yield key, cell
