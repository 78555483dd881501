"""Generic prompts beside the facts, on the fake engine."""

from __future__ import annotations

from actors.decoding.picks import sampling_seed
from common.methods import RehearsedSFT
from common.records import Fact
from tests.actors.rollout.letters import FACTS, MAX_TOKENS, STOP, next_token, prompts, roll

GENERIC = {f"rehearsal-{n}": Fact(f"rehearsal-{n}", f"say {n}", "") for n in range(12)}


def answer(prompt, seed=None):
    """What the base says to a prompt, token by token."""
    context, ids = [ord(letter) for letter in prompt], []
    while len(ids) < MAX_TOKENS and STOP not in ids:
        ids.append(next_token([*context, *ids], (seed, len(ids))))
    return ids


def is_kept(ids):
    """Whether an answer ended, and is not empty."""
    return ids[-1] == STOP and bool(prompts("contains").text(ids).strip())


def rehearse(**rollout):
    return roll(RehearsedSFT(), facts=FACTS | GENERIC, **rollout)


def test_a_generic_prompt_is_answered_by_the_base_as_it_is_and_facts_stay_canonical():
    wanted = {name: answer(fact.question) for name, fact in GENERIC.items()}
    kept = {name: ids for name, ids in wanted.items() if is_kept(ids)}
    queue, _, _ = rehearse()
    assert 0 < len(kept) < len(GENERIC)
    for name, fact in FACTS.items():
        assert queue.rollouts[name].target_ids == prompts("contains").canonical(fact)
    drawn = {name: r for name, r in queue.rollouts.items() if name in GENERIC}
    assert {name: r.target_ids for name, r in drawn.items()} == kept
    for name, rollout in drawn.items():
        assert rollout.prompt_ids == [ord(letter) for letter in GENERIC[name].question]
        assert (rollout.mix_rate, rollout.verified) == (1.0, True)
    assert queue.exhausted == dict.fromkeys(
        GENERIC.keys() - kept.keys(), ("no attempt of 1 ended in rollout.max_tokens", 1)
    )


def test_above_temperature_0_an_answer_that_does_not_end_is_drawn_again_with_another_seed():
    queue, _, _ = rehearse(temperature=1.0, max_retries=3, on_exhausted="canonical")
    for name, fact in GENERIC.items():
        tries = [answer(fact.question, sampling_seed(0, name, 0, n, 0)) for n in range(4)]
        accepted = [n for n, ids in enumerate(tries) if is_kept(ids)]
        if accepted:
            rollout = queue.rollouts[name]
            assert (rollout.attempt, rollout.target_ids) == (accepted[0], tries[accepted[0]])
        else:
            # There is no canonical answer to fall back to.
            assert queue.exhausted[name][1] == 4
    assert {r.attempt for r in queue.rollouts.values()} > {0}


def test_a_scored_generic_answer_has_no_canonical_one_beside_it():
    queue, _, _ = rehearse(score_fraction=1.0)
    generic = [r for name, r in queue.rollouts.items() if name in GENERIC]
    assert all(r.base_logprobs == r.logprobs and not r.canonical_logprobs for r in generic)
