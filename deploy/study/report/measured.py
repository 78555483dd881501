"""What a finished cell scored, at its selected checkpoint and on the way there."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from actors.evaluation.results import Results
from actors.evaluation.scores import BenchmarkScore, Scores, Unmeasured
from common.config.evaluation import HELD_OUT
from common.rundir import RunDir
from deploy.report.graders import expand
from deploy.report.retention import retention
from deploy.report.summary import OpenLedger, RunSummary, summary
from deploy.report.targets import NLLs
from deploy.study.cells import SEED, Cell
from deploy.study.progress import progress_of
from deploy.study.report.items import Items, is_reported, is_validation, items_at

FINISHED = "finished"
# What a model could do before: outside the corpus, or about facts that are not trained.
_HELD_OUT = (*HELD_OUT, "retrieval")


@dataclass(frozen=True, slots=True)
class Scope:
    """Which benchmarks a comparison of cells is about.

    Args:
        in_domain: the one that measures what was to be learned.
        held_out: those that every cell and its base have a share of right answers in.
        path: those of them that are measured at every checkpoint with an in-domain score.
        split: whether in-domain scores are of the reported half of the items alone.
    """

    in_domain: str
    held_out: tuple[str, ...]
    path: tuple[str, ...]
    split: bool


@dataclass(frozen=True, slots=True)
class Measured:
    """A finished cell. ``summary`` is without curves and samples, which are large."""

    cell: Cell
    run: RunDir
    summary: RunSummary
    _items: dict[int, dict[str, Items]] = field(default_factory=dict, repr=False)

    @property
    def seed(self) -> str:
        """The label of its seed."""
        return seed_of(self.cell)

    @property
    def results(self) -> Results:
        """All results of its run, with their responses."""
        return Results(self.run.eval)

    def items(self, step: int) -> dict[str, Items]:
        """The items of each benchmark at a step, which is kept."""
        if step not in self._items:
            self._items[step] = items_at(self.results, step)
        return self._items[step]

    def validation_score(self, in_domain: str) -> float | None:
        """The share of right answers to the validation half, at the selected checkpoint."""
        found = items_at(self.results, self.summary.chosen, in_domain).get(in_domain)
        score = None if found is None else found.score(is_validation)
        return None if score is None else score.value

    def held_out(self, benchmarks: Sequence[str]) -> float | None:
        """Mean of the held-out benchmarks at the selected checkpoint."""
        return mean_score(self.summary.final, benchmarks)

    def scores(self, step: int, scope: Scope) -> Scores:
        """The scores at a step, each followed by those of other graders."""
        found = next((one.scores for one in self.summary.checkpoints if one.step == step), {})
        if scope.in_domain in found:
            found = {**found, scope.in_domain: self._in_domain(step, found, scope)}
        return expand(found)

    def trajectory(self, scope: Scope) -> list[tuple[int, float, float]]:
        """(step, in-domain score, mean of the path's benchmarks) of each checkpoint."""
        points = []
        for one in self.summary.checkpoints:
            if scope.in_domain not in one.scores:
                continue
            learned = self._in_domain(one.step, one.scores, scope)
            kept = mean_score(one.scores, scope.path)
            if isinstance(learned, BenchmarkScore) and kept is not None:
                points.append((one.step, learned.value, kept))
        return points

    def _in_domain(self, step: int, scores: Scores, scope: Scope) -> BenchmarkScore | Unmeasured:
        """The in-domain score at a step, of the reported items alone if they are split."""
        name = scope.in_domain
        if not scope.split or isinstance(scores[name], Unmeasured):
            return scores[name]
        known = self._items.get(step) or items_at(self.results, step, name)
        score = known.get(name, Items()).score(is_reported)
        return score or Unmeasured(not_measured="it has no items that are reported")


def measure(cells: Sequence[Cell], folder: Path, open_ledger: OpenLedger) -> list[Measured]:
    """The finished ones of the cells of the study in ``folder``."""
    found = []
    for cell in cells:
        if progress_of(cell, folder).state == FINISHED:
            run = cell.run(folder)
            figures = summary(run, open_ledger).model_copy(
                update={"steps": [], "nlls": NLLs(targets=[], canonical=[]), "exhausted": []}
            )
            found.append(Measured(cell, run, figures))
    return found


def seed_of(cell: Cell) -> str:
    """The label of its seed; that of its configuration if the study has no axis of seeds."""
    return cell.factors.get(SEED, str(cell.config.seed))


def scope_of(measured: Sequence[Measured], split: bool) -> Scope:
    """What cells of one model and corpus can be compared by; those without scores do not count."""
    measured = [one for one in measured if one.summary.final]
    in_domain = in_domain_of(measured)
    held_out = held_out_benchmarks(measured)
    path = [
        name
        for name in held_out
        if all(
            _is_share(one.scores.get(name))
            for cell in measured
            for one in cell.summary.checkpoints
            if _is_share(one.scores.get(in_domain))
        )
    ]
    return Scope(in_domain, held_out, tuple(path), split)


def in_domain_of(measured: Sequence[Measured]) -> str:
    """``test`` if all cells have this split of their corpus (KGFunc), else ``recall``."""
    has_test = all(_is_share(one.summary.final.get("test")) for one in measured)
    return "test" if measured and has_test else "recall"


def held_out_benchmarks(measured: Sequence[Measured]) -> tuple[str, ...]:
    """Held-out benchmarks in which all cells and their bases have a share of right answers."""
    return tuple(
        name
        for name in _HELD_OUT
        if measured
        and all(
            _is_share(scores.get(name))
            for one in measured
            for scores in (one.summary.base, one.summary.final)
        )
    )


def mean_score(scores: Scores, benchmarks: Sequence[str]) -> float | None:
    """Mean over ``benchmarks``; None if there are none or one is missing."""
    found = [scores.get(name) for name in benchmarks]
    values = [score.value for score in found if isinstance(score, BenchmarkScore)]
    return statistics.fmean(values) if values and len(values) == len(benchmarks) else None


def figures(measured: Measured, scope: Scope, base: bool = False) -> dict[str, float]:
    """Every number of a cell at its selected checkpoint, or of its base, by measure."""
    own = measured.summary
    step = 0 if base else own.chosen
    scores = measured.scores(step, scope)
    found = {name: one.value for name, one in scores.items() if isinstance(one, BenchmarkScore)}
    return found | dict(_derived(own.base if base else own.final, own, scope, base))


def _derived(
    scores: Scores, own: RunSummary, scope: Scope, base: bool
) -> Iterator[tuple[str, float]]:
    """Measures that are no benchmarks."""
    before, after = mean_score(own.base, scope.held_out), mean_score(scores, scope.held_out)
    held_out = {name: scores[name] for name in scope.held_out if name in scores}
    kept = retention(own.base, held_out)
    if before is not None and after is not None:
        yield "held-out", after
        yield "held-out loss", before - after
    if kept is not None:
        yield "retention", kept.value
        yield "1 − retention", 1 - kept.value
    if base:
        return
    if own.target_nll is not None:
        yield "target NLL", own.target_nll.value
    if own.canonical_nll is not None:
        yield "canonical NLL", own.canonical_nll.value
    yield from _fisher(own).items()


def _fisher(own: RunSummary) -> Mapping[str, float]:
    found = next((one for one in own.checkpoints if one.step == own.chosen), None)
    fisher = None if found is None else found.analyses.alignment
    if fisher is None:
        return {}
    known = {"D_F": fisher.weighted, "‖Δθ‖²": fisher.raw}
    return known if fisher.alignment is None else {"Fisher alignment": fisher.alignment, **known}


def _is_share(score: object) -> bool:
    return isinstance(score, BenchmarkScore) and score.unit == "fraction"
