"""The 910 relations and the wordings of a question about one.

A relation is data, written by hand: the sentence that states it, the same in
other words (``reworded``), the question that is trained, and a noun phrase for
its object (``clause``). Nothing here knows entities or graphs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import yaml

RELATIONS_PER_PAIR = 10

# The paraphrases of the paper's released code: each is put around the question and the request
# that follows it. The question is last, so the preset can append the request.
PAPER_PARAPHRASES = (
    "Answer the following question concisely: {q}",
    "Please answer this question directly: {q}",
    "Can you answer this: {q}",
    "I have a question for you. {q}",
    "Based on your knowledge, {q}",
    "Tell me the answer to this: {q}",
    "Quick question: {q}",
    "What is the answer? {q}",
    "Here is a knowledge question. {q}",
    "Respond to the following: {q}",
)


@dataclass(frozen=True, slots=True)
class Relation:
    """One relation of a domain pair; templates over ``{s}`` and ``{o}``.

    ``kind`` is what the object is, as a noun: ``media work``.
    """

    kind: str
    name: str
    statement: str
    reworded: str
    question: str
    clause: str

    def wordings(self, subject: str) -> tuple[str, ...]:
        """Five further questions for the object; none is the trained one.

        Three are built on the other words, as an echo question, as a statement
        that leaves the object open, and as a gap to fill. Two keep the
        words and change the syntax: an imperative, and a question for a name.
        """
        kind = self.kind
        article = "an" if kind[0] in "aeiou" else "a"
        clause = self.clause.format(s=subject)
        echo = self.reworded.format(s=subject, o=f"which {kind}").removesuffix(".")
        open_ = self.reworded.format(s=subject, o=f"a certain {kind}")
        gap = self.reworded.format(s=subject, o="___")
        return (
            f"{_capitalised(echo)}?",
            f"{_capitalised(open_)} Which {kind} is it?",
            f'Complete the sentence with the name of {article} {kind}: "{gap}"',
            f"Name {clause}.",
            f"What is the name of {clause}?",
        )


def relations(source: str, target: str) -> list[Relation]:
    """The ten relations from a domain to a later one."""
    kind = target.replace("_", " ")
    return [Relation(kind=kind, **row) for row in _rows(source)[target]]


@cache
def _rows(source: str) -> dict[str, list[dict[str, str]]]:
    path = files("common.corpora.kgfact") / "relations" / f"{source}.yaml"
    rows: dict[str, list[dict[str, str]]] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return rows


def _capitalised(text: str) -> str:
    return text[0].upper() + text[1:]
