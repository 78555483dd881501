"""MMLU as released: lm-evaluation-harness's generative task with the letter in a box."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence

from actors.evaluation.benchmarks.base import Grade, Question

_BOXED_LETTER = re.compile(r"\\boxed\{\s*([A-Da-d])\s*\}")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def prompt(subject: str, examples: Sequence[str], asked: str) -> str:
    """The user turn.

    Args:
        subject: with underscores, as in the data.
        examples: blocks with their letter.
        asked: the block of the question.
    """
    description = (
        "The following are multiple choice questions (with answers) about "
        f"{subject.replace('_', ' ')}. "
        "Put your final answer inside \\boxed{} as one of A, B, C, or D."
    )
    return "\n\n".join((description, "\n\n".join(examples), asked))


def block(question: str, choices: Sequence[str], letter: str = "") -> str:
    """A question with its choices, and with ``letter`` in a box if it is an example."""
    lines = [f"{name}. {choice}" for name, choice in zip("ABCD", choices, strict=True)]
    shown = "\n".join((question.strip(), *lines, "Answer:"))
    return f"{shown} \\boxed{{{letter}}}" if letter else shown


def grade(question: Question, response: str) -> Grade:
    """The last box that holds a letter, else the first line, which must be the letter."""
    text = response.partition("</think>")[2] if "</think>" in response else response
    boxed = _BOXED_LETTER.findall(text)
    if boxed:
        letter = str(boxed[-1]).upper()
        return Grade(letter == question.answer, letter)
    first = text.partition("\n")[0].translate(_NO_PUNCTUATION).strip()
    return Grade(first.lower() == question.answer.lower(), first or None)
