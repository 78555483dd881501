"""The paper's prompts, byte for byte; the expected strings are written from its rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from actors.evaluation import benchmarks
from actors.evaluation.benchmarks.base import Generation
from tests.actors.evaluation.benchmarks.letters import materials
from tests.actors.evaluation.benchmarks.test_local_copies import write


def _turn(root: Path, name: str, **settings: Any) -> str:
    """The user turn of the first question."""
    chosen = materials(data_root=root, unsafe_code=True, **{"protocol": "paper", **settings})
    built = benchmarks.BUILDERS[name](chosen)
    assert isinstance(built, Generation)
    return "".join(map(chr, built.questions[0].prompt))


MATHS = [
    ("gsm8k", {"question": "What is 1 + 1?\nShow it.", "answer": "So it is 2.\n#### 2"}),
    ("math500", {"problem": "What is 1 + 1?\nShow it.", "answer": "2"}),
    ("aime24", {"problem": "What is 1 + 1?\nShow it.", "answer": 2}),
]


@pytest.mark.parametrize(("name", "row"), MATHS)
def test_maths(tmp_path: Path, name: str, row: dict[str, Any]) -> None:
    write(tmp_path, name, row)
    assert _turn(tmp_path, name) == (
        "Think step-by-step to solve the following problem. Output your answer inside of "
        "\\boxed{} tags.:\n"
        "What is 1 + 1?\n"
        "Show it.\n"
        "\n"
        "Let's think step-by-step"
    )


def _row(number: int, answer: str, subject: str = "high_school_physics") -> dict[str, Any]:
    choices = [f"w{number}", f"x{number}", f"y{number}", f" z{number}"]
    return {"subject": subject, "question": f" Q{number}? ", "choices": choices, "answer": answer}


MMLU = (
    "The following are multiple choice questions (with answers) about high school physics. "
    "Put your final answer inside \\boxed{} as one of A, B, C, or D.\n"
    "\n"
    "Q1?\nA. w1\nB. x1\nC. y1\nD.  z1\nAnswer: \\boxed{B}\n"
    "\n"
    "Q2?\nA. w2\nB. x2\nC. y2\nD.  z2\nAnswer: \\boxed{A}\n"
    "\n"
    "Q3?\nA. w3\nB. x3\nC. y3\nD.  z3\nAnswer: \\boxed{D}\n"
    "\n"
    "Q4?\nA. w4\nB. x4\nC. y4\nD.  z4\nAnswer: \\boxed{C}\n"
    "\n"
    "Q5?\nA. w5\nB. x5\nC. y5\nD.  z5\nAnswer: \\boxed{A}\n"
    "\n"
    "Q9?\nA. w9\nB. x9\nC. y9\nD.  z9\nAnswer:"
)


def test_mmlu_has_the_first_five_examples_of_the_subject(tmp_path: Path) -> None:
    others = [_row(0, "A", "law")]
    shown = [_row(number, answer) for number, answer in enumerate("BADCAB", start=1)]
    write(tmp_path, "mmlu", *others, *shown).rename(tmp_path / "mmlu" / "dev.jsonl")
    write(tmp_path, "mmlu", _row(9, "A"))
    assert _turn(tmp_path, "mmlu") == MMLU


TASK = {
    "task_id": "HumanEval/0",
    "prompt": 'def half(x):\n    """ {Half} of x. """\n',
    "canonical_solution": "    return x / 2\n",
    "test": "def check(candidate):\n    assert candidate(2) == 1\n",
    "entry_point": "half",
}


def test_humaneval(tmp_path: Path) -> None:
    write(tmp_path, "humaneval", TASK)
    assert _turn(tmp_path, "humaneval") == (
        "Complete the following Python function. Return ONLY the complete function inside a "
        "```python code block, nothing else.\n"
        "\n"
        "```python\n"
        "def half(x):\n"
        '    """ {Half} of x. """\n'
        "\n"
        "```\n"
    )


def test_ours_are_others(tmp_path: Path) -> None:
    write(tmp_path, "humaneval", TASK)
    write(tmp_path, *MATHS[0])
    ours = {name: _turn(tmp_path, name, protocol="ours") for name in ("humaneval", "gsm8k")}
    assert ours["gsm8k"] == (
        "What is 1 + 1?\nShow it.\n"
        "Please reason step by step, and put your final answer within \\boxed{}."
    )
    assert ours["humaneval"].startswith("Complete the following Python function. Answer with")
