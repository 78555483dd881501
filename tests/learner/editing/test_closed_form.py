"""The weight change on matrices small enough to work out by hand."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from learner.editing.closed_form import second_moments, weight_change

WEIGHT_DF = torch.tensor([[1.0, 2.0], [0.0, 1.0]])
# Keys (1, 0) and (1, 1): W maps them to (1, 0) and (3, 1).
KEYS_NF = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
VALUES_ND = torch.tensor([[5.0, 7.0], [0.0, -1.0]])
NOTHING_FF = torch.zeros(2, 2)


def residuals_ND(keys_NF=KEYS_NF, values_ND=VALUES_ND):
    return values_ND - keys_NF @ WEIGHT_DF.T


def test_without_old_keys_the_new_weights_map_every_key_exactly_to_its_value():
    change_DF = weight_change(KEYS_NF, residuals_ND(), NOTHING_FF)
    # R = [[4, 7], [-3, -2]]: ΔW (1, 0) = (4, 7) and ΔW (0, 1) = (-3, -2) - (4, 7).
    torch.testing.assert_close(change_DF.float(), torch.tensor([[4.0, -7.0], [7.0, -9.0]]))
    torch.testing.assert_close(KEYS_NF @ (WEIGHT_DF + change_DF.float()).T, VALUES_ND)


def test_one_key_takes_s_over_1_plus_s_of_its_residual():
    # C₀ = 2 I and k = (2, 0): s = kᵀ C₀⁻¹ k = 2, so 2/3 of (6, 3) is written.
    keys_NF, missing_ND = torch.tensor([[2.0, 0.0]]), torch.tensor([[6.0, 3.0]])
    change_DF = weight_change(keys_NF, missing_ND, 2 * torch.eye(2))
    torch.testing.assert_close(change_DF.float(), torch.tensor([[2.0, 0.0], [1.0, 0.0]]))


def test_with_very_many_old_keys_nothing_moves():
    change_DF = weight_change(KEYS_NF, residuals_ND(), 1e12 * torch.eye(2))
    assert float(change_DF.abs().max()) < 1e-10


def test_a_key_that_only_the_new_fact_has_is_written_in_full_and_old_ones_keep_their_value():
    old_key_F, new_key_F = torch.tensor([1.0, 1.0]), torch.tensor([1.0, -1.0])
    old_FF = 1e3 * torch.outer(old_key_F, old_key_F)
    change_DF = weight_change(new_key_F[None], torch.tensor([[2.0, 4.0]]), old_FF)
    torch.testing.assert_close(change_DF.float() @ new_key_F, torch.tensor([2.0, 4.0]))
    torch.testing.assert_close(change_DF.float() @ old_key_F, torch.zeros(2))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 6), st.floats(0.01, 100))
def test_the_change_is_a_minimum_of_the_least_squares_objective(seed, facts, weight):
    torch.manual_seed(seed)
    keys, missing, root = (
        torch.randn(shape, dtype=torch.float64) for shape in ((facts, 4), (facts, 3), (4, 4))
    )
    old_FF = weight * (root @ root.T + torch.eye(4))
    change_DF = weight_change(keys, missing, old_FF).requires_grad_()
    written = (keys @ change_DF.T - missing).square().sum()
    kept = torch.trace(change_DF @ old_FF @ change_DF.T)
    (slope,) = torch.autograd.grad(written + kept, change_DF)
    scale = float(missing.abs().max() * keys.abs().max()) + 1
    assert float(slope.abs().max()) < 1e-7 * scale


def test_second_moments_are_means_over_tokens_of_all_chunks_in_float64():
    first, second = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 0.0], [0.0, 0.0]])
    found = second_moments([[first, 2 * first], [second, second]])
    assert found[0].dtype == torch.float64
    torch.testing.assert_close(3 * found[0], torch.tensor([[10.0, 2.0], [2.0, 4.0]]).double())
    torch.testing.assert_close(3 * found[1], torch.tensor([[13.0, 8.0], [8.0, 16.0]]).double())
