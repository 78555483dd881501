"""What fails for a moment is tried again, and what fails for long is named."""

from __future__ import annotations

import errno

import pytest

from deploy.control.retry import OutOfPatience, Retry


class Stop(Exception):
    pass


class Scene:
    """A clock that only sleeping moves, and what was shown."""

    def __init__(self, patience_s=10):
        self.now, self.shown = 0.0, []
        self.retry = Retry(
            patience_s,
            2.0,
            self.shown.append,
            passes=Stop,
            clock=lambda: self.now,
            sleep=self.sleep,
        )

    def sleep(self, seconds):
        self.now += seconds


def failing(times, error, result="done"):
    left = [times]

    def act():
        if left[0]:
            left[0] -= 1
            raise error
        return result

    return act


def test_a_disk_that_fails_twice_costs_two_pauses_and_is_shown():
    scene = Scene()
    error = OSError(errno.EIO, "Input/output error")
    assert scene.retry(failing(2, error)) == "done"
    assert scene.now == 4.0
    cause = "OSError: [Errno 5] Input/output error"
    assert scene.shown == [cause, cause, ""]


def test_what_succeeds_at_once_is_not_shown():
    scene = Scene()
    assert scene.retry(failing(0, OSError())) == "done"
    assert scene.shown == []


def test_patience_ends_with_the_cause():
    scene = Scene(patience_s=10)
    with pytest.raises(OutOfPatience, match=r"OSError: \[Errno 116\] Stale.*, for 10 s"):
        scene.retry(failing(99, OSError(116, "Stale file handle")))
    assert scene.now == 12.0


def test_the_end_of_a_run_is_not_repeated():
    scene = Scene()
    with pytest.raises(Stop):
        scene.retry(failing(1, Stop()))
    assert scene.now == 0
