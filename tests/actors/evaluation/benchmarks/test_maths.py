"""Numbers by value, expressions by math-verify."""

from __future__ import annotations

import random

import pytest

from actors.evaluation.benchmarks import maths
from actors.evaluation.benchmarks.base import Generation, Materials, Question

# GSM8K and AIME: response, gold, right.
NUMBERS = [
    ("\\boxed{18}", "18", True),
    ("She makes $18 a day.\n#### 18", "18", True),
    ("The answer is 18.", "18", True),
    ("18", "18", True),
    ("So the total is \\boxed{18 \\text{ dollars}}.", "18", True),
    ("\\boxed{\\$18}", "18", True),
    ("\\boxed{18.00}", "18", True),
    ("$\\boxed{1,000}$", "1000", True),
    ("\\boxed{1{,}000}", "1000", True),
    ("\\boxed{x = 18}", "18", True),
    ("\\boxed{18\\%}", "18", True),
    ("\\boxed{18 dollars}", "18", True),
    ("\\boxed{\\frac{36}{2}}", "18", True),
    ("\\boxed{-3}", "-3", True),
    ("\\boxed{\u22123}", "-3", True),
    ("\\boxed{0.5}", ".5", True),
    ("\\boxed{3}, and after the correction \\boxed{18}", "18", True),
    ("\\boxed{18}, and after the correction \\boxed{3}", "18", False),
    ("2 + 16 = 18", "18", True),
    ("He pays 1,018 dollars", "1018", True),
    ("\\boxed{073}", "73", True),
    ("\\boxed{18", "18", True),
    ("\\boxed{19}", "18", False),
    ("#### 19", "18", False),
    ("The answer is 19, not 18, no: 19.", "18", False),
    ("\\boxed{}", "18", False),
    ("\\boxed{eighteen}", "18", False),
    ("\\boxed{18, 19}", "18", False),
    ("\\boxed{180}", "18", False),
    ("\\boxed{1.8}", "18", False),
    ("", "18", False),
    ("   ", "18", False),
    ("First we add the eggs of", "18", False),
    ("She has 16 eggs, eats three, and", "18", False),
    ("\\boxed{18} is what I first thought; I cannot finish. #### 3", "18", True),
    ("#### 18 eggs", "18", True),
]

# MATH-500: response, gold, right.
EXPRESSIONS = [
    ("\\boxed{\\left( 3, \\frac{\\pi}{2} \\right)}", "\\left( 3, \\frac{\\pi}{2} \\right)", True),
    ("\\boxed{(3, \\pi/2)}", "\\left( 3, \\frac{\\pi}{2} \\right)", True),
    ("\\boxed{(3,\\tfrac{\\pi}{2})}", "\\left( 3, \\frac{\\pi}{2} \\right)", True),
    ("\\boxed{(\\frac{\\pi}{2}, 3)}", "\\left( 3, \\frac{\\pi}{2} \\right)", False),
    ("\\boxed{p - q}", "p - q", True),
    ("\\boxed{-q + p}", "p - q", True),
    ("\\boxed{q - p}", "p - q", False),
    ("\\boxed{\\frac{14}{3}}", "\\frac{14}{3}", True),
    ("\\boxed{\\dfrac{14}{3}}", "\\frac{14}{3}", True),
    ("\\boxed{14/3}", "\\frac{14}{3}", True),
    ("\\boxed{\\frac{28}{6}}", "\\frac{14}{3}", True),
    ("\\boxed{4.66}", "\\frac{14}{3}", False),
    ("\\boxed{9}", "9", True),
    ("The value is $\\boxed{9.0}$.", "9", True),
    ("\\boxed{x=9}", "9", True),
    ("\\boxed{10}", "9", False),
    ("\\boxed{3\\sqrt{13}}", "3\\sqrt{13}", True),
    ("\\boxed{\\sqrt{117}}", "3\\sqrt{13}", True),
    ("\\boxed{\\text{Evelyn}}", "\\text{Evelyn}", True),
    ("\\boxed{Evelyn}", "\\text{Evelyn}", True),
    ("\\boxed{\\text{Angela}}", "\\text{Evelyn}", False),
    ("\\boxed{\\text{even}}", "\\text{even}", True),
    ("\\boxed{2k+2}", "2k+2", True),
    ("\\boxed{2(k+1)}", "2k+2", True),
    ("\\boxed{90^\\circ}", "90^\\circ", True),
    ("\\boxed{11\\sqrt2}", "11\\sqrt{2}", True),
    ("first \\boxed{8}, then \\boxed{9}", "9", True),
    ("first \\boxed{9}, then \\boxed{8}", "9", False),
    ("The final answer is $9$", "9", True),
    (
        "\\boxed{\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}}",
        "\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}",
        True,
    ),
    ("", "9", False),
    ("  \n ", "9", False),
    ("\\boxed{}", "9", False),
    ("We begin by expanding the product of", "9", False),
    ("\\boxed{9", "8", False),
    ("\\boxed{6 - 5i}", "6 - 5i", True),
    ("\\boxed{-5i + 6}", "6 - 5i", True),
]


