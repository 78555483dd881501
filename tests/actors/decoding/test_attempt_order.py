from hypothesis import given
from hypothesis import strategies as st

from actors.decoding.attempt_order import AttemptOrder


def test_the_first_accepted_in_attempt_order_wins_once_no_earlier_one_runs():
    order = AttemptOrder(4)
    assert [order.start() for _ in range(4)] == [0, 1, 2, 3]
    assert order.finish(2, accepted=True) == [3]
    assert (order.winners, order.running) == ([], {0, 1})
    assert order.finish(0, accepted=False) == []
    assert not order.winners
    assert order.finish(1, accepted=True) == []
    assert order.winners == [1]


def test_nothing_starts_after_an_accepted_attempt_or_past_the_limit():
    order = AttemptOrder(2)
    order.start()
    assert order.may_start
    order.finish(0, accepted=True)
    assert not order.may_start
    order = AttemptOrder(1)
    order.start()
    assert (order.may_start, order.is_exhausted) == (False, False)
    order.finish(0, accepted=False)
    assert order.is_exhausted


@given(st.lists(st.booleans(), min_size=1, max_size=6), st.integers(1, 6), st.randoms())
def test_the_winner_does_not_depend_on_which_finishes_first(accepted, in_flight, rng):
    order = AttemptOrder(len(accepted))
    while not order.winners and not order.is_exhausted:
        while order.may_start and len(order.running) < in_flight:
            order.start()
        attempt = rng.choice(sorted(order.running))
        order.finish(attempt, accepted[attempt])
    assert order.winners == ([accepted.index(True)] if True in accepted else [])
    assert not order.running


def test_compared_attempts_are_all_made_and_all_accepted_ones_win():
    order = AttemptOrder(6, num_compared=3)
    assert [order.start() for _ in range(4)] == [0, 1, 2, 3]
    # Attempt 3 is made only if the first three fail.
    assert order.finish(0, accepted=True) == [3]
    assert (order.winners, order.running, order.may_start) == ([], {1, 2}, False)
    assert order.finish(2, accepted=True) == []
    assert order.finish(1, accepted=False) == []
    assert order.winners == [0, 2]


def test_after_compared_attempts_that_fail_the_first_accepted_one_wins_alone():
    order = AttemptOrder(6, num_compared=2)
    assert [order.start() for _ in range(5)] == [0, 1, 2, 3, 4]
    order.finish(0, accepted=False)
    assert order.finish(3, accepted=True) == [4]
    order.finish(2, accepted=False)
    # The last compared one may still replace it.
    assert (order.winners, order.running) == ([], {1})
    order.finish(1, accepted=False)
    assert order.winners == [3]


@given(
    st.lists(st.booleans(), min_size=1, max_size=6),
    st.integers(1, 6),
    st.integers(1, 6),
    st.randoms(),
)
def test_what_wins_does_not_depend_on_which_finishes_first(accepted, compared, in_flight, rng):
    order = AttemptOrder(len(accepted), min(compared, len(accepted)))
    while not order.winners and not order.is_exhausted:
        while order.may_start and len(order.running) < in_flight:
            order.start()
        attempt = rng.choice(sorted(order.running))
        order.finish(attempt, accepted[attempt])
    first = [number for number in range(min(compared, len(accepted))) if accepted[number]]
    assert order.winners == (first or [n for n, found in enumerate(accepted) if found][:1])
    assert not order.running
