"""What the paper's graders accept, worked out by hand from its rules, and ours beside it."""

from __future__ import annotations

from functools import partial

import pytest

from actors.evaluation.benchmarks import humaneval, maths, mmlu
from actors.evaluation.benchmarks.base import Grader, Question
from actors.evaluation.benchmarks.released import maths as released_maths
from actors.evaluation.benchmarks.released import mmlu as released_mmlu
from actors.evaluation.sandbox.sandbox import ExecutionResult, Sandbox
from tests.actors.evaluation.benchmarks.letters import materials
from tests.actors.evaluation.benchmarks.test_humaneval import LOOP, PROMPT, TASK, WHOLE, WRONG

# Response, gold, right by the paper, right by ours.
NUMBERS = [
    ("So it is \\boxed{18}.", "18", True, True),
    ("\\boxed{18.00}", "18", True, True),
    ("\\boxed{1,018}", "1018", True, True),
    ("\\boxed{x = 18}", "18", True, True),
    ("\\boxed{18 \\text{ dollars}}", "18", True, True),
    ("\\boxed{\\boxed{18}}", "18", True, True),
    ("\\boxed{3}, no: \\boxed{18}", "18", True, True),
    ("\\boxed{18}, no: \\boxed{3}", "18", False, False),
    ("\\boxed{18}, no: \\boxed{3", "18", True, True),
    ("\\boxed{19}", "18", False, False),
    ("\\boxed{}", "18", False, False),
    ("", "18", False, False),
    # Without a box nothing is an answer.
    ("The answer is 18.", "18", False, True),
    ("#### 18", "18", False, True),
    # A box that never closes hides the next one.
    ("\\boxed{9, no: \\boxed{18}", "18", False, True),
    # math-verify takes no unit without \text.
    ("\\boxed{18 dollars}", "18", False, True),
]
EXPRESSIONS = [
    ("\\boxed{\\frac{28}{6}}", "\\frac{14}{3}", True, True),
    ("\\boxed{2(k+1)}", "2k+2", True, True),
    ("\\boxed{\\text{Evelyn}}", "\\text{Evelyn}", True, True),
    ("\\boxed{4.66}", "\\frac{14}{3}", False, False),
    ("The final answer is $9$", "9", False, True),
    # A relation is equal to an interval in the place of the gold answer only.
    ("\\boxed{x<3}", "(-\\infty,3)", True, False),
    ("\\boxed{(-\\infty,3)}", "x<3", False, True),
]


def _right(grader: Grader, answer: str, response: str) -> bool:
    choices = {"choices": ["Paris", "London", "Rome", "Madrid"]}
    return grader(Question("q", [], "", answer, choices), response).right


@pytest.mark.parametrize(("response", "gold", "paper", "ours"), NUMBERS)
def test_numbers(response: str, gold: str, paper: bool, ours: bool) -> None:
    assert _right(released_maths.grade, gold, response) is paper
    assert _right(maths.by_number, gold, response) is ours


@pytest.mark.parametrize(("response", "gold", "paper", "ours"), EXPRESSIONS)
def test_expressions(response: str, gold: str, paper: bool, ours: bool) -> None:
    assert _right(released_maths.grade, gold, response) is paper
    assert _right(maths.by_expression, gold, response) is ours


# Response to a question whose answer is B (London), right by the paper, right by ours.
LETTERS = [
    ("\\boxed{B}", True, True),
    ("So \\boxed{ b }.", True, True),
    ("\\boxed{A}, no: \\boxed{B}", True, True),
    ("\\boxed{B}, no: \\boxed{A}", False, False),
    ("B", True, True),
    (" (b). ", True, True),
    ("C", False, False),
    ("", False, False),
    ("I cannot say.", False, False),
    # Only the first line counts, and as a whole.
    ("B\nLondon lies on the Thames.", True, False),
    ("London lies on the Thames.\nB", False, True),
    ("The answer is (B).", False, True),
    ("B) London", False, True),
    ("London", False, True),
    # A box counts only if it holds a letter alone.
    ("\\boxed{\\text{B}}", False, True),
    ("\\boxed{London}", False, True),
    ("\\boxed{B}, or \\boxed{none}", True, False),
    # What precedes the end of a thought does not count.
    ("<think>\\boxed{A}</think>B", True, False),
]


