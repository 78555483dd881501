import math

from common.estimates import mean_nll, wilson


def test_wilsons_interval_of_half_of_ten():
    # (0.5 + 1.9208/10 ± 1.96 √(0.025 + 0.0096)) / 1.3842
    low, high = wilson(5, 10)
    assert (round(low, 4), round(high, 4)) == (0.2366, 0.7634)


def test_the_mean_is_over_tokens_and_the_interval_over_texts():
    score = mean_nll([[-1.0, -1.0], [-4.0]])
    assert (score.value, score.n) == (2.0, 3)
    # Deviations from 2 a token: 2 - 4 and 4 - 2; √(8 · 2 / 1) / 3 is the standard error.
    assert math.isclose(score.high - score.value, 1.959963984540054 * 4 / 3)
    assert math.isclose(score.value - score.low, score.high - score.value)


def test_texts_of_one_and_the_same_nll_leave_no_doubt():
    score = mean_nll([[-2.0], [-2.0, -2.0]])
    assert (score.low, score.value, score.high) == (2.0, 2.0, 2.0)
