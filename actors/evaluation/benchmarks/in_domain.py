"""Questions of the run's own corpus: trained facts, and what its splits ask.

Greedy, with the run's own prompt format and verifier (paper: in-domain at T = 0).
``released.in_domain`` has the paper's comparisons.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

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
from common.verification.verifier import Mode, accepts, last_boxed

# Splits that some corpora have; those that a corpus does not have are not part of its suite.
SPLITS = ("paraphrased", "two_hop", "three_hop", "four_hop", "test", "unseen")


def recall(materials: Materials) -> Generation:
    """The trained questions, without any context; with an answer's aliases where known."""
    items = materials.corpus.splits.get("recall")
    if items is None:
        facts = materials.subset("recall", materials.corpus.facts)
        return _generation("recall", materials, [_asked(materials.prompts, fact) for fact in facts])
    return _split("recall", materials, items)


def retrieval(materials: Materials) -> Generation:
    """Questions about untrained facts, which are in the context among distractors."""
    if not materials.corpus.retrieval:
        raise NotMeasured("the corpus has no retrieval items")
    return _split("retrieval", materials, materials.corpus.retrieval)


def split(name: str, materials: Materials) -> Generation:
    """A further split of the corpus."""
    items = materials.corpus.splits.get(name)
    if not items:
        raise NotMeasured(f"the corpus has no split {name}")
    return _split(name, materials, items)


def grade(mode: Mode, question: Question, response: str) -> Grade:
    """Whether the response gives the answer or one of its aliases."""
    extracted = last_boxed(response) if mode == "boxed" else response.strip() or None
    spellings = (question.answer, *question.data.get("aliases", ()))
    return Grade(any(accepts(mode, response, spelling) for spelling in spellings), extracted)


def _split(name: str, materials: Materials, items: Sequence[EvalItem]) -> Generation:
    return _generation(
        name,
        materials,
        [_question(materials.prompts, item) for item in materials.subset(name, items)],
    )


def _generation(name: str, materials: Materials, questions: list[Question]) -> Generation:
    sampling = ResponseSampling(materials.settings.response_tokens(name))
    compare = released.COMPARISONS[materials.corpus.comparison]
    grader = materials.grader(ours=partial(grade, materials.prompts.mode), paper=compare)
    return Generation(name, questions, grader, sampling)


def _asked(prompts: Prompts, fact: Fact) -> Question:
    return Question(fact.id, prompts.naive(fact), fact.question, fact.answer)


def _question(prompts: Prompts, item: EvalItem) -> Question:
    if item.context:
        prompt = prompts.retrieval(item)
    else:
        prompt = prompts.naive(Fact(item.id, item.question, item.answer))
    aliases = list(item.aliases)
    text = "\n".join((*item.context, item.question))
    return Question(item.id, prompt, text, item.answer, {"aliases": aliases} if aliases else {})
