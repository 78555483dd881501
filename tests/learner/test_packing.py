import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import corpora, models
from common.config.learner import LearnerSettings
from common.corpora.settings import DataSettings
from common.prompts import Prompts, preset
from learner.packing import (
    Block,
    Example,
    deal,
    input_length,
    micro_batches,
    pack,
    share,
    single,
)

LONG = ([1, 2], [3, 4, 5])
SHORT = ([7], [8, 9])


def test_an_example_takes_its_prompt_and_all_of_its_target_but_the_last_token():
    assert (input_length(LONG), input_length(SHORT)) == (4, 2)


def test_two_examples_share_a_row_and_each_counts_its_positions_from_zero():
    (row,) = pack([SHORT, LONG], 6)
    assert row.inputs_T.tolist() == [1, 2, 3, 4, 7, 8]
    assert row.positions_T.tolist() == [0, 1, 2, 3, 0, 1]
    assert row.blocks == (Block(0, 4), Block(4, 6))


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


def test_a_row_with_too_little_space_is_skipped():
    rows = pack([SHORT, LONG, LONG], 7)
    assert [len(row.inputs_T) for row in rows] == [6, 4]


def test_an_example_goes_where_it_leaves_least_space():
    # 6 and 5 open two rows of 8; 3 fits the second exactly, then 2 the first.
    rows = pack([([0] * size, [1]) for size in (6, 5, 3, 2)], 8)
    assert [len(row.inputs_T) for row in rows] == [8, 8]
    assert [block.stop for block in rows[1].blocks] == [5, 8]


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


def test_a_batch_that_fits_one_row_keeps_every_rank_busy():
    examples = [([token] * 9, [1, 2]) for token in range(8)]
    settings = LearnerSettings(ranks=4, batch_size=8, row_tokens=8192)
    # 80 tokens: two examples of ten for each rank.
    dealt = deal(examples, settings)
    assert [[len(row.inputs_T) for row in rank] for rank in dealt] == [[20]] * 4
    members = [member for rank in dealt for row in rank for member in row.members]
    assert sorted(members) == list(range(8))


def test_the_shorter_rows_of_a_rank_are_one_row():
    # Of 12 tokens a rank has 6, but no two of these examples fit into 6; each rank has two of 4 or
    # the one that is left.
    examples = [([token] * 3, [1, 2]) for token in range(3)]
    dealt = deal(examples, LearnerSettings(ranks=2, batch_size=3))
    assert [[len(row.inputs_T) for row in rank] for rank in dealt] == [[8], [4]]


def test_two_continuations_of_a_prompt_pay_for_it_once():
    (row,) = pack([([1, 2], [3, 4, 5]), ([1, 2], [6, 7])], 9, share_prompts=True)
    assert row.inputs_T.tolist() == [1, 2, 3, 4, 6]
    assert row.positions_T.tolist() == [0, 1, 2, 3, 2]
    # The prompt's last token predicts the first token of each.
    assert row.predict_K.tolist() == [1, 2, 3, 1, 4]
    assert row.targets_K.tolist() == [3, 4, 5, 6, 7]
    assert row.mask_TT().astype(int).tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 1],
    ]


def test_continuations_that_do_not_fit_a_row_take_their_prompt_to_the_next():
    rows = pack([([1, 2, 3], [4, 5, 6])] * 3, 7, share_prompts=True)
    assert [len(row.inputs_T) for row in rows] == [7, 5]


COMMON = [9] * 8


def test_a_shared_prefix_is_packed_once():
    (row,) = pack([([*COMMON, 1, 2], [3, 4]), ([*COMMON, 5], [6, 7])], 64, share_prompts=True)
    assert row.inputs_T.tolist() == [*COMMON, 1, 2, 3, 5, 6]
    assert row.positions_T.tolist() == [*range(8), 8, 9, 10, 8, 9]
    assert row.predict_K.tolist() == [9, 10, 11, 12]
    assert row.blocks == (Block(0, 8), Block(8, 11, ((0, 8),)), Block(11, 13, ((0, 8),)))


