import pytest

from actors.engine import Sampling, Segment
from actors.engine_arguments import EngineError
from actors.relay import Attempt, Drawn, Relay, Scored

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
        self._ready.append(Segment(key, drawn, [-float(base)] * len(drawn), []))

    def begin_score(self, key, token_ids):
        self._ready.append(Segment(key, [0], [0.0], [-float(token) for token in token_ids[1:]]))

    def release(self, key):
        self.released.append(key)

    def step(self):
        ready, self._ready = self._ready, []
        return ready

    def ends(self, token_id):
        return token_id == STOP

    def blocks_for(self, num_tokens):
        return -(-num_tokens // 4)


def attempt(key, picks):
    return Attempt(key, [1, 2], [1, 2, 3], list(map(bool, picks)), lambda at: Sampling(seed=at))


def drain(relay):
    return [result for _ in range(9) for result in relay.step()]


def test_sides_hand_over_where_the_picks_change():
    engine = FakeEngine()
    relay = Relay(engine, slots=1)
    relay.submit(attempt("a", [1, 1, 0, 1]))
    assert drain(relay) == [
        Drawn("a", [10, 11, 20, 10], [-10.0, -10.0, -20.0, -10.0], [1, 1, 0, 1], False)
    ]
    assert engine.extended == [
        ("a/n", [1, 2], 2, 0, False),
        ("a/e", [1, 2, 3, 10, 11], 1, 2, True),
        ("a/n", [1, 2, 10, 11, 20], 1, 3, True),
    ]


def test_a_side_keeps_nothing_after_its_last_run():
    engine = FakeEngine()
    relay = Relay(engine, slots=1)
    relay.submit(attempt("a", [1, 0, 1, 0, 1]))
    drain(relay)
    assert [last for *_, last in engine.extended] == [False, False, False, True, True]


def test_a_stop_token_ends_the_attempt_and_skips_the_runs_that_are_left():
    engine = FakeEngine(stop_at=3)
    relay = Relay(engine, slots=1)
    relay.submit(attempt("a", [1, 1, 1, 0]))
    assert drain(relay) == [Drawn("a", [10, STOP], [-10.0, -10.0], [1, 1], True)]
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
    relay = Relay(FakeEngine(num_blocks), slots)
    for key in "abc":
        relay.submit(attempt(key, picks))
    assert [[drawn.key for drawn in relay.step()] for _ in finished] == finished


def test_what_could_never_run_is_refused_with_the_setting_to_change():
    relay = Relay(FakeEngine(num_blocks=1, max_model_len=6), slots=1)
    with pytest.raises(EngineError, match=r"a: 7 tokens .* engine\.max_model_len=6"):
        relay.submit(attempt("a", [1] * 4))
    with pytest.raises(EngineError, match="a: needs 2 KV blocks, the engine has 1"):
        relay.submit(attempt("a", [1, 0]))
    assert relay.idle


def test_scoring_waits_for_attempts_and_room_and_returns_the_target_tokens_only():
    relay = Relay(FakeEngine(num_blocks=2), slots=2)
    for key in "st":
        relay.submit_score(key, [1, 2], [3, 4])
    relay.submit(attempt("a", [1]))
    assert [relay.step() for _ in range(3)][1:] == [[Scored(key, [-3.0, -4.0])] for key in "st"]


def test_a_cancelled_attempt_gives_its_room_back():
    engine = FakeEngine(num_blocks=3)
    relay = Relay(engine, slots=1)
    for key in "abc":
        relay.submit(attempt(key, [1, 0]))
    relay.step()
    engine.step()
    for key in ("a", "b", "unknown"):
        relay.cancel(key)
    assert [drawn.key for drawn in drain(relay)] == ["c"]
