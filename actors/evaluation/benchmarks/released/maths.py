"""GSM8K, MATH-500 and AIME as released: one prompt, graded by math-verify on the last box."""

from __future__ import annotations

from actors.evaluation.benchmarks.base import Grade, Question
from actors.evaluation.benchmarks.released.boxes import last_outer
from common.verification import math_equality


def prompt(problem: str) -> str:
    """The user turn (``checkpoint_eval``)."""
    return (
        "Think step-by-step to solve the following problem. "
        f"Output your answer inside of \\boxed{{}} tags.:\n{problem}\n\n"
        "Let's think step-by-step"
    )


def grade(question: Question, response: str) -> Grade:
    """The last box alone, equal by math-verify; a response without one is wrong."""
    box = last_outer(response)
    if box is None:
        return Grade(False, None)
    return Grade(math_equality.equal_boxes(box, question.answer), box)
