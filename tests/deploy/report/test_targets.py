"""The figures of many targets, in one pass."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace

import pytest

from common.methods import SDFT, BestOfN, MixSD, RehearsedSFT
from deploy.report import targets
from deploy.report.targets import Sample, TargetFigures
from tests.deploy.report.test_summary import PLAIN


def _sample(count: int, size: int, seed: int = 0) -> list[float]:
    sample = Sample(size, seed)
    for value in range(count):
        sample.add(value)
    return sample.values


def test_a_short_stream_is_kept_whole_and_of_a_long_one_the_same_sample():
    assert _sample(5, 5) == [0, 1, 2, 3, 4]
    assert len(set(_sample(1000, 5))) == 5
    assert _sample(1000, 5) == _sample(1000, 5)


def test_every_value_of_a_stream_is_as_likely_to_be_in_the_sample():
    found = Counter(itertools.chain.from_iterable(_sample(10, 3, seed) for seed in range(4000)))
    # Binomial: 4000 · 3/10 = 1200, standard deviation 29.
    assert all(abs(found[value] - 1200) < 4 * 29 for value in range(10))


def test_the_mean_is_over_all_targets_and_the_histogram_over_a_sample(monkeypatch):
    monkeypatch.setattr(targets, "MOST_NLLS", 10)
    rollouts = (
        replace(PLAIN, attempt=n % 2, base_logprobs=[-1.0, -2.0], canonical_logprobs=[-float(n)])
        for n in range(1, 101)
    )
    figures = TargetFigures(rollouts, MixSD(name="mixsd", mix_rate=0.5))
    assert figures.scored.mean is not None
    assert (figures.scored.mean.value, figures.scored.mean.items) == (1.5, 100)
    assert figures.nlls.targets == [1.5] * 10
    assert figures.canonical.mean is not None
    assert figures.canonical.mean.value == pytest.approx(50.5)
    assert len(set(figures.nlls.canonical)) == 10
    assert figures.accepted_by_attempt == {1: 50, 2: 50}
    assert (figures.by_origin, figures.unverified) == ({"mixed": 100}, 0)


@pytest.mark.parametrize(
    ("method", "origin"), [(SDFT(), "rewritten"), (BestOfN(), "sampled from the expert")]
)
def test_targets_of_the_expert_alone_are_told_from_mixed_ones(method, origin):
    drawn = replace(PLAIN, mix_rate=0.0)
    original = replace(PLAIN, mix_rate=None, naive=[], logprobs=[], fallback="canonical")
    figures = TargetFigures([drawn, drawn, original], method)
    assert figures.by_origin == {origin: 2, "fallback: canonical": 1}


def test_rehearsed_answers_are_counted_and_left_out_of_the_figures_of_facts():
    fact = replace(PLAIN, mix_rate=None, naive=[], logprobs=[], base_logprobs=[-4.0])
    generic = replace(PLAIN, mix_rate=1.0, base_logprobs=[-1.0])
    figures = TargetFigures([fact, generic, generic], RehearsedSFT())
    assert figures.by_origin == {"canonical": 1, "rehearsal": 2}
    assert figures.scored.mean is not None
    assert (figures.scored.mean.value, figures.scored.mean.items) == (4.0, 1)
    assert sum(figures.accepted_by_attempt.values()) == 1
