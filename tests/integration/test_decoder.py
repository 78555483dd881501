"""Mixed decoding on a real vLLM engine against a transformers oracle, float32."""

from __future__ import annotations

import pytest

from actors.engine import Engine, Sampling
from actors.picks import draw_picks, sampling_seed
from actors.relay import Attempt, Drawn, Relay
from common import models
from common.config import EngineSettings
from common.corpora.kgfact import KGFactSpec, build
from common.prompts import PRESETS, Prompts

pytestmark = [
    pytest.mark.slow,
    # vLLM's and torch's own deprecations are not ours to fix.
    pytest.mark.filterwarnings("ignore"),
]
MAX_TOKENS = 24
RATES = (0.0, 0.3, 1.0)


@pytest.fixture(scope="module")
def model() -> models.Model:
    return models.load(models.resolve("packaged"))


@pytest.fixture(scope="module", params=[True, False], ids=["sessions", "plain requests"])
def engine(request, model):
    settings = EngineSettings(dtype="float32", max_model_len=512, sessions=request.param)
    engine = Engine(model.folder, settings, max_requests=32, stop_token_ids=model.stop_token_ids)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def facts():
    return build(KGFactSpec(domains=5, entities=4, seed=1)).facts[:20]


@pytest.fixture(scope="module")
def prompts(model):
    return Prompts(model.tokenizer, PRESETS["short-sentence"], model.stop_token_ids[0])


def _decode(engine, prompts, facts, rate: float, sampling) -> dict[str, Drawn]:
    relay = Relay(engine, slots=16)
    for fact in facts:
        relay.submit(
            Attempt(
                fact.id,
                prompts.naive(fact),
                prompts.expert(fact),
                draw_picks(0, fact.id, 0, 0, rate, MAX_TOKENS),
                sampling(fact),
            )
        )
    done: dict[str, Drawn] = {}
    while not relay.idle:
        done.update((drawn.key, drawn) for drawn in relay.step())
    return done


@pytest.fixture(scope="module")
def network(model):
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(model.folder, dtype=torch.float32)


@pytest.fixture(scope="module")
def oracle(network, prompts, facts, model):
    """Mixed greedy decoding in plain transformers: two KV caches, no sessions."""
    import torch

    def decode(fact, picks: list[bool]) -> list[int]:
        prefix = {True: prompts.naive(fact), False: prompts.expert(fact)}
        caches: dict = {True: None, False: None}
        unseen = {side: list(ids) for side, ids in prefix.items()}
        drawn: list[int] = []
        for naive in picks:
            with torch.no_grad():
                output = network(
                    torch.tensor([unseen[naive]]), past_key_values=caches[naive], use_cache=True
                )
            caches[naive], unseen[naive] = output.past_key_values, []
            drawn.append(int(output.logits[0, -1].argmax()))
            for side in unseen:
                unseen[side].append(drawn[-1])
            if drawn[-1] in model.stop_token_ids:
                break
        return drawn

    return {
        (rate, fact.id): decode(fact, draw_picks(0, fact.id, 0, 0, rate, MAX_TOKENS))
        for rate in RATES
        for fact in facts
    }


def test_at_temperature_0_every_token_is_the_oracles(engine, prompts, facts, oracle):
    for rate in RATES:
        drawn = _decode(engine, prompts, facts, rate, lambda fact: lambda position: Sampling())
        for fact in facts:
            assert drawn[fact.id].token_ids == oracle[rate, fact.id], (rate, fact.id)


def test_above_temperature_0_a_rollout_repeats_itself(engine, prompts, facts):
    def sampling(fact):
        return lambda position: Sampling(
            temperature=1.0, top_p=0.9, seed=sampling_seed(0, fact.id, 0, 0, position)
        )

    first = _decode(engine, prompts, facts[:6], 0.3, sampling)
    again = _decode(engine, prompts, list(reversed(facts[:6])), 0.3, sampling)
    assert {key: drawn.token_ids for key, drawn in first.items()} == {
        key: drawn.token_ids for key, drawn in again.items()
    }


def test_scores_are_the_oracles_log_probabilities(engine, prompts, facts, network):
    import torch

    prompt, target = prompts.naive(facts[0]), prompts.canonical(facts[0])
    (scores,) = engine.score([(prompt, target)])
    with torch.no_grad():
        rows = network(torch.tensor([[*prompt, *target]])).logits[0].log_softmax(-1)
    rows = rows[len(prompt) - 1 : -1]
    assert scores == pytest.approx(
        [float(row[token]) for row, token in zip(rows, target, strict=True)], abs=1e-3
    )
