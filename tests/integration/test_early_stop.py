"""Training that ends at the first peak of recall, through real Ray and vLLM."""

from __future__ import annotations

import pytest

from actors.evaluation.results import by_step
from common.rundir import RunDir, read_jsonl
from deploy.report.summary import summary
from learner.checkpoint import existing
from tests.integration.runs import call, wait, write_config

pytestmark = pytest.mark.slow
# Far more than there is time for: only the peak ends the run.
EPOCHS = 20_000


def test_a_run_ends_in_order_at_its_first_peak_of_recall(tmp_path, tiny_model):
    path = write_config(
        tmp_path,
        name="peaked",
        model=str(tiny_model),
        prompts="short-sentence",
        method={"name": "sft"},
        data={"kgfact": {"domains": 2, "entities": 3, "distractors": 2}},
        rollout={"slots": 4, "max_tokens": 24},
        learner={
            "epochs": EPOCHS,
            "batch_size": 3,
            "lr": 1e-2,
            "dtype": "float32",
            "checkpoint_every": 4000,
            "export_every": 40,
            "early_stop": True,
        },
        evaluator={
            "suites": ["recall", {"suite": "text_nll", "at": "selected"}],
            "text_tokens": 256,
            "max_tokens": 24,
            "patience": 1,
            "fisher": {
                "examples": 2,
                "max_tokens": 16,
                "parts": 1,
                "engine": "close",
                "cache": str(tmp_path / "fisher"),
            },
        },
    )
    call(tmp_path, "up", path, "--detach")
    try:
        found = wait(tmp_path, "peaked", lambda found: found["state"] == "finished", 150)
    finally:
        call(tmp_path, "down", "peaked")
    figures = summary(RunDir(tmp_path / "peaked"))
    assert found["queue"]["ended"] is True
    assert 0 < figures.exposures_trained < figures.exposures_expected == 3 * EPOCHS
    assert figures.exposures_trained == 3 * figures.step
    assert figures.stopped_early
    assert figures.exhausted == []
    assert figures.chosen < figures.step
    assert "is the first peak of recall" in figures.chosen_because
    run = RunDir(tmp_path / "peaked")
    found_there = existing(run.checkpoints)
    # The last one can be resumed, the others were only exported.
    assert [one.resumable for one in found_there] == [True] + [False] * (len(found_there) - 1)
    measured = {one.step: set(one.scores) for one in by_step(run.eval)}
    with_text = {step for step, scores in measured.items() if "text_nll" in scores}
    assert with_text == {0, figures.chosen}
    assert set(measured) == {0, *(one.step for one in found_there)}
    assert figures.fisher is not None
    events = [str(event) for event in read_jsonl(tmp_path / "peaked/events.jsonl")]
    assert sum("training ends early" in event for event in events) == 1
    assert "training was ended early" in (tmp_path / "peaked/report.html").read_text()
