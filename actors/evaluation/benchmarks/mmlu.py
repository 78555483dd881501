"""MMLU: 57 subjects, four choices, five worked examples in the one user turn.

The model answers in text; the letter is read from what it wrote. ``released.mmlu`` has the
paper's prompt and grader.
"""

from __future__ import annotations

import re
import reprlib
from collections import defaultdict
from collections.abc import Sequence

from pydantic import field_validator

from actors.evaluation.benchmarks.base import (
    Generation,
    Grade,
    Materials,
    NotMeasured,
    Question,
    ResponseSampling,
)
from actors.evaluation.benchmarks.released import mmlu as released
from actors.evaluation.benchmarks.sources import Row, Source, read
from common.settings import Filled, Text
from common.verification.verifier import last_boxed, normalise

TEST = Source("mmlu", "test", "cais/mmlu", "all/test-*.parquet")
DEV = Source("mmlu", "dev", "cais/mmlu", "all/dev-*.parquet")

LETTERS = "ABCD"
SHOTS = 5
_REQUEST = "End your answer with a line of the form: The answer is (X)."

_LETTER = r"\s*(?:option|choice)?\s*[*_\"'$(\[{\s]*([A-D])(?![\w'’])"
_ANSWER = re.compile(
    r"\banswer\b[*_]*(?:\s+(?:is|would be|must be|should be)|\s*[:=])?[*_:]*" + _LETTER, re.I
)
_OPTION = re.compile(r"\b(?:option|choice)" + _LETTER, re.I)
_ALONE = re.compile(r"[\s*_\"'$(\[{]*([A-D])[\s*_\"'$)\]}.]*", re.IGNORECASE)
_LED = re.compile(r"[\s*_\"'$(\[]*([A-D])[*_\"'$]*(?:[).:\],]|\s*$)")


class FourChoices(Row):
    """A question; its answer is a letter, in some copies an index from 0."""

    subject: Filled
    question: Text
    choices: tuple[str, str, str, str]
    answer: str

    @field_validator("answer", mode="before")
    @classmethod
    def _letter(cls, answer: object) -> str:
        for index, letter in enumerate(LETTERS):
            if not isinstance(answer, bool) and answer in (letter, index, str(index)):
                return letter
        raise ValueError(f"A to D or 0 to 3 is expected, not {reprlib.repr(answer)}")


def build(materials: Materials) -> Generation:
    """The test split (14,042 questions)."""
    root = materials.settings.data_root
    examples = defaultdict(list)
    for row in read(DEV, root, FourChoices):
        examples[row.subject].append(row)
    rows = list(enumerate(read(TEST, root, FourChoices)))
    if without := {row.subject for _, row in rows} - examples.keys():
        raise NotMeasured(f"mmlu: the split dev has no examples of {reprlib.repr(min(without))}")
    prompt = materials.choose(ours=_prompt, paper=_released_prompt)
    questions = [
        Question(
            f"mmlu-{number}",
            materials.prompts.user(prompt(row, examples[row.subject][:SHOTS])),
            _block(row, ""),
            row.answer,
            {"choices": [*row.choices]},
        )
        for number, row in materials.subset("mmlu", rows)
    ]
    grader = materials.grader(ours=grade, paper=released.grade)
    return Generation("mmlu", questions, grader, materials.sampling(ResponseSampling(1024, 1.0)))


def grade(question: Question, response: str) -> Grade:
    """Whether the letter that the response settles on is the right one."""
    found = chosen(response, question.data["choices"])
    return Grade(found == question.answer, found)


def chosen(response: str, choices: Sequence[str] = ()) -> str | None:
    """The letter that a response gives, or None.

    In this order: the last box; the last "answer is X"; a response, or its last
    line, that is nothing but a letter; a response that begins with "X)" or "X.";
    the only option named; the text of one choice as the whole response or box.
    """
    box = last_boxed(response)
    text = response if box is None else re.sub(r"\\(?:text|mathrm|textbf)", "", box)
    if box is None:
        # A small letter after these words is an article more often than a choice.
        said = [found for found in _ANSWER.findall(text) if found.isupper()]
        if said:
            return str(said[-1])
    lines = text.strip().splitlines() or [""]
    for candidate in (text, lines[-1]):
        alone = _ALONE.fullmatch(candidate)
        if alone is not None:
            return alone[1].upper()
    led = _LED.match(text)
    if led is not None:
        return led[1]
    named = {found for found in _OPTION.findall(text) if found.isupper()}
    if len(named) == 1:
        return str(named.pop())
    same = [index for index, choice in enumerate(choices) if normalise(choice) == normalise(text)]
    return LETTERS[same[0]] if len(same) == 1 else None


def _block(row: FourChoices, letter: str) -> str:
    lines = [f"({name}) {choice}" for name, choice in zip(LETTERS, row.choices, strict=True)]
    shown = f"Question: {row.question}\n" + "\n".join(lines)
    return f"{shown}\nThe answer is ({letter})." if letter else shown


def _prompt(row: FourChoices, examples: Sequence[FourChoices]) -> str:
    topic = row.subject.replace("_", " ")
    intro = f"These are multiple-choice questions about {topic}. {_REQUEST}"
    return "\n\n".join((intro, *(_block(one, one.answer) for one in examples), _block(row, "")))


def _released_prompt(row: FourChoices, examples: Sequence[FourChoices]) -> str:
    shown = [released.block(one.question, one.choices, one.answer) for one in examples]
    return released.prompt(row.subject, shown, released.block(row.question, row.choices))
