"""The time left is the plan's in the first epoch, then that of the run's own pace."""

import pytest

from actors.evaluation.scores import BenchmarkScore, Unmeasured
from common.rundir import RunDir
from deploy.observability.run_status import RunStatus
from deploy.observability.throughput import Speed
from deploy.observability.time_left import record_plan, time_left

BASE = {
    "recall": BenchmarkScore(value=0, low=0, high=0, n=4, unit="fraction", seconds=20.0),
    "text_nll": BenchmarkScore(value=3, low=3, high=3, n=4, unit="nats/token", seconds=5.0),
    "mmlu": Unmeasured(not_measured="no data", seconds=99.0),
}


def status(step=8, expected=480, state="running", seconds=60.0):
    return RunStatus.from_json(
        {
            "run": "toy",
            "state": state,
            "began": 1000.0,
            "updated": 1000.0 + seconds,
            "queue": {"work": 40, "total_steps": 48, "exposures_expected": expected},
            "learner": {"step": float(step)},
        }
    )


def pace(step=None, repeat=None):
    return Speed(None, None, step, repeat)


@pytest.fixture
def run(tmp_path):
    return RunDir(tmp_path)


def test_in_the_first_of_several_epochs_it_is_the_plans(run):
    assert time_left(run, status(step=2), {}, pace(9.0)) is None
    record_plan(run, 300.0, 25.0)
    # 300 s in all, 60 of them gone; the steps' pace of 9 s would promise 414 s.
    assert time_left(run, status(step=2), {}, pace(9.0)) == 240.0


def test_then_it_is_the_rest_of_the_steps_and_one_evaluation(run):
    # 40 steps of 3 s, and the plan's 30 s after them.
    record_plan(run, 300.0, 30.0)
    assert time_left(run, status(), {"step_0": BASE}, pace(9.0, 3.0)) == 150.0


def test_without_a_plan_the_last_evaluation_is_as_long_as_the_base_s(run):
    # 25 s; what was not measured takes no time.
    assert time_left(run, status(), {"step_0": BASE}, pace(9.0, 3.0)) == 145.0


def test_where_every_target_is_trained_once_the_first_pace_is_the_pace(run):
    record_plan(run, 300.0, 25.0)
    assert time_left(run, status(step=18, expected=40), {}, pace(2.0)) == 85.0


def test_a_plan_that_has_run_out_promises_nothing(run):
    record_plan(run, 50.0, 5.0)
    assert time_left(run, status(step=2), {}, pace()) is None


@pytest.mark.parametrize("ended", [status(state="finished"), status(step=48)])
def test_what_has_ended_has_no_time_left(run, ended):
    record_plan(run, 300.0, 25.0)
    assert time_left(run, ended, {}, pace(3.0, 3.0)) is None
