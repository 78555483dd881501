"""What a failed role tells the controller, without Ray."""

from __future__ import annotations

from collections import deque

import pytest

from common.config.run_config import parse
from common.errors import UserError
from deploy import factories
from deploy.control.role import Role
from deploy.control.roles import EvaluatorRole, LearnerRole, ReplayRole, RolloutRole


def failed(error: Exception) -> Role:
    """A role whose worker could not be built."""
    role = object.__new__(Role)
    role.name = "rollout-0"
    role._worker = role._engine = None
    role._state, role._failure = "failed", error
    role._identity = (1, "node", ("127.0.0.1", 1))
    role._notes, role._noted = deque(), 0
    return role


@pytest.mark.parametrize(
    "error",
    [
        # vLLM's, while a killed engine still holds the memory.
        ValueError("Free memory on device (2.1/79.1 GiB) on startup is less than desired"),
        FloatingPointError("overflow"),
        KeyError("x"),
        OSError(5, "Input/output error"),
    ],
)
def test_an_error_that_may_pass_is_tried_again(error):
    report = failed(error).poll()
    assert (report.state, report.permanent) == ("failed", False)


def test_what_only_a_person_can_mend_is_not():
    report = failed(UserError("learner.lr: lower it\nand more")).poll()
    assert report.permanent
    assert report.cause == "learner.lr: lower it"


def test_notes_are_kept_and_counted(capsys):
    role = failed(ValueError())
    role.note("learner resumes from step 3")
    report = role.poll()
    assert (report.notes, report.noted) == (("learner resumes from step 3",), 1)
    assert "learner resumes from step 3" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("cores", "changes", "processes", "threads"),
    [
        (8, {}, 1, "8"),
        # Four of a role compute at once.
        (8, {}, 4, "2"),
        (8, {}, 16, "1"),
        (64, {}, 1, "16"),
        (8, {"cluster": {"threads": 3}}, 4, "3"),
    ],
)
def test_a_process_on_cpu_has_threads_for_the_cores_of_its_role(
    monkeypatch, cores, changes, processes, threads
):
    monkeypatch.setattr(factories, "num_cores", lambda: cores)
    monkeypatch.setattr(factories.os, "environ", environment := {})
    factories.limit_threads(_config(**changes), processes)
    assert environment == {"OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "passive"}


def test_threads_on_a_gpu_stay_as_they_are(monkeypatch):
    monkeypatch.setattr(factories.os, "environ", environment := {})
    gpu = {"device": "cuda"}
    factories.limit_threads(_config(engine=gpu, learner=gpu))
    assert environment == {}


def test_processes_of_a_role_are_those_that_compute_at_once():
    config = _config(rollout={"actors": 3}, learner={"ranks": 2}, evaluator={"actors": 4})
    assert [role.processes(config) for role in (RolloutRole, LearnerRole, EvaluatorRole)] == [
        *(3, 2, 4)
    ]
    assert ReplayRole.processes(config) == 1


def _config(**sections):
    cpu = {"engine": {"device": "cpu"}, "learner": {"device": "cpu"}}
    for name, section in sections.items():
        cpu[name] = {**cpu.get(name, {}), **section}
    return parse({"name": "x", "method": {"name": "sft"}, "data": {"kgfact": {}}, **cpu}, "test")
