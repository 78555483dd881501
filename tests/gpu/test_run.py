"""Whole runs on the lane's device."""

from __future__ import annotations

import math

import pytest

pytestmark = pytest.mark.gpu


def test_the_smoke_run_finishes_and_trains_every_exposure(check):
    figures = check("run.smoke")
    assert figures["state"] == "finished"
    assert figures["restarts"] == figures["skipped_steps"] == 0
    assert figures["accepted"] == figures["facts"] == 8
    assert figures["exposures_trained"] == figures["exposures_expected"] == 8 * 3
    # Two batches of four an epoch: the first epoch's, and the last one's.
    first, last = figures["losses"][:2], figures["losses"][4:]
    assert len(last) == 2
    assert sum(last) < sum(first)
    assert {"recall", "text_nll"} <= figures["base"].keys() & figures["final"].keys()
    assert math.isfinite(figures["fisher"]["alignment"])
    assert 0 < figures["seconds_to_first_rollout"] < figures["seconds"]


@pytest.mark.parametrize("student", ["weights", "adapter"])
def test_all_roles_of_opsd_share_the_device(check, student):
    figures = check("run.opsd", student=student)
    assert figures["state"] == "finished"
    assert figures["placement"] == "shared"
    assert figures["restarts"] == figures["skipped_steps"] == 0
    # Two samples of each of eight facts in each of three epochs.
    assert figures["exposures_trained"] == figures["exposures_expected"] == 8 * 2 * 3
    assert all(math.isfinite(loss) for loss in figures["losses"])
    assert {"recall", "text_nll"} <= figures["base"].keys() & figures["final"].keys()
