"""Pairs on a fake engine: what they send, when they begin, and what their rows come to."""

import pytest

from actors.decoding.attempt import FinishedAttempt, ScoredTarget
from actors.decoding.mixed_decoder import MixedDecoder
from actors.decoding.paired_decoder import PairedDecoder, open_decoder
from actors.decoding.picks import DrawnTokens
from actors.inference.requests import EngineOutput, token_seed
from tests.actors.decoding.test_mixed_decoder import FakeEngine, attempt, drain


class PairingEngine(FakeEngine):
    """The token at i is 10 + i where the naive side draws, else 20 + i; rows end together."""

    mixing = "paired"

    def __init__(self, max_batched_tokens=100, **options):
        super().__init__(**options)
        self.max_batched_tokens = max_batched_tokens
        self.pairs = []
        # For each call, from which token on the expert's row differs.
        self.parted_at = []
        self.steps = 0

    def extend_pair(self, key, contexts, picks, sampling, seeds):
        self.pairs.append((self.steps, key, contexts, list(picks), seeds))
        drawn = [10 + at if naive else 20 + at for at, naive in enumerate(picks)]
        parted_at = self.parted_at.pop(0) if self.parted_at else len(drawn)
        other = [token + (at >= parted_at) for at, token in enumerate(drawn)]
        self._ready.append(EngineOutput(f"{key}/n", drawn, [-1.0] * len(drawn), []))
        self._ready.append(EngineOutput(f"{key}/e", other, [-2.0] * len(drawn), []))

    def step(self):
        self.steps += 1
        return super().step()

    def generated(self, key):
        """Half of what it will be."""
        output = next(one for one in self._pending if one.key == key)
        return output.token_ids[:2], output.logprobs[:2]


def test_the_decoder_is_the_one_for_the_engines_way_of_mixing():
    engine = PairingEngine()
    assert type(open_decoder(engine, 1)) is PairedDecoder
    engine.mixing = "sessions"
    assert type(open_decoder(engine, 1)) is MixedDecoder


def test_an_attempt_is_one_request_a_side_with_the_log_probabilities_of_who_drew():
    engine = PairingEngine()
    decoder = PairedDecoder(engine, slots=1)
    decoder.submit(attempt("a", [1, 1, 0, 1]))
    assert drain(decoder) == [
        FinishedAttempt(
            "a", [10, 11, 22, 13], [-1.0, -1.0, -2.0, -1.0], [1, 1, 0, 1], False, beside={2: -1.0}
        )
    ]
    ((_, _, contexts, picks, _),) = engine.pairs
    assert contexts == {True: [1, 2], False: [1, 2, 3]}
    assert picks == [True, True, False, True]
    assert engine.extended == []


def test_each_token_has_the_seed_that_it_has_in_the_segment_of_a_session():
    engine = PairingEngine()
    decoder = PairedDecoder(engine, slots=1)
    decoder.submit(attempt("a", [1, 1, 0]))
    drain(decoder)
    # Segments begin at 0 and at 2, which are their samplings' seeds.
    assert engine.pairs[0][-1] == [token_seed(0, 0), token_seed(0, 1), token_seed(2, 0)]


def test_a_pair_begins_after_the_known_tokens():
    engine = PairingEngine()
    decoder = PairedDecoder(engine, slots=1)
    decoder.submit(attempt("a", [1, 0, 0, 1], known=DrawnTokens([7, 8], [-5.0, -6.0], [1, 0])))
    assert drain(decoder) == [
        FinishedAttempt(
            "a", [7, 8, 20, 11], [-5.0, -6.0, -2.0, -1.0], [1, 0, 0, 1], False, 2, {2: -1.0}
        )
    ]
    assert engine.pairs[0][2] == {True: [1, 2, 7, 8], False: [1, 2, 3, 7, 8]}


@pytest.mark.parametrize(
    ("picks", "more"),
    [([1, 1], {}), ([0, 0], {}), ([1, 0], {"protects": lambda token_ids: False})],
    ids=["naive alone", "expert alone", "protected"],
)
def test_one_side_alone_and_sides_that_depend_on_the_text_need_no_pair(picks, more):
    engine = PairingEngine()
    decoder = PairedDecoder(engine, slots=1)
    decoder.submit(attempt("a", picks, **more))
    (drawn,) = drain(decoder)
    assert drawn.naive == picks
    assert engine.pairs == []


