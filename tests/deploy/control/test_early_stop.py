"""When training may end: files of a run folder in, a settled peak out."""

from __future__ import annotations

import json

import pytest

from actors.replay.queue import ReplayQueue
from common.config.run_config import RunConfig, dump, parse
from common.errors import UserError
from common.ledger import Ledger
from common.records import PackedRollout, Rollout
from common.rundir import RunDir
from deploy.control.early_stop import EarlyStop
from deploy.report import table
from deploy.report.files import write_report
from deploy.report.summary import summary
from learner.checkpoint import Manifest


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
    interval = {"low": 0.0, "high": 1.0, "n": 2, "unit": "fraction"}
    head = {"step": step, "weights": f"w{step}", "suite": "recall", "suite_hash": "h"}
    result = {
        **head,
        "measured": float(step),
        "scores": {"recall": {**interval, **score} if "value" in score else score},
    }
    (run.eval / f"step_{step}-w-recall-h.json").write_text(json.dumps(result))


def checkpoint(run: RunDir, *steps: int) -> None:
    for step in steps:
        folder = run.checkpoints / f"step_{step}"
        folder.mkdir()
        (folder / "manifest.json").write_text(json.dumps(Manifest.of(step, step, {}).to_json()))


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
    # A later controller sees the same; so does one that decides again after more results.
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
        ({"suites": ["text_nll"]}, "include recall or in_domain"),
        ({"select": "best"}, r"evaluator\.select is best"),
    ],
)
def test_early_stop_without_a_first_peak_to_wait_for_is_refused(evaluator, message):
    with pytest.raises(UserError, match=message):
        config(evaluator=evaluator)


def drawn(run: RunDir, chosen: RunConfig) -> tuple[Ledger, ReplayQueue, int]:
    """A queue with two rollouts, and the generation of its learner."""
    run.config.write_text(dump(chosen))
    ledger = Ledger(run.ledger, epochs=chosen.learner.epochs, seed=0)
    queue = ReplayQueue(ledger, chosen)
    queue.add_work([("a", 0), ("b", 0)])
    for work in queue.lease("x", 2, []).work:
        rollout = Rollout(work.fact_id, 0, 0, [1], [2], [], [], [-1.0], [-2.0], None, 0, "", True)
        queue.insert_many([PackedRollout.of(rollout, 1)])
    learner = queue.register("learner")
    queue.restore(learner, 0)
    return ledger, queue, learner


def test_training_of_a_queue_that_is_ended_at_the_peak_is_reported_as_such(run):
    chosen = config(learner={"early_stop": True, "epochs": 10, "batch_size": 2})
    ledger, queue, learner = drawn(run, chosen)
    watch = EarlyStop(run, chosen)
    recall, step = {1: 0.5, 2: 1.0, 3: 1.0, 4: 0.5}, 0
    while (batch := queue.sample(learner, step + 1)).items:
        step += 1
        assert batch.ready
        checkpoint(run, step)
        queue.commit(learner, step)
        measure(run, step, {"value": recall[step], "low": 0.0, "high": 1.0, "n": 2})
        if watch.peak() is not None:
            queue.end()
    ledger.close()
    assert step == 4
    figures = summary(run)
    assert (figures.exposures_trained, figures.exposures_expected) == (8, 20)
    assert figures.stopped_early
    assert figures.chosen == 2
    assert figures.exhausted == []
    run.steps.write_text("")
    write_report([run])
    assert "8 of\n20 exposures trained in 4 steps; training was ended early" in (
        run.report.read_text()
    )
    run.config.write_text(dump(config(learner={"early_stop": False, "epochs": 10})))
    assert not summary(run).stopped_early


def test_training_that_ends_at_max_steps_is_reported_as_complete(run):
    chosen = config(learner={"epochs": 10, "batch_size": 2, "max_steps": 3})
    ledger, queue, learner = drawn(run, chosen)
    step = 0
    while queue.sample(learner, step + 1).items:
        step += 1
        checkpoint(run, step)
        queue.commit(learner, step)
    ledger.close()
    figures = summary(run)
    assert (figures.step, figures.exposures_trained, figures.exposures_expected) == (3, 6, 6)
    assert (figures.reached_max_steps, figures.stopped_early) == (True, False)
    assert table._exposures(figures) == "6 of 6, stopped at learner.max_steps"
    run.steps.write_text("")
    write_report([run])
    assert "trained in 3 steps; training stopped at\n<code>learner.max_steps</code>." in (
        run.report.read_text()
    )
    run.config.write_text(dump(config(learner={"epochs": 10, "batch_size": 2})))
    assert not summary(run).reached_max_steps
