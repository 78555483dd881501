"""The teacher's target positions match the student's for any packing of either."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.config.learner import LearnerSettings
from common.records import Rollout
from learner.packing import rows_of_rank
from learner.teacher_inputs import forward_inputs, top_k_inputs

# No two examples share a target token, so a position is known by its token.
SHARED, LONG = "shared", "long"
TARGETS = [[1, 2, 3], [4, 5], [6], [7, 8, 9, 10], [11, 12]]
PROMPTS = [[50, 51], [50, 51], [60], [70, 71, 72], [50, 51]]
FACTS = [SHARED, SHARED, "one", LONG, SHARED]
EXPERT = {SHARED: [50, 51, 90, 91], "one": [60, 92], LONG: [70] * 40}


def rollout(fact_id, prompt, target, scores=b""):
    return Rollout(
        fact_id, 0, 0, prompt, target, [], [], [], [], None, 0, "", True, teacher_scores=scores
    )


ROLLOUTS = [rollout(*one) for one in zip(FACTS, PROMPTS, TARGETS, strict=True)]


def rows(settings: LearnerSettings, rollouts=ROLLOUTS):
    examples = [(one.prompt_ids, one.target_ids) for one in rollouts]
    return [row for row in rows_of_rank(examples, settings, 0) if row is not None]


@given(st.booleans(), st.booleans(), st.integers(1, 4), st.permutations(ROLLOUTS))
def test_each_target_occurs_once_after_its_own_expert_prompt(pack, share, micro, rollouts):
    settings = LearnerSettings(
        device="cpu", pack=pack, share_prompts=share, micro_batch=micro, row_tokens=32
    )
    for row in rows(settings, rollouts):
        inputs = forward_inputs(EXPERT.__getitem__, settings)(row, rollouts)
        targets = np.concatenate([read.targets_K for read in inputs.rows])
        assert targets[inputs.order_K].tolist() == row.targets_K.tolist()
        assert len(targets) == len(row.targets_K)
        for read in inputs.rows:
            first = {rollouts[row.members[m]].target_ids[0] for m in read.members}
            at = {int(t): int(p) for t, p in zip(read.targets_K, read.predict_K, strict=True)}
            for member in read.members:
                one = rollouts[row.members[member]]
                # The position before a target's first token is the last of its x+.
                position = at[one.target_ids[0]]
                prompt = EXPERT[one.fact_id]
                assert read.positions_T[position] == len(prompt) - 1
                assert read.inputs_T[position] == prompt[-1]
            assert len(first) == len(read.members)


def test_equal_expert_prompts_are_computed_once():
    settings = LearnerSettings(device="cpu", row_tokens=256)
    (row,) = rows(settings)
    (read,) = forward_inputs(EXPERT.__getitem__, settings)(row, ROLLOUTS).rows
    # 4 + 2 + 40 of x+; of the targets all but the last token of each: 2 + 1 + 0 + 3 + 1.
    assert len(read.inputs_T) == 46 + 7


def test_a_teacher_with_other_targets_is_an_error():
    settings = LearnerSettings(device="cpu")
    (row,) = rows(settings)
    changed = [*ROLLOUTS[:3], rollout(LONG, PROMPTS[3], [7, 8, 9, 13]), ROLLOUTS[4]]
    with pytest.raises(ValueError, match="targets differ from the student's"):
        forward_inputs(EXPERT.__getitem__, settings)(row, changed)
    shorter = [*ROLLOUTS[:3], rollout(LONG, PROMPTS[3], [7, 8, 9]), ROLLOUTS[4]]
    with pytest.raises(ValueError, match="11 target positions, the student 12"):
        forward_inputs(EXPERT.__getitem__, settings)(row, shorter)


def test_top_k_follows_the_order_of_the_row():
    def scores(target):
        ids = [token for t in target for token in (t, t + 100)]
        return struct.pack(f"<{len(ids)}i{len(ids)}f", *ids, *(-0.5 * id_ for id_ in ids))

    rollouts = [
        rollout(one.fact_id, one.prompt_ids, one.target_ids, scores(one.target_ids))
        for one in ROLLOUTS
    ]
    (row,) = rows(LearnerSettings(device="cpu"), rollouts)
    found = top_k_inputs(2)(row, rollouts)
    assert found.ids_KN.tolist() == [[t, t + 100] for t in row.targets_K]
    assert found.logprobs_KN[0].tolist() == [-0.5 * found.ids_KN[0, 0], -0.5 * found.ids_KN[0, 1]]
    with pytest.raises(ValueError, match=r"fact shared, draw 0: 2 tokens are scored .* not 3"):
        top_k_inputs(3)(row, rollouts)
    with pytest.raises(ValueError, match="no engine scored its target"):
        top_k_inputs(2)(row, ROLLOUTS)
