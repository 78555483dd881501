import pytest

from actors.decoding.mixed_decoder import Attempt, Drawn, Relay, Scored
from actors.decoding.picks import Tokens
from actors.inference.arguments import EngineError
from actors.inference.requests import Sampling, Segment

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

    def begin_score(self, key, token_ids, top=0):
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


def attempt(key, picks, **more):
    picks = list(map(bool, picks))
    return Attempt(key, [1, 2], [1, 2, 3], picks, lambda at: Sampling(seed=at), **more)


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


def test_an_attempt_goes_on_after_what_is_known_and_counts_it():
    engine = FakeEngine()
    relay = Relay(engine, slots=1)
    relay.submit(attempt("a", [1, 0, 0, 0], known=Tokens([10, 20], [-1.0, -2.0], [1, 0])))
    assert drain(relay) == [
        Drawn("a", [10, 20, 20, 21], [-1.0, -2.0, -20.0, -20.0], [1, 0, 0, 0], False, num_known=2)
    ]
    assert engine.extended == [("a/e", [1, 2, 3, 10, 20], 2, 2, True)]


@pytest.mark.parametrize(("known", "complete"), [([10, STOP], True), ([10, 11, 12], False)])
def test_an_attempt_that_is_known_whole_takes_no_slot_and_draws_nothing(known, complete):
    engine = FakeEngine()
    relay = Relay(engine, slots=1)
    tokens = Tokens(known, [0.0] * len(known), [1] * len(known))
    relay.submit(attempt("a", [1, 1, 1], known=tokens))
    assert (relay.num_attempts, relay.idle) == (1, False)
    (drawn,) = relay.step()
    assert (drawn.token_ids, drawn.complete, engine.extended) == (known, complete, [])
    assert relay.idle


def test_a_settled_attempt_ends_after_the_run_that_settled_it_and_frees_its_slot():
    engine = FakeEngine()
    relay = Relay(engine, slots=1)
    relay.submit(attempt("a", [1, 1, 0, 1], settled=lambda ids: 11 in ids))
    relay.submit(attempt("b", [1]))
    assert [(drawn.key, drawn.token_ids) for drawn in relay.step()] == [("a", [10, 11])]
    assert [drawn.key for drawn in relay.step()] == ["b"]


def test_a_protected_token_is_drawn_by_the_expert_though_the_naive_side_was_picked():
    engine = FakeEngine()
    relay = Relay(engine, slots=1)
    relay.submit(attempt("a", [1, 1, 1], protects=lambda ids: len(ids) == 1))
    (drawn,) = drain(relay)
    assert (drawn.token_ids, drawn.naive) == ([10, 20, 10], [1, 0, 1])
    assert [key for key, *_ in engine.extended] == ["a/n", "a/e", "a/n"]
    assert engine.released == ["a/n", "a/e"]


def test_an_attempt_takes_up_the_sessions_of_its_family_until_it_is_disbanded():
    engine = FakeEngine()
    relay = Relay(engine, slots=1)
    for key in "ab":
        relay.submit(attempt(key, [1, 0], family="f"))
        drain(relay)
    assert engine.extended == 2 * [
        ("a/n", [1, 2], 1, 0, False),
        ("a/e", [1, 2, 3, 10], 1, 1, False),
    ]
    relay.submit(attempt("c", [1], family="g"))
    drain(relay)
    assert (engine.extended[-1][0], engine.released) == ("c/n", [])
    for family in ("f", "f", "g", "unknown"):
        relay.disband(family)
    assert engine.released == ["a/n", "a/e", "c/n"]


def test_attempts_of_a_family_at_once_have_sessions_of_their_own():
    engine = FakeEngine()
    relay = Relay(engine, slots=2)
    for key in "ab":
        relay.submit(attempt(key, [1, 0], family="f"))
    drain(relay)
    assert [key for key, *_ in engine.extended] == ["a/n", "b/n", "a/e", "b/e"]


def test_a_cancelled_attempt_leaves_its_family_the_session_that_waits():
    engine = FakeEngine()
    relay = Relay(engine, slots=1)
    relay.submit(attempt("a", [1, 0, 1], family="f"))
    relay.step()
    relay.cancel("a")  # while the expert draws
    engine.step()
    assert engine.released == ["a/e"]
    relay.submit(attempt("b", [1, 0], family="f"))
    drain(relay)
    assert [key for key, *_ in engine.extended[2:]] == ["a/n", "b/e"]


def test_scoring_shares_a_step_by_tokens():
    relay = Relay(FakeEngine(), slots=2)
    relay.submit(attempt("a", [1, 0]))
    relay.submit_score("s", [1, 2], [3])
    relay.step()
    assert relay.scoring_share == 3 / 4
