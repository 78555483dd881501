"""Rows of a pair get the logits of the side that draws, wherever vLLM moves them in its batch."""

from types import SimpleNamespace

import pytest
import torch

from actors.inference.requests import NAIVE, PAIR, PICKS

PICKED = [True, False]


@pytest.fixture
def rows():
    from actors.inference.paired_rows import PairedRows

    return PairedRows(None, torch.device("cpu"), False)


def added(index, pair, naive, token_ids):
    told = {PAIR: pair, NAIVE: naive, PICKS: PICKED} if pair else None
    return index, SimpleNamespace(extra_args=told), None, token_ids


def update(rows, added=(), removed=(), moved=()):
    rows.update_state(SimpleNamespace(added=added, removed=removed, moved=moved, batch_size=0))


def sources(rows, count):
    """Whose logits each row has."""
    logits = torch.arange(count, dtype=torch.float32)[:, None].expand(count, 3).clone()
    return rows.apply(logits)[:, 0].int().tolist()


def test_each_token_is_the_one_of_the_side_that_was_picked(rows):
    drawn = []
    update(rows, [added(0, "a", True, drawn), added(1, "", None, []), added(2, "a", False, drawn)])
    # The naive side draws the first token, the expert the second; then nothing is left.
    assert sources(rows, 3) == [0, 1, 0]
    drawn.append(7)
    assert sources(rows, 3) == [2, 1, 2]
    drawn.append(8)
    assert sources(rows, 3) == [0, 1, 2]


def test_rows_are_followed_when_others_leave_and_they_take_their_places(rows):
    from vllm.v1.sample.logits_processor import MoveDirectionality

    update(rows, [added(index, "ab"[index // 2], index % 2 == 0, []) for index in range(4)])
    assert sources(rows, 4) == [0, 0, 2, 2]
    # Pair a ends; the rows of b move to the front, in the other order.
    one_way = MoveDirectionality.UNIDIRECTIONAL
    update(rows, removed=[0, 1], moved=[(3, 0, one_way), (2, 1, one_way)])
    assert sources(rows, 2) == [1, 1]
    update(rows, moved=[(0, 1, MoveDirectionality.SWAP)])
    assert sources(rows, 2) == [0, 0]


def test_a_row_without_its_partner_keeps_its_logits(rows):
    update(rows, [added(0, "a", True, []), added(1, "b", False, [])])
    assert sources(rows, 2) == [0, 1]
    rows.update_state(None)
    assert sources(rows, 2) == [0, 1]
    # Another request in the place of one that has ended.
    update(rows, [added(0, "", None, []), added(2, "b", True, [])])
    assert sources(rows, 3) == [0, 2, 2]
