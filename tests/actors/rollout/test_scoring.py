"""Which targets the rollout actor scores, and with what."""

import numpy as np
import pytest

from actors.decoding.picks import draw_picks
from common.methods import ContextDistill, MixSD
from tests.actors.rollout.letters import FACTS, MAX_TOKENS, PairingEngine, prompts, roll


def test_scored_targets_carry_the_base_log_probabilities_of_both_answers():
    queue, metrics, _ = roll(score_fraction=1.0)
    for rollout in queue.rollouts.values():
        canonical = prompts("contains").canonical(FACTS[rollout.fact_id])
        assert rollout.base_logprobs == [-float(token) for token in rollout.target_ids]
        assert rollout.canonical_logprobs == [-float(token) for token in canonical]
    assert metrics["mixsd_rollout_scored_tokens_total"] > 0
    assert metrics["mixsd_rollout_scoring_seconds_total"] > 0


def test_a_fraction_is_scored_whatever_the_order():
    scored = [
        {
            name
            for name, r in roll(order=order, on_exhausted="keep", score_fraction=0.5)[
                0
            ].rollouts.items()
            if r.base_logprobs
        }
        for order in range(5)
    ]
    assert all(names == scored[0] for names in scored)
    assert 0 < len(scored[0]) < len(FACTS)


def test_a_target_that_the_naive_side_drew_alone_needs_no_pass():
    queue, metrics, _ = roll(MixSD(mix_rate=1.0), on_exhausted="keep", score_fraction=1.0)
    for rollout in queue.rollouts.values():
        assert rollout.base_logprobs == rollout.logprobs
    canonical = sum(len(r.canonical_logprobs) for r in queue.rollouts.values())
    assert metrics["mixsd_rollout_scored_tokens_total"] == canonical


@pytest.mark.parametrize("mix_rate", [0.0, 0.5])
def test_pairs_score_every_target_as_they_draw_it_and_what_no_pair_drew_has_a_pass(mix_rate):
    queue, metrics, _ = roll(
        MixSD(mix_rate=mix_rate),
        on_exhausted="keep",
        score_fraction=0.0,
        tree_tokens=0,
        engine=PairingEngine(0),
    )
    assert len(queue.rollouts) == len(FACTS)
    alone = 0
    for rollout in queue.rollouts.values():
        assert rollout.base_logprobs == [-float(token) for token in rollout.target_ids]
        assert rollout.canonical_logprobs == []
        picks = draw_picks(0, rollout.fact_id, 0, rollout.attempt, mix_rate, MAX_TOKENS)
        alone += 0 if any(picks) else len(rollout.target_ids)
    assert metrics.get("mixsd_rollout_scored_tokens_total", 0) == alone
    assert (alone > 0) == (mix_rate == 0.0)


@pytest.mark.parametrize("targets", ["canonical", "mixed"])
def test_an_engine_that_teaches_scores_each_target_given_the_fact(targets):
    method = ContextDistill(targets=targets, teacher="engine", support="tail", top_k=2)
    queue, _, _ = roll(method, on_exhausted="keep")
    assert len(queue.rollouts) == len(FACTS)
    for name, rollout in queue.rollouts.items():
        length, expert = len(rollout.target_ids), prompts("contains").expert(FACTS[name])
        ids, logprobs = (np.frombuffer(rollout.teacher_scores, kind) for kind in ("<i4", "<f4"))
        assert ids[: 2 * length].tolist() == [0, 1] * length
        assert set(logprobs[2 * length :]) == {-float(len(expert) + length)}
