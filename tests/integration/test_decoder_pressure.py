"""Mixed decoding where something is short or something intervenes.

Each test forces the case, shows that it happened, and compares with an engine
that nothing disturbed. The model is random and tiny, the precision float32.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from actors.decoding.mixed_decoder import MixedDecoder
from actors.decoding.paired_decoder import PairedDecoder, open_decoder
from actors.inference.arguments import EngineError
from actors.inference.batch import BatchRunner
from actors.inference.requests import Sampling, row_key
from tests.asynchronous import is_ahead, schedule_ahead
from tests.decoding import (
    VOCABULARY,
    SharedEngine,
    decode,
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
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture
def ahead(monkeypatch):
    """vLLM schedules a step before it knows the tokens of the last one, as on a GPU."""
    schedule_ahead(monkeypatch)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("tiny"), vocabulary=VOCABULARY, scale=0.2)


@pytest.fixture(scope="module", params=["T 0", "T 1"])
def attempts(request):
    """30 attempts of up to 174 tokens (6 blocks) a side."""
    greedy = random_attempts(30, 0.4, longest=150)
    if request.param == "T 0":
        return greedy
    return [replace(attempt, sampling=seeded(attempt.key)) for attempt in greedy]


@pytest.fixture(scope="module")
def undisturbed(folder, attempts):
    engine = open_engine(folder)
    drawn = tokens(decode(engine, attempts))
    assert engine.num_dropped == 0
    engine.close()
    return drawn


@pytest.fixture
def opened(folder):
    """Opens engines; at the end every block of each must be free again."""
    engines = []

    def open_(**settings):
        engines.append(open_engine(folder, **settings))
        return engines[-1]

    yield open_
    # Closing one ends torch's process group, which the others have too.
    for engine in engines:
        assert engine.num_free_blocks == engine.num_blocks
    for engine in engines:
        engine.close()


def count_preemptions(engine, monkeypatch):
    """A list that grows with every request that vLLM preempts."""
    scheduler = engine.scheduler
    preempt, preempted = scheduler._preempt_request, []

    def counted(request, *arguments, **options):
        preempted.append(request.request_id)
        return preempt(request, *arguments, **options)

    monkeypatch.setattr(scheduler, "_preempt_request", counted)
    return preempted


def test_waiting_sessions_are_evicted_when_blocks_are_few(opened, attempts, undisturbed):
    engine = opened(num_blocks=33)
    assert tokens(decode(engine, attempts)) == undisturbed
    assert engine.num_dropped > 0


def test_waiting_sessions_are_evicted_when_requests_are_few(opened, attempts, undisturbed):
    engine = opened(max_requests=5)
    assert tokens(decode(engine, attempts, slots=5)) == undisturbed
    assert engine.num_dropped > 0


def test_one_attempt_at_a_time_fits_the_smallest_cache(opened, attempts, undisturbed):
    assert tokens(decode(opened(max_model_len=192, num_blocks=7), attempts)) == undisturbed


@pytest.mark.parametrize("mixing", ["paired", "sessions", "portable"])
def test_prompts_longer_than_the_batch_budget(opened, attempts, undisturbed, mixing):
    engine = opened(mixing=mixing, max_batched_tokens=32, max_requests=32)
    assert tokens(decode(engine, attempts)) == undisturbed


def test_pairs_wait_until_a_step_and_the_cache_have_room_for_both_rows(
    ahead, opened, attempts, undisturbed, monkeypatch
):
    """Rows that did not begin together, or were preempted, draw alone and begin anew."""
    engine = opened(mixing="paired", num_blocks=25, max_batched_tokens=384, max_requests=32)
    assert is_ahead(engine)
    preempted = count_preemptions(engine, monkeypatch)
    extend, pairs = engine.extend_pair, []
    monkeypatch.setattr(engine, "extend_pair", lambda *args: pairs.append(args) or extend(*args))
    assert tokens(decode(engine, attempts)) == undisturbed
    assert preempted == []
    keys = [key for key, *_ in pairs]
    assert len(keys) == len(set(keys)) > 20


def test_pairs_go_on_where_vllm_preempted_one_of_their_rows(
    ahead, opened, attempts, undisturbed, monkeypatch
):
    """All attempts at once, with a third of the blocks that they need."""
    engine = opened(mixing="paired", num_blocks=120)
    preempted = count_preemptions(engine, monkeypatch)
    decoder, drawn = PairedDecoder(engine, 30), {}
    decoder._free_blocks = 10_000
    for attempt in attempts:
        decoder.submit(attempt)
    while not decoder.idle:
        drawn |= {result.key: result for result in decoder.step()}
    assert tokens(drawn) == undisturbed
    rows = {name.partition("#")[0] for name in preempted}
    halves = [len({row_key(one.key, side) for side in (True, False)} & rows) for one in attempts]
    assert 1 in halves
    for result in drawn.values():
        assert len(result.logprobs) == len(result.naive) == len(result.token_ids)


def test_a_pair_ends_where_its_text_is_settled(ahead, opened, attempts, undisturbed):
    engine = opened(mixing="paired")
    short = [replace(one, settled=lambda token_ids: len(token_ids) >= 3) for one in attempts]
    drawn = decode(engine, short)
    for key, result in drawn.items():
        assert result.token_ids == undisturbed[key][:3]
        assert len(result.logprobs) == len(result.naive) == len(result.token_ids)


def test_running_sessions_that_vllm_preempts(opened, attempts, monkeypatch):
    """More sessions at once than the cache holds; the decoder would not admit them."""
    prompt, some = attempts[0].expert_prompt, attempts[:12]

    def run(engine):
        texts = {attempt.key: [*prompt, attempt.expert_prompt[0]] for attempt in some}
        for at in (0, 40):
            for attempt in some:
                sampling = attempt.sampling(at)
                engine.extend(attempt.key, texts[attempt.key], 40, sampling, last=at == 40)
            running = len(some)
            while running:
                for segment in engine.step():
                    texts[segment.key] += segment.token_ids
                    running -= 1
        return texts

    expected = run(opened(stops=()))
    engine = opened(stops=(), num_blocks=20)
    preempted = count_preemptions(engine, monkeypatch)
    assert run(engine) == expected
    assert len(preempted) > 0


def test_other_requests_in_the_same_engine(opened, attempts, undisturbed, monkeypatch):
    """Generation and scoring between two steps of the decoder, with few KV blocks."""
    prompts = [list(attempt.naive_prompt) for attempt in attempts]
    pairs = [(attempt.naive_prompt, attempt.expert_prompt[:9]) for attempt in attempts]
    alone = SharedEngine(opened())
    generated = alone.generate(prompts, 30, Sampling())
    scored = alone.score(pairs)

    engine = SharedEngine(opened(num_blocks=40))
    preempted = count_preemptions(engine, monkeypatch)
    decoder, drawn = MixedDecoder(engine, 16), {}
    for attempt in attempts:
        decoder.submit(attempt)
    for step in range(10_000):
        drawn |= {result.key: result for result in decoder.step()}
        if step == 5:
            assert engine.generate(prompts, 30, Sampling()) == generated
        if step == 9:
            scores = engine.score(pairs)
            for row, expected in zip(scores, scored, strict=True):
                assert row == pytest.approx(expected, abs=1e-4)
        if decoder.idle:
            break
    assert tokens(drawn) == undisturbed
    assert engine.num_dropped + len(preempted) > 0


@pytest.mark.parametrize("mixing", ["paired", "sessions", "portable"])
def test_an_attempt_that_is_cancelled_in_the_middle(ahead, opened, attempts, undisturbed, mixing):
    engine = opened(mixing=mixing, num_blocks=33)
    decoder, drawn = open_decoder(engine, 16), {}
    for attempt in attempts:
        decoder.submit(attempt)
    for _ in range(7):
        drawn |= {result.key: result for result in decoder.step()}
    cancelled = [attempt.key for attempt in attempts[::3] if attempt.key not in drawn]
    for key in cancelled:
        decoder.cancel(key)
    while not decoder.idle:
        drawn |= {result.key: result for result in decoder.step()}
    assert tokens(drawn) == {
        key: value for key, value in undisturbed.items() if key not in cancelled
    }
    # The same keys again, as a retry would.
    again = [attempt for attempt in attempts if attempt.key in cancelled]
    assert tokens(decode(engine, again)) == {key: undisturbed[key] for key in cancelled}


def test_a_key_that_is_used_again_at_once_gets_nothing_of_a_step_under_way(opened, monkeypatch):
    """A request that a stop token ended is in one more step, which is already scheduled."""
    prompts = [list(attempt.expert_prompt) for attempt in random_attempts(20, 0.4, longest=50)]
    expected = BatchRunner(opened(mixing="portable"), 20).generate(
        prompts, [40] * len(prompts), [Sampling()] * len(prompts)
    )
    schedule_ahead(monkeypatch)
    engine = opened(mixing="portable")
    for prompt, token_ids in zip(prompts, expected, strict=True):
        engine.extend("key", prompt, 40, Sampling())
        while not (outputs := engine.step()):
            pass
        assert [output.token_ids for output in outputs] == [token_ids]
    assert any(len(token_ids) < 40 for token_ids in expected)


def test_a_segment_that_ended_beside_other_requests_is_not_delivered_after_a_cancel(
    opened, attempts, undisturbed
):
    engine = SharedEngine(opened())
    decoder, drawn = MixedDecoder(engine, 8), {}
    for attempt in attempts[:8]:
        decoder.submit(attempt)
    decoder.step()
    engine.generate([attempts[0].naive_prompt], 30, Sampling())
    decoder.cancel(attempts[3].key)
    while not decoder.idle:
        drawn |= {result.key: result for result in decoder.step()}
    kept = [attempt.key for attempt in attempts[:8] if attempt is not attempts[3]]
    assert tokens(drawn) == {key: undisturbed[key] for key in kept}


def test_an_engine_that_is_replaced_in_the_middle(folder, opened, attempts, undisturbed):
    first = open_engine(folder)
    decoder, drawn = MixedDecoder(first, 16), {}
    for attempt in attempts:
        decoder.submit(attempt)
    for _ in range(15):
        drawn |= {result.key: result for result in decoder.step()}
    first.close()
    rest = [attempt for attempt in attempts if attempt.key not in drawn]
    assert 0 < len(rest) < len(attempts)
    assert tokens(drawn | decode(opened(), rest)) == undisturbed


def test_what_cannot_fit_even_alone_is_refused_before_it_enters(opened, attempts):
    """Blocks for one whole context are vLLM's own condition at the start."""
    longest = max(attempts, key=lambda attempt: len(attempt.expert_prompt))
    decoder = MixedDecoder(opened(max_model_len=128), 4)
    with pytest.raises(EngineError, match=r"exceed the context engine\.max_model_len=128; raise"):
        decoder.submit(longest)
    assert decoder.idle


def test_a_name_that_was_let_go_may_be_scored_at_once(opened):
    """Letting go takes effect with the next step, and must not take the new request along."""
    engine = opened(mixing="sessions")
    engine.extend("name", [1, 2, 3], 4, Sampling())
    while not engine.step():
        pass
    engine.release("name")
    engine.begin_score("name", [1, 2, 3, 4])
    for _ in range(20):
        for segment in engine.step():
            assert len(segment.prompt_logprobs) == 3
            return
    pytest.fail("the score never came")