def _question(answer: str) -> Question:
    return Question("q", [], "", answer)


@pytest.mark.parametrize(("response", "gold", "right"), NUMBERS)
def test_a_number_is_right_by_its_value(response: str, gold: str, right: bool) -> None:
    assert maths.by_number(_question(gold), response).right is right


@pytest.mark.parametrize(("response", "gold", "right"), EXPRESSIONS)
def test_an_expression_is_right_where_it_equals(response: str, gold: str, right: bool) -> None:
    assert maths.by_expression(_question(gold), response).right is right


@pytest.mark.parametrize("response", ["", "no idea"])
def test_a_response_without_an_answer_has_nothing_extracted(response: str) -> None:
    assert maths.by_number(_question("1"), response).extracted is None
    assert maths.by_expression(_question("1"), response).extracted is None


def test_an_expression_that_explodes_is_wrong_and_the_next_is_judged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tower = "\\boxed{" + "^".join(["9"] * 12) + "}"
    with monkeypatch.context() as patch:
        patch.setattr("common.verification.math_equality._DEADLINE_S", 2.0)
        assert not maths.by_expression(_question("1"), tower).right
    assert maths.by_expression(_question("1/2"), "\\boxed{0.5}").right


def _share_right(benchmark: Generation, answers: list[str]) -> float:
    verdicts = [
        benchmark.grade(question, f"So it is \\boxed{{{answer}}}.")
        for question, answer in zip(benchmark.questions, answers, strict=True)
    ]
    return sum(verdict.right for verdict in verdicts) / len(verdicts)


@pytest.mark.parametrize(
    ("build", "count", "chance"), [(maths.gsm8k, 1319, 0.05), (maths.aime24, 30, 0.1)]
)
def test_gold_is_right_and_shuffled_gold_at_chance(
    real: Materials, build: object, count: int, chance: float
) -> None:
    benchmark = build(real)  # type: ignore[operator]
    gold = [question.answer for question in benchmark.questions]
    assert len(gold) == count
    assert _share_right(benchmark, gold) == 1.0
    random.Random(1).shuffle(gold)
    assert _share_right(benchmark, gold) < chance


def test_gold_of_math_500_is_right_and_its_shuffle_at_chance(real: Materials) -> None:
    benchmark = maths.math500(real)
    gold = [question.answer for question in benchmark.questions]
    assert len(gold) == 500
    assert _share_right(benchmark, gold) == 1.0


@pytest.mark.slow
@pytest.mark.one_core
def test_worked_solutions_of_math_500_are_right_and_shuffled_answers_at_chance(
    real: Materials,
) -> None:
    benchmark = maths.math500(real)
    gold = [question.answer for question in benchmark.questions]
    random.Random(1).shuffle(gold)
    assert _share_right(benchmark, gold) < 0.05


def test_worked_solutions_of_gsm8k_are_right_as_responses(data_root: object) -> None:
    from actors.evaluation.benchmarks.sources import Row, read

    class Worked(Row):
        answer: str

    for row in read(maths.GSM8K, data_root, Worked):  # type: ignore[arg-type]
        gold = row.answer.rpartition("####")[2].strip()
        assert maths.by_number(_question(gold), row.answer).right


def test_a_box_is_asked_for_at_the_paper_s_temperature(real: Materials) -> None:
    aime = maths.aime24(real)
    assert (aime.sampling.samples, aime.sampling.temperature) == (16, 1.0)
    assert aime.sampling.max_tokens == 16_384
    assert "".join(map(chr, aime.questions[0].prompt)).endswith("within \\boxed{}.")