def test_contexts_longer_than_a_step_take_turns():
    # Both rows of the slot, and five tokens of the contexts.
    for budget, num_pairs in ((7, 1), (6, 0)):
        engine = PairingEngine(max_batched_tokens=budget)
        decoder = PairedDecoder(engine, slots=1)
        decoder.submit(attempt("a", [1, 0]))
        (drawn,) = drain(decoder)
        assert drawn.naive == [1, 0]
        assert len(engine.pairs) == num_pairs


def test_a_pair_waits_for_a_step_that_computes_both_of_its_contexts():
    # Contexts of 5 tokens a pair; the two rows of the first draw one token each.
    for budget, steps in ((12, [0, 0]), (11, [0, 1])):
        engine = PairingEngine(max_batched_tokens=budget)
        decoder = PairedDecoder(engine, slots=2)
        for key in "ab":
            decoder.submit(attempt(key, [1, 0]))
        assert len(drain(decoder)) == 2
        assert [step for step, *_ in engine.pairs] == steps


def test_a_pair_waits_for_what_a_scoring_pass_leaves_to_compute():
    engine = PairingEngine(max_batched_tokens=12)
    decoder = PairedDecoder(engine, slots=2)
    # 20 tokens: a step computes 12 of them, so the next one has 4 left for others.
    decoder.submit_score("score", [1] * 10, [2] * 10)
    assert [type(result) for result in decoder.step()] == [ScoredTarget]
    decoder.submit(attempt("a", [1, 0]))
    assert decoder.step() == []
    assert [drawn.key for drawn in decoder.step()] == ["a"]
    assert len(engine.pairs) == 1


def test_rows_reserve_blocks_to_their_end_and_give_them_back():
    # 2 + 4 and 3 + 4 tokens in blocks of four: two a row.
    engine = PairingEngine(num_blocks=7)
    decoder = PairedDecoder(engine, slots=4)
    for key in "abc":
        decoder.submit(attempt(key, [1, 0, 1, 0]))
    assert [drawn.key for drawn in decoder.step()] == ["a"]
    assert [drawn.key for drawn in drain(decoder)] == ["b", "c"]
    assert sorted(engine.released) == [f"{key}/{side}" for key in "abc" for side in "en"]


def test_a_pair_goes_on_where_its_rows_parted_with_the_token_of_the_row_whose_turn_it_was():
    engine = PairingEngine()
    engine.parted_at = [2, 0]
    decoder = PairedDecoder(engine, slots=1)
    decoder.submit(attempt("a", [1, 0, 0, 1, 1]))
    # At 2 the expert draws 22 + 1 where the naive row has 22; then the naive side draws 10.
    assert drain(decoder) == [
        FinishedAttempt(
            "a",
            [10, 21, 23, 10, 10],
            [-1.0, -2.0, -2.0, -1.0, -1.0],
            [1, 0, 0, 1, 1],
            False,
            beside={1: -1.0},
        )
    ]
    contexts = [contexts[True] for _, _, contexts, _, _ in engine.pairs]
    assert contexts == [[1, 2], [1, 2, 10, 21, 23], [1, 2, 10, 21, 23, 10]]
    # Seeds remain those of whole segments: they begin at 0, 1 and 3.
    assert [seeds for *_, seeds in engine.pairs[1:]] == [
        [token_seed(3, 0), token_seed(3, 1)],
        [token_seed(3, 1)],
    ]


def test_what_the_naive_side_thinks_of_every_token_is_known_unless_rows_parted():
    for parted_at, known in (([], [-1.0, -1.0]), ([1], None)):
        engine = PairingEngine()
        engine.parted_at = parted_at
        decoder = PairedDecoder(engine, slots=1)
        decoder.submit(attempt("a", [1, 0]))
        (drawn,) = drain(decoder)
        assert drawn.naive_logprobs == known


class SlowEngine(PairingEngine):
    """Its pairs have two tokens of theirs after the first step, and the rest never."""

    def __init__(self, **options):
        super().__init__(**options)
        self._pending = []

    def step(self):
        self._pending += super().step()
        return []


def test_a_pair_ends_when_its_text_is_settled_and_a_cancelled_one_has_nothing():
    engine = SlowEngine()
    decoder = PairedDecoder(engine, slots=2)
    decoder.submit(attempt("a", [1, 0, 1, 0], settled=lambda token_ids: len(token_ids) == 2))
    decoder.submit(attempt("b", [1, 0, 1, 0]))
    assert decoder.step() == [
        FinishedAttempt("a", [10, 21], [-1.0, -2.0], [1, 0], False, beside={1: -1.0})
    ]
    assert decoder.cancel("b") == FinishedAttempt("b", [], [], [], False)
    assert decoder.idle
    assert sorted(engine.released) == ["a/e", "a/n", "b/e", "b/n"]
