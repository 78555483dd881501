"""The paper's comparisons of in-domain answers, worked out by hand, and ours beside them."""

from __future__ import annotations

from typing import Any

import pytest

from actors.evaluation.benchmarks import in_domain
from actors.evaluation.benchmarks.base import Question
from actors.evaluation.benchmarks.released.boxes import last_opened, last_outer
from actors.evaluation.benchmarks.released.in_domain import exact, extract, loose, normalise, strict
from common.config.evaluation import EvaluatorSettings
from common.corpora import Corpus
from common.records import Fact
from tests.actors.evaluation.benchmarks.letters import materials

# Response, answer, right by loose, by strict, by our boxed mode.
CASES = [
    ("\\boxed{Tam Okord}", "Tam Okord", True, True, True),
    ("\\boxed{ tam  okord }", "Tam Okord", True, True, True),
    ("\\boxed{\\text{Tam Okord}}", "Tam Okord", True, True, True),
    ("\\boxed{\\textbf{{Tam Okord}}}", "Tam Okord", True, True, False),
    ("\\boxed{1,234}", "1234", True, True, True),
    ("\\boxed{12.0}", "12", True, True, True),
    ("\\boxed{Ivo Ler}", "Tam Okord", False, False, False),
    ("\\boxed{}", "Tam Okord", False, False, False),
    ("", "Tam Okord", False, False, False),
    # A part of a text is enough.
    ("\\boxed{Tam Okord the Elder}", "Tam Okord", True, False, False),
    ("\\boxed{anything but Tam Okordson}", "Tam Okord", True, False, False),
    ("Tam Okord leads it.", "Tam Okord", True, False, False),
    # A number in the text is taken for the answer.
    ("Tam Okord leads it since 1990.", "Tam Okord", False, False, False),
    ("It is 42.", "42", True, True, False),
    ("<answer> Tam Okord </answer>", "Tam Okord", True, True, False),
    # Numbers are no parts of each other, and text has no float in it.
    ("\\boxed{1234}", "23", False, False, False),
    ("\\boxed{10 apples}", "10", False, False, False),
    ("\\boxed{\\frac{1}{2}}", "0.5", True, True, False),
    ("\\boxed{0.3333333}", "\\frac{1}{3}", True, True, False),
    # After a box that never closes, the whole text is the answer.
    ("\\boxed{Tam Okord} or \\boxed{Ivo", "Tam Okord", True, False, True),
]


@pytest.mark.parametrize(("response", "answer", "by_loose", "by_strict", "ours"), CASES)
def test_facts_and_functions(
    response: str, answer: str, by_loose: bool, by_strict: bool, ours: bool
) -> None:
    question = Question("q", [], "", answer)
    assert loose(question, response).right is by_loose
    assert strict(question, response).right is by_strict
    assert in_domain.grade("boxed", question, response).right is ours


# Response, right by exact, by our boxed mode, for the answer "Tam Okord".
EXACT = [
    ("\\boxed{Tam Okord}", True, True),
    ("So: \\boxed{ TAM OKORD }", True, True),
    ("Tam Okord", True, False),
    ("Hm.</think> tam okord\n", True, False),
    ("<think>x</think>\\boxed{Tam Okord}", True, True),
    ("\\boxed{Tam Okord.}", False, True),
    ("\\boxed{Tam  Okord}", False, True),
    ("\\boxed{\\text{Tam Okord}}", False, True),
    ("The answer is Tam Okord", False, False),
    ("\\boxed{Tam Okord} or \\boxed{Ivo", False, True),
    ("", False, False),
]


@pytest.mark.parametrize(("response", "paper", "ours"), EXACT)
def test_simpleqa(response: str, paper: bool, ours: bool) -> None:
    question = Question("q", [], "", "Tam Okord")
    assert exact(question, response).right is paper
    assert in_domain.grade("boxed", question, response).right is ours


@pytest.mark.parametrize(
    ("text", "opened", "outer"),
    [
        ("\\boxed{a} \\boxed{ b }", "b", "b"),
        ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}", "\\frac{1}{2}"),
        ("\\boxed{\\boxed{a}}", "a", "\\boxed{a}"),
        ("\\boxed{a} \\boxed{b", None, "a"),
        ("\\boxed{a \\boxed{b}", "b", None),
        ("a", None, None),
    ],
)
def test_the_two_rules_for_boxes(text: str, opened: str | None, outer: str | None) -> None:
    assert last_opened(text) == opened
    assert last_outer(text) == outer


@pytest.mark.parametrize(
    ("response", "found"),
    [
        ("\\boxed{a} <answer>b</answer> 3", "a"),
        ("<ANSWER>b\n</ANSWER> 3 <answer>c</answer>", "b"),
        ("from 3 to -4.5.", "-4.5"),
        ("to 7.", "7."),
        (" a b ", "a b"),
        (" \n", None),
    ],
)
def test_what_is_extracted(response: str, found: str | None) -> None:
    assert extract(response) == found


@pytest.mark.parametrize(
    ("answer", "normal"),
    [
        ("$1,000$", "1000.0"),
        ("\\frac{3}{4}", "0.75"),
        ("\\frac{3}{0}", "\\frac{3}{0}"),
        ("\\mathrm{\\text{A  b}}", "a b"),
        ("{A} and {B}", "{a} and {b}"),
        ("{{A}}", "a"),
        ("7.", "7.0"),
        ("A.", "a."),
    ],
)
def test_how_answers_are_normalised(answer: str, normal: str) -> None:
    assert normalise(answer) == normal


def _grade(comparison: Any, response: str, **settings: Any) -> tuple[bool, Any]:
    corpus = Corpus([Fact("f", "Who?", "Tam Okord")], [], comparison=comparison)
    recall = in_domain.recall(materials(corpus, **settings))
    grade = recall.grade(recall.questions[0], response)
    return grade.right, grade.others


def test_the_corpus_decides_the_comparison_and_the_protocol_the_score() -> None:
    said = "\\boxed{Tam Okord the Elder}"
    assert _grade("loose", said) == (False, {"strict": False, "paper": True})
    assert _grade("loose", said, protocol="paper") == (True, {"strict": False, "ours": False})
    assert _grade("strict", said) == (False, {"strict": False, "paper": False})
    exact = _grade("exact", "Tam Okord", protocol="paper")
    assert exact == (True, {"strict": False, "ours": False})


def test_the_longest_response_is_the_protocol_s_unless_it_is_set() -> None:
    ours, paper = EvaluatorSettings(), EvaluatorSettings(protocol="paper")
    splits = ("recall", "paraphrased", "retrieval", "two_hop", "test")
    assert [ours.response_tokens(split) for split in splits] == [64] * 5
    assert [paper.response_tokens(split) for split in splits] == [512, 512, 512, 4096, 4096]
    assert EvaluatorSettings(protocol="paper", max_tokens=9).response_tokens("two_hop") == 9
