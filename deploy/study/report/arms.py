"""The arms of a study: cells that differ only in the seed, at the chosen learning rate.

Arms are compared within a *group*: the same model and the same corpus.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from actors.evaluation.scores import BenchmarkScore
from common.corpora.settings import SOURCES
from deploy.report.graders import rows
from deploy.report.summary import OpenLedger, ledger_file
from deploy.study.cells import LR, SEED, Cell
from deploy.study.progress import progress_of
from deploy.study.report.lr_selection import LrChoice, candidates, choose_lr, has_choice
from deploy.study.report.measured import (
    FINISHED,
    Measured,
    Scope,
    figures,
    measure,
    scope_of,
)
from deploy.study.report.statistics import Estimate, mean_interval

BASE = "base"
# Measures that are no scores of a benchmark, in their order.
DERIVED = (
    *("held-out", "retention", "target NLL", "canonical NLL"),
    *("Fisher alignment", "D_F", "‖Δθ‖²"),
)


@dataclass(frozen=True, slots=True)
class Arm:
    """What is compared, with its finished cells.

    Args:
        name: unique in the study.
        label: within its group.
        method: name of the method; ``base`` for the base model.
        mix_rate: λ, if the method has it.
        choice: of its learning rate; None where the study has nothing to choose.
        cells: the finished ones at the chosen learning rate, by seed.
        values: of those cells by seed and measure.
    """

    name: str
    label: str
    method: str
    mix_rate: float | None = None
    choice: LrChoice | None = None
    cells: Mapping[str, Measured] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def is_base(self) -> bool:
        """Whether it is the base model."""
        return self.method == BASE

    def step(self, seed: str) -> int:
        """The step of the selected checkpoint of a seed; 0 for the base."""
        return 0 if self.is_base else self.cells[seed].summary.chosen

    def estimate(self, name: str) -> Estimate | None:
        """Mean over seeds of a measure; None if no cell has it.

        Base models of several seeds with the same value were measured once.
        """
        values = [of_seed[name] for of_seed in self.values.values() if name in of_seed]
        if self.is_base and len(set(values)) == 1:
            values = values[:1]
        return mean_interval(values) if values else None


@dataclass(frozen=True, slots=True)
class Group:
    """Arms on the same model and corpus, the base first; arms without a finished cell have none.

    ``measures`` are the names of all rows that any arm has a value for.
    """

    label: str
    cells: tuple[Cell, ...]
    scope: Scope
    arms: tuple[Arm, ...]
    measures: tuple[str, ...]

    @property
    def trained(self) -> list[Arm]:
        """Arms with finished cells."""
        return [arm for arm in self.arms if arm.cells and not arm.is_base]

    @property
    def measured(self) -> list[Arm]:
        """The same, after the base."""
        return [arm for arm in self.arms if arm.cells]

    @property
    def forgetting(self) -> str:
        """The measure of forgetting: that of retention if every arm has one."""
        values = [values for arm in self.trained for values in arm.values.values()]
        has_all = values and all("1 − retention" in one for one in values)
        return "1 − retention" if has_all else "held-out loss"


@dataclass(frozen=True, slots=True)
class StudyFigures:
    """A study as far as it has come; ``states`` by name of the cell."""

    title: str
    cells: tuple[Cell, ...]
    states: Mapping[str, str]
    groups: tuple[Group, ...]
    split: bool

    @property
    def unfinished(self) -> list[Cell]:
        """Cells that are left out of all figures."""
        return [cell for cell in self.cells if self.states[cell.name] != FINISHED]


def study_of(
    title: str, cells: Sequence[Cell], folder: Path, open_ledger: OpenLedger = ledger_file
) -> StudyFigures:
    """Read the study in ``folder``; ``open_ledger`` opens the ledger of each finished cell."""
    split = has_choice(cells)
    measured = {one.cell.name: one for one in measure(cells, folder, open_ledger)}
    grouped = _by(cells, _setting)
    axes = _group_axes(list(grouped.values()))
    return StudyFigures(
        title,
        tuple(cells),
        {cell.name: progress_of(cell, folder).state for cell in cells},
        tuple(_group(members, measured, axes, split) for members in grouped.values()),
        split,
    )


def _group(
    cells: Sequence[Cell], measured: Mapping[str, Measured], axes: Sequence[str], split: bool
) -> Group:
    done = [measured[cell.name] for cell in cells if cell.name in measured]
    scope = scope_of(done, split)
    arms = [_arm(of_arm, measured, axes, scope) for of_arm in _by(cells, lambda c: c.arm).values()]
    base = _base(done, scope)
    label = ", ".join(cells[0].factors[axis] for axis in axes) or _setting_label(cells[0])
    return Group(
        label, tuple(cells), scope, (base, *arms), tuple(_measures([base, *arms], done, scope))
    )


def _arm(
    cells: Sequence[Cell], measured: Mapping[str, Measured], axes: Sequence[str], scope: Scope
) -> Arm:
    done = [measured[cell.name] for cell in cells if cell.name in measured]
    choice = None
    if scope.split and all(LR in cell.factors for cell in cells):
        choice = choose_lr(candidates(cells, done))
        done = [one for one in done if one.cell.factors[LR] == choice.label]
    first = cells[0]
    own = [label for axis, label in first.factors.items() if axis not in (*axes, SEED, LR)]
    by_seed = {one.seed: one for one in done}
    method = first.config.method
    return Arm(
        first.arm,
        " ".join(own) or method.name,
        method.name,
        getattr(method, "mix_rate", None),
        choice,
        by_seed,
        {seed: figures(one, scope) for seed, one in by_seed.items()},
    )


def _base(done: Sequence[Measured], scope: Scope) -> Arm:
    """The base model, from the first cell of each seed in which it was measured."""
    cells: dict[str, Measured] = {}
    for one in done:
        if one.summary.base:
            cells.setdefault(one.seed, one)
    values = {seed: figures(one, scope, base=True) for seed, one in cells.items()}
    return Arm(BASE, BASE, BASE, cells=cells, values=values)


def _measures(arms: Sequence[Arm], done: Sequence[Measured], scope: Scope) -> list[str]:
    columns = [one.scores(step, scope) for one in done for step in (0, one.summary.chosen)]
    known = dict.fromkeys(
        name
        for scores in columns
        for name, score in scores.items()
        if isinstance(score, BenchmarkScore) and " (" not in name
    )
    benchmarks = sorted(known, key=lambda name: name != scope.in_domain)
    found = {name for arm in arms for values in arm.values.values() for name in values}
    return [name for name in (*rows(benchmarks, columns), *DERIVED) if name in found]


def _setting(cell: Cell) -> str:
    return json.dumps([cell.config.model, cell.config.data.model_dump(mode="json")])


def _setting_label(cell: Cell) -> str:
    data = cell.config.data
    corpus = next(name for name in SOURCES if getattr(data, name) is not None)
    return f"{corpus}, {Path(cell.config.model).name}"


def _group_axes(groups: Sequence[Sequence[Cell]]) -> list[str]:
    """Axes that vary over the study, but not within a group: its model and its corpus."""
    axes = dict.fromkeys(axis for cells in groups for cell in cells for axis in cell.factors)

    def labels(cells: Sequence[Cell], axis: str) -> set[str | None]:
        return {cell.factors.get(axis) for cell in cells}

    return [
        axis
        for axis in axes
        if axis not in (SEED, LR)
        and all(
            len(labels(cells, axis)) == 1 and None not in labels(cells, axis) for cells in groups
        )
        and len({label for cells in groups for label in labels(cells, axis)}) > 1
    ]


def _by(cells: Sequence[Cell], key: Callable[[Cell], str]) -> dict[str, list[Cell]]:
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        found.setdefault(key(cell), []).append(cell)
    return found
