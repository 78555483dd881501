"""Facts of earlier batches of a chain: what is still recalled, and what became of changes.

``recall_batch_N`` asks the facts of batch N that still hold; ``edited`` those that a later batch
edits, where the new answer alone is right; ``retracted`` those that a later batch or the run's own
retracts, where every response is right that does not give the old answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from actors.evaluation.benchmarks.base import (
    Generation,
    Grade,
    Grader,
    Materials,
    NotMeasured,
    Question,
    ResponseSampling,
)
from actors.evaluation.benchmarks.in_domain import generation
from common.corpora.batches import EarlierFact
from common.records import EvalItem, Fact
from common.verification.verifier import Mode, accepts, normalise

RECALL = "recall_batch_"
# The class of a response that gives an answer which is right no more.
OUTDATED = "outdated"


def members(materials: Materials) -> tuple[str, ...]:
    """Names of the benchmarks that the run's earlier batches have facts for."""
    earlier = materials.corpus.earlier
    batches = sorted({one.batch for one in earlier})
    changed = []
    if any(one.is_edited for one in earlier):
        changed.append("edited")
    if any(fact.retract for fact in materials.corpus.taught):
        changed.append("retracted")
    return (*(f"{RECALL}{number}" for number in batches), *changed)


def recall(batch: int, materials: Materials) -> Generation:
    """The questions of an earlier batch whose answers still hold.

    A limit draws as in the batch's own run.
    """
    held = [one for one in materials.corpus.earlier if one.batch == batch and one.holds]
    if not held:
        raise NotMeasured(f"all facts of batch {batch} were edited or retracted")
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


def retracted(materials: Materials) -> Generation:
    """The questions whose answer is to be given no more, each once."""
    found: dict[str, Question] = {}
    prompts = materials.prompts
    for name, fact, answers in _retractions(materials):
        key = normalise(fact.question)
        if key in found:
            answers = (*dict.fromkeys((*found[key].data[OUTDATED], *answers)),)
        data = {OUTDATED: list(answers)}
        found[key] = Question(name, prompts.naive(fact), fact.question, prompts.refusal, data)
    if not found:
        raise NotMeasured("no fact was retracted")
    questions = materials.subset("retracted", [*found.values()])
    sampling = ResponseSampling(materials.settings.response_tokens("retracted"))
    return Generation("retracted", questions, grade_retracted, sampling)


def grade_retracted(question: Question, response: str) -> Grade:
    """Whether the response gives none of the old answers, whatever it says instead."""
    extracted = response.strip() or None
    if accepts("contains", response, *question.data[OUTDATED]):
        return Grade(False, extracted, error=OUTDATED)
    return Grade(True, extracted)


def _retractions(materials: Materials) -> Iterator[tuple[str, Fact, tuple[str, ...]]]:
    """Each retraction: its id, a fact with the question, and the answers to leave out."""
    for one in materials.corpus.earlier:
        if one.is_retracted:
            yield f"batch_{one.batch}:{one.fact.id}", one.fact, one.outdated or one.fact.spellings
    for fact in materials.corpus.facts:
        if fact.retract:
            yield fact.id, fact, fact.spellings


def grade_edited(mode: Mode, grade: Grader, question: Question, response: str) -> Grade:
    """The grade of ``grade``, where a wrong response that gives an old answer is ``outdated``."""
    found = grade(question, response)
    old: Sequence[str] = question.data[OUTDATED]
    if found.right or not accepts(mode, response, *old):
        return found
    return replace(found, error=OUTDATED)


def _item(name: str, one: EarlierFact) -> EvalItem:
    return EvalItem(name, one.fact.question, one.now.answer, aliases=one.now.aliases)
