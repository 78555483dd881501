import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from learner.packing import input_length, pack, share

LONG = ([1, 2], [3, 4, 5])
SHORT = ([7], [8, 9])


def test_an_example_takes_its_prompt_and_all_of_its_target_but_the_last_token():
    assert (input_length(LONG), input_length(SHORT)) == (4, 2)


def test_two_examples_share_a_row_and_each_counts_its_positions_from_zero():
    (row,) = pack([SHORT, LONG], 6)
    assert row.inputs_T.tolist() == [1, 2, 3, 4, 7, 8]
    assert row.positions_T.tolist() == [0, 1, 2, 3, 0, 1]
    assert row.segments_T.tolist() == [0, 0, 0, 0, 1, 1]


def test_positions_from_the_last_prompt_token_on_predict_the_target():
    (row,) = pack([SHORT, LONG], 6)
    assert row.predict_K.tolist() == [1, 2, 3, 4, 5]
    assert row.targets_K.tolist() == [3, 4, 5, 8, 9]


def test_attention_looks_back_and_stays_within_an_example():
    (row,) = pack([([1], [2, 3]), ([4], [5, 6])], 4)
    assert row.mask_TT().astype(int).tolist() == [
        [1, 0, 0, 0],
        [1, 1, 0, 0],
        [0, 0, 1, 0],
        [0, 0, 1, 1],
    ]


def test_a_row_with_too_little_room_is_passed_over():
    rows = pack([SHORT, LONG, LONG], 7)
    assert [len(row.inputs_T) for row in rows] == [6, 4]


def test_an_example_longer_than_a_row_has_its_own():
    rows = pack([SHORT, LONG], 3)
    assert [row.inputs_T.tolist() for row in rows] == [[1, 2, 3, 4], [7, 8]]


def test_rows_are_dealt_so_that_ranks_carry_near_equal_tokens():
    rows = pack([([0] * size, [1]) for size in (5, 4, 3, 2)], 1)
    dealt = share(rows, 2)
    assert [[len(row.inputs_T) for row in rank] for rank in dealt] == [[5, 2], [4, 3]]


def test_a_rank_with_fewer_rows_is_filled_with_rows_that_count_nothing():
    rows = pack([([0] * size, [1]) for size in (5, 2, 2)], 1)
    assert share(rows, 2) == [[rows[0], None], [rows[1], rows[2]]]
    assert share(rows[:1], 3) == [[rows[0]], [None], [None]]


TOKENS = st.lists(st.integers(0, 9), min_size=1, max_size=6)


@given(st.lists(st.tuples(TOKENS, TOKENS), min_size=1, max_size=8), st.integers(1, 16))
def test_packing_loses_no_target_token_and_each_is_what_follows_its_position(examples, size):
    rows = pack(examples, size)
    targets = np.concatenate([row.targets_K for row in rows])
    assert sorted(targets) == sorted(token for _, target in examples for token in target)
    for row in rows:
        assert len(row.inputs_T) <= size or row.segments_T.max() == 0
        for at, target in zip(row.predict_K, row.targets_K, strict=True):
            after = at + 1
            if after < len(row.inputs_T) and row.segments_T[after] == row.segments_T[at]:
                assert row.inputs_T[after] == target
