"""The second scoring pass over stored targets."""

from __future__ import annotations

import itertools
from dataclasses import replace

from actors.analysis.nll_check import SAMPLE, NllCheck, compare, draw
from actors.evaluation.results import EvaluatedModel, Results, by_step
from actors.inference.batch import BatchRunner
from tests.actors.inference.fake_engine import FakeEngine
from tests.deploy.report.test_summary import PLAIN

BASE = EvaluatedModel(0, "base", "w0")
# The fake engine scores every token −1, an x −2.
ROLLOUTS = [
    replace(
        PLAIN,
        fact_id=str(number),
        prompt_ids=[65],
        target_ids=[ord("x"), ord("y")],
        base_logprobs=[-2.0, -1.5],
    )
    for number in range(20)
]


def _check(folder, rollouts, held):
    engine = FakeEngine(lambda text, weights: "")
    return NllCheck(BatchRunner(engine, 4), held.append, BASE, Results(folder), lambda: rollouts)


def test_both_numbers_are_kept_with_their_difference(tmp_path):
    held = []
    check = _check(tmp_path, ROLLOUTS, held)
    assert check.advance([BASE], False) == (False, False), "there may be more rollouts"
    assert check.advance([BASE], True) == (True, False)
    assert check.advance([BASE], True) == (False, False)
    assert held == [BASE]
    (step,) = by_step(tmp_path)
    assert step.to_json()["analyses"]["nll_check"] == {
        "stored": 1.75,
        "recomputed": 1.5,
        "difference": -0.25,
        "largest": 0.25,
        "targets": SAMPLE,
        "tokens": 2 * SAMPLE,
    }


def test_what_was_never_scored_is_not_checked(tmp_path):
    assert _check(tmp_path, [PLAIN], []).advance([BASE], True) == (False, False)
    assert list(tmp_path.iterdir()) == []


def test_no_rollout_is_read_beyond_the_sample():
    rollouts = iter([PLAIN, *ROLLOUTS])
    assert draw(rollouts) == ROLLOUTS[:SAMPLE]
    assert list(rollouts) == ROLLOUTS[SAMPLE:]


def test_where_hardly_any_target_was_scored_the_search_ends():
    assert draw(itertools.repeat(PLAIN)) == []


def test_the_largest_difference_is_that_of_one_target_s_mean():
    found = compare([[-1.0, -1.0], [-4.0]], [[-2.0, -1.0], [-4.25]])
    assert (found.stored, found.recomputed) == (2.0, 7.25 / 3)
    assert found.largest == 0.5
