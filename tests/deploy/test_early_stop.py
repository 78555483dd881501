"""When training may end: files of a run folder in, a settled peak out."""

from __future__ import annotations

import json

import pytest

from common.config import RunConfig, parse
from common.errors import UserError
from common.rundir import RunDir
from deploy.early_stop import EarlyStop


def config(**changes) -> RunConfig:
    raw = {
        "name": "x",
        "method": {"name": "sft"},
        "data": {"kgfact": {}},
        "learner": {"early_stop": True},
        "evaluator": {"patience": 2},
    }
    return parse({**raw, **changes}, "test")


@pytest.fixture
def run(tmp_path) -> RunDir:
    run = RunDir(tmp_path / "x")
    run.create()
    return run


def measure(run: RunDir, step: int, score: dict) -> None:
    head = {"step": step, "weights": f"w{step}", "suite": "recall", "suite_hash": "h"}
    result = {**head, "measured": float(step), "scores": {"recall": score}}
    (run.eval / f"step_{step}-w-recall-h.json").write_text(json.dumps(result))


def checkpoint(run: RunDir, *steps: int) -> None:
    for step in steps:
        folder = run.checkpoints / f"step_{step}"
        folder.mkdir()
        (folder / "manifest.json").write_text("{}")


def test_training_ends_once_as_many_steps_as_patience_says_are_no_better(run):
    watch = EarlyStop(run, config())
    checkpoint(run, 3, 6, 9)
    for step, recall in ((0, 0.1), (3, 0.8), (6, 0.7)):
        measure(run, step, {"value": recall})
        assert watch.peak() is None
    measure(run, 9, {"value": 0.8})
    peak = watch.peak()
    assert peak is not None
    assert peak.step == 3
    assert "the next measured 2 steps do not exceed it" in peak.reason
    # A later controller sees the same; so does one that asks again after more results.
    measure(run, 12, {"value": 1.0})
    assert watch.peak() == EarlyStop(run, config()).peak() == peak


def test_a_checkpoint_that_is_not_measured_yet_may_be_the_peak(run):
    watch = EarlyStop(run, config())
    checkpoint(run, 3, 6, 9, 12)
    for step, recall in ((3, 0.5), (9, 0.4), (12, 0.4)):
        measure(run, step, {"value": recall})
    assert watch.peak() is None
    measure(run, 6, {"value": 0.9})
    peak = watch.peak()
    assert peak is not None
    assert peak.step == 6


def test_a_recall_that_could_not_be_measured_holds_nothing_up(run):
    checkpoint(run, 3, 6, 9, 12)
    for step, score in (
        (3, {"value": 0.5}),
        (6, {"not_measured": "why"}),
        (9, {"value": 0.4}),
        (12, {"value": 0.4}),
    ):
        measure(run, step, score)
    peak = EarlyStop(run, config()).peak()
    assert peak is not None
    assert peak.step == 3


@pytest.mark.parametrize(
    ("evaluator", "message"),
    [
        ({"actors": 0}, r"evaluator\.actors must be at least 1"),
        ({"suites": ["text_nll"]}, "hold recall or in_domain"),
        ({"select": "best"}, r"evaluator\.select is best"),
    ],
)
def test_early_stop_without_a_first_peak_to_wait_for_is_refused(evaluator, message):
    with pytest.raises(UserError, match=message):
        config(evaluator=evaluator)