def test_continuations_of_a_prompt_share_it_and_it_shares_its_beginning_with_another():
    twice, other = [*COMMON, 1, 2], [*COMMON, 5]
    (row,) = pack([(twice, [3, 4]), (twice, [6, 7]), (other, [8])], 64, share_prompts=True)
    assert row.inputs_T.tolist() == [*COMMON, 1, 2, 3, 6, 5]
    assert row.blocks == (
        Block(0, 8),
        Block(8, 10, ((0, 8),)),
        Block(10, 11, ((0, 8), (8, 10))),
        Block(11, 12, ((0, 8), (8, 10))),
        Block(12, 13, ((0, 8),)),
    )
    # The shared prompt's last token, at 9, predicts the first token of both.
    assert row.predict_K.tolist() == [9, 10, 9, 11, 12]
    assert row.mask_TT()[11].nonzero()[0].tolist() == [*range(10), 11]


def test_a_row_shares_as_much_as_was_counted_when_it_was_filled():
    near, nearer, short = [*COMMON, *[2] * 9, 1], [*COMMON, *[2] * 9, 3], [*COMMON, 2, 2]
    far = [*COMMON, *[5] * 13]
    examples = [(near, [0, 0, 0]), (nearer, [0]), (far, [0]), (short, [0])]
    rows = pack(examples, 23, share_prompts=True)
    # 8 + 9 shared, then 3, 1 and 2. Among themselves the three agree in 10 tokens, and the
    # first two in only 7 more, which are not shared: 28 tokens.
    assert [len(row.inputs_T) for row in rows] == [23, 21]
    assert [row.members for row in rows] == [(0, 1, 3), (2,)]


def test_what_too_few_tokens_agree_in_is_not_shared():
    rows = pack([([*COMMON[1:], 1], [2]), ([*COMMON[1:], 3], [4])], 64, share_prompts=True)
    assert [len(row.inputs_T) for row in rows] == [16]


def test_examples_of_one_beginning_stand_in_one_row():
    prefixes = [[kind] * 20 for kind in (1, 2, 3)]
    examples = [([*prefixes[n % 3], 10 + n], [30, 31]) for n in range(9)]
    rows = pack(examples, 26, share_prompts=True)
    # 20 + 3 · 2 each.
    assert [len(row.inputs_T) for row in rows] == [26, 26, 26]
    assert [{member % 3 for member in row.members} for row in rows] == [{0}, {1}, {2}]


def test_a_micro_batch_lays_rows_end_to_end():
    rows = single([SHORT, LONG])
    (row,) = micro_batches(rows, 2)
    assert row.inputs_T.tolist() == [7, 8, 1, 2, 3, 4]
    assert row.predict_K.tolist() == [0, 1, 3, 4, 5]
    assert row.blocks == (Block(0, 2), Block(2, 6))
    assert micro_batches([rows[0], None, None], 2) == [rows[0], None]


def lengths(name: str) -> list[int]:
    """Input lengths: KGFunc's are real, KGFact's range is the packaged tokenizer's; the others
    are assumed."""
    draw = random.Random(0)
    if name == "kgfact":
        return [draw.randint(54, 66) + draw.randint(14, 28) - 1 for _ in range(525)]
    if name == "kgfunc":
        return [input_length(example) for example in _kgfunc()]
    if name == "chain of thought":
        return [draw.randint(250, 420) + int(draw.gauss(300, 80)) for _ in range(500)]
    return [min(2000, int(draw.lognormvariate(4.5, 0.9)) + 4) for _ in range(1000)]


def _kgfunc() -> list[Example]:
    """Rendered and tokenised as a run does it: ten-shot prompts, worked solutions."""
    model = models.load(models.resolve(models.PACKAGED))
    prompts = Prompts(model.tokenizer, preset("reasoned"), model.stop_token_ids[0])
    corpus = corpora.load(DataSettings(kgfunc={"train_per_op": 30, "test_per_op": 1}))
    return [(prompts.naive(fact), prompts.canonical(fact)) for fact in corpus.facts]


