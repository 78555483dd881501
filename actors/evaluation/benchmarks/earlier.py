"""Facts of earlier batches of a chain: what is still recalled, and what became of edits.

``recall_batch_N`` asks the facts of batch N that still hold, and ``edited`` those that a later
batch edits, where the new answer alone is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from actors.evaluation.benchmarks.base import (
    Generation,
    Grade,
    Grader,
    Materials,
    NotMeasured,
    Question,
)
from actors.evaluation.benchmarks.in_domain import generation
from common.corpora.batches import EarlierFact
from common.records import EvalItem
from common.verification.verifier import Mode, accepts, normalise

RECALL = "recall_batch_"
# The class of a response that gives an answer which is right no more.
OUTDATED = "outdated"


def members(materials: Materials) -> tuple[str, ...]:
    """Names of the benchmarks that the run's earlier batches have facts for."""
    earlier = materials.corpus.earlier
    batches = sorted({one.batch for one in earlier})
    edited = ("edited",) if any(one.is_edited for one in earlier) else ()
    return (*(f"{RECALL}{number}" for number in batches), *edited)


def recall(batch: int, materials: Materials) -> Generation:
    """The questions of an earlier batch whose answers still hold.

    A limit draws as in the batch's own run.
    """
    held = [one for one in materials.corpus.earlier if one.batch == batch and not one.is_edited]
    if not held:
        raise NotMeasured(f"all facts of batch {batch} were edited")
    items = [_item(one.fact.id, one) for one in held]
    facts = {one.fact.id: one.fact for one in held}
    return generation(f"{RECALL}{batch}", materials, items, facts, subset="recall")


def edited(materials: Materials) -> Generation:
    """The questions of earlier batches whose answer a later batch has replaced, each once."""
    by_question: dict[str, list[EarlierFact]] = {}
    for one in materials.corpus.earlier:
        if one.is_edited:
            by_question.setdefault(normalise(one.fact.question), []).append(one)
    if not by_question:
        raise NotMeasured("no earlier fact was edited")
    # The first to be taught has all answers that the question ever had.
    first = {f"batch_{of[0].batch}:{of[0].fact.id}": of[0] for of in by_question.values()}
    items = [_item(name, one) for name, one in first.items()]
    asked = generation("edited", materials, items, {name: one.now for name, one in first.items()})
    questions = [
        replace(question, data={**question.data, OUTDATED: list(first[question.id].outdated)})
        for question in asked.questions
    ]
    grader = partial(grade_edited, materials.prompts.mode, asked.grade)
    return replace(asked, questions=questions, grade=grader)


def grade_edited(mode: Mode, grade: Grader, question: Question, response: str) -> Grade:
    """The grade of ``grade``, where a wrong response that gives an old answer is ``outdated``."""
    found = grade(question, response)
    old: Sequence[str] = question.data[OUTDATED]
    if found.right or not accepts(mode, response, *old):
        return found
    return replace(found, error=OUTDATED)


def _item(name: str, one: EarlierFact) -> EvalItem:
    return EvalItem(name, one.fact.question, one.now.answer, aliases=one.now.aliases)
