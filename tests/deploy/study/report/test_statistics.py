"""Estimates, tests and correlations against published tables and numbers worked by hand."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.study.report.statistics import (
    holm,
    mean_interval,
    paired_bootstrap,
    pearson,
    ranks,
    sign_flip_p,
    spearman,
    t_quantile,
)


# Abramowitz and Stegun (1964), table 26.10, Q(t|ν) = 0.025.
@pytest.mark.parametrize(
    ("freedom", "quantile"),
    [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (10, 2.228), (30, 2.042), (120, 1.980)],
)
def test_the_quantiles_of_student_s_t_are_those_of_the_published_table(freedom, quantile):
    assert t_quantile(freedom) == pytest.approx(quantile, abs=5e-4)


def test_a_mean_has_student_s_interval_over_its_values():
    # Mean 2, standard deviation 1: 4.3027 / √3 = 2.4841 to each side.
    found = mean_interval([1.0, 2.0, 3.0])
    assert (found.value, found.n) == (2.0, 3)
    assert found.low == pytest.approx(2 - 2.4841, abs=1e-4)
    assert found.high == pytest.approx(2 + 2.4841, abs=1e-4)


def test_one_value_has_no_interval():
    found = mean_interval([0.7])
    assert (found.value, found.low, found.high, found.n) == (0.7, None, None, 1)


def test_the_sign_flip_test_is_mcnemar_s_exact_test_if_each_item_was_asked_once():
    # 1 item right in the first arm alone, 8 in the second: 2 (C(9,0) + C(9,1)) / 2⁹.
    assert sign_flip_p([-1] + [1] * 8 + [0] * 30) == pytest.approx(20 / 512)
    # 5 against 5 cannot be more than 1; so with no item that differs.
    assert sign_flip_p([1] * 5 + [-1] * 5) == 1.0
    assert sign_flip_p([0, 0]) == 1.0


def test_the_sign_flip_test_weighs_an_item_by_the_seeds_that_differ():
    # Sums of ±2 ±1 are −3, −1, 1, 3: each tail of 3 has 1 of 4.
    assert sign_flip_p([2, 1]) == pytest.approx(0.5)
    assert sign_flip_p([2, -1]) == 1.0
    # Of ±3 ±3 ±3 ±3 the sum 12 has 1 of 16.
    assert sign_flip_p([3, 3, 3, 3]) == pytest.approx(2 / 16)


@given(st.lists(st.integers(-3, 3), max_size=9))
def test_the_sign_flip_test_counts_all_choices_of_signs(differences):
    sums = [
        sum(sign * one for sign, one in zip(signs, differences, strict=True))
        for signs in itertools.product((-1, 1), repeat=len(differences))
    ]
    observed = sum(differences)
    tails = (sum(one >= observed for one in sums), sum(one <= observed for one in sums))
    assert sign_flip_p(differences) == pytest.approx(min(1.0, 2 * min(tails) / len(sums)))


def test_many_items_leave_a_small_p_and_no_overflow():
    # 2 / 2²⁰⁰⁰ is below the smallest float; 0 is the nearest.
    assert sign_flip_p([1] * 2000) < 1e-300
    assert sign_flip_p([1] * 1000 + [-1] * 1000) == 1.0


def test_the_paired_bootstrap_has_the_width_of_the_items_spread():
    # Half of 400 items differ by 1: standard error ½ / √400 = 0.025, so 0.5 ± 0.049.
    low, high = paired_bootstrap({(0, 1): 200, (1, 1): 200})
    assert low == pytest.approx(0.451, abs=0.005)
    assert high == pytest.approx(0.549, abs=0.005)
    # Items that were asked three times have their mean difference.
    assert paired_bootstrap({(3, 3): 10}) == (1.0, 1.0)
    assert paired_bootstrap({(-1, 2): 10}) == (-0.5, -0.5)


def test_holm_multiplies_the_smallest_p_by_the_number_of_tests():
    # In order: 0.005 · 4, 0.01 · 3, 0.03 · 2, and 0.04 is raised to the one before it.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_raises_every_p_and_keeps_their_order(p_values):
    corrected = holm(p_values)
    assert all(raw <= one <= 1 for raw, one in zip(p_values, corrected, strict=True))
    assert all(
        corrected[a] <= corrected[b]
        for a, b in itertools.permutations(range(len(p_values)), 2)
        if p_values[a] < p_values[b]
    )
    # Never more than Bonferroni.
    assert all(
        one <= min(1.0, len(p_values) * raw) + 1e-12
        for raw, one in zip(p_values, corrected, strict=True)
    )


def test_pearson_has_fisher_s_interval():
    # Deviations −1.5, −0.5, 0.5, 1.5 and −1.5, 0.5, −0.5, 1.5: r = 4 / 5. With n = 4 the
    # interval is tanh(1.0986 ± 1.9600).
    found = pearson([1, 2, 3, 4], [1, 3, 2, 4])
    assert found is not None
    assert (found.value, found.n) == (pytest.approx(0.8), 4)
    assert found.low == pytest.approx(-0.6970, abs=1e-3)
    assert found.high == pytest.approx(0.9956, abs=1e-3)


def test_spearman_is_pearson_s_of_ranks_with_a_wider_interval():
    # 1 − 6 · 2 / (4 · 15) = 0.8; variance 1.32, so tanh(1.0986 ± 2.2519).
    found = spearman([10, 20, 30, 400], [1, 3, 2, 4])
    assert found is not None
    assert found.value == pytest.approx(0.8)
    assert found.low == pytest.approx(-0.8188, abs=1e-3)
    assert found.high == pytest.approx(0.9975, abs=1e-3)


def test_equal_values_share_their_mean_rank():
    assert ranks([5.0, 1.0, 5.0, 9.0]) == [2.5, 1.0, 2.5, 4.0]


def test_a_correlation_is_refused_with_three_points_or_equal_values():
    assert pearson([1, 2, 3], [1, 2, 3]) is None
    assert pearson([1, 1, 1, 1], [1, 2, 3, 4]) is None
    assert spearman([0.1] * 5, [1, 2, 3, 4, 5]) is None


def test_a_perfect_correlation_has_no_interval():
    found = spearman([1, 2, 3, 4], [-1, -2, -3, -9])
    assert found is not None
    assert (found.value, found.low, found.high) == (-1.0, None, None)


def test_each_controlled_mean_takes_a_degree_of_freedom():
    x, y = [1, 2, 3, 4, 5, 6], [2, 1, 4, 3, 6, 5]
    plain, controlled = pearson(x, y), pearson(x, y, controlled=1)
    assert plain is not None
    assert controlled is not None
    half = math.atanh(controlled.high) - math.atanh(controlled.value)
    assert half == pytest.approx(1.95996 / math.sqrt(6 - 1 - 3), abs=1e-4)
    assert pearson(x[:4], y[:4], controlled=1) is None