@pytest.mark.parametrize(
    "name",
    [
        "kgfact",
        pytest.param("kgfunc", marks=[pytest.mark.slow, pytest.mark.one_core]),
        "chain of thought",
        "mixed",
    ],
)
def test_less_than_a_twentieth_of_full_rows_is_wasted(name):
    rows = pack([([0] * size, [1]) for size in lengths(name)], 4096)
    # The last row is as full as the data happens to end.
    filled = sorted(len(row.inputs_T) for row in rows)[1:]
    assert sum(filled) / (4096 * len(filled)) > 0.95


@pytest.mark.slow
@pytest.mark.one_core
def test_of_kgfunc_s_few_shot_examples_a_batch_reads_a_third_less_in_rows_as_full():
    batch = random.Random(0).sample(_kgfunc(), 128)
    plain, shared = (pack(batch, 2048, share_prompts=share) for share in (False, True))
    plain_tokens, shared_tokens = (
        sum(len(row.inputs_T) for row in rows) for rows in (plain, shared)
    )
    assert shared_tokens < 0.67 * plain_tokens
    filled = sorted(len(row.inputs_T) for row in shared)[1:]
    assert sum(filled) / (2048 * len(filled)) > 0.94


TOKENS = st.lists(st.integers(0, 9), min_size=1, max_size=6)
STEMS = st.sampled_from([[], [1] * 8, [1] * 8 + [2] * 9, [1] * 20])
PROMPTS = st.builds(list.__add__, STEMS, st.lists(st.integers(1, 2), min_size=1, max_size=3))


@given(st.lists(st.tuples(TOKENS, TOKENS), min_size=1, max_size=8), st.integers(1, 16))
def test_packing_loses_no_target_token_and_each_is_what_follows_its_position(examples, size):
    rows = pack(examples, size)
    assert rows_as_lists(rows) == rows_as_lists(pack(examples, size))
    targets = np.concatenate([row.targets_K for row in rows])
    assert sorted(targets) == sorted(token for _, target in examples for token in target)
    for row in rows:
        assert len(row.inputs_T) <= size or len(row.blocks) == 1
        last = {block.stop - 1 for block in row.blocks}
        for at, target in zip(row.predict_K, row.targets_K, strict=True):
            assert at in last or row.inputs_T[at + 1] == target


def rows_as_lists(rows):
    return [row.inputs_T.tolist() for row in rows]


@given(st.lists(st.tuples(PROMPTS, TOKENS), min_size=1, max_size=8), st.integers(4, 48))
def test_sharing_prompts_trains_the_same_targets_in_no_more_tokens(examples, size):
    shared = pack(examples, size, share_prompts=True)
    plain = pack(examples, size)
    for rows in (shared, plain):
        targets = np.concatenate([row.targets_K for row in rows])
        assert sorted(targets) == sorted(token for _, target in examples for token in target)
    assert sum(len(r.inputs_T) for r in shared) <= sum(len(r.inputs_T) for r in plain)


@given(st.lists(st.tuples(PROMPTS, TOKENS), min_size=1, max_size=8), st.integers(4, 48))
def test_a_token_sees_its_own_text_and_nothing_else_however_it_is_shared(examples, size):
    for row in pack(examples, size, share_prompts=True):
        assert len(row.inputs_T) <= size or len(row.members) == 1
        mask_TT, at = row.mask_TT(), 0
        for member in row.members:
            prompt, target = examples[member]
            for number in range(len(target)):
                seen = mask_TT[row.predict_K[at]].nonzero()[0]
                in_order = seen[np.argsort(row.positions_T[seen])]
                assert row.inputs_T[in_order].tolist() == [*prompt, *target[:number]]
                assert row.positions_T[in_order].tolist() == list(range(len(seen)))
                assert row.targets_K[at] == target[number]
                at += 1
