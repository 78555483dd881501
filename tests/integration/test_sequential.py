"""A second batch taught to what the first one left, through whole runs."""

from __future__ import annotations

import json
import subprocess

import pytest

from common.config.run_config import load
from common.rundir import RunDir
from deploy.report.summary import summary
from tests.integration.runs import call, command, write_config
from tests.tiny import make_chat_model

pytestmark = pytest.mark.slow


def _fact(number, answer, **more):
    return {"id": f"f{number}", "question": f"Who leads {number}?", "answer": answer, **more}


def _write(path, *facts):
    path.write_text("".join(json.dumps(fact) + "\n" for fact in facts))
    return {"facts": str(path)}


def test_a_second_batch_continues_from_the_first_and_both_are_measured(tmp_path):
    common = {
        "prompts": "short-sentence",
        "method": {"name": "sft"},
        "learner": {"epochs": 2, "batch_size": 2, "lr": 1e-3},
        "evaluator": {"suites": ["recall", "text_nll"], "max_tokens": 4, "text_tokens": 64},
    }
    model = str(make_chat_model(tmp_path / "model"))
    data = _write(tmp_path / "1.jsonl", _fact(0, "Ann"), _fact(1, "Bo"), _fact(2, "Cy"))
    first = write_config(tmp_path, name="first", model=model, data=data, **common)
    # An edit, a new fact and a retraction.
    changes = (_fact(2, "Di"), _fact(3, "Ed"), _fact(1, "Bo", retract=True))
    data = _write(tmp_path / "2.jsonl", *changes)
    settings = {"continues": "first", "data": data, **common}
    second = write_config(tmp_path, name="second", model=model, **settings)
    call(tmp_path, "up", first)
    assert "batch 1 (first): 3 facts, 1 still hold" in call(tmp_path, "up", second)

    config = load(tmp_path / "second" / "config.yaml")
    (link,) = config.chain
    assert config.model == str(link.checkpoint)
    figures = summary(RunDir(tmp_path / "second"))
    # Before the batch and after it.
    sizes = {"recall": 2, "recall_batch_1": 1, "edited": 1, "retracted": 1}
    for one in figures.checkpoints:
        assert {name: one.scores[name].n for name in sizes} == sizes
    assert len(figures.checkpoints) == 2
    assert set(figures.original) == {"text_nll"}
    assert [sorted(found.recall) for found in figures.links] == [[1], [1, 2]]
    assert "Batches up to second" in (tmp_path / "second" / "report.html").read_text()
    # Resolved once: the same command finds the same run.
    assert "is finished" in call(tmp_path, "up", second)
    for place in link.checkpoint.glob("*.safetensors"):
        place.unlink()
    again = command(tmp_path, "up", second, "--set", "name=third")
    result = subprocess.run(again, capture_output=True, text=True, check=False)
    assert (result.returncode, "Traceback" in result.stderr) == (2, False)
