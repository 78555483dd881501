"""Scores by other graders as rows of their own, such as ``recall (strict)``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from actors.evaluation.scores import BenchmarkScore, Scores

# The two graders of ``evaluator.protocol``: one gives the score, the other stands beside it.
_PROTOCOLS = ("paper", "ours")


def expand(scores: Scores) -> Scores:
    """All scores, each followed by those of the other graders under names of their own."""
    found: Scores = {}
    for name, score in scores.items():
        found[name] = score
        if not isinstance(score, BenchmarkScore):
            continue
        for grader, other in score.graders.items():
            found[row(name, grader)] = BenchmarkScore(
                value=other.value, low=other.low, high=other.high, n=score.n, unit=score.unit
            )
    return found


def row(benchmark: str, grader: str) -> str:
    """Name of the row of a benchmark's score by another grader."""
    return f"{benchmark} ({grader})"


def rows(benchmarks: Sequence[str], columns: Iterable[Scores]) -> list[str]:
    """The rows of a table of scores.

    Each benchmark is followed by its other graders. The other grader of the protocol has a row
    only if it differs in the third decimal in a column.

    Args:
        benchmarks: in their order.
        columns: all scores of the table.
    """
    scores = list(columns)
    found = []
    for name in benchmarks:
        found.append(name)
        measured = [one for of in scores if isinstance(one := of.get(name), BenchmarkScore)]
        for grader in dict.fromkeys(grader for one in measured for grader in one.graders):
            if grader not in _PROTOCOLS or any(_differs(one, grader) for one in measured):
                found.append(row(name, grader))
    return found


def _differs(score: BenchmarkScore, grader: str) -> bool:
    other = score.graders.get(grader)
    return other is not None and f"{other.value:.3f}" != f"{score.value:.3f}"
