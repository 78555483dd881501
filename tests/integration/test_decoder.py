"""Mixed decoding on a real vLLM engine against a transformers oracle, float32."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest

from actors.decoding.attempt import Attempt
from actors.decoding.picks import draw_picks
from actors.inference.batch import BatchRunner
from actors.inference.engine import Engine
from common import models
from common.corpora.kgfact import KGFactSpec, build
from common.prompts import PRESETS, Prompts
from tests.asynchronous import is_ahead, schedule_ahead
from tests.decoding import (
    MAX_TOKENS,
    STOPS,
    VOCABULARY,
    decode,
    greedy,
    mixture_p_value,
    open_engine,
    random_attempts,
    seeded,
    tokens,
)
from tests.tiny import make_model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.decoder,
    pytest.mark.one_core,
    # vLLM's and torch's own deprecations are not ours to fix.
    pytest.mark.filterwarnings("ignore"),
]
RATES = (0.0, 0.1, 0.3, 0.5, 0.7, 1.0)
# The embedded model takes minutes a hundred facts; the random one shows the same in seconds.
NUM_FACTS = 100 if os.environ.get("MIXSD_FULL") else 6
every_way = pytest.mark.parametrize("mixing", ["paired", "sessions", "portable"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("tiny"), vocabulary=VOCABULARY, scale=0.2)


class Expected:
    """The oracle's tokens by rate, decoded once for both paths."""

    def __init__(self, folder, stops) -> None:
        from tests.oracle import Oracle

        self.oracle, self.stops = Oracle(folder), stops
        self._known: dict[float, list[list[int]]] = {}

    def at(self, rate: float, attempts: Sequence[Attempt]) -> list[list[int]]:
        if rate not in self._known:
            self._known[rate] = self.oracle.decode(
                [(attempt.naive_prompt, attempt.expert_prompt) for attempt in attempts],
                [attempt.picks for attempt in attempts],
                self.stops,
            )
        return self._known[rate]


def assert_oracle(expected: Expected, engine: Engine, attempts_at) -> Counter[str]:
    """Every token is the oracle's at every rate; counts how the mixed rollouts ended."""
    ends: Counter[str] = Counter()
    for rate in RATES:
        attempts: Sequence[Attempt] = attempts_at(rate)
        drawn = decode(engine, attempts)
        for attempt, token_ids in zip(attempts, expected.at(rate, attempts), strict=True):
            result = drawn[attempt.key]
            assert result.token_ids == token_ids, (rate, attempt.key)
            assert result.naive == [int(pick) for pick in attempt.picks[: len(token_ids)]]
            if 0 < rate < 1:
                side = "naive" if result.naive[-1] else "expert"
                ends[f"stop in {side} run" if result.complete else "length"] += 1
    return ends


@pytest.fixture(scope="module")
def expected_of_tiny(folder):
    return Expected(folder, STOPS)


@every_way
def test_a_random_models_tokens_are_the_oracles_at_any_prompt_length(
    folder, expected_of_tiny, mixing
):
    engine = open_engine(folder, mixing)
    assert not is_ahead(engine)
    ends = assert_oracle(expected_of_tiny, engine, lambda rate: random_attempts(100, rate))
    assert min(ends[end] for end in ("stop in naive run", "stop in expert run", "length")) > 10
    engine.close()


@pytest.mark.parametrize("mixing", ["paired", "portable"])
def test_tokens_are_the_oracles_where_vllm_schedules_before_it_knows_the_last_ones(
    folder, expected_of_tiny, mixing, monkeypatch
):
    schedule_ahead(monkeypatch)
    engine = open_engine(folder, mixing)
    assert is_ahead(engine)
    assert_oracle(expected_of_tiny, engine, lambda rate: random_attempts(100, rate))
    engine.close()


def test_a_compiled_engine_draws_the_oracles_tokens(folder, expected_of_tiny):
    """Steps of any size through torch.compile, as on a GPU but for its graphs."""
    engine = open_engine(folder, enforce_eager=False)
    assert_oracle(expected_of_tiny, engine, lambda rate: random_attempts(100, rate))
    engine.close()


