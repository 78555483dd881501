"""The rollout actor on a real float32 engine: shortcuts change the work, not the rollouts."""

from __future__ import annotations

import random

import pytest

from actors.decoding.mixed_decoder import MixedDecoder
from actors.inference.engine import Engine
from actors.replay.replies import Grant
from actors.rollout.mixed import MixedRolloutActor
from common import models
from common.config.sections import EngineSettings, RolloutSettings
from common.corpora.kgfact import KGFactSpec, build
from common.methods import MixSD
from common.prompts import PRESETS, Prompts
from common.records import Work

pytestmark = [
    pytest.mark.slow,
    pytest.mark.one_core,
    # vLLM's and torch's own deprecations are not ours to fix.
    pytest.mark.filterwarnings("ignore"),
]
SLOTS = 12


class Queue:
    """Grants every fact once; keeps what comes back."""

    def __init__(self, facts):
        self._work = [Work(index, fact.id, 0) for index, fact in enumerate(facts)]
        self.rollouts, self.exhausted = {}, {}

    def lease(self, owner, count, holding, version):
        granted, self._work = self._work[:count], self._work[count:]
        return Grant(granted, over=not granted and not holding)

    def insert_many(self, items):
        rollouts = [item.unpack() for item in items]
        self.rollouts |= {rollout.fact_id: rollout for rollout in rollouts}
        return [True] * len(items)

    def exhaust(self, fact_id, draw, reason, attempts):
        self.exhausted[fact_id] = attempts
        return True


@pytest.fixture(scope="module")
def model():
    return models.load(models.resolve("packaged"))


@pytest.fixture(scope="module")
def prompts(model):
    return Prompts(model.tokenizer, PRESETS["short-sentence"], model.stop_token_ids[0])


@pytest.fixture(scope="module")
def roll(model, prompts):
    facts = build(KGFactSpec(domains=5, entities=4, seed=1)).facts[:6]
    engine = Engine(
        model.folder,
        EngineSettings(dtype="float32", max_model_len=256),
        max_requests=2 * SLOTS,
        stop_token_ids=model.stop_token_ids,
    )

    def roll(method=None, **changes):
        settings = {"slots": SLOTS, "max_tokens": 24, "max_retries": 5, "score_fraction": 0}
        queue = Queue(facts)
        actor = MixedRolloutActor(
            "x",
            MixedDecoder(engine, SLOTS),
            prompts,
            method or MixSD(mix_rate=0.3),
            {fact.id: fact for fact in facts},
            queue,
            RolloutSettings(**(settings | changes)),
            seed=0,
        )
        actor.run()
        # Sessions that further attempts took up are gone too.
        assert engine.num_free_blocks == engine.num_blocks
        return queue, actor.metrics()

    yield roll
    engine.close()


def drawn(queue):
    """What must not differ; log-probabilities only within float32's reach of batching."""
    return {name: (r.attempt, r.target_ids, r.naive) for name, r in queue.rollouts.items()}


@pytest.fixture(scope="module")
def plain(roll):
    return roll(tree_tokens=0, early_stop=False)


def test_the_tree_saves_tokens_and_changes_no_rollout(roll, plain):
    with_tree, metrics = roll(early_stop=False)
    without, whole = plain
    assert with_tree.exhausted == without.exhausted
    assert drawn(with_tree) == drawn(without)
    for name, rollout in with_tree.rollouts.items():
        assert rollout.logprobs == pytest.approx(without.rollouts[name].logprobs, abs=1e-3)
    walked = metrics["mixsd_rollout_walked_tokens_total"]
    assert walked > 0
    total = whole["mixsd_rollout_tokens_total"]
    assert metrics["mixsd_rollout_tokens_total"] + walked == total
    print(f"tree: walked {walked:.0f} of {total:.0f} tokens")


def test_early_stop_saves_tokens_and_changes_no_rollout(roll, plain):
    early, metrics = roll(tree_tokens=0)
    assert drawn(early) == drawn(plain[0])
    assert early.exhausted == plain[0].exhausted
    assert metrics["mixsd_rollout_tokens_total"] < plain[1]["mixsd_rollout_tokens_total"]


def test_attempts_in_flight_change_no_rollout(roll, plain):
    parallel, metrics = roll(attempts_in_flight=3)
    assert drawn(parallel) == drawn(plain[0])
    assert parallel.exhausted == plain[0].exhausted
    assert metrics["mixsd_attempts_total"] >= plain[1]["mixsd_attempts_total"]


def test_above_temperature_0_a_retry_draws_the_same_in_whatever_session(roll):
    in_turn, metrics = roll(temperature=1.0)
    at_once, _ = roll(temperature=1.0, attempts_in_flight=6)
    assert drawn(at_once) == drawn(in_turn)
    assert at_once.exhausted == in_turn.exhausted
    assert metrics["mixsd_attempts_total"] > 2 * 6  # facts


def test_log_probabilities_and_scores_agree_where_the_naive_side_drew(roll):
    queue, metrics = roll(score_fraction=1.0, max_retries=1, on_exhausted="keep")
    assert len(queue.rollouts) == 6
    for rollout in queue.rollouts.values():
        assert len(rollout.base_logprobs) == len(rollout.target_ids)
        assert rollout.canonical_nll > 0
        pairs = zip(rollout.naive, rollout.logprobs, rollout.base_logprobs, strict=True)
        naive = [(own, base) for side, own, base in pairs if side]
        assert [own for own, _ in naive] == pytest.approx([base for _, base in naive], abs=1e-3)
    assert metrics["mixsd_rollout_scoring_seconds_total"] > 0


def test_inside_the_answer_every_token_is_the_experts(roll):
    method = MixSD(mix_rate=0.5, protect_answer=True)
    guarded, _ = roll(method, max_retries=1, on_exhausted="keep")
    assert any(rollout.num_protected for rollout in guarded.rollouts.values())
    # The same picks, overruled at some places; the first overruled one is where they part.
    bare, _ = roll(MixSD(mix_rate=0.5), max_retries=1, on_exhausted="keep", tree_tokens=0)
    again, _ = roll(method, max_retries=1, on_exhausted="keep", tree_tokens=0)
    assert drawn(again) == drawn(guarded) != drawn(bare)


def test_the_text_of_a_prefix_is_a_prefix_of_the_text_but_for_unfinished_characters(prompts):
    draw = random.Random(0)
    for _ in range(300):
        ids = [draw.randrange(49_152) for _ in range(12)]
        text = prompts.text(ids)
        for end in range(13):
            assert text.startswith(prompts.text(ids[:end]).rstrip("\ufffd"))
