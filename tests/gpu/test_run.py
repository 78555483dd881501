"""A whole run on the lane's device."""

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
