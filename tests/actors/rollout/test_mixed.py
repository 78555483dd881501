"""The rollout actor on a deterministic fake engine that finishes in any order."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.decoding.attempt import FinishedAttempt
from actors.decoding.picks import draw_picks
from actors.rollout.target_builder import TargetBuilder
from common.config.sections import RolloutSettings
from common.methods import SFT, MixSD
from common.records import Fact, Work
from common.verification.verifier import accepts, is_inside_answer
from tests.actors.rollout.letters import (
    FACTS,
    MAX_TOKENS,
    STOP,
    AnyOrderEngine,
    LetterTokenizer,
    PairingEngine,
    next_token,
    prompts,
    roll,
)


def expected(method, mode, seed, max_retries):
    """Attempt after attempt, token after token: (attempt, token ids, naive) of the accepted."""
    render, found = prompts(mode), {}
    for name, fact in FACTS.items():
        for attempt in range(max_retries + 1):
            target = method.target(attempt)
            ids, sides = [], []
            for pick in draw_picks(seed, name, 0, attempt, target.mix_rate, MAX_TOKENS):
                text = render.text(ids)
                inside = target.protect_answer and is_inside_answer(text, fact.answer)
                sides.append(int(pick and not inside))
                prompt = render.naive(fact) if sides[-1] else render.expert(fact)
                ids.append(next_token([*prompt, *ids]))
                if ids[-1] == STOP:
                    break
            if ids[-1] == STOP and accepts(mode, render.text(ids[:-1]), fact.answer):
                found[name] = (attempt, ids, sides)
                break
    return found


METHODS = st.builds(
    MixSD,
    mix_rate=st.sampled_from([0.3, 0.5, 0.8]),
    lambda_backoff=st.none()
    | st.fixed_dictionaries({"after": st.integers(1, 3), "factor": st.sampled_from([0.0, 0.5])}),
    protect_answer=st.booleans(),
)


@settings(deadline=None)
@given(
    METHODS,
    st.sampled_from(["contains", "exact", "boxed"]),
    st.integers(0, 50),
    st.integers(0, 1000),
    st.integers(1, 5),
    st.integers(1, 4),
    st.booleans(),
    st.sampled_from([0, 3, 1000]),
    st.sampled_from([AnyOrderEngine, PairingEngine]),
)
def test_whatever_runs_when_the_first_accepted_attempt_is_chosen(
    method, mode, seed, order, slots, in_flight, early_stop, tree_tokens, make_engine
):
    queue, _, _ = roll(
        method,
        mode,
        seed,
        engine=make_engine(order),
        slots=slots,
        attempts_in_flight=in_flight,
        early_stop=early_stop,
        tree_tokens=tree_tokens,
    )
    got = {name: (r.attempt, r.target_ids, r.naive) for name, r in queue.rollouts.items()}
    wanted = expected(method, mode, seed, max_retries=5)
    assert got == wanted
    assert queue.attempts == {name: attempt + 1 for name, (attempt, _, _) in wanted.items()}
    assert set(queue.exhausted) == set(FACTS) - set(wanted)


@settings(deadline=None)
@given(METHODS, st.integers(0, 50), st.integers(0, 1000), st.integers(1, 4), st.booleans())
def test_above_temperature_0_neither_order_nor_parallel_attempts_change_a_rollout(
    method, seed, order, in_flight, early_stop
):
    one, _, _ = roll(method, "contains", seed, temperature=1.0, early_stop=False)
    other, _, _ = roll(
        method,
        "contains",
        seed,
        order,
        temperature=1.0,
        slots=4,
        attempts_in_flight=in_flight,
        early_stop=early_stop,
    )
    assert one.rollouts == other.rollouts
    assert one.exhausted == other.exhausted


def test_the_tree_saves_the_tokens_that_it_walks():
    bare, without, plain = roll(tree_tokens=0, early_stop=False)
    known, metrics, engine = roll(early_stop=False)
    walked = metrics["mixsd_rollout_walked_tokens_total"]
    assert known.rollouts == bare.rollouts
    assert (walked > 0, without["mixsd_rollout_walked_tokens_total"]) == (True, 0)
    assert engine.num_drawn == plain.num_drawn - walked
    assert metrics["mixsd_rollout_tokens_total"] == engine.num_drawn


@pytest.mark.parametrize("mode", ["exact", "contains", "boxed"])
def test_early_stop_saves_tokens(mode):
    whole, _, slow = roll(mode=mode, early_stop=False, tree_tokens=0)
    early, _, fast = roll(mode=mode, tree_tokens=0)
    assert whole.rollouts == early.rollouts
    assert fast.num_drawn < slow.num_drawn


def test_the_expert_is_asked_for_no_token_after_which_the_answer_does_not_fit():
    # λ 0: one segment. "a" and the stop token take two tokens, "a b" and it take four.
    whole, _, slow = roll(MixSD(mix_rate=0.0), early_stop=False)
    early, _, fast = roll(MixSD(mix_rate=0.0))
    assert whole.rollouts == early.rollouts
    assert fast.num_drawn < slow.num_drawn


def test_an_answer_longer_than_the_limit_takes_no_token():
    _, metrics, engine = roll(mode="boxed", max_tokens=8)
    assert (engine.num_drawn, metrics["mixsd_rollouts_exhausted_total"]) == (0, len(FACTS))


def test_an_alias_is_verified_protected_and_settles_as_the_answer_does():
    fact = Fact("f", "qf", "aa", statement="aa", aliases=("b c",))
    rollout = RolloutSettings(max_tokens=MAX_TOKENS)
    method = MixSD(mix_rate=0.5, protect_answer=True)
    builder = TargetBuilder(prompts("exact"), method, rollout, seed=0)
    ids = LetterTokenizer().encode("b c", add_special_tokens=False)
    drawn = FinishedAttempt("f/0", [*ids, STOP], [0.0] * 4, [1] * 4, complete=True)
    assert builder.accepts(drawn, fact)
    assert not builder.accepts(replace(drawn, complete=False), fact)
    assert not builder.accepts(drawn, replace(fact, aliases=()))
    begun = builder.attempt("f", Work(0, "f", 0), fact, 0, tree=None)
    assert begun.protects(ids[:2])
    assert not begun.protects(ids)
    assert not begun.settled(ids)
    assert begun.settled([*ids, *ids])


def test_a_retracted_answer_is_verified_by_its_absence_and_settles_at_the_end_alone():
    gone = Fact("f", "qf", "b c", retract=True)
    rollout = RolloutSettings(max_tokens=MAX_TOKENS)
    builder = TargetBuilder(prompts("exact"), MixSD(mix_rate=0.5), rollout, seed=0)
    ids = LetterTokenizer().encode("b c", add_special_tokens=False)
    old, other = ids, ids[:1]

    def drawn(ids):
        size = len(ids) + 1
        return FinishedAttempt("f/0", [*ids, STOP], [0.0] * size, [1] * size, complete=True)

    assert builder.accepts(drawn(other), gone)
    assert not builder.accepts(drawn(old), gone)
    begun = builder.attempt("f", Work(0, "f", 0), gone, 0, tree=None)
    assert not begun.settled(old)
    # Only the stop token fits after these.
    assert begun.settled([*old, *ids[1:2], *other, *other])
    assert not begun.settled(other * (MAX_TOKENS - 1))


def test_attempts_that_another_one_beat_are_cancelled_and_counted():
    # With 24 slots at least two more attempts of each of the 8 facts run beside its first.
    _, alone, _ = roll(slots=24)
    queue, metrics, _ = roll(slots=24, attempts_in_flight=3)
    assert any(rollout.attempt == 0 for rollout in queue.rollouts.values())
    assert metrics["mixsd_attempts_cancelled_total"] > 0 == alone["mixsd_attempts_cancelled_total"]


@pytest.mark.parametrize(("rate", "attempts"), [(0.0, 1), (1.0, 1), (0.5, 6)])
def test_at_temperature_0_a_pure_side_is_not_tried_again(rate, attempts):
    queue, _, _ = roll(MixSD(mix_rate=rate), mode="boxed")
    assert {tried for _, tried in queue.exhausted.values()} == {attempts}


def test_a_dropped_fact_tells_how_often_it_was_tried():
    queue, metrics, _ = roll(mode="boxed")
    assert queue.exhausted["f"] == ("no attempt of 6 gave the answer", 6)
    assert metrics["mixsd_rollouts_exhausted_total"] == len(FACTS)


def test_kept_is_the_last_attempt_as_it_is_also_with_early_stop():
    early, _, _ = roll(mode="exact", on_exhausted="keep", max_retries=1, attempts_in_flight=2)
    whole, _, _ = roll(mode="exact", on_exhausted="keep", max_retries=1, early_stop=False)
    assert early.rollouts == whole.rollouts
    kept = [rollout for rollout in early.rollouts.values() if rollout.fallback]
    assert {(r.fallback, r.attempt, r.verified) for r in kept} == {("keep", 1, False)}
    assert all(r.target_ids[-1] == STOP or len(r.target_ids) == MAX_TOKENS for r in kept)


def test_a_canonical_fallback_is_y_star_and_not_verified():
    queue, _, _ = roll(mode="boxed", on_exhausted="canonical")
    rollout = queue.rollouts["g"]
    assert (rollout.target_ids, rollout.naive, rollout.mix_rate) == ([1, 2, STOP], [], None)
    assert (rollout.fallback, rollout.verified, queue.attempts["g"]) == ("canonical", False, 6)


def test_the_expert_fallback_is_one_more_attempt_at_rate_0():
    pure = expected(MixSD(mix_rate=0.0), "contains", 0, max_retries=0)
    assert pure
    seen = 0
    for seed in range(30):
        queue, _, _ = roll(MixSD(mix_rate=0.8), seed=seed, max_retries=1, on_exhausted="expert")
        for name, rollout in queue.rollouts.items():
            if rollout.fallback:
                seen += 1
                assert (rollout.fallback, rollout.attempt, rollout.mix_rate) == ("expert", 2, 0.0)
                assert (rollout.target_ids, rollout.verified) == (pure[name][1], True)
        assert all(
            reason.endswith("nor did the expert alone") and name not in pure and tried == 3
            for name, (reason, tried) in queue.exhausted.items()
        )
    assert seen > 0


def test_a_rollout_tells_which_extension_changed_it():
    method = MixSD(mix_rate=0.8, lambda_backoff={"after": 1, "factor": 0.5}, protect_answer=True)
    rollouts = [
        (seed, rollout)
        for seed in range(20)
        for rollout in roll(method, seed=seed, max_retries=3)[0].rollouts.values()
    ]
    for seed, rollout in rollouts:
        assert rollout.mix_rate == 0.8 * 0.5**rollout.attempt
        identity = (seed, rollout.fact_id, 0, rollout.attempt)
        picks = draw_picks(*identity, rollout.mix_rate, len(rollout.naive))
        overruled = [pick and not side for pick, side in zip(picks, rollout.naive, strict=True)]
        assert rollout.num_protected == sum(overruled)
    assert {rollout.attempt for _, rollout in rollouts} == {0, 1, 2, 3}
    assert any(rollout.num_protected for _, rollout in rollouts)


def test_sft_takes_canonical_answers_without_an_engine():
    queue, metrics, engine = roll(SFT())
    assert {r.target_ids[-1] for r in queue.rollouts.values()} == {STOP}
    assert (engine.num_drawn, metrics["mixsd_attempts_total"]) == (0, 0)
