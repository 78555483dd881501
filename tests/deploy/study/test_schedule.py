"""Which cells start now, which wait, and for what."""

import pytest

from common.config.run_config import parse
from deploy.observability.run_status import RunView
from deploy.observability.throughput import Speed
from deploy.study.cells import Cell
from deploy.study.progress import CellProgress
from deploy.study.schedule import may_start
from deploy.study.sharing import base_key, targets_key

RAW = {
    "method": {"name": "mixsd", "mix_rate": 0.3},
    "data": {"kgfact": {"domains": 5, "entities": 4}, "limit": 8},
    "engine": {"device": "cpu", "dtype": "float32"},
}
OPSD = {"method": {"name": "opsd"}, "replay": {"max_lag": 0}}


def _config(name="cell", **sections):
    return parse({**RAW, "name": name, **sections}, "test")


def _cell(name, **sections):
    return Cell(name, {}, _config(name, **sections))


def _lr(name, lr, seed=0):
    return _cell(name, learner={"lr": lr}, seed=seed)


def _at(cell, state="not started", settled=False):
    view = RunView.from_json(
        {"state": state, "queue": {"settled": settled}, "speed": Speed(None, None, None, None)}
        | {"scores": {}, "analyses": {}, "evaluating": {}}
    )
    return CellProgress(cell, state, None if state == "not started" else view)


def _start(progress, at_once=1, left_out=()):
    cells, waiting = may_start(progress, at_once, left_out)
    return [cell.name for cell in cells], {one.cell.name: one.reason for one in waiting}


def test_cells_start_in_order_as_there_are_places():
    a, b, c = (_lr(name, 1e-5, seed) for seed, name in enumerate("abc"))
    progress = [_at(a, "finished", True), _at(b), _at(c)]
    assert _start(progress) == (["b"], {"c": "a free place"})
    assert _start(progress, 2) == (["b", "c"], {})


def test_a_cell_waits_for_the_targets_that_another_is_drawing():
    low, high, other = _lr("low", 1e-5), _lr("high", 1e-4), _lr("other", 1e-5, seed=1)
    assert _start([_at(low), _at(high), _at(other)], 2) == (
        ["low", "other"],
        {"high": "targets of low"},
    )
    # Until it has ended: a live run has its ledger to itself.
    running = [_at(low, "running", settled=True), _at(high)]
    assert _start(running, 2) == ([], {"high": "targets of low"})
    assert _start([_at(low, "finished", True), _at(high)], 2) == (["high"], {})
    assert _start([_at(low, "failed", True), _at(high)], 1, ["low"]) == (["high"], {})


def test_a_cell_that_failed_before_its_targets_were_drawn_gives_none():
    low, high, third = _lr("low", 1e-5), _lr("high", 1e-4), _lr("third", 1e-3)
    progress = [_at(low, "failed"), _at(high), _at(third)]
    assert _start(progress, 3, ["low"]) == (["high"], {"third": "targets of high"})


def test_cells_of_a_student_wait_for_nobody():
    cells = [_cell(name, **OPSD, learner={"lr": lr}) for name, lr in (("a", 1e-5), ("b", 1e-4))]
    assert _start([_at(one) for one in cells], 2) == (["a", "b"], {})


def test_a_stopped_or_interrupted_cell_goes_on_with_what_it_has():
    low, high = _lr("low", 1e-5), _lr("high", 1e-4)
    progress = [_at(low, "stopped"), _at(high, "interrupted")]
    assert _start(progress, 2) == (["low", "high"], {})
    assert _start(progress, 2, ["high"]) == (["low"], {})


@pytest.mark.parametrize(
    ("sections", "same"),
    [
        ({"learner": {"lr": 1e-3, "epochs": 7}}, True),
        ({"evaluator": {"suites": ["recall"]}}, True),
        ({"rollout": {"slots": 3, "actors": 2}}, True),
        ({"seed": 1}, False),
        ({"method": {"name": "mixsd", "mix_rate": 0.1}}, False),
        ({"method": {"name": "sft"}}, False),
        ({"data": {"kgfact": {"domains": 5, "entities": 4}, "limit": 7}}, False),
        ({"rollout": {"max_retries": 3}}, False),
        ({"rollout": {"score_fraction": 0.5}}, False),
        ({"engine": {"device": "cpu", "dtype": "bfloat16"}}, False),
        ({"model": "another"}, False),
    ],
)
def test_targets_are_the_same_if_what_draws_them_is(sections, same):
    assert (targets_key(_config(**sections)) == targets_key(_config())) is same


def test_targets_of_every_epoch_depend_on_how_many_there_are():
    fresh = {"name": "mixsd", "mix_rate": 0.3, "redraw": "epoch"}
    keys = {targets_key(_config(method=fresh, learner={"epochs": n})) for n in (2, 3)}
    assert len(keys) == 2


def test_a_student_s_targets_are_never_those_of_another_run():
    assert targets_key(_config(**OPSD)) is None


def test_base_results_are_shared_between_engines_that_compute_alike():
    assert base_key(_config()) == base_key(_config(seed=3, learner={"lr": 1e-3}))
    other = {"engine": {"dtype": "bfloat16"}}
    assert base_key(_config()) != base_key(_config(evaluator=other))
