"""What a benchmark is: questions with a grader, choices to rank, or text to score.

A benchmark is data and a pure grader. It knows no engine, no checkpoint and no
file of results; where its items come from is in ``sources``.
"""

from __future__ import annotations

import hashlib
import json
import random
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from common.config.evaluation import EvalProtocol, EvaluatorSettings
from common.corpora import Corpus
from common.prompts import Prompts

ItemT = TypeVar("ItemT")


class NotMeasured(Exception):
    """A benchmark that cannot be measured here; the message is the reason for people."""


@dataclass(frozen=True, slots=True)
class ResponseSampling:
    """How responses are drawn: longest response in tokens, temperature, samples a question."""

    max_tokens: int
    temperature: float = 0.0
    samples: int = 1


@dataclass(frozen=True, slots=True)
class Question:
    """One prompt (token ids) and what is needed to judge its response.

    ``text`` is what was asked, as people read it; ``data`` is the grader's own.
    """

    id: str
    prompt: list[int]
    text: str
    answer: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Grade:
    """``extracted`` is the answer found in the response, None where there is none.

    ``others`` are the verdicts of other graders by name. ``error`` is the class of a wrong
    response, if the grader knows a better one than the taxonomy.
    """

    right: bool
    extracted: str | None
    detail: str = ""
    others: Mapping[str, bool] = field(default_factory=dict)
    error: str = ""


Grader = Callable[[Question, str], Grade]


@dataclass(frozen=True, slots=True)
class Generation:
    """Questions that are answered in free text.

    ``grading_threads`` above 1 if grading waits for other processes.
    """

    name: str
    questions: Sequence[Question]
    grade: Grader
    sampling: ResponseSampling
    grading_threads: int = 1


@dataclass(frozen=True, slots=True)
class Choice:
    """A context and its possible continuations, one of which is right."""

    id: str
    text: str
    choices: tuple[str, ...]
    gold: int


@dataclass(frozen=True, slots=True)
class MultipleChoice:
    """Answers ranked by the model's log-likelihood of each continuation."""

    name: str
    items: Sequence[Choice]


@dataclass(frozen=True, slots=True)
class TextNLL:
    """Text in windows of (first token, rest); each token of a rest is scored once."""

    name: str
    windows: Sequence[tuple[list[int], list[int]]]


Benchmark = Generation | MultipleChoice | TextNLL


@dataclass(frozen=True, slots=True)
class Materials:
    """What benchmarks are built from.

    ``seed`` picks the subset that ``limit`` leaves. ``greedy``: the paper evaluates a model of
    this family at temperature 0.
    """

    prompts: Prompts
    encode: Callable[[str], list[int]]
    corpus: Corpus
    settings: EvaluatorSettings
    seed: int
    greedy: bool = False

    def subset(self, name: str, items: Sequence[ItemT]) -> list[ItemT]:
        """The items to measure, in their order: all, or ``evaluator.limit`` drawn by seed."""
        limit = self.settings.limit
        if limit is None or limit >= len(items):
            return list(items)
        chosen = random.Random(f"{self.seed}:{name}").sample(range(len(items)), limit)
        return [items[index] for index in sorted(chosen)]

    def sampling(self, paper: ResponseSampling) -> ResponseSampling:
        """The sampling of a benchmark outside the corpus, from the paper's."""
        settings = self.settings
        greedy = self.greedy or settings.sampling == "greedy"
        tokens = settings.benchmark_tokens
        return ResponseSampling(
            paper.max_tokens if tokens is None else tokens,
            0.0 if greedy else paper.temperature,
            # At temperature 0 all samples are equal.
            1 if greedy else paper.samples,
        )

    def choose(self, *, ours: ItemT, paper: ItemT) -> ItemT:
        """The one of the protocol."""
        return paper if self.settings.protocol == "paper" else ours

    def grader(self, *, ours: Grader, paper: Grader) -> Grader:
        """The protocol's grader, which also gives the verdict of the other one."""
        return partial(_grade_by_both, self.settings.protocol, ours, paper)


def _grade_by_both(
    protocol: EvalProtocol, ours: Grader, paper: Grader, question: Question, response: str
) -> Grade:
    """Grade a response by two graders; ``protocol`` says which verdict is ``right``."""
    return combine(protocol, ours(question, response), paper(question, response))


def combine(protocol: EvalProtocol, ours: Grade, paper: Grade) -> Grade:
    """The grade of ``protocol`` with all other verdicts."""
    verdicts = {**ours.others, **paper.others}
    if protocol == "ours":
        return replace(ours, others={**verdicts, "paper": paper.right})
    return replace(paper, others={**verdicts, "ours": ours.right})


def fingerprint(benchmark: Benchmark) -> str:
    """Hash of everything that decides a score besides the weights and this code."""
    digest = hashlib.sha256(benchmark.name.encode())

    def add(*parts: Any) -> None:
        digest.update(json.dumps(parts, sort_keys=True, default=str).encode())

    if isinstance(benchmark, Generation):
        add(asdict(benchmark.sampling))
        for question in benchmark.questions:
            digest.update(array("I", question.prompt).tobytes())
            add(question.id, question.answer, question.data)
    elif isinstance(benchmark, MultipleChoice):
        for item in benchmark.items:
            add(asdict(item))
    else:
        for first, rest in benchmark.windows:
            digest.update(array("I", [*first, *rest]).tobytes())
    return digest.hexdigest()
