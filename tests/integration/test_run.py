"""The main job, small, through real Ray, vLLM and DeepSpeed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.request
from pathlib import Path

import pytest

from tests.integration.runs import call, command, counts, wait, write_config

pytestmark = pytest.mark.slow
FACTS, EPOCHS = 12, 2


def _rollout_pid(run: Path) -> int:
    """The engine's process: the one whose output goes to the actor's log."""
    log = (run / "logs" / "rollout-0.log").resolve()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(entry / "fd" / "1") == str(log):
                return int(entry.name)
        except OSError:
            continue
    pytest.fail("no rollout process")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run whose rollout actor was killed in the middle."""
    runs = tmp_path_factory.mktemp("runs")
    path = write_config(
        runs,
        name="small",
        prompts="short-sentence",
        method={"name": "mixsd", "mix_rate": 0.1},
        data={"kgfact": {"domains": 3, "entities": 4, "distractors": 6}},
        rollout={"slots": 4, "max_tokens": 24, "on_exhausted": "canonical"},
        learner={"epochs": EPOCHS, "batch_size": 5, "lr": 5e-5, "checkpoint_every": 3},
        evaluator={
            "suites": ["recall", "retrieval", "text_nll"],
            "max_tokens": 24,
            "text_tokens": 256,
            "limit": 4,
            "fisher": {"examples": 4, "max_tokens": 16, "parts": 2, "cache": str(runs / "fisher")},
        },
    )
    call(runs, "up", path, "--detach")
    try:
        found = wait(runs, "small", lambda found: counts(found)["leased"] > 0, 180)
        with urllib.request.urlopen(found["metrics_url"]) as reply:
            metrics = reply.read().decode()
        os.kill(_rollout_pid(runs / "small"), signal.SIGKILL)
        found = wait(runs, "small", lambda found: found["state"] == "finished", 600)
        yield runs / "small", found, metrics
    finally:
        call(runs, "down", "small")


def test_a_killed_rollout_actor_is_restarted_and_the_run_finishes(finished):
    _, status, _ = finished
    assert status["roles"]["rollout-0"]["restarts"] == 1


def test_every_fact_is_trained_exactly_once_an_epoch(finished):
    run, status, _ = finished
    assert status["queue"]["exposures_expected"] == FACTS * EPOCHS
    assert status["queue"]["exposures_trained"] == FACTS * EPOCHS
    from common.ledger import open_view

    ledger = open_view(run / "replay.sqlite")
    trained = ledger.trained()
    ledger.close()
    assert len(set(trained)) == FACTS * EPOCHS
    # What the learner itself wrote down, step by step.
    lines = [json.loads(line) for line in (run / "steps.jsonl").read_text().splitlines()]
    seen = [tuple(exposure) for line in lines for exposure in line["exposures"]]
    assert sorted(seen) == trained


def test_the_base_and_every_checkpoint_are_measured(finished):
    _, status, _ = finished
    assert set(status["scores"]) == {"step_0", "step_3", "step_5"}
    assert status["scores"]["step_5"]["text_nll"]["n"] > 200


def test_checkpoints_have_a_fisher_alignment_and_the_stored_nlls_a_second_pass(finished):
    run, status, _ = finished
    found = status["analyses"]
    for step in ("step_3", "step_5"):
        fisher = found[step]["fisher"]
        assert fisher["examples"] == 1, "256 tokens of text are one window"
        assert fisher["alignment"] > 0
        assert len(fisher["layers"]) == 30 + 2
    assert found["step_5"]["fisher"]["raw"] > found["step_3"]["fisher"]["raw"] > 0
    check = found["step_0"]["nll_check"]
    # Batches differ between the passes, and the engine computes in bfloat16.
    assert abs(check["difference"]) < 0.02
    assert "Fisher alignment by layer" in (run / "report.html").read_text()


def test_the_checkpoint_loads_as_a_chat_model(finished):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run, _, _ = finished
    folder = run / "checkpoints" / "step_5"
    assert AutoModelForCausalLM.from_pretrained(folder).config.vocab_size == 49152
    assert AutoTokenizer.from_pretrained(folder).chat_template


def test_the_metrics_parse_and_are_in_the_catalogue(finished):
    from prometheus_client.parser import text_string_to_metric_families

    from common.metrics import CATALOGUE

    _, _, metrics = finished
    known = {spec.name.removesuffix("_total"): spec.kind for spec in CATALOGUE}
    families = list(text_string_to_metric_families(metrics))
    assert families
    for family in families:
        assert known[family.name] == family.type


def test_the_report_is_written_and_a_second_up_says_finished(finished):
    run, _, _ = finished
    assert "<img" in (run / "report.html").read_text()
    assert "is finished" in call(run.parent, "up", run.parent / "small.yaml")


def test_another_configuration_under_the_same_name_is_refused(finished):
    run, _, _ = finished
    result = subprocess.run(
        command(run.parent, "up", run.parent / "small.yaml", "--set", "seed=7"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert "in use" in result.stderr
