"""``lr_seeds``: first all learning rates at a few seeds, then the chosen one at the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from deploy.study.cells import LR, SEED, Cell
from deploy.study.progress import CellProgress
from deploy.study.schedule import Waiting

# Receives the cells of an arm at the first seeds; returns the label of the chosen rate.
Choose = Callable[[Sequence[Cell]], str | None]


@dataclass(frozen=True, slots=True)
class Stage:
    """Cells that do not start: ``waiting`` ones may yet, ``not_chosen`` ones are not needed."""

    waiting: tuple[Waiting, ...] = ()
    not_chosen: tuple[Cell, ...] = ()

    @property
    def names(self) -> set[str]:
        """Of both."""
        return {one.cell.name for one in self.waiting} | {cell.name for cell in self.not_chosen}


class LrStage:
    """Says which cells the choice of learning rates holds back.

    Args:
        seeds: at which all learning rates are tried; None: nothing is held back.
        choose: chooses among the cells of one arm, once they have ended.
        say: receives each choice.
    """

    def __init__(
        self, seeds: Sequence[str] | None, choose: Choose, say: Callable[[str], None]
    ) -> None:
        self._seeds = seeds
        self._choose = choose
        self._say = say
        self._chosen: dict[str, str | None] = {}

    def look(self, progress: Sequence[CellProgress], given_up: set[str]) -> Stage:
        """The cells that are held back now.

        Args:
            progress: all cells.
            given_up: names of cells that have ended without being finished, for good.
        """
        if self._seeds is None:
            return Stage()
        waiting: list[Waiting] = []
        not_chosen: list[Cell] = []
        arms: dict[str, list[CellProgress]] = {}
        for one in progress:
            if LR in one.cell.factors:
                arms.setdefault(one.cell.arm, []).append(one)
        for arm, cells in arms.items():
            first = [one for one in cells if one.cell.factors.get(SEED) in self._seeds]
            later = [one for one in cells if one.cell.factors.get(SEED) not in self._seeds]
            if any(one.state != "finished" and one.cell.name not in given_up for one in first):
                waiting += [Waiting(one.cell, f"the learning rate of {arm}") for one in later]
                continue
            chosen = self._choice(arm, [one.cell for one in first if one.state == "finished"])
            not_chosen += [one.cell for one in later if one.cell.factors[LR] != chosen]
        return Stage(tuple(waiting), tuple(not_chosen))

    def _choice(self, arm: str, cells: Sequence[Cell]) -> str | None:
        if arm not in self._chosen:
            self._chosen[arm] = label = self._choose(cells) if cells else None
            self._say(
                f"arm {arm}: no learning rate can be chosen, since no cell has finished"
                if label is None
                else f"arm {arm}: learning rate {label} is chosen"
            )
        return self._chosen[arm]
