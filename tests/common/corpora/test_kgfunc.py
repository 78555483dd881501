"""KGFunc: the rules on hand-worked numbers, the corpus, and the check of solutions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.corpora.kgfunc import KGFunc, build, check, check_facts, ours, paper
from common.corpora.kgfunc.arithmetic import evaluate
from common.corpora.kgfunc.operations import TRAINED, UNSEEN, digits
from common.errors import UserError
from common.verification.verifier import last_boxed

Solver = Callable[[str, int], str]
SOLVERS = st.sampled_from([ours.solve, paper.solve])


@pytest.fixture(scope="module")
def corpus() -> KGFunc:
    return build(train_per_op=1600, test_per_op=175, seed=0)


@pytest.mark.parametrize(
    ("label", "number", "value"),
    [
        ("B", 42, 4),  # (4-2)^2 + 0
        ("B", 90817, 195),  # 81 + 0 + 64 + 1 + 49
        ("C", 123, 6),  # 1 - 4 + 9
        ("C", 19, 80),  # |1 - 81|
        ("D", 2469, 23),  # 4 + 4 + 6 + 9
        ("D", 71, 50),  # 49 + 1
        ("E", 123, 10),  # 3 + 4 + 3
        ("E", 45, 40),  # 20 + 20
        ("F", 31425, 19),  # 3 + 3 + 4 + 4 + 5
        ("G", 305, 21),  # 6 + 0 + 15
        ("H", 40821, 8214),  # 40821, 08214, 82140, 21408, 14082
        ("H", 7, 7),
    ],
)
def test_a_trained_operation_on_a_hand_worked_number(label: str, number: int, value: int) -> None:
    assert TRAINED[label](digits(number)) == value


def test_the_twenty_unseen_operations_on_50428() -> None:
    assert {name: rule(digits(50428)) for name, rule in UNSEEN.items()} == {
        "digit sum": 19,
        "product of the non-zero digits": 320,
        "number of digits": 5,
        "largest digit": 8,
        "smallest digit": 0,
        "first digit": 5,
        "last digit": 8,
        "range of the digits": 8,
        "reversal": 82405,
        "first plus last digit": 13,
        "number of even digits": 4,
        "number of odd digits": 1,
        "number of distinct digits": 5,
        "digital root": 1,
        "sum of squares": 109,
        "digits in ascending order": 2458,
        "digits in descending order": 85420,
        "number of zeros": 1,
        "twice the digit sum": 38,
        "first times last digit": 40,
    }


def test_the_default_corpus_has_the_papers_counts(corpus: KGFunc) -> None:
    assert Counter(fact.subject for fact in corpus.facts) == dict.fromkeys("BCDEFGH", 1600)
    assert Counter(item.id[7] for item in corpus.test) == dict.fromkeys("BCDEFGH", 175)
    unseen = Counter(item.id.split("-", 1)[1].rsplit("-", 1)[0] for item in corpus.unseen)
    assert set(unseen) == {name.replace(" ", "_") for name in UNSEEN}
    assert set(unseen.values()) == {25}


def test_no_input_comes_twice_for_an_operation_and_none_is_an_example(corpus: KGFunc) -> None:
    ids = [record.id for record in (*corpus.facts, *corpus.test, *corpus.unseen)]
    assert len(ids) == len(set(ids)) == 11_200 + 1_225 + 500
    questions = [record.question for record in (*corpus.facts, *corpus.test, *corpus.unseen)]
    for question in questions:
        *shots, asked = re.findall(r"\((\d+)\)", question)
        assert len(shots) == 10
        assert asked not in shots


def test_all_operations_show_the_same_ten_inputs_with_their_own_values(corpus: KGFunc) -> None:
    shown = set()
    for record in (*corpus.facts[::400], *corpus.test[::50], *corpus.unseen):
        shown.add(tuple(re.findall(r"^\w+\((\d+)\) = ", record.question, re.MULTILINE)))
    assert len(shown) == 1
    assert [len(number) for number in shown.pop()] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    for fact in corpus.facts[::400]:
        examples = re.findall(r"^(\w+)\((\d+)\) = (\d+)$", fact.question, re.MULTILINE)
        assert len(examples) == 10
        assert all(
            label == fact.subject and TRAINED[label](digits(int(number))) == int(value)
            for label, number, value in examples
        )


def test_every_line_of_every_default_target_is_recomputed_and_right(corpus: KGFunc) -> None:
    assert check_facts(corpus.facts) == []
    assert {last_boxed(fact.target) == fact.answer for fact in corpus.facts} == {True}


def test_every_line_of_targets_in_the_papers_wording_is_right_too(corpus: KGFunc) -> None:
    paper_corpus = build(train_per_op=400, test_per_op=0, seed=1, wording="paper")
    assert check_facts(paper_corpus.facts) == []
    assert {last_boxed(fact.target) == fact.answer for fact in paper_corpus.facts} == {True}


@given(SOLVERS, st.sampled_from("BCDEFGH"), st.integers(0, 99_999))
def test_a_solution_of_any_number_is_right_and_boxes_the_rules_value(
    solve: Solver, label: str, n: int
) -> None:
    assert check(label, n, solve(label, n)) == []
    assert last_boxed(solve(label, n)) == str(TRAINED[label](digits(n)))


def test_a_solution_reads_like_this() -> None:
    assert ours.solve("C", 19).splitlines() == [
        "The digits of 19 are 1, 9.",
        "Digit 1, 1: 1^2 = 1.",
        "Digit 2, 9: 9^2 = 81.",
        "Sum: 1 - 81 = -80.",
        "Absolute value: |-80| = 80.",
        "The answer is \\boxed{80}.",
    ]


@pytest.mark.parametrize(
    ("label", "number", "solution"),
    [
        (
            "B",
            53,
            "The digits of 53 are [5, 3].\nMin digit = 3\n(5 - 3)^2 = 4\n(3 - 3)^2 = 0\n"
            "B(53) = 4 + 0 = 4\n\n\\boxed{4}",
        ),
        (
            "C",
            192,
            "The digits of 192 are [1, 9, 2].\n"
            "Alternating sum of squares = 1^2 - 9^2 + 2^2 = 1 - 81 + 4 = -76\n"
            "C(192) = |-76| = 76\n\n\\boxed{76}",
        ),
        (
            "D",
            71,
            "The digits of 71 are [7, 1].\n7 is prime: 7^2 = 49\n1 is not prime: 1\n"
            "D(71) = 49 + 1 = 50\n\n\\boxed{50}",
        ),
        (
            "E",
            123,
            "The digits of 123 are [1, 2, 3].\nReversed: [3, 2, 1]\n"
            "1*3 + 2*2 + 3*1 = 3 + 4 + 3 = 10\nE(123) = 10\n\n\\boxed{10}",
        ),
        (
            "F",
            3142,
            "The digits of 3142 are [3, 1, 4, 2].\nRunning max: 3, 3, 4, 4\n"
            "F(3142) = 3 + 3 + 4 + 4 = 14\n\n\\boxed{14}",
        ),
        (
            "G",
            305,
            "The digits of 305 are [3, 0, 5].\nT(3) = 3*4/2 = 6\nT(0) = 0*1/2 = 0\n"
            "T(5) = 5*6/2 = 15\nG(305) = 6 + 0 + 15 = 21\n\n\\boxed{21}",
        ),
        (
            "H",
            402,
            'The digit string of 402 is "402".\nRotations: 402, 24, 240\n'
            "H(402) = min(402, 24, 240) = 24\n\n\\boxed{24}",
        ),
    ],
)
def test_a_solution_in_the_papers_wording_reads_like_this(
    label: str, number: int, solution: str
) -> None:
    assert paper.solve(label, number) == solution


@given(SOLVERS, st.sampled_from("BCDEFGH"), st.integers(0, 99_999), st.data())
def test_one_changed_number_anywhere_is_found(
    solve: Solver, label: str, n: int, data: st.DataObject
) -> None:
    solution = solve(label, n)
    places = list(re.finditer(r"\d+", solution))
    place = data.draw(st.sampled_from(places))
    changed = data.draw(st.integers(0, 200_000).map(str).filter(lambda text: text != place[0]))
    planted = solution[: place.start()] + changed + solution[place.end() :]
    assert check(label, n, planted)


@given(SOLVERS, st.sampled_from("BCDEFGH"), st.integers(0, 99_999), st.data())
def test_a_line_left_out_repeated_or_moved_is_found(
    solve: Solver, label: str, n: int, data: st.DataObject
) -> None:
    lines = solve(label, n).split("\n")
    index, other = (data.draw(st.integers(0, len(lines) - 1)) for _ in range(2))
    moved = [*lines]
    moved[index], moved[other] = lines[other], lines[index]
    assert bool(check(label, n, "\n".join(moved))) == (moved != lines)
    assert check(label, n, "\n".join(lines[:index] + lines[index + 1 :]))
    assert check(label, n, "\n".join([*lines[:index], lines[index], *lines[index:]]))


@pytest.mark.parametrize("solve", [ours.solve, paper.solve])
def test_a_right_line_of_another_operation_is_found(solve: Solver) -> None:
    assert check("B", 34, solve("C", 34)) != []
    assert check("G", 34, solve("D", 34)) != []
    assert check("F", 34, solve("F", 43)) != []


def test_a_right_line_in_the_other_wording_is_found() -> None:
    mixed = paper.solve("D", 34).split("\n")
    mixed[0] = ours.solve("D", 34).split("\n")[0]
    assert check("D", 34, "\n".join(mixed)) == ["line 1 is wrong: The digits of 34 are 3, 4."]
    assert check("D", 34, paper.solve("D", 34).replace("3 is prime", "03 is prime"))


def test_a_wrong_answer_or_id_of_a_fact_is_named(corpus: KGFunc) -> None:
    fact = corpus.facts[0]
    assert check_facts([replace(fact, answer="7")]) == [
        f"{fact.id}: the answer 7 is not B({int(fact.id[-5:])})"
    ]
    assert check_facts([replace(fact, id="x")]) == [
        "x: the id names no operation and input (kgfunc-B-00123)"
    ]


def test_evaluation_knows_arithmetic_and_nothing_else() -> None:
    assert evaluate("3 * (3 + 1) / 2") == 6
    assert evaluate("16 - 81 + 25") == -40
    assert evaluate("(8 - 2)^2") == 36
    for text in ("__import__('os')", "1 if 1 else 2", "f(1)", "1 / 0", "1 +", "'a' + 'b'"):
        assert evaluate(text) is None


def test_both_wordings_ask_for_the_same_values_of_the_trained_operations() -> None:
    one, other = build(3, 2, seed=4), build(3, 2, seed=4, wording="paper")
    assert [(fact.id, fact.answer) for fact in one.facts] == [
        (fact.id, fact.answer) for fact in other.facts
    ]
    for first, second in zip(one.test, other.test, strict=True):
        assert (first.id, first.answer) == (second.id, second.answer)
        shots = re.findall(r"\((\d+)\) = (\d+)", first.question)
        assert re.findall(r"Input: (\d+)\nOutput: (\d+)", second.question) == shots


def test_in_the_papers_wording_the_unseen_operations_have_its_letters_and_inputs() -> None:
    unseen = build(1, 0, seed=4, wording="paper").unseen
    assert len({item.id for item in unseen}) == 500
    asked = [re.findall(r"What is the output of (\w)\((\d+)\)", item.question) for item in unseen]
    letters = [letter for ((letter, _),) in asked]
    assert letters == [letter for letter in "abcdefghijklmnopqrst" for _ in range(25)]
    inputs = [number for ((_, number),) in asked]
    assert inputs == inputs[:25] * 20
    assert (inputs[0], inputs[9], inputs[24]) == ("15559", "2329", "73024")


def test_a_seed_decides_examples_and_inputs() -> None:
    one, same, other = build(3, 2, seed=4), build(3, 2, seed=4), build(3, 2, seed=5)
    assert one == same
    assert {fact.question for fact in one.facts}.isdisjoint(fact.question for fact in other.facts)


@pytest.mark.parametrize(("train", "test"), [(0, 1), (1, -1), (99_000, 990)])
def test_more_inputs_than_there_are_numbers_is_refused(train: int, test: int) -> None:
    with pytest.raises(UserError, match="together at most 99989"):
        build(train, test, seed=0)
