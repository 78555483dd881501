"""Scores by other graders as rows of tables."""

from __future__ import annotations

from actors.evaluation.scores import BenchmarkScore, GraderScore, Scores, Unmeasured
from deploy.report.graders import expand, rows


def _score(value: float, **graders: float) -> BenchmarkScore:
    others = {
        name: GraderScore(value=other, low=other - 0.1, high=other + 0.1)
        for name, other in graders.items()
    }
    return BenchmarkScore(
        value=value,
        low=value - 0.1,
        high=value + 0.1,
        n=40,
        unit="fraction",
        seconds=3.0,
        errors={"format": 1},
        graders=others,
    )


def test_every_grader_has_a_score_of_the_same_items_after_the_main_one() -> None:
    scores: Scores = {
        "recall": _score(0.5, strict=0.25, paper=0.75),
        "piqa": Unmeasured(not_measured="no data"),
        "text_nll": _score(3.0),
    }
    found = expand(scores)
    assert list(found) == ["recall", "recall (strict)", "recall (paper)", "piqa", "text_nll"]
    assert found["recall (strict)"].to_json() == {
        "value": 0.25,
        "low": 0.15,
        "high": 0.35,
        "n": 40,
        "unit": "fraction",
    }


def test_the_protocol_s_other_grader_has_a_row_where_the_third_decimal_differs() -> None:
    base: Scores = {"recall": _score(0.0, strict=0.0, paper=0.0), "mmlu": _score(0.6, paper=0.6)}
    equal: Scores = {
        "recall": _score(0.5, strict=0.5, paper=0.5),
        "mmlu": _score(0.4, paper=0.4002),
    }
    names = ["recall", "mmlu", "text_nll"]
    assert rows(names, [base, equal]) == ["recall", "recall (strict)", "mmlu", "text_nll"]
    other: Scores = {"mmlu": _score(0.4, paper=0.401)}
    assert rows(names, [base, other])[2:] == ["mmlu", "mmlu (paper)", "text_nll"]
    swapped: Scores = {"mmlu": _score(0.401, ours=0.4)}
    assert rows(names, [swapped])[1:] == ["mmlu", "mmlu (ours)", "text_nll"]
