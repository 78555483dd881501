"""A run that draws new targets for every epoch, through real Ray, vLLM and DeepSpeed."""

from __future__ import annotations

import pytest

from common.ledger import open_view
from common.records import unpack_rollout
from common.rundir import RunDir, read_jsonl
from deploy.report.summary import summary
from tests.integration.runs import call, status, write_config

pytestmark = pytest.mark.slow


def test_every_epoch_trains_targets_of_its_own_once(tmp_path, tiny_model):
    path = write_config(
        tmp_path,
        name="fresh",
        model=str(tiny_model),
        prompts="short-sentence",
        method={"name": "mixsd", "mix_rate": 0.5, "draws": 2, "redraw": "epoch"},
        data={"kgfact": {"domains": 2, "entities": 4}, "limit": 4},
        engine={"max_model_len": 256},
        rollout={
            **{"slots": 4, "max_tokens": 8, "temperature": 1.0},
            **{"max_retries": 0, "on_exhausted": "keep"},
        },
        replay={"first_epoch": "work"},
        learner={"epochs": 2, "batch_size": 4, "checkpoint_every": 2},
        evaluator={"suites": ["recall"], "max_tokens": 4},
    )
    # 4 facts, 2 draws, 2 epochs.
    assert "16 of 16" in call(tmp_path, "up", path)
    found = status(tmp_path, "fresh")
    assert (found["queue"]["work"], found["queue"]["exposures_trained"]) == (16, 16)
    assert found["scores"].keys() == {"step_0", "step_2", "step_4"}
    run = RunDir(tmp_path / "fresh")
    ledger = open_view(run.ledger)
    trained = ledger.trained()
    targets = {tuple(unpack_rollout(payload).target_ids) for payload in ledger.payloads()}
    ledger.close()
    facts = sorted({fact for fact, _, _ in trained})
    assert trained == [(fact, draw, 0) for fact in facts for draw in range(4)]
    assert len(targets) > 8
    draws = [{draw for _, draw, _ in step["exposures"]} for step in read_jsonl(run.steps)]
    assert draws == [{0, 1}, {0, 1}, {2, 3}, {2, 3}]
    figures = summary(run)
    assert (figures.facts, figures.work, figures.accepted) == (4, 16, 16)
