"""What the evaluator measures: suites of prompts with a verdict, or of text with an NLL.

A suite is a list of prompts and answers, or a text; it knows no engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from common.estimates import Score, wilson
from common.prompts import Prompts
from common.records import EvalItem, Fact
from common.verify import accepts


@dataclass(frozen=True, slots=True)
class Question:
    """One prompt (token ids) and the answer that its response must give."""

    id: str
    prompt: list[int]
    answer: str


def recall(prompts: Prompts, facts: Sequence[Fact]) -> list[Question]:
    """The trained questions, without any context."""
    return [Question(fact.id, prompts.naive(fact), fact.answer) for fact in facts]


def retrieval(prompts: Prompts, items: Sequence[EvalItem]) -> list[Question]:
    """Questions about untrained facts that stand in the context."""
    return [Question(item.id, prompts.retrieval(item), item.answer) for item in items]


def grade(prompts: Prompts, questions: Sequence[Question], responses: Sequence[str]) -> Score:
    """Share of accepted responses, with Wilson's interval."""
    right = sum(
        accepts(prompts.mode, response, question.answer)
        for question, response in zip(questions, responses, strict=True)
    )
    low, high = wilson(right, len(questions))
    return Score(right / len(questions), low, high, len(questions), "fraction")


def windows(token_ids: Sequence[int], limit: int, window: int) -> list[tuple[list[int], list[int]]]:
    """Cut the first ``limit`` tokens into (first token, rest) pairs of ``window`` tokens.

    Every token but the first of each window is scored once.
    """
    cut = list(token_ids[:limit])
    pieces = [cut[start : start + window] for start in range(0, len(cut), window)]
    return [(piece[:1], piece[1:]) for piece in pieces if len(piece) > 1]
