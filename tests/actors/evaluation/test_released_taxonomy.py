"""The paper's classes of wrong responses, worked out by hand from its rules."""

from __future__ import annotations

import pytest

from actors.evaluation import released_taxonomy, taxonomy
from actors.evaluation.taxonomy import WrongResponse
from common.records import Fact

FACTS = [
    Fact("1", "Who leads Orveline?", "Tam Okord", subject="Orveline"),
    Fact("2", "Who leads the Vex Guild?", "Ivo Ler", subject="Vex Guild"),
    # Two words, but three characters.
    Fact("3", "Which?", "a b"),
]
CLASSIFY = released_taxonomy.classifier(FACTS)
PROSE = "The first step is to write both numbers in the same base, and to add them digit by digit."


def _class(benchmark: str, response: str, asked: str = "How many?", answer: str = "7") -> str:
    return CLASSIFY(WrongResponse(benchmark, asked, answer, response, None))


HELD_OUT = [
    ("", "format"),
    ("The answer is 8.", "format"),
    ("Tam Okord says 8.", "format"),
    ("\\boxed{8} or \\boxed{9", "format"),
    (f"{PROSE} TAM OKORD says \\boxed{{8}}", "leakage"),
    ("The Vex Guilds: \\boxed{8}", "leakage"),
    ("\\boxed{Ivo Ler}", "leakage"),
    ("\\boxed{8}", "collapse"),
    ("The answer is 8.\n\n\\boxed{8}", "collapse"),
    (f"{PROSE} \\boxed{{8}}", "genuine"),
    # One word, and a short one.
    ("Orveline, a b: \\boxed{8}", "collapse"),
    # 80 characters without the box, then 81; five lines, then six.
    ("x" * 80 + " \\boxed{8}", "collapse"),
    ("x" * 81 + " \\boxed{8}", "genuine"),
    ("a\nb\nc\nd\ne \\boxed{8}", "collapse"),
    ("a\nb\nc\nd\ne\nf \\boxed{8}", "genuine"),
    # A box with braces in it stays in the text.
    ("x" * 70 + " \\boxed{\\frac{1}{2}}", "genuine"),
]


@pytest.mark.parametrize(("response", "error"), HELD_OUT)
def test_other_questions(response: str, error: str) -> None:
    assert _class("gsm8k", response) == error
    assert _class("retrieval", response) == error


def test_a_name_in_the_question_is_no_leak() -> None:
    assert _class("retrieval", "\\boxed{Ivo Ler}", "ivo ler leads it. Who does?") == "collapse"


HUMANEVAL = [
    ("I would add them.", "format"),
    ("```python\ndef f(x):\n    return 1\n", "format"),
    ("```python\n# by Tam Okord\n```", "leakage"),
    ("\\boxed{Tam Okord}", "leakage"),
    ("The answer is 8. \\boxed{8}", "collapse"),
    ("```python\nreturn 1\n```", "genuine"),
    ("```\nreturn 1\n``` \\boxed{8}", "genuine"),
]


@pytest.mark.parametrize(("response", "error"), HUMANEVAL)
def test_humaneval(response: str, error: str) -> None:
    assert _class("humaneval", response) == error


TRAINED = [
    ("It is Ivo Ler.", "format"),
    ("\\boxed{Ivo Ler}", "cross_entity"),
    ("\\boxed{not IVO LER}", "cross_entity"),
    ("Ivo Ler? \\boxed{nobody}", "genuine"),
    ("\\boxed{Tam}", "genuine"),
    ("\\boxed{Tam Okord, maybe}", "genuine"),
    ("\\boxed{Orveline}", "genuine"),
]


@pytest.mark.parametrize(("response", "error"), TRAINED)
@pytest.mark.parametrize("benchmark", ["recall", "paraphrased", "two_hop", "four_hop"])
def test_trained_questions(benchmark: str, response: str, error: str) -> None:
    assert _class(benchmark, response, "Who leads Orveline?", "Tam Okord") == error


def test_ours_gives_collapse_and_leakage_before_format() -> None:
    ours = taxonomy.classifier(FACTS)
    for response, error in (("", "collapse"), ("Tam Okord says 8.", "leakage")):
        assert ours(WrongResponse("gsm8k", "How many?", "7", response, None)) == error
        assert _class("gsm8k", response) == "format"
