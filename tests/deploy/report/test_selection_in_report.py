"""The selected checkpoint of a report."""

from __future__ import annotations

from typing import Any

from actors.evaluation.scores import StepResults
from common.config.run_config import RunConfig, parse
from deploy.report.summary import chosen


def _config(**evaluator: Any) -> RunConfig:
    raw = {"name": "x", "method": {"name": "sft"}, "data": {"kgfact": {}}, "evaluator": evaluator}
    return parse(raw, "test")


def _results(*recall: float | None) -> list[StepResults]:
    return [
        _result(step, {} if value is None else {"recall": _score(value)})
        for step, value in enumerate(recall)
    ]


def _result(step: int, scores: dict[str, Any]) -> StepResults:
    return StepResults.from_json({"step": step, "scores": scores, "analyses": {}})


def _score(value: float) -> dict[str, Any]:
    return {"value": value, "low": value, "high": value, "n": 4, "unit": "fraction"}


def test_the_selected_step_is_the_first_peak_of_recall_by_the_run_s_settings() -> None:
    results = _results(0.0, 0.4, 0.8, 0.7, 0.8, 0.9)
    peak = chosen(_config(), results)
    assert peak is not None
    assert peak.step == 2
    patient = chosen(_config(patience=3), results)
    assert patient is not None
    assert patient.step == 5
    last = chosen(_config(select="last"), results)
    assert last is not None
    assert last.step == 5


def test_steps_without_recall_are_ignored() -> None:
    found = chosen(_config(), _results(0.0, 0.4, None, 0.3))
    assert found is not None
    assert found.step == 1
    assert chosen(_config(), _results(0.0, None)) is None


def test_a_recall_that_could_not_be_measured_selects_nothing() -> None:
    results = [_result(3, {"recall": {"not_measured": "why"}})]
    assert chosen(_config(), results) is None
