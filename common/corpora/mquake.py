"""MQuAKE: edits of single facts, tested by questions that chain them.

Every single hop of a case after its edits (``new_single_hops``) is a fact to
learn; the case's multi-hop questions are only evaluated. All cases are trained
together, so two cases may need different answers to one question. Then the first
case keeps its answer, the later hop and the questions of its case are left out,
and the contradiction is reported.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from common.corpora import tables
from common.errors import UserError, shown
from common.records import EvalItem, Fact
from common.settings import Filled


@dataclass(frozen=True)
class MQuAKE:
    """The corpus; ``recall`` has one question per fact, with the aliases of its answer."""

    facts: list[Fact]
    recall: list[EvalItem]
    multi_hop: list[EvalItem]
    contradictions: list[str]


class _Edit(BaseModel):
    question: str
    subject: str


class _SingleHop(BaseModel):
    question: Filled
    cloze: str
    answer: Filled
    answer_alias: tuple[str, ...]


class _Case(BaseModel):
    """What is used of a published case."""

    case_id: int | str
    requested_rewrite: tuple[_Edit, ...]
    questions: tuple[Filled, ...]
    new_answer: Filled
    new_answer_alias: tuple[str, ...]
    new_single_hops: tuple[_SingleHop, ...]


@dataclass(frozen=True, slots=True)
class _Hop:
    question: str
    answer: str
    statement: str
    subject: str
    aliases: tuple[str, ...]
    case: str


def build(path: Path) -> MQuAKE:
    """Read the published JSON (or the Parquet of its Hub copy).

    Raises:
        UserError: the file is unreadable, or a case has no value for a required field.
    """
    taught: dict[str, _Hop] = {}
    multi_hop: list[EvalItem] = []
    contradictions = []
    places: dict[str, str] = {}
    for record in tables.read(path):
        case = tables.parse(record, _Case)
        first_place = places.setdefault(str(case.case_id), record.place)
        if first_place != record.place:
            raise UserError(
                f"{record.place}: case_id {shown(str(case.case_id))} was used at {first_place}"
            )
        hops, questions = _taught_and_asked(case)
        against = [hop for hop in hops if taught.setdefault(hop.question, hop).answer != hop.answer]
        for hop in against:
            first = taught[hop.question]
            contradictions.append(
                f"case {hop.case}: {hop.question!r} has the answer {hop.answer!r}, but "
                f"{first.answer!r} in case {first.case}; the later edit and its case's "
                f"{len(questions)} questions are left out"
            )
        if not against:
            multi_hop += questions
    facts = [
        Fact(f"mquake-{number:04}", hop.question, hop.answer, hop.statement, subject=hop.subject)
        for number, hop in enumerate(taught.values(), start=1)
    ]
    recall = [
        EvalItem(fact.id, fact.question, fact.answer, aliases=hop.aliases)
        for fact, hop in zip(facts, taught.values(), strict=True)
    ]
    return MQuAKE(facts, recall, multi_hop, contradictions)


def _taught_and_asked(case: _Case) -> tuple[list[_Hop], list[EvalItem]]:
    # A hop that was not edited has no subject of its own in the file.
    subjects = {edit.question: edit.subject for edit in case.requested_rewrite}
    hops = [
        _Hop(
            hop.question,
            hop.answer,
            f"{hop.cloze} {hop.answer}.",
            subjects.get(hop.question, ""),
            hop.answer_alias,
            str(case.case_id),
        )
        for hop in case.new_single_hops
    ]
    questions = [
        EvalItem(
            f"mquake-{case.case_id}-{number}",
            question,
            case.new_answer,
            aliases=case.new_answer_alias,
        )
        for number, question in enumerate(case.questions, start=1)
    ]
    return hops, questions
