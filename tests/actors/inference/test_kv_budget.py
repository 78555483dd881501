from hypothesis import given
from hypothesis import strategies as st

from actors.inference.kv_budget import KVBudget


def test_a_session_keeps_the_blocks_of_what_it_has_computed():
    budget = KVBudget(num_blocks=10, block_size=4, max_requests=9)
    assert not budget.begin("a", num_context=6, num_tokens=3, continues=True)
    budget.generating["a"].token_ids += [1, 2, 3]
    assert budget.end("a")
    assert budget.waiting == {"a": 2}  # 6 + 3 tokens, the last not computed
    assert budget.begin("a", 9, 2, continues=False)
    assert not budget.end("a")
    assert budget.waiting == {}


def test_the_longest_waiting_session_goes_first_when_blocks_are_short():
    budget = KVBudget(num_blocks=6, block_size=4, max_requests=9)
    for key in "ab":
        budget.begin(key, 4, 4, continues=True)
        budget.generating[key].token_ids += [1, 2, 3, 4]
    for key in "ba":
        budget.end(key)
    assert budget.eviction_victim() is None  # 2 + 2 of 6
    budget.begin("c", 8, 4, continues=False)  # 3 more
    assert budget.eviction_victim() == "b"
    assert budget.forget("b")
    assert budget.eviction_victim() is None


def test_a_waiting_session_goes_when_requests_are_short():
    budget = KVBudget(num_blocks=99, block_size=4, max_requests=2)
    for key in "abc":
        budget.begin(key, 4, 1, continues=True)
    assert budget.eviction_victim() is None  # nothing waits
    budget.end("c")
    assert budget.eviction_victim() == "c"


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 20), st.booleans())))
def test_nothing_is_claimed_when_nothing_lives(events):
    budget = KVBudget(num_blocks=5, block_size=4, max_requests=3)
    for key, size, flag in events:
        if key in budget.generating:
            if flag:
                budget.generating[key].token_ids += [0] * size
                budget.end(key)
            else:
                budget.forget(key)
        else:
            budget.begin(key, size, size, continues=flag)
        while (dropped := budget.eviction_victim()) is not None:
            budget.forget(dropped)
    for key in "abcd":
        budget.forget(key)
    assert not budget.forget("a")
    budget.begin("all", 17, 3, continues=True)  # all 5 blocks
    budget.generating["all"].token_ids += [0]
    budget.end("all")
    assert budget.eviction_victim() is None
