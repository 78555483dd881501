"""GSM8K, MATH-500 and AIME 2024: worked answers, the result in a box.

Numbers are compared by value; MATH-500's answers by math-verify. ``released.maths`` has the
paper's prompt and grader.
"""

from __future__ import annotations

import re
import reprlib
from decimal import Decimal, InvalidOperation
from typing import Any

from pydantic import AliasChoices, Field, field_validator

from actors.evaluation.benchmarks.base import (
    Generation,
    Grade,
    Grader,
    Materials,
    Question,
    ResponseSampling,
)
from actors.evaluation.benchmarks.released import maths as released
from actors.evaluation.benchmarks.sources import Row, Source, read
from common.settings import Filled, Text
from common.verification import math_equality
from common.verification.verifier import last_boxed

GSM8K = Source("gsm8k", "test", "openai/gsm8k", "main/test-*.parquet")
MATH500 = Source("math500", "test", "HuggingFaceH4/MATH-500", "test.jsonl")
AIME24 = Source("aime24", "aime24", "HuggingFaceH4/aime_2024", "data/train-*.parquet")

_REQUEST = "\nPlease reason step by step, and put your final answer within \\boxed{}."
_RESPONSE_TOKENS = 16_384
_AIME_SAMPLES = 16

_NUMBER = re.compile(
    r"(?<![\w.,^])[-+\u2212]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:(?<=\d)\.\d+|(?<!\d)\.\d+)?"
    r"(?![\d^]|[.,]\d)"
)
_UNITS = re.compile(
    r"\\(?:text|mathrm|textbf|mbox)\{[^{}]*\}|\\[,;:!%$]|[$%€£°]|\\left|\\right|\\circ|\s"
)


class Problem(Row):
    """A problem, and its answer alone."""

    question: Text = Field(validation_alias=AliasChoices("question", "problem"))
    answer: Any


class Expression(Problem):
    """A row of MATH-500."""

    answer: Filled


class Solved(Problem):
    """A row of GSM8K: the answer follows a worked solution."""

    answer: str

    @field_validator("answer")
    @classmethod
    def _after_the_mark(cls, solution: str) -> str:
        answer = solution.rpartition("####")[2].strip()
        if number(answer) is None:
            raise ValueError(f"a number is expected after '####', not {reprlib.repr(answer)}")
        return answer


class WholeNumber(Problem):
    """A row of AIME."""

    answer: int = Field(ge=0, le=999)


def gsm8k(materials: Materials) -> Generation:
    """GSM8K test, 1,319 word problems."""
    return _build("gsm8k", materials, GSM8K, Solved, by_number)


def math500(materials: Materials) -> Generation:
    """MATH-500."""
    return _build("math500", materials, MATH500, Expression, by_expression)


def aime24(materials: Materials) -> Generation:
    """AIME 2024 I and II, 30 problems."""
    return _build("aime24", materials, AIME24, WholeNumber, by_number, _AIME_SAMPLES)


def by_number(question: Question, response: str) -> Grade:
    """The last box, or without one what follows ``####``, or the last number."""
    box = last_boxed(response)
    if box is None:
        marked = response.rpartition("####")[2] if "####" in response else response
        found = last_number(marked)
    else:
        found = number(box)
    extracted = box if found is None else str(found)
    return Grade(found is not None and found == number(question.answer), extracted)


def by_expression(question: Question, response: str) -> Grade:
    """The last box, or without one what the response ends with, equal by math-verify."""
    box = last_boxed(response)
    if box is not None:
        # Answers that are no mathematics (a name, a word) are compared as text.
        same = _plain(box) == _plain(question.answer)
        right = same or math_equality.equal(f"\\boxed{{{box}}}", question.answer)
        return Grade(right, box)
    if not response.strip():
        return Grade(False, None)
    right = math_equality.equal(response, question.answer)
    found = last_number(response)
    return Grade(right, question.answer if right else None if found is None else str(found))


def number(text: str) -> Decimal | None:
    """Value of a text that is one number, units and LaTeX dress aside."""
    bare = _UNITS.sub("", text.replace("{,}", ",")).rstrip(".")
    bare = bare.rpartition("=")[2]
    fraction = re.fullmatch(r"(-?)\\[dt]?frac\{(\d+)\}\{(\d+)\}", bare)
    if fraction is not None and Decimal(fraction[3]):
        value = Decimal(fraction[2]) / Decimal(fraction[3])
        return -value if fraction[1] else value
    match = _NUMBER.fullmatch(bare)
    if match is not None:
        return _value(bare)
    worded = re.fullmatch(r"([-+]?[\d,]*\.?\d+)[A-Za-z]+", bare)
    return _value(worded[1]) if worded is not None else None


def last_number(text: str) -> Decimal | None:
    """Value of the last number in a text."""
    for found in reversed(_NUMBER.findall(text.replace("{,}", ","))):
        if any(map(str.isdigit, found)):
            return _value(found)
    return None


def _value(digits: str) -> Decimal | None:
    try:
        return Decimal(digits.replace(",", "").replace("\u2212", "-"))
    except InvalidOperation:
        return None


def _plain(text: str) -> str:
    text = re.sub(r"\\(?:text|mathrm|textbf|mbox)\{([^{}]*)\}", r"\1", text)
    return re.sub(r"\\left|\\right|\\[,;:! ]|\s|\$", "", text).rstrip(".").replace("dfrac", "frac")


def _prompt(problem: str) -> str:
    return problem + _REQUEST


def _build(
    name: str,
    materials: Materials,
    source: Source,
    shape: type[Problem],
    ours: Grader,
    samples: int = 1,
) -> Generation:
    problems = list(enumerate(read(source, materials.settings.data_root, shape)))
    prompt = materials.choose(ours=_prompt, paper=released.prompt)
    questions = [
        Question(
            f"{name}-{index}",
            materials.prompts.user(prompt(problem.question)),
            problem.question,
            str(problem.answer),
        )
        for index, problem in materials.subset(name, problems)
    ]
    sampling = materials.sampling(ResponseSampling(_RESPONSE_TOKENS, 1.0, samples))
    grader = materials.grader(ours=ours, paper=released.grade)
    return Generation(name, questions, grader, sampling)
