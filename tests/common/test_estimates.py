import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.estimates import MeanNLL, mean_nll, wilson


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


def test_the_mean_of_texts_is_known_after_each():
    mean = MeanNLL()
    mean.add([-1.0, -1.0])
    # A single text has no interval.
    assert (mean.score().low, mean.score().value, mean.score().high) == (1.0, 1.0, 1.0)
    mean.add([-4.0])
    assert (mean.texts, mean.score()) == (2, mean_nll([[-1.0, -1.0], [-4.0]]))


@given(
    st.lists(
        st.lists(st.floats(-40, -0.001), min_size=1, max_size=20),
        min_size=2,
        max_size=50,
    )
)
def test_one_pass_gives_the_interval_of_two(texts):
    score = mean_nll(iter(texts))
    tokens = sum(map(len, texts))
    mean = -sum(map(sum, texts)) / tokens
    deviations = [-sum(text) - mean * len(text) for text in texts]
    spread = math.sqrt(sum(d * d for d in deviations) * len(texts) / (len(texts) - 1)) / tokens
    assert score.value == pytest.approx(mean)
    assert score.high - score.value == pytest.approx(1.959963984540054 * spread, abs=1e-6)
