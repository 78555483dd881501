from __future__ import annotations

from pathlib import Path

from actors.evaluation.results import EvaluatedModel, Results
from actors.evaluation.scores import BenchmarkScore, StepResults
from common.rundir import RunDir
from deploy.observability.folder_metrics import FolderMetrics, score_metrics


def _result(step: int, analyses: dict | None = None, **scores: dict) -> StepResults:
    found = {"step": step, "weights": "w", "scores": scores, "analyses": analyses or {}}
    return StepResults.from_json(found)


def _score(value: float, low: float, high: float) -> dict:
    return {"value": value, "low": low, "high": high, "n": 10, "unit": "fraction"}


def test_scores_are_those_of_the_newest_checkpoint_with_the_base_interval():
    metrics = score_metrics(
        [
            _result(0, recall=_score(0.1, 0.05, 0.2)),
            _result(24, recall=_score(0.5, 0.4, 0.6)),
            _result(48, recall=_score(0.9, 0.8, 0.95), retrieval={"not_measured": "no items"}),
        ]
    )
    assert metrics == {
        "mixsd_eval_step": 48,
        "mixsd_eval_score": {"recall": 0.9},
        "mixsd_eval_score_low": {"recall": 0.8},
        "mixsd_eval_score_high": {"recall": 0.95},
        "mixsd_eval_base_low": {"recall": 0.05},
        "mixsd_eval_base_high": {"recall": 0.2},
    }


def test_without_a_measured_base_there_is_no_base_interval():
    metrics = score_metrics([_result(24, recall=_score(0.5, 0.4, 0.6))])
    assert "mixsd_eval_base_low" not in metrics


def test_an_evaluation_shows_once_its_file_exists(tmp_path):
    run = RunDir(tmp_path / "r")
    run.create()
    folder = FolderMetrics(run)
    first = folder.metrics("running")
    assert "mixsd_eval_step" not in first
    assert first["mixsd_run_state"] == {"running": 1.0}
    assert 0 < first["mixsd_disk_free_bytes"] <= first["mixsd_disk_size_bytes"]
    scores = {"recall": BenchmarkScore.from_json(_score(0.1, 0.0, 0.2))}
    Results(run.eval).write(EvaluatedModel(0, Path(), "w"), "recall", "key", scores)
    assert folder.metrics("running")["mixsd_eval_score"] == {"recall": 0.1}


def test_fisher_metrics_are_those_of_the_newest_checkpoint_that_has_them():
    results = [_result(0)]
    for step, alignment in ((4, 1.25), (8, 1.5)):
        fisher = {"alignment": alignment, "weighted": 3.0, "raw": 2.0}
        results.append(_result(step, {"fisher": fisher}))
    results.append(_result(12))
    metrics = score_metrics(results)
    assert metrics["mixsd_fisher_alignment"] == 1.5
    assert metrics["mixsd_fisher_displacement"] == 3.0
    assert metrics["mixsd_raw_displacement"] == 2.0
    results[2] = _result(8, {"fisher": {"not_measured": "another model"}})
    assert "mixsd_fisher_alignment" not in score_metrics(results)
