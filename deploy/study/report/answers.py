"""What each arm answers to each in-domain question, side by side."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from actors.evaluation.scores import Response
from common.printable import printable
from common.rundir import replacing
from deploy.study.report.arms import Arm, Group, StudyFigures
from deploy.study.report.items import Key, is_validation, key_of, responses_at

# The page shows so many facts and characters of a response; the CSV has all.
MOST_FACTS = 500
_MOST_CHARS = 300
_HEAD = (
    *("setting", "benchmark", "item", "half", "question", "answer", "method", "seed", "step"),
    *("right", "strict", "response"),
)


@dataclass(frozen=True, slots=True)
class Answer:
    """One response; ``strict`` is None without a strict grader."""

    text: str
    right: bool
    strict: bool | None


@dataclass(frozen=True, slots=True)
class Fact:
    """A question with the answers of all columns; None where one was not asked."""

    item: str
    question: str
    answer: str
    answers: tuple[Answer | None, ...]

    @property
    def kinds(self) -> str:
        """What the page's filter can find it by."""
        known = [one for one in self.answers if one is not None]
        right = {one.right for one in known[1:]}
        found = [
            ("wrong", False in right),
            ("differ", len(right) > 1),
            ("loose", any(one.right and one.strict is False for one in known)),
        ]
        return " ".join(name for name, applies in found if applies)


@dataclass(frozen=True, slots=True)
class FactTable:
    """The first facts of a group; ``more`` are in the CSV alone.

    ``columns`` are (arm, its seed and step), the base first.
    """

    group: str
    benchmark: str
    columns: tuple[tuple[str, str], ...]
    facts: tuple[Fact, ...]
    more: int


def fact_tables(study: StudyFigures) -> list[FactTable]:
    """One table for each group with responses; they share ``MOST_FACTS``."""
    groups = [group for group in study.groups if group.trained]
    most = max(1, MOST_FACTS // max(1, len(groups)))
    tables = [_table(group, most) for group in groups]
    return [table for table in tables if table.facts]


def write_answers(study: StudyFigures, path: Path) -> None:
    """Every response of every arm and seed at its selected checkpoint, as CSV."""
    with replacing(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_HEAD)
        for group in study.groups:
            for arm in group.measured:
                for seed in sorted(arm.cells):
                    writer.writerows(_rows(group, arm, seed))


def _rows(group: Group, arm: Arm, seed: str) -> Iterator[tuple[object, ...]]:
    for one in _responses(group, arm, seed):
        half = ("validation" if is_validation(one.id) else "reported") if group.scope.split else ""
        texts = (printable(text) for text in (one.id, half, one.question, one.answer))
        yield (
            *(group.label, one.benchmark, *texts, arm.label, seed, arm.step(seed)),
            *(int(bool(one.right)), _int(one.verdicts.get("strict")), printable(one.response)),
        )


def _table(group: Group, most: int) -> FactTable:
    arms = group.measured
    shared = set.intersection(*(set(arm.cells) for arm in arms))
    seeds = [min(shared or arm.cells) for arm in arms]
    questions: dict[Key, Response] = {}
    by_arm: list[dict[Key, Answer]] = []
    for arm, seed in zip(arms, seeds, strict=True):
        answers: dict[Key, Answer] = {}
        for one in _responses(group, arm, seed):
            questions.setdefault(key_of(one), one)
            answers.setdefault(key_of(one), _answer(one))
        by_arm.append(answers)
    facts = [
        Fact(
            printable(of.id),
            printable(of.question),
            printable(of.answer),
            tuple(answers.get(key) for answers in by_arm),
        )
        for key, of in list(questions.items())[:most]
    ]
    columns = [
        (arm.label, "" if arm.is_base else f"seed {seed}, step {arm.step(seed)}")
        for arm, seed in zip(arms, seeds, strict=True)
    ]
    more = max(0, len(questions) - most)
    return FactTable(group.label, group.scope.in_domain, tuple(columns), tuple(facts), more)


def _responses(group: Group, arm: Arm, seed: str) -> Iterator[Response]:
    return responses_at(arm.cells[seed].results, arm.step(seed), group.scope.in_domain)


def _answer(of: Response) -> Answer:
    text = printable(of.response)
    short = text if len(text) <= _MOST_CHARS else f"{text[:_MOST_CHARS]}…"
    return Answer(short, bool(of.right), of.verdicts.get("strict"))


def _int(verdict: bool | None) -> int | str:
    return "" if verdict is None else int(verdict)
