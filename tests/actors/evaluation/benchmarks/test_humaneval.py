"""From a response to a program, and its grade in the sandbox."""

from __future__ import annotations

from typing import Any

import pytest

from actors.evaluation.benchmarks import humaneval
from actors.evaluation.benchmarks.base import Question
from actors.evaluation.sandbox.sandbox import Sandbox
from tests.actors.evaluation.benchmarks.letters import materials

PROMPT = (
    "from typing import List\n\n\ndef one() -> int:\n    return 1\n\n\n"
    'def total(xs: List[int]) -> int:\n    """ Sum of xs.\n    >>> total([1, 2])\n    3\n    """\n'
)
TEST = "def check(candidate):\n    assert candidate([1, 2]) == 3\n    assert candidate([]) == 0\n"
TASK = Question(
    "HumanEval/x", [], PROMPT, "", {"prompt": PROMPT, "test": TEST, "entry_point": "total"}
)
WHOLE = "def total(xs: List[int]) -> int:\n    return sum(xs)\n"
WRONG = "def total(xs: List[int]) -> int:\n    return 3\n"
LOOP = "    n = 0\n    for x in xs:\n        n += x\n    return n\n"

CASES = [
    ("a fenced function", f"```python\n{WHOLE}```", True),
    ("a fence without a language", f"```\n{WHOLE}```", True),
    ("a fence called py", f"```py\n{WHOLE}```", True),
    ("a capital fence", f"```Python\n{WHOLE}```", True),
    ("words around the fence", f"Here you are:\n\n```python\n{WHOLE}```\nIt adds them.", True),
    ("a fence that never closes", f"```python\n{WHOLE}", True),
    ("the prompt repeated", f"```python\n{PROMPT}    return sum(xs)\n```", True),
    ("bare code", WHOLE, True),
    ("words, then bare code", f"Sure, this works:\n\n{WHOLE}", True),
    ("bare code, then words", f"{WHOLE}\nThis adds all numbers.", True),
    ("a body alone", "    return sum(xs)\n", True),
    ("a longer body", LOOP, True),
    ("a body in a fence", f"```python\n{LOOP}```", True),
    ("a body after an empty line", f"\n{LOOP}", True),
    ("an import of its own", f"```python\nimport math\n\n{WHOLE}```", True),
    ("a helper of its own", f"```python\ndef add(a, b):\n    return a + b\n\n{WHOLE}```", True),
    (
        "a helper from the prompt",
        "```python\ndef total(xs):\n    return sum(xs) * one()\n```",
        True,
    ),
    ("two tries, the last right", f"```python\n{WRONG}```\nBetter:\n```python\n{WHOLE}```", True),
    ("two tries, the last wrong", f"```python\n{WHOLE}```\nBetter:\n```python\n{WRONG}```", False),
    (
        "a fence and an example of use",
        f"```python\n{WHOLE}```\nUse:\n```python\nprint(total([1]))\n```",
        True,
    ),
    (
        "prints on the way",
        "```python\ndef total(xs):\n    print(xs)\n    return sum(xs)\n```",
        True,
    ),
    ("windows line ends", f"```python\r\n{WHOLE}```", True),
    ("a wrong function", f"```python\n{WRONG}```", False),
    ("an exception", "```python\ndef total(xs):\n    return xs[0] + xs[1]\n```", False),
    ("another name", "```python\ndef summe(xs):\n    return sum(xs)\n```", False),
    ("a syntax error", "```python\ndef total(xs)\n    return sum(xs)\n```", False),
    ("cut off", "```python\ndef total(xs: List[int]) -> int:\n    return sum(", False),
    ("nothing", "", False),
    ("white space", "  \n", False),
    ("words", "I would add the numbers up.", False),
    ("leaving early", "```python\nimport os\ndef total(xs):\n    os._exit(0)\n```", False),
    ("exit in the function", "```python\ndef total(xs):\n    raise SystemExit(0)\n```", False),
    ("a package that is not there", "```python\nimport nopackage\n" + WHOLE + "```", False),
]


@pytest.mark.parametrize(("name", "response", "right"), CASES, ids=[case[0] for case in CASES])
def test_a_response_is_right_where_its_function_passes(
    sandbox: Sandbox, name: str, response: str, right: bool
) -> None:
    verdict = humaneval.grade(sandbox, TASK, response)
    assert verdict.right is right, verdict


def test_words_have_no_program_and_a_failure_says_why(sandbox: Sandbox) -> None:
    assert humaneval.grade(sandbox, TASK, "Add them.").extracted is None
    assert humaneval.grade(sandbox, TASK, f"```\n{WRONG}```").detail.startswith("AssertionError")


def _grade_all(sandbox: Sandbox, data_root: Any, shift: int) -> list[bool]:
    questions = humaneval.build(materials(data_root=data_root)).questions
    assert len(questions) == 164
    answers = [question.answer for question in questions]
    answers = answers[shift:] + answers[:shift]
    return [
        humaneval.grade(sandbox, question, f"```python\n{question.data['prompt']}{answer}```").right
        for question, answer in zip(questions, answers, strict=True)
    ]


@pytest.mark.slow
@pytest.mark.one_core
def test_all_canonical_solutions_pass(sandbox: Sandbox, data_root: Any) -> None:
    assert _grade_all(sandbox, data_root, 0) == [True] * 164


@pytest.mark.slow
@pytest.mark.one_core
def test_solutions_of_other_tasks_fail(sandbox: Sandbox, data_root: Any) -> None:
    assert sum(_grade_all(sandbox, data_root, 1)) <= 2
