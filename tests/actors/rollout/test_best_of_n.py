"""The choice among verified samples of the expert, on the fake engine.

It scores token i at −i nats, so the NLL of a target is the mean of its token ids.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.decoding.picks import sampling_seed
from actors.inference.requests import EngineOutput
from common.methods import BestOfN
from common.verification.verifier import accepts
from tests.actors.rollout.letters import (
    FACTS,
    LETTERS,
    MAX_TOKENS,
    STOP,
    AnyOrderEngine,
    PairingEngine,
    next_token,
    prompts,
    roll,
)

# In turn "." 0, "a" 1, "b" 2, " " 3, "c" 4; the stop token is 0.
SAMPLES = ("b", "a c", "a b a", "a  c")


class ScriptedEngine(AnyOrderEngine):
    """Attempt n of every fact draws ``samples[n]``, and nothing that ends once those are over."""

    def __init__(self, *samples):
        super().__init__(0)
        self.num_asked = 0
        self._text = {
            sampling_seed(0, fact, 0, attempt, 0): text
            for attempt, text in enumerate(samples)
            for fact in FACTS
        }

    def extend(self, key, context, num_tokens, sampling, *, last):
        self.num_asked += "-f/" in key
        text = self._text.get(sampling.seed)
        ids = [1] * num_tokens if text is None else [*map(LETTERS.index, text), STOP]
        self._ready[key] = EngineOutput(key, ids, [-float(token) for token in ids], [])


def sample(*samples, retries=0, fraction=0.0, **method):
    """What becomes of fact f, whose answer is "a": its rollout, its attempts, tokens scored."""
    engine = ScriptedEngine(*samples)
    queue, metrics, _ = roll(
        BestOfN(samples=4, **method),
        engine=engine,
        temperature=1.0,
        max_retries=retries,
        score_fraction=fraction,
    )
    assert queue.attempts.get("f", engine.num_asked) == engine.num_asked
    scored = metrics["mixsd_rollout_scored_tokens_total"]
    return queue.rollouts.get("f"), engine.num_asked, scored


def test_the_accepted_sample_with_the_lowest_nll_per_token_is_the_target():
    rollout, attempts, _ = sample(*SAMPLES)
    # Means: "a c." 8/4 = 2, "a b a." 10/6 (though its sum is larger), "a  c." 11/5; "b." fails.
    assert (rollout.attempt, rollout.target_ids) == (2, [1, 3, 2, 3, 1, STOP])
    assert (rollout.verified, rollout.mix_rate, attempts) == (True, 0.0, 4)


def test_first_takes_the_first_accepted_sample_and_draws_no_more():
    rollout, attempts, scored = sample(*SAMPLES[:2], choose="first")
    assert (rollout.attempt, rollout.target_ids, attempts) == (1, [1, 3, 4, STOP], 2)
    assert scored == 0


def test_retries_follow_only_if_no_sample_is_accepted():
    rollout, attempts, scored = sample("b", "c", "b", "c", "b", "a", retries=3)
    assert (rollout.attempt, rollout.target_ids, attempts) == (5, [1, STOP], 6)
    assert scored == 0
    assert sample("b", "c", "b", "c")[:2] == (None, 4)


def test_of_equal_samples_the_first_is_taken_and_nothing_is_scored():
    rollout, _, scored = sample("b", "a", "c", "a")
    assert (rollout.attempt, scored) == (1, 0)


def test_a_comparison_leaves_base_log_probabilities_only_where_targets_are_sampled_for_them():
    assert sample(*SAMPLES)[0].base_logprobs == []
    rollout, _, _ = sample(*SAMPLES, fraction=1.0)
    assert rollout.target_nll == pytest.approx(10 / 6)
    assert rollout.canonical_nll == 0.5  # "a."


def expected(seed, num_samples, max_retries):
    """The attempt and the tokens of each fact's target, by trying everything in order."""
    render, found = prompts("contains"), {}
    for name, fact in FACTS.items():
        drawn = []
        for attempt in range(num_samples + max_retries):
            ids, key = [], sampling_seed(seed, name, 0, attempt, 0)
            while len(ids) < MAX_TOKENS and STOP not in ids:
                ids.append(next_token([*render.expert(fact), *ids], (key, len(ids))))
            drawn.append((sum(ids) / len(ids), attempt, ids))
        accepted = [
            one
            for one in drawn
            if one[2][-1] == STOP and accepts("contains", render.text(one[2][:-1]), fact.answer)
        ]
        first = [one for one in accepted if one[1] < num_samples]
        for _, attempt, ids in [min(first)] if first else accepted[:1]:
            found[name] = (attempt, ids)
    return found


@settings(deadline=None)
@given(
    st.integers(0, 50),
    st.integers(0, 1000),
    st.integers(1, 5),
    st.integers(1, 4),
    st.integers(0, 2),
    st.integers(1, 4),
    st.sampled_from([AnyOrderEngine, PairingEngine]),
)
def test_neither_order_nor_parallel_attempts_change_the_choice(
    seed, order, num_samples, slots, max_retries, in_flight, make_engine
):
    queue, _, _ = roll(
        BestOfN(samples=num_samples),
        "contains",
        seed,
        engine=make_engine(order),
        temperature=1.0,
        slots=slots,
        max_retries=max_retries,
        attempts_in_flight=in_flight,
    )
    got = {name: (r.attempt, r.target_ids) for name, r in queue.rollouts.items()}
    wanted = expected(seed, num_samples, max_retries)
    assert got == wanted
    assert queue.attempts == {
        name: max(num_samples, attempt + 1) for name, (attempt, _) in wanted.items()
    }
    assert set(queue.exhausted) == set(FACTS) - set(wanted)
