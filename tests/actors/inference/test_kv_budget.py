from hypothesis import given
from hypothesis import strategies as st

from actors.inference.kv_budget import KVBudget


def test_a_session_keeps_the_blocks_of_what_it_has_computed():
    room = KVBudget(num_blocks=10, block_size=4, max_requests=9)
    assert not room.begin("a", num_context=6, num_tokens=3, continues=True, seed=None)
    room.generating["a"].token_ids += [1, 2, 3]
    assert room.end("a")
    assert room.waiting == {"a": 2}  # 6 + 3 tokens, the last not computed
    assert room.begin("a", 9, 2, continues=False, seed=None)
    assert not room.end("a")
    assert room.waiting == {}


def test_the_longest_waiting_session_goes_first_when_blocks_are_short():
    room = KVBudget(num_blocks=6, block_size=4, max_requests=9)
    for key in "ab":
        room.begin(key, 4, 4, continues=True, seed=None)
        room.generating[key].token_ids += [1, 2, 3, 4]
    for key in "ba":
        room.end(key)
    assert room.eviction_victim() is None  # 2 + 2 of 6
    room.begin("c", 8, 4, continues=False, seed=None)  # 3 more
    assert room.eviction_victim() == "b"
    assert room.forget("b")
    assert room.eviction_victim() is None


def test_a_waiting_session_goes_when_requests_are_short():
    room = KVBudget(num_blocks=99, block_size=4, max_requests=2)
    for key in "abc":
        room.begin(key, 4, 1, continues=True, seed=None)
    assert room.eviction_victim() is None  # nothing waits
    room.end("c")
    assert room.eviction_victim() == "c"


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 20), st.booleans())))
def test_nothing_is_claimed_when_nothing_lives(events):
    room = KVBudget(num_blocks=5, block_size=4, max_requests=3)
    for key, size, flag in events:
        if key in room.generating:
            if flag:
                room.generating[key].token_ids += [0] * size
                room.end(key)
            else:
                room.forget(key)
        else:
            room.begin(key, size, size, continues=flag, seed=None)
        while (dropped := room.eviction_victim()) is not None:
            room.forget(dropped)
    for key in "abcd":
        room.forget(key)
    assert not room.forget("a")
    room.begin("all", 17, 3, continues=True, seed=None)  # all 5 blocks
    room.generating["all"].token_ids += [0]
    room.end("all")
    assert room.eviction_victim() is None
