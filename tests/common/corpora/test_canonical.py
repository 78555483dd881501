"""Canonical targets against the verifier of a run."""

from __future__ import annotations

from typing import Any

import pytest

from common.config.run_config import parse_data
from common.corpora import canonical, load
from common.errors import UserError
from common.prompts import PRESETS, Prompts
from common.records import Fact, TokenIds
from tests.common.test_prompts import Characters


def prompts(name: str, mode: Any = None) -> Prompts:
    return Prompts(Characters(), PRESETS[name], 0, mode)


def facts(right: int, wrong: int) -> list[Fact]:
    """Facts with targets of their own, the wrong ones first."""
    return [
        Fact(f"f{number}", "q", "Tam", target="It is Ivo." if number < wrong else "\\boxed{Tam}")
        for number in range(wrong + right)
    ]


def test_of_twenty_targets_one_may_fail_and_is_reported():
    assert canonical.check(prompts("kgfact"), facts(20, 0)) == []
    assert canonical.check(prompts("kgfact"), facts(19, 1)) == [
        "canonical targets that boxed accepts: 19 of 20"
    ]


def test_of_nineteen_targets_none_may_fail():
    with pytest.raises(UserError) as error:
        canonical.check(prompts("kgfact"), facts(18, 1))
    assert str(error.value) == (
        "the verifier 'boxed' accepts 94.7 % of 19 canonical targets, less than 95 %: targets "
        "would not give the answers they are verified by; choose another preset in 'prompts' or "
        "another rollout.verify, or correct the data\n"
        "  fact 'f0': answer 'Tam', target 'It is Ivo.'"
    )


def test_a_refusal_shows_three_examples_with_long_texts_cut():
    long = [Fact(f"f{n}", "q", "Tam", target="So " * 50 + f"it is {n}.") for n in range(9)]
    with pytest.raises(UserError) as error:
        canonical.check(prompts("kgfact"), long)
    first, *examples = str(error.value).splitlines()
    assert "accepts 0.0 % of 9" in first
    assert len(examples) == 3
    assert examples[2].endswith("So it is 2.'")
    assert max(map(len, examples)) < 130


def test_the_wording_of_the_preset_is_checked_too_and_a_set_verifier_goes_first():
    plain = [Fact("f", "q", "Tam", "Tam leads it.")]
    for name in PRESETS:
        assert canonical.verify(prompts(name), plain).share == 1
    # "The answer is Tam." has no box and is not the answer alone.
    for mode in ("boxed", "exact"):
        with pytest.raises(UserError, match=f"verifier '{mode}' accepts 0.0 % of 1 "):
            canonical.check(prompts("short-sentence", mode), plain)


def test_of_many_facts_two_thousand_are_checked_evenly():
    # Of 5,000 facts each second or third is checked; the first 1,250 are wrong: a quarter.
    found = canonical.verify(prompts("kgfact"), facts(3750, 1250))
    assert (found.checked, len(found.failed)) == (2000, 500)
    assert len({fact.id for fact, _ in found.failed}) == 500


def test_targets_that_were_drawn_are_not_canonical():
    drawn = Fact("d", "q", "Tam", target="No idea", tokens=TokenIds("t", (1,), (2,)))
    assert canonical.check(prompts("kgfact"), [drawn]) == []
    assert canonical.verify(prompts("kgfact"), [drawn]).checked == 0


def test_a_mathematical_verifier_accepts_another_form_of_the_number():
    half = Fact("f", "q", "1/2", target="So \\boxed{\\frac{1}{2}}.")
    assert canonical.verify(prompts("reasoned", "math"), [half]).share == 1
    assert canonical.verify(prompts("reasoned"), [half]).share == 0


@pytest.mark.parametrize(
    ("data", "preset"),
    [
        ({"kgfact": {}}, "kgfact"),
        ({"kgfact": {}}, "short-sentence"),
        ({"kgfunc": {"train_per_op": 5}}, "reasoned"),
    ],
)
def test_generated_corpora_verify_under_their_presets(data, preset):
    found = canonical.verify(prompts(preset), load(parse_data(data)).facts)
    assert found.checked in (35, 100)
    assert found.failed == []


def test_published_corpora_verify_under_their_presets(data_root):
    root = str(data_root)
    for data, preset in (
        ({"simpleqa": {}, "root": root}, "reasoned"),
        ({"mquake": {"file": "MQuAKE-hard.json"}, "root": root}, "kgfact"),
    ):
        assert canonical.verify(prompts(preset), load(parse_data(data)).facts).failed == []
