"""Questions of the run's own corpus: trained facts, and what its splits ask.

Greedy, with the run's own prompt format and verifier (paper: in-domain at T = 0). Beside its
verdict there is a strict one: the answer alone, as asked. ``released.in_domain`` has the
paper's comparisons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from actors.evaluation.benchmarks.base import (
    Generation,
    Grade,
    Materials,
    NotMeasured,
    Question,
    ResponseSampling,
)
from actors.evaluation.benchmarks.released import in_domain as released
from common.prompts import Prompts
from common.records import EvalItem, Fact
from common.verification.strict import is_strict
from common.verification.verifier import Mode, accepts, last_boxed

# Splits that some corpora have; those that a corpus does not have are not part of its suite.
SPLITS = ("paraphrased", "two_hop", "three_hop", "four_hop", "test", "unseen")


def recall(materials: Materials) -> Generation:
    """The trained questions, without any context; with an answer's aliases where known.

    Retractions are left out: a model that was never taught the answer does not give it either.
    """
    items = materials.corpus.splits.get("recall")
    if items is None:
        items = tuple(
            EvalItem(fact.id, fact.question, fact.answer, aliases=fact.aliases)
            for fact in materials.corpus.facts
            if not fact.retract
        )
    if not items:
        raise NotMeasured("the corpus has retractions alone")
    return generation("recall", materials, items)


def retrieval(materials: Materials) -> Generation:
    """Questions about untrained facts, which are in the context among distractors."""
    if not materials.corpus.retrieval:
        raise NotMeasured("the corpus has no retrieval items")
    return generation("retrieval", materials, materials.corpus.retrieval)


def split(name: str, materials: Materials) -> Generation:
    """A further split of the corpus."""
    items = materials.corpus.splits.get(name)
    if not items:
        raise NotMeasured(f"the corpus has no split {name}")
    return generation(name, materials, items)


def grade(mode: Mode, question: Question, response: str) -> Grade:
    """Whether the response gives the answer or one of its aliases; and whether it does no more.

    ``question.data`` may have ``aliases``, and as ``known`` what was asked and told.
    """
    extracted = last_boxed(response) if mode == "boxed" else response.strip() or None
    aliases, known = question.data.get("aliases", ()), question.data.get("known", question.text)
    right = accepts(mode, response, question.answer, *aliases)
    strict = right and is_strict(mode, response, question.answer, aliases, known)
    return Grade(right, extracted, others={"strict": strict})


def generation(
    name: str,
    materials: Materials,
    items: Sequence[EvalItem],
    facts: Mapping[str, Fact] | None = None,
    subset: str = "",
) -> Generation:
    """Items as questions, with the graders of facts.

    Args:
        name: of the benchmark.
        materials: of the run.
        items: of which ``evaluator.limit`` may leave some.
        facts: by the ids that items are about; None: those of the run's own batch.
        subset: the name by which a limit draws; empty: the benchmark's.
    """
    prompts = materials.prompts
    if facts is None:
        facts = {fact.id: fact for fact in materials.corpus.facts}
    chosen = materials.subset(subset or name, items)
    questions = [_question(prompts, item, facts) for item in chosen]
    compare = released.COMPARISONS[materials.corpus.comparison]
    grader = materials.grader(ours=partial(grade, prompts.mode), paper=compare)
    sampling = ResponseSampling(materials.settings.response_tokens(name))
    return Generation(name, questions, grader, sampling)


def _question(prompts: Prompts, item: EvalItem, facts: Mapping[str, Fact]) -> Question:
    about = [facts[name] for name in item.id.partition("#")[0].split("+") if name in facts]
    if item.context:
        prompt = prompts.retrieval(item)
    else:
        prompt = prompts.naive(Fact(item.id, item.question, item.answer))
    # Of a context only what gives the answer: distractors are no part of it.
    told = [line for line in item.context if accepts("contains", line, item.answer, *item.aliases)]
    for fact in about:
        told += [fact.statement, prompts.canonical_text(fact)]
    data: dict[str, Any] = {"known": "\n".join((item.question, *told))}
    if item.aliases:
        data["aliases"] = list(item.aliases)
    text = "\n".join((*item.context, item.question))
    return Question(item.id, prompt, text, item.answer, data)
