"""The choice of an arm's learning rate, on items that are not reported.

In-domain items are split in two halves by a hash of their id. The validation half chooses, the
other half is what the report's in-domain scores are about, so the choice does not flatter the arm
that was tried at the most learning rates.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deploy.report.summary import OpenLedger, ledger_file
from deploy.study.cells import LR, Cell
from deploy.study.report.measured import Measured, held_out_benchmarks, in_domain_of, measure

RULE = (
    "For each arm, the learning rate with the highest score on the validation half of the "
    "in-domain items (those whose SHA-256 of the id begins with an even byte) at the selected "
    "checkpoint, by mean over the seeds that are finished at every candidate. Ties go to the "
    "higher mean of the held-out benchmarks, then to the smaller learning rate."
)
# Means of the same shares in another order may differ in the last bit.
_DIGITS = 9


@dataclass(frozen=True, slots=True)
class Candidate:
    """One learning rate of an arm; its scores by seed, of the finished cells.

    ``validation`` is a share of right answers, ``held_out`` a mean of such shares.
    """

    lr: float
    label: str
    validation: Mapping[str, float] = field(default_factory=dict)
    held_out: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LrChoice:
    """The chosen learning rate, if there is one, and what it was chosen from.

    Args:
        label: of the chosen one; None where no seed is finished at every candidate.
        seeds: over which candidates were compared.
        scores: validation mean and held-out mean by label; candidates without a finished cell
            are absent.
        candidates: all, by learning rate.
    """

    label: str | None
    seeds: tuple[str, ...]
    scores: Mapping[str, tuple[float, float | None]]
    candidates: tuple[Candidate, ...]

    @property
    def edge(self) -> str | None:
        """``lowest`` or ``highest`` if it is at an edge of several candidates."""
        labels = [one.label for one in self.candidates]
        if self.label is None or len(labels) < 2:
            return None
        return {labels[0]: "lowest", labels[-1]: "highest"}.get(self.label)

    @property
    def unfinished(self) -> list[str]:
        """Labels of the candidates without a score."""
        return [one.label for one in self.candidates if one.label not in self.scores]


def choose_lr(candidates: Sequence[Candidate]) -> LrChoice:
    """Choose the learning rate of one arm by ``RULE``; candidates without scores are left out."""
    ordered = tuple(sorted(candidates, key=lambda one: one.lr))
    scored = [one for one in ordered if one.validation]
    seeds = sorted(set.intersection(*(set(one.validation) for one in scored)) if scored else ())
    if not seeds:
        return LrChoice(None, (), {}, ordered)
    # A held-out mean counts only if every candidate has it.
    has_held_out = all(seed in one.held_out for one in scored for seed in seeds)
    scores = {
        one.label: (
            _mean(one.validation, seeds),
            _mean(one.held_out, seeds) if has_held_out else None,
        )
        for one in scored
    }
    best = max(scored, key=lambda one: (*(part or 0.0 for part in scores[one.label]), -one.lr))
    return LrChoice(best.label, tuple(seeds), scores, ordered)


def choose_from_cells(
    cells: Sequence[Cell], folder: Path, open_ledger: OpenLedger = ledger_file
) -> LrChoice:
    """Choose the learning rate of the arm that ``cells`` are of, from their runs' folders.

    Args:
        cells: all cells of one arm; those that are not finished do not count.
        folder: of the study.
        open_ledger: opens the ledger of each.
    """
    return choose_lr(candidates(cells, measure(cells, folder, open_ledger)))


def candidates(cells: Sequence[Cell], measured: Sequence[Measured]) -> list[Candidate]:
    """The candidates of one arm.

    Args:
        cells: of the arm.
        measured: its finished ones.
    """
    in_domain = in_domain_of(measured)
    benchmarks = held_out_benchmarks(measured)
    found = {
        cell.factors[LR]: Candidate(cell.config.learner.lr, cell.factors[LR], {}, {})
        for cell in cells
    }
    validation: dict[str, dict[str, float]] = {label: {} for label in found}
    held_out: dict[str, dict[str, float]] = {label: {} for label in found}
    for one in measured:
        label = one.cell.factors[LR]
        if (score := one.validation_score(in_domain)) is not None:
            validation[label][one.seed] = score
        if (kept := one.held_out(benchmarks)) is not None:
            held_out[label][one.seed] = kept
    return [
        Candidate(one.lr, label, validation[label], held_out[label]) for label, one in found.items()
    ]


def has_choice(cells: Sequence[Cell]) -> bool:
    """Whether any arm has several learning rates to choose from."""
    rates: dict[str, set[str]] = {}
    for cell in cells:
        if LR in cell.factors:
            rates.setdefault(cell.arm, set()).add(cell.factors[LR])
    return any(len(of_arm) > 1 for of_arm in rates.values())


def _mean(by_seed: Mapping[str, float], seeds: Sequence[str]) -> float:
    return round(statistics.fmean(by_seed[seed] for seed in seeds), _DIGITS)
