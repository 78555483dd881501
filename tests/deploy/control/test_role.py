"""What a failed role tells the controller, without Ray."""

from __future__ import annotations

from collections import deque

import pytest

from common.errors import UserError
from deploy.control.role import Role


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