@pytest.mark.parametrize(("response", "paper", "ours"), LETTERS)
def test_letters(response: str, paper: bool, ours: bool) -> None:
    assert _right(released_mmlu.grade, "B", response) is paper
    assert _right(mmlu.grade, "B", response) is ours


# Response, right by the paper, right by ours.
PROGRAMS = [
    (f"```python\n{WHOLE}```", True, True),
    (f"Here:\n```py\n{WHOLE}```\nIt adds them.", True, True),
    (f"```python3\n{WHOLE}```", True, True),
    (f"```\n{WHOLE}```", True, True),
    (f"```python\n{PROMPT}    return sum(xs)\n```", True, True),
    (WHOLE, True, True),
    ("    return sum(xs)\n", True, True),
    (f"```python\n{WRONG}```", False, False),
    ("", False, False),
    # The first block counts.
    (f"```python\n{WRONG}```\nBetter:\n```python\n{WHOLE}```", False, True),
    (f"```python\n{WHOLE}```\nBetter:\n```python\n{WRONG}```", True, False),
    # It must close, and loses its first indentation.
    (f"```python\n{WHOLE}", False, True),
    (f"```python\n{LOOP}```", False, True),
    # The language is part of the code if it begins with a capital.
    (f"```Python\n{WHOLE}```", False, True),
    # Words before code without a fence are code.
    (f"Sure, this works:\n\n{WHOLE}", False, True),
]


@pytest.mark.parametrize(("response", "paper", "ours"), PROGRAMS)
def test_programs(sandbox: Sandbox, response: str, paper: bool, ours: bool) -> None:
    verdict = humaneval.grade_by_both(sandbox, "ours", TASK, response)
    assert (verdict.others, verdict.right) == ({"paper": paper}, ours)
    released = humaneval.grade_by_both(sandbox, "paper", TASK, response)
    assert (released.right, released.others) == (paper, {"ours": ours})


class _Counting(Sandbox):
    """Passes everything, and remembers the programs."""

    def __init__(self) -> None:
        self.programs: list[str] = []

    def run_tests(self, solution: str, entry_point: str, tests: str) -> ExecutionResult:
        self.programs.append(solution)
        return ExecutionResult(True)


@pytest.mark.parametrize(
    ("response", "runs"),
    [
        (f"```python\n{WHOLE}```", 1),
        (f"Words.\n```py\n{WHOLE}\n\n```\nWords.", 1),
        (f"```python\n{WHOLE}```\nUse:\n```python\nprint(total([1]))\n```", 1),
        (f"```python\nfrom __future__ import annotations\n{WHOLE}```", 2),
        (f"```python\n{WRONG}```\nBetter:\n```python\n{WHOLE}```", 2),
        (f"```python\n{WHOLE}", 2),
        (f"```python\n{LOOP}```", 2),
        # Ours finds no code; the paper runs the words.
        ("I cannot.", 1),
    ],
)
def test_the_same_code_runs_once(response: str, runs: int) -> None:
    sandbox = _Counting()
    grade = humaneval.grade_by_both(sandbox, "paper", TASK, response)
    assert len(sandbox.programs) == runs
    assert grade.extracted is not None


def test_the_protocol_decides_whose_verdict_is_the_score() -> None:
    response = "The answer is 18."
    question = Question("q", [], "", "18")
    graders = {"ours": maths.by_number, "paper": released_maths.grade}
    ours = materials(protocol="ours").grader(**graders)(question, response)
    assert (ours.right, ours.extracted, ours.others) == (True, "18", {"paper": False})
    paper = materials(protocol="paper").grader(**graders)(question, response)
    assert (paper.right, paper.extracted, paper.others) == (False, None, {"ours": True})


def test_further_graders_keep_their_verdicts() -> None:
    from dataclasses import replace

    def strict(question: Question, response: str) -> maths.Grade:
        return replace(maths.by_number(question, response), others={"strict": False})

    grader = partial(materials(protocol="paper").grader, paper=released_maths.grade)
    grade = grader(ours=strict)(Question("q", [], "", "18"), "18")
    assert grade.others == {"strict": False, "ours": True}
