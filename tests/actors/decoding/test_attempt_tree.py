from hypothesis import given
from hypothesis import strategies as st

from actors.decoding.attempt_tree import AttemptTree
from actors.decoding.picks import DrawnTokens, SegmentSchedule

STOP = 0


def next_token(naive, prefix):
    """A deterministic engine: sides agree on some prefixes and part on others; 0 stops."""
    return hash((naive and sum(prefix) % 3 == 0, tuple(prefix))) % 5


def draw(schedule, known):
    """Draw the rest after the known tokens; returns the whole attempt."""
    drawn = DrawnTokens(list(known.token_ids), list(known.logprobs), list(known.naive))
    ids = drawn.token_ids
    while STOP not in ids[-1:] and len(ids) < schedule.num_tokens:
        naive = schedule.draws_naive(ids)
        drawn.logprobs.append(-float(len(ids)))
        drawn.naive.append(int(naive))
        ids.append(next_token(naive, ids))
    return drawn


def test_an_attempt_walks_to_where_its_picks_lead_it_elsewhere():
    tree = AttemptTree(100)
    tree.record([5, 6, 7], [-0.5, -0.6, -0.7], [0, 0, 1])
    assert tree.walk(SegmentSchedule([False, False, False])) == DrawnTokens(
        [5, 6], [-0.5, -0.6], [0, 0]
    )
    assert tree.walk(SegmentSchedule([False, False, True])) == DrawnTokens(
        [5, 6, 7], [-0.5, -0.6, -0.7], [0, 0, 1]
    )
    assert tree.walk(SegmentSchedule([True])) == DrawnTokens()


def test_sides_that_drew_the_same_token_share_what_follows():
    tree = AttemptTree(100)
    tree.record([5, 6], [-0.5, -0.6], [0, 0])
    tree.record([5, 7], [-1.5, -1.7], [1, 1])
    assert tree.walk(SegmentSchedule([True, False])) == DrawnTokens([5, 6], [-1.5, -0.6], [1, 0])


def test_a_full_tree_keeps_what_it_has_and_takes_no_more():
    tree = AttemptTree(2)
    tree.record([5, 6, 7], [0.0] * 3, [0] * 3)
    tree.record([8], [0.0], [1])
    assert tree.walk(SegmentSchedule([False] * 3)).token_ids == [5, 6]
    assert tree.walk(SegmentSchedule([True])).token_ids == []


@given(
    st.lists(st.lists(st.booleans(), min_size=8, max_size=8), min_size=1, max_size=12),
    st.integers(0, 40),
    st.none() | st.integers(1, 4),
)
def test_attempts_are_the_same_with_and_without_the_tree(picks, max_tokens, protected):
    protects = None if protected is None else (lambda ids: ids[-1:] == [protected])
    tree = AttemptTree(max_tokens)
    for schedule in (SegmentSchedule(pick, protects) for pick in picks):
        known = tree.walk(schedule)
        whole = draw(schedule, DrawnTokens())
        assert draw(schedule, known) == whole
        assert known.token_ids == whole.token_ids[: len(known.token_ids)]
        tree.record(whole.token_ids, whole.logprobs, whole.naive)


@given(st.lists(st.booleans(), min_size=1, max_size=12))
def test_a_repeated_attempt_is_known_whole(picks):
    tree, schedule = AttemptTree(100), SegmentSchedule(picks)
    whole = draw(schedule, DrawnTokens())
    tree.record(whole.token_ids, whole.logprobs, whole.naive)
    assert tree.walk(schedule) == whole
