"""The share of the held-out capability that a checkpoint keeps."""

from __future__ import annotations

from collections.abc import Iterable

from actors.evaluation.scores import BenchmarkScore, Scores
from common.config.evaluation import HELD_OUT
from common.json_model import JsonModel

# Of which a retention is a mean.
_LEAST_BENCHMARKS = 2


class Retention(JsonModel):
    """The mean over ``benchmarks`` of score over base score."""

    value: float
    benchmarks: list[str]


def retention(base: Scores, scores: Scores) -> Retention | None:
    """The share of the held-out capability that is kept.

    Over the benchmarks that report a share of right answers (retrieval and those outside the
    corpus), have both scores, and on which the base is above zero. None if there are fewer than
    two: one benchmark is no capability, and its own score says more.
    """
    return _retention(base, scores, (*HELD_OUT, "retrieval"))


def retention_of_chain(original: Scores, scores: Scores) -> Retention | None:
    """The share that is kept of what the original base of a chain of runs could do.

    Without retrieval, whose questions are of each run's own corpus, and without benchmarks that
    the two runs measured on different numbers of items or with different sampling.
    """
    alike = (
        name
        for name, before in original.items()
        if name in HELD_OUT and _conditions(before) == _conditions(scores.get(name))
    )
    return _retention(original, scores, alike)


def _conditions(score: object) -> tuple[float, ...] | None:
    if not isinstance(score, BenchmarkScore):
        return None
    return score.n, score.samples, score.temperature, score.max_tokens


def _retention(base: Scores, scores: Scores, names: Iterable[str]) -> Retention | None:
    wanted = set(names)
    kept = {
        name: after.value / before.value
        for name, before in base.items()
        if name in wanted
        and isinstance(before, BenchmarkScore)
        and before.unit == "fraction"
        and before.value > 0
        and isinstance(after := scores.get(name), BenchmarkScore)
    }
    if len(kept) < _LEAST_BENCHMARKS:
        return None
    return Retention(value=sum(kept.values()) / len(kept), benchmarks=list(kept))
