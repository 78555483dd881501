"""The letter that a response settles on."""

from __future__ import annotations

import random

import pytest

from actors.evaluation.benchmarks import mmlu
from actors.evaluation.benchmarks.base import Materials, Question
from tests.actors.evaluation.benchmarks.letters import materials

CHOICES = ["Paris", "London", "Rome", "Madrid"]

CASES = [
    ("The answer is (B).", "B"),
    ("The answer is B.", "B"),
    ("The answer is **B**", "B"),
    ("**The answer is (C).**", "C"),
    ("The correct answer is: C", "C"),
    ("Answer: D", "D"),
    ("**Answer:** D", "D"),
    ("answer = A", "A"),
    ("The answer is option C.", "C"),
    ("The answer would be A, since it is the capital.", "A"),
    ("The answer is $\\boxed{B}$.", "B"),
    ("\\boxed{C}", "C"),
    ("\\boxed{\\text{C}}", "C"),
    ("\\boxed{(D)}", "D"),
    ("First \\boxed{A}, no: \\boxed{B}", "B"),
    ("The answer is (A). On reflection the answer is (B).", "B"),
    ("B", "B"),
    ("b", "B"),
    ("(B)", "B"),
    (" B.\n", "B"),
    ("B) London", "B"),
    ("B. London is on the Thames.", "B"),
    ("**B**", "B"),
    ("London lies on the Thames.\n\nB", "B"),
    ("The answer is (B). Option A is in France.", "B"),
    ("I would take option D here.", "D"),
    ("London", "B"),
    ("\\boxed{Rome}", "C"),
    ("The answer is not clear to me.", None),
    ("A cat sat on the mat.", None),
    ("The answer is a city in Europe", None),
    ("Option A or option B, hard to say.", None),
    ("", None),
    ("   \n", None),
    ("Let us look at each of the cities. Paris is", None),
    ("The answer is (E).", None),
    ("\\boxed{", None),
    ("\\boxed{E}", None),
    ("I don't know", None),
    ("BBBB", None),
]


@pytest.mark.parametrize(("response", "letter"), CASES)
def test_the_letter_is_read_from_the_response(response: str, letter: str | None) -> None:
    assert mmlu.chosen(response, CHOICES) == letter


def test_a_response_is_right_when_its_letter_is() -> None:
    question = Question("m", [], "", "B", {"choices": CHOICES})
    assert mmlu.grade(question, "The answer is (B).").right
    assert not mmlu.grade(question, "The answer is (C).").right
    assert mmlu.grade(question, "?").extracted is None


@pytest.mark.parametrize("answer", ["C", 2, "2"])
def test_a_right_answer_may_be_a_letter_or_an_index(answer: object) -> None:
    row = {"subject": "law", "question": "Q?", "choices": CHOICES, "answer": answer}
    assert mmlu.FourChoices.model_validate(row).answer == "C"


def test_gold_is_right_and_shuffled_gold_at_chance(real: Materials) -> None:
    questions = list(mmlu.build(real).questions)
    assert len(questions) == 14_042
    gold = [f"The answer is ({question.answer})." for question in questions]
    pairs = list(zip(questions, gold, strict=True))
    assert all(mmlu.grade(question, response).right for question, response in pairs)
    random.Random(0).shuffle(gold)
    right = sum(mmlu.grade(q, r).right for q, r in zip(questions, gold, strict=True))
    assert 0.23 < right / len(questions) < 0.27


def test_five_examples_of_the_same_subject_stand_in_the_one_turn(data_root: object) -> None:
    built = mmlu.build(materials(data_root=data_root, limit=3))
    assert len(built.questions) == 3
    for question in built.questions:
        text = "".join(map(chr, question.prompt))
        assert text.count("Question: ") == 6
        assert len([line for line in text.splitlines() if line.startswith("The answer is (")]) == 5
        assert text.endswith(question.text)
    assert (built.sampling.max_tokens, built.sampling.temperature) == (1024, 1.0)
