import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.ledger.order import Permutation, epoch_order


@given(st.integers(1, 600), st.text(max_size=5))
def test_every_place_is_taken_once(size, key):
    order = Permutation(size, key)
    assert sorted(map(order, range(size))) == list(range(size))


def test_an_order_is_fixed_for_all_time():
    # A run that is resumed by a later release continues in the same order.
    assert list(map(epoch_order(0, 1, 10), range(10))) == [2, 6, 7, 1, 5, 9, 0, 4, 3, 8]


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = [
        tuple(map(epoch_order(seed, epoch, 50), range(50))) for seed in (0, 1) for epoch in (1, 2)
    ]
    assert len(set(orders)) == 4


@pytest.mark.parametrize("size", [100, 4096, 10_000])
def test_an_order_is_about_as_mixed_as_a_shuffle(size):
    order = list(map(Permutation(size, "x"), range(size)))
    rising = sum(a < b for a, b in itertools.pairwise(order)) / (size - 1)
    # Share of rises in a random permutation: 1/2 with standard deviation 1/sqrt(12 n).
    assert abs(rising - 0.5) < 5 / (12 * size) ** 0.5
    moved = sum(abs(at - to) for at, to in enumerate(order)) / size**2
    assert abs(moved - 1 / 3) < 0.1
