"""An evaluator's whole work beside its suites, on a real model and a fake engine."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM

from actors.analysis.attach import add_analyses
from actors.evaluation.evaluator import Evaluator
from actors.evaluation.results import EvaluatedModel, Results, by_step
from common.corpora import Corpus
from common.weights import folder_hash
from tests.actors.evaluation.benchmarks.letters import materials
from tests.actors.inference.fake_engine import FakeEngine
from tests.deploy.report.test_summary import PLAIN
from tests.tiny import make_model


@pytest.fixture
def targets(tmp_path):
    # A token is a character.
    base = make_model(tmp_path / "base", vocabulary=128, hidden=32, heads=1, tied=True)
    model = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.01
    shutil.copytree(base, tmp_path / "step_4")
    model.save_pretrained(tmp_path / "step_4")
    folders = ((0, base), (4, tmp_path / "step_4"))
    return [EvaluatedModel(step, folder, folder_hash(folder)) for step, folder in folders]


def _evaluate(tmp_path, targets, said, make_room=None, **settings):
    engine = FakeEngine(lambda text, weights: "")
    made = materials(Corpus([], []), **settings)
    results = Results(tmp_path / "eval")
    results.folder.mkdir(exist_ok=True)
    evaluator = Evaluator(engine, targets[0].weights, made, results, lambda: targets)
    rollouts = [replace(PLAIN, base_logprobs=[-1.0, -1.0])]
    add_analyses(
        evaluator, engine, targets[0], made, results, lambda: rollouts, said.append, make_room
    )
    evaluator.drain()
    return evaluator, evaluator.run()


def test_suites_fisher_and_the_check_of_the_nlls_are_measured_and_nothing_twice(tmp_path, targets):
    text = tmp_path / "text"
    text.write_text("A plain line of letters. " * 40)
    fisher = {"examples": 3, "max_tokens": 20, "parts": 2, "cache": tmp_path / "cache"}
    settings = {"suites": ("text_nll",), "text": text, "text_tokens": 800, "fisher": fisher}
    closed = []
    evaluator, done = _evaluate(tmp_path, targets, [], lambda: closed.append(1), **settings)
    # Once a part: a new checkpoint may have needed the engine in between.
    assert len(closed) == 2
    # A suite of two targets; the check; two parts and their sum; one checkpoint.
    assert done == 2 + 1 + 3 + 1
    base, step = by_step(tmp_path / "eval")
    assert base.analyses.to_json() == {
        "nll_check": {
            "stored": 1.0,
            "recomputed": 1.0,
            "difference": 0.0,
            "largest": 0.0,
            "targets": 1,
            "tokens": 2,
        }
    }
    assert step.to_json()["scores"]["text_nll"]["value"] == 1.0
    found = step.to_json()["analyses"]["fisher"]
    assert found["benchmarks"] == {"text_nll": 3}
    assert found["raw"] == pytest.approx(1e-4 * found["size"], rel=1e-3)
    # The same move everywhere: within each layer F does not matter.
    assert {round(part["alignment"], 2) for part in found["layers"].values()} == {1.0}
    assert evaluator.progress >= 3
    assert _evaluate(tmp_path, targets, [], **settings)[1] == 0


def test_without_a_held_out_benchmark_the_reason_is_logged(tmp_path, targets):
    said = []
    _evaluate(tmp_path, targets, said, suites=(), fisher={"cache": tmp_path})
    assert said == [
        "Fisher alignment is not measured: "
        "evaluator.suites has no benchmark outside the run's own corpus"
    ]