def test_the_likeliest_tokens_of_a_text_read_in_parts_are_those_of_transformers(folder):
    import torch
    from transformers import AutoModelForCausalLM

    engine = open_engine(folder, max_requests=16, max_batched_tokens=32)
    ids = [2 + at * 7 % (VOCABULARY - 2) for at in range(90)]
    engine.begin_score("text", ids, 8)
    while not (segments := engine.step()):
        pass
    engine.close()
    reference = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        logprobs = reference(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
    top = segments[0].prompt_top
    assert top.ids_TN[:, 0].tolist() == ids[1:]
    expected = logprobs.topk(8)
    assert torch.equal(torch.as_tensor(top.ids_TN[:, 1:]).long(), expected.indices)
    torch.testing.assert_close(
        torch.as_tensor(top.logprobs_TN[:, 1:]), expected.values, rtol=1e-4, atol=1e-5
    )


@pytest.fixture(scope="module")
def model() -> models.Model:
    return models.load(models.resolve("packaged"))


@pytest.fixture(scope="module")
def prompts(model):
    return Prompts(model.tokenizer, PRESETS["short-sentence"], model.stop_token_ids[0])


@pytest.fixture(scope="module")
def facts():
    return build(KGFactSpec(domains=5, entities=10, seed=1)).facts


@pytest.fixture(scope="module")
def expected_of_embedded(model):
    return Expected(model.folder, model.stop_token_ids)


@every_way
def test_the_embedded_models_tokens_and_scores_are_the_oracles(
    model, prompts, facts, expected_of_embedded, mixing
):
    def attempts(rate):
        return [
            Attempt(
                fact.id,
                prompts.naive(fact),
                prompts.expert(fact),
                draw_picks(0, fact.id, 0, 0, rate, MAX_TOKENS),
                greedy,
            )
            for fact in facts[:NUM_FACTS]
        ]

    engine = open_engine(model.folder, mixing, model.stop_token_ids)
    ends = assert_oracle(expected_of_embedded, engine, attempts)
    assert ends["stop in expert run"] > 0

    prompt, target = prompts.naive(facts[0]), prompts.canonical(facts[0])
    (scores,) = BatchRunner(engine, 1).score([(prompt, target)])
    rows = expected_of_embedded.oracle.logprobs(prompt, target)
    assert scores == pytest.approx(
        [float(row[token]) for row, token in zip(rows, target, strict=True)], abs=1e-3
    )
    engine.close()


@every_way
@pytest.mark.parametrize("sampling", [{}, {"top_k": 5, "top_p": 0.9}], ids=["T 1", "top-k, top-p"])
def test_above_temperature_0_rollouts_have_the_oracles_mixture(tmp_path, mixing, sampling):
    folder = make_model(tmp_path, vocabulary=8, scale=0.3)
    engine = open_engine(folder, mixing, stops=())
    assert mixture_p_value(engine, folder, **sampling) > 1e-6
    engine.close()


def test_rollouts_do_not_depend_on_slots_order_engines_or_path(folder, monkeypatch):
    attempts = [
        replace(attempt, sampling=seeded(attempt.key, top_p=0.95))
        for attempt in random_attempts(60, 0.4, longest=90)
    ]
    engines = [open_engine(folder) for _ in range(3)]
    first = tokens(decode(engines[0], attempts))
    assert tokens(decode(engines[0], attempts)) == first
    for slots, order in itertools.product((1, 5, 32), (attempts, attempts[::-1])):
        assert tokens(decode(engines[0], order, slots)) == first
    dealt = [decode(engine, attempts[index::3]) for index, engine in enumerate(engines)]
    assert tokens(dealt[0] | dealt[1] | dealt[2]) == first
    others = [open_engine(folder, mixing) for mixing in ("portable", "paired")]
    schedule_ahead(monkeypatch)
    others += [open_engine(folder, mixing) for mixing in ("portable", "paired")]
    assert [tokens(decode(other, attempts)) for other in others] == [first] * 4
    for engine in (*engines, *others):
        engine.close()
