"""ARC-Easy and PIQA: the continuation that the model finds likeliest.

Plain text without a chat template, ``Question: …\\nAnswer:`` and the choice after
a space, as in lm-evaluation-harness; the log-likelihood is divided by the
choice's length in characters (its ``acc_norm``).
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Sequence
from typing import Self

from pydantic import Field, model_validator

from actors.evaluation.benchmarks.base import Choice, Materials, MultipleChoice
from actors.evaluation.benchmarks.sources import Row, Source, read
from common.settings import Filled


class Ranked(Row):
    """A row in one of the forms in which it is published."""

    def item(self, name: str) -> Choice:
        """The row as an item; an index of the right choice may be beyond the last."""
        raise NotImplementedError

    @model_validator(mode="after")
    def _one_is_right(self) -> Self:
        item = self.item("")
        if item.gold >= len(item.choices):
            raise ValueError(f"choice {item.gold} is right, but there are {len(item.choices)}")
        return self


class ARC(Ranked):
    """With the index of the right choice."""

    question: Filled
    choices: tuple[Filled, ...]
    answer_index: int = Field(ge=0)

    def item(self, name: str) -> Choice:
        context = f"Question: {self.question}\nAnswer:"
        return Choice(name, context, self.choices, self.answer_index)


class LabelledChoices(Row):
    """Choices and their labels, such as A or 1."""

    text: tuple[Filled, ...]
    label: tuple[str, ...]


class HubARC(Ranked):
    """As on the Hub, with labels."""

    question: Filled
    choices: LabelledChoices
    answerKey: str

    def item(self, name: str) -> Choice:
        labels = self.choices.label
        if self.answerKey not in labels:
            raise ValueError(f"answerKey {reprlib.repr(self.answerKey)} is none of the labels")
        context = f"Question: {self.question}\nAnswer:"
        return Choice(name, context, self.choices.text, labels.index(self.answerKey))


class PIQA(Ranked):
    """With the context as it is shown."""

    query: Filled
    choices: tuple[Filled, ...]
    gold: int = Field(ge=0)

    def item(self, name: str) -> Choice:
        return Choice(name, f"{self.query}Answer:", self.choices, self.gold)


class HubPIQA(Ranked):
    """As on the Hub."""

    goal: Filled
    sol1: Filled
    sol2: Filled
    label: int = Field(ge=0)

    def item(self, name: str) -> Choice:
        context = f"Question: {self.goal}\nAnswer:"
        return Choice(name, context, (self.sol1, self.sol2), self.label)


ARC_EASY_TEST = Source("arc", "ARC-Easy-test", "allenai/ai2_arc", "ARC-Easy/test-*.parquet")
PIQA_VALID = Source("piqa", "piqa_valid", "baber/piqa", "*validation*")


def arc_easy(materials: Materials) -> MultipleChoice:
    """ARC-Easy test, 2,376 questions."""
    return _build("arc_easy", materials, ARC_EASY_TEST, ARC, HubARC)


def piqa(materials: Materials) -> MultipleChoice:
    """PIQA validation, 1,838 questions."""
    return _build("piqa", materials, PIQA_VALID, PIQA, HubPIQA)


def likeliest(choices: Sequence[str], logprobs: Sequence[Sequence[float]]) -> int:
    """Index of the choice whose log-likelihood per character is highest; the first of equals."""
    rates = [sum(of) / len(choice) for choice, of in zip(choices, logprobs, strict=True)]
    return max(range(len(rates)), key=rates.__getitem__)


def pairs(item: Choice, encode: Callable[[str], list[int]]) -> list[tuple[list[int], list[int]]]:
    """(context ids, continuation ids) of each choice.

    Context and continuation are encoded together, so that the boundary is where
    the tokenizer puts it in running text.
    """
    context = encode(item.text)
    found = []
    for choice in item.choices:
        whole = encode(f"{item.text} {choice}")
        found.append((whole[: len(context)], whole[len(context) :]))
    return found


def _build(
    name: str, materials: Materials, source: Source, *shapes: type[Ranked]
) -> MultipleChoice:
    rows = read(source, materials.settings.data_root, *shapes)
    items = [row.item(f"{name}-{number}") for number, row in enumerate(rows)]
    return MultipleChoice(name, materials.subset(name, items))
