import pytest

from actors.decoding.attempt import Attempt, FinishedAttempt, ScoredTarget
from actors.decoding.mixed_decoder import MixedDecoder
from actors.decoding.picks import DrawnTokens
from actors.inference.arguments import EngineError
from actors.inference.requests import EngineOutput, Sampling

STOP = 99


class FakeEngine:
    """Draws 10, 11, … as naive side, 20, 21, … as expert; stops at context ``stop_at``."""

    def __init__(self, num_blocks=100, max_model_len=64, stop_at=64):
        self.num_blocks, self.max_model_len, self.stop_at = num_blocks, max_model_len, stop_at
        self.extended, self.released, self._ready = [], [], []

    def extend(self, key, context, num_tokens, sampling, *, last):
        self.extended.append((key, list(context), num_tokens, sampling.seed, last))
        base = 10 if key.endswith("/n") else 20
        drawn = [base + index for index in range(num_tokens)]
        if (before_stop := self.stop_at - len(context)) < num_tokens:
            drawn[before_stop:] = [STOP]
        self._ready.append(EngineOutput(key, drawn, [-float(base)] * len(drawn), []))

    def begin_score(self, key, token_ids, top=0):
        self._ready.append(
            EngineOutput(key, [0], [0.0], [-float(token) for token in token_ids[1:]])
        )

    def release(self, key):
        self.released.append(key)

    def step(self):
        ready, self._ready = self._ready, []
        return ready

    def ends(self, token_id):
        return token_id == STOP

    def blocks_for(self, num_tokens):
        return -(-num_tokens // 4)


def attempt(key, picks, **more):
    picks = list(map(bool, picks))
    return Attempt(key, [1, 2], [1, 2, 3], picks, lambda at: Sampling(seed=at), **more)


def drain(decoder):
    return [result for _ in range(9) for result in decoder.step()]


def test_sides_switch_where_the_picks_change():
    engine = FakeEngine()
    decoder = MixedDecoder(engine, slots=1)
    decoder.submit(attempt("a", [1, 1, 0, 1]))
    assert drain(decoder) == [
        FinishedAttempt("a", [10, 11, 20, 10], [-10.0, -10.0, -20.0, -10.0], [1, 1, 0, 1], False)
    ]
    assert engine.extended == [
        ("a/n", [1, 2], 2, 0, False),
        ("a/e", [1, 2, 3, 10, 11], 1, 2, True),
        ("a/n", [1, 2, 10, 11, 20], 1, 3, True),
    ]


def test_a_side_keeps_nothing_after_its_last_segment():
    engine = FakeEngine()
    decoder = MixedDecoder(engine, slots=1)
    decoder.submit(attempt("a", [1, 0, 1, 0, 1]))
    drain(decoder)
    assert [last for *_, last in engine.extended] == [False, False, False, True, True]


def test_a_stop_token_ends_the_attempt_and_skips_the_segments_that_are_left():
    engine = FakeEngine(stop_at=3)
    decoder = MixedDecoder(engine, slots=1)
    decoder.submit(attempt("a", [1, 1, 1, 0]))
    assert drain(decoder) == [FinishedAttempt("a", [10, STOP], [-10.0, -10.0], [1, 1], True)]
    assert len(engine.extended) == 1


@pytest.mark.parametrize(
    ("num_blocks", "slots", "picks", "finished"),
    [
        (100, 2, [1], [["a", "b"], ["c"]]),  # two slots
        (3, 8, [1, 0], [[], ["a"], [], ["b"], [], ["c"]]),  # 2 blocks an attempt
        (2, 8, [1, 1], [["a", "b"], ["c"]]),  # the expert draws nothing: 1 block
    ],
)
def test_an_attempt_waits_for_a_slot_and_for_blocks(num_blocks, slots, picks, finished):
    decoder = MixedDecoder(FakeEngine(num_blocks), slots)
    for key in "abc":
        decoder.submit(attempt(key, picks))
    assert [[drawn.key for drawn in decoder.step()] for _ in finished] == finished


def test_what_could_never_run_is_refused_with_the_setting_to_change():
    decoder = MixedDecoder(FakeEngine(num_blocks=1, max_model_len=6), slots=1)
    with pytest.raises(EngineError, match=r"a: 7 tokens .* engine\.max_model_len=6"):
        decoder.submit(attempt("a", [1] * 4))
    with pytest.raises(EngineError, match="a: needs 2 KV blocks, the engine has 1"):
        decoder.submit(attempt("a", [1, 0]))
    assert decoder.idle


def test_scoring_waits_for_attempts_and_blocks_and_returns_the_target_tokens_only():
    decoder = MixedDecoder(FakeEngine(num_blocks=2), slots=2)
    for key in "st":
        decoder.submit_score(key, [1, 2], [3, 4])
    decoder.submit(attempt("a", [1]))
    assert [decoder.step() for _ in range(3)][1:] == [
        [ScoredTarget(key, [-3.0, -4.0])] for key in "st"
    ]


def test_a_cancelled_attempt_frees_its_blocks():
    engine = FakeEngine(num_blocks=3)
    decoder = MixedDecoder(engine, slots=1)
    for key in "abc":
        decoder.submit(attempt(key, [1, 0]))
    decoder.step()
    engine.step()
    for key in ("a", "b", "unknown"):
        decoder.cancel(key)
    assert [drawn.key for drawn in drain(decoder)] == ["c"]


def test_an_attempt_continues_after_its_known_tokens_and_counts_them():
    engine = FakeEngine()
    decoder = MixedDecoder(engine, slots=1)
    decoder.submit(attempt("a", [1, 0, 0, 0], known=DrawnTokens([10, 20], [-1.0, -2.0], [1, 0])))
    assert drain(decoder) == [
        FinishedAttempt(
            "a", [10, 20, 20, 21], [-1.0, -2.0, -20.0, -20.0], [1, 0, 0, 0], False, num_known=2
        )
    ]
    assert engine.extended == [("a/e", [1, 2, 3, 10, 20], 2, 2, True)]


@pytest.mark.parametrize(("known", "complete"), [([10, STOP], True), ([10, 11, 12], False)])
def test_an_attempt_that_is_known_whole_takes_no_slot_and_draws_nothing(known, complete):
    engine = FakeEngine()
    decoder = MixedDecoder(engine, slots=1)
    tokens = DrawnTokens(known, [0.0] * len(known), [1] * len(known))
    decoder.submit(attempt("a", [1, 1, 1], known=tokens))
    assert (decoder.num_attempts, decoder.idle) == (1, False)
    (drawn,) = decoder.step()
    assert (drawn.token_ids, drawn.complete, engine.extended) == (known, complete, [])
    assert decoder.idle


def test_a_settled_attempt_ends_after_the_segment_that_settled_it_and_frees_its_slot():
    engine = FakeEngine()
    decoder = MixedDecoder(engine, slots=1)
    decoder.submit(attempt("a", [1, 1, 0, 1], settled=lambda ids: 11 in ids))
    decoder.submit(attempt("b", [1]))
    assert [(drawn.key, drawn.token_ids) for drawn in decoder.step()] == [("a", [10, 11])]
    assert [drawn.key for drawn in decoder.step()] == ["b"]


def test_a_protected_token_is_drawn_by_the_expert_though_the_naive_side_was_picked():
    engine = FakeEngine()
    decoder = MixedDecoder(engine, slots=1)
    decoder.submit(attempt("a", [1, 1, 1], protects=lambda ids: len(ids) == 1))
    (drawn,) = drain(decoder)
    assert (drawn.token_ids, drawn.naive) == ([10, 20, 10], [1, 0, 1])
    assert [key for key, *_ in engine.extended] == ["a/n", "a/e", "a/n"]
    assert engine.released == ["a/n", "a/e"]


def test_an_attempt_reuses_the_sessions_of_its_prefix_group_until_it_is_released():
    engine = FakeEngine()
    decoder = MixedDecoder(engine, slots=1)
    for key in "ab":
        decoder.submit(attempt(key, [1, 0], prefix_group="f"))
        drain(decoder)
    assert engine.extended == 2 * [
        ("a/n", [1, 2], 1, 0, False),
        ("a/e", [1, 2, 3, 10], 1, 1, False),
    ]
    decoder.submit(attempt("c", [1], prefix_group="g"))
    drain(decoder)
    assert (engine.extended[-1][0], engine.released) == ("c/n", [])
    for prefix_group in ("f", "f", "g", "unknown"):
        decoder.release_group(prefix_group)
    assert engine.released == ["a/n", "a/e", "c/n"]


def test_concurrent_attempts_of_a_prefix_group_have_sessions_of_their_own():
    engine = FakeEngine()
    decoder = MixedDecoder(engine, slots=2)
    for key in "ab":
        decoder.submit(attempt(key, [1, 0], prefix_group="f"))
    drain(decoder)
    assert [key for key, *_ in engine.extended] == ["a/n", "b/n", "a/e", "b/e"]


def test_a_cancelled_attempt_leaves_its_prefix_group_the_session_that_waits():
    engine = FakeEngine()
    decoder = MixedDecoder(engine, slots=1)
    decoder.submit(attempt("a", [1, 0, 1], prefix_group="f"))
    decoder.step()
    decoder.cancel("a")  # while the expert draws
    engine.step()
    assert engine.released == ["a/e"]
    decoder.submit(attempt("b", [1, 0], prefix_group="f"))
    drain(decoder)
    assert [key for key, *_ in engine.extended[2:]] == ["a/n", "b/e"]


def test_scoring_shares_a_step_by_tokens():
    decoder = MixedDecoder(FakeEngine(), slots=2)
    decoder.submit(attempt("a", [1, 0]))
    decoder.submit_score("s", [1, 2], [3])
    decoder.step()
    assert decoder.scoring_share == 3 / 4
