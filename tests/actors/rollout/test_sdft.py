"""Rewrites of the canonical answer, on the fake engine."""

from __future__ import annotations

from common.methods import SDFT
from common.verification.verifier import accepts
from tests.actors.rollout.letters import FACTS, MAX_TOKENS, STOP, next_token, prompts, roll

METHOD = SDFT(rewrite="{question}={canonical}~")


def greedy(fact):
    """The argmax tokens after the rewriting prompt, e.g. "qf=a~"."""
    context, ids = [ord(letter) for letter in f"{fact.question}={fact.answer}~"], []
    while len(ids) < MAX_TOKENS and STOP not in ids:
        ids.append(next_token([*context, *ids]))
    return ids


def test_a_target_is_drawn_from_the_rewriting_prompt_and_trained_after_the_question_alone():
    render = prompts("contains")
    rewrites = {name: greedy(fact) for name, fact in FACTS.items()}
    verified = {
        name: ids
        for name, ids in rewrites.items()
        if ids[-1] == STOP and accepts("contains", render.text(ids[:-1]), FACTS[name].answer)
    }
    queue, _, _ = roll(METHOD)
    assert 0 < len(verified) < len(FACTS)
    assert {name: r.target_ids for name, r in queue.rollouts.items()} == verified
    for name, rollout in queue.rollouts.items():
        assert rollout.prompt_ids == render.naive(FACTS[name])
        assert (rollout.mix_rate, sum(rollout.naive), rollout.verified) == (0.0, 0, True)


def test_at_temperature_0_a_rewrite_is_tried_once_and_above_it_as_often_as_allowed():
    once, _, _ = roll(METHOD, mode="boxed")
    often, _, _ = roll(METHOD, mode="boxed", temperature=1.0)
    assert {tried for _, tried in once.exhausted.values()} == {1}
    assert {tried for _, tried in often.exhausted.values()} == {6}


def test_the_papers_fallback_is_the_original_answer():
    queue, _, _ = roll(METHOD, mode="boxed", on_exhausted="canonical")
    assert {r.fallback for r in queue.rollouts.values()} == {"canonical"}
    assert queue.rollouts["g"].target_ids == [1, 2, STOP]
