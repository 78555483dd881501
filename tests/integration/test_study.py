"""A study through real Ray, vLLM and DeepSpeed, whose command is killed in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest
import yaml

from actors.evaluation.results import Results
from common.ledger import open_view
from common.rundir import RunDir, read_json, read_jsonl
from tests.integration.runs import call, command, write_config

pytestmark = pytest.mark.slow
CELLS = ("lr0.001", "lr0.01")


def _study(tmp_path, tiny_model):
    base = write_config(
        tmp_path,
        name="base",
        model=str(tiny_model),
        prompts="short-sentence",
        method={"name": "mixsd", "mix_rate": 0.5},
        data={"kgfact": {"domains": 2, "entities": 4}, "limit": 4},
        engine={"max_model_len": 256},
        rollout={
            **{"slots": 4, "max_tokens": 8, "temperature": 1.0},
            **{"max_retries": 0, "on_exhausted": "keep"},
        },
        learner={"epochs": 4, "batch_size": 4, "checkpoint_every": 2},
        evaluator={"suites": ["recall"], "max_tokens": 4},
    )
    path = tmp_path / "study.yaml"
    axes = {"learner.lr": [0.001, 0.01]}
    path.write_text(yaml.safe_dump({"name": "rates", "base": base.name, "axes": axes}))
    return path


def _kill_when_a_cell_is_live(runs, path):
    """Start the study, and kill its command once its first cell has a controller."""
    command_ = subprocess.Popen(command(runs, "study", path), start_new_session=True)
    status = RunDir(runs / "rates/cells" / CELLS[0]).status
    deadline = time.monotonic() + 120
    while (read_json(status) or {}).get("state") != "running":
        assert command_.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.kill(command_.pid, signal.SIGKILL)
    command_.wait()


def test_a_killed_study_goes_on_and_its_cells_share_targets_base_and_processes(
    tmp_path, tiny_model
):
    path = _study(tmp_path, tiny_model)
    _kill_when_a_cell_is_live(tmp_path, path)
    out = call(tmp_path, "study", path)
    assert "cell lr0.001: starts" not in out
    assert "cell lr0.01: starts, with the targets of lr0.001" in out
    assert "cell lr0.01: finished (2 of 2 cells finished)" in out
    first, second = (RunDir(tmp_path / "rates/cells" / name) for name in CELLS)
    payloads, trained = [], []
    for run in (first, second):
        ledger = open_view(run.ledger)
        payloads.append([*ledger.payloads()])
        trained.append(ledger.trained())
        ledger.close()
    assert payloads[0] == payloads[1]
    facts = sorted({fact for fact, _, _ in trained[0]})
    # Four facts, four epochs: each once.
    assert trained == [[(fact, 0, epoch) for fact in facts for epoch in range(4)]] * 2
    assert [line["loss"] for line in read_jsonl(first.steps)][1:] != [
        line["loss"] for line in read_jsonl(second.steps)
    ][1:]
    base = [one for run in (first, second) for one in Results(run.eval).all() if one.step == 0]
    recalls = [one.seconds for one in base if one.suite == "recall"]
    # The second cell's is a copy, to the last digit.
    assert recalls[0] == recalls[1]
    assert not [line for line in read_jsonl(second.events) if "restarted" in line["text"]]
    for role in ("evaluator-0", "learner-0"):
        assert "of another run goes on here" in (second.logs / f"{role}.log").read_text()
    assert not (second.logs / "rollout-0.log").exists()
    assert not (tmp_path / "rates/cluster.json").exists()
    assert (tmp_path / "rates/report.html").exists()
    assert "2 of 2 cells finished" in call(tmp_path, "study", "status", "rates")
    # Nothing is left to do.
    assert "starts" not in call(tmp_path, "study", path)
