"""MQuAKE: edits of single facts, tested by questions that chain them.

Every single hop of a case after its edits (``new_single_hops``) is a fact to
learn; the case's multi-hop questions are only evaluated. All cases are trained
together, so two cases may need different answers to one question. Then the first
case keeps its answer, the later hop and the questions of its case are left out,
and the contradiction is reported.

A limit takes whole cases, so that each question that is kept has all its facts
trained. Cases that share no fact with these make the held-out retrieval items.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from common.corpora import mquake_cases, tables
from common.corpora.mquake_cases import Case
from common.corpora.settings import MQuAKESettings
from common.errors import UserError, shown
from common.records import EvalItem, Fact
from common.settings import Filled

SPLITS = {2: "two_hop", 3: "three_hop", 4: "four_hop"}


@dataclass(frozen=True)
class MQuAKE:
    """The corpus.

    ``retrieval`` questions are about facts that are not trained. ``splits`` are ``recall``,
    one question per fact with the aliases of its answer, and the multi-hop questions by their
    number of hops. ``remarks`` are on what is left out, one line each.
    Facts have the aliases of their answers too, so rollouts are verified as recall is graded.
    """

    facts: list[Fact]
    retrieval: list[EvalItem]
    splits: dict[str, tuple[EvalItem, ...]]
    remarks: list[str]


class _Edit(BaseModel):
    question: str
    subject: str
    relation_id: str | None = None


class _SingleHop(BaseModel):
    question: Filled
    cloze: str
    answer: Filled
    answer_alias: tuple[str, ...]


class _Row(BaseModel):
    """What is used of a published case."""

    case_id: int | str
    requested_rewrite: tuple[_Edit, ...]
    questions: tuple[Filled, ...]
    new_answer: Filled
    new_answer_alias: tuple[str, ...]
    new_single_hops: tuple[_SingleHop, ...]


@dataclass(frozen=True, slots=True)
class _Taught:
    fact: Fact
    case_id: int | str


def build(path: Path, settings: MQuAKESettings, limit: int | None = None) -> MQuAKE:
    """Read the published JSON (or the Parquet of its Hub copy).

    Args:
        path: the file.
        settings: sizes and seed of the held-out items; the seed of the choice of cases.
        limit: most facts to train; none: all.

    Raises:
        UserError: the file is unreadable, a case has no value for a required field, or no
            case fits the limit.
    """
    taught, cases, remarks = _number(_read(path))
    kept = set(taught)
    if limit is not None and limit < len(taught):
        chosen = mquake_cases.choose(cases, limit, random.Random(settings.seed))
        if cases and not chosen:
            smallest = min(len(set(case.facts)) for case in cases)
            raise UserError(
                f"data.limit: {limit} is less than the {smallest} facts of the smallest case in "
                f"{path}; cases are kept whole, so raise it"
            )
        kept, remarks = {fact for case in chosen for fact in case.facts}, []
    splits, skipped = _multi_hop(cases, kept)
    if skipped:
        remarks.append(f"{skipped} questions over fewer than 2 or more than 4 hops are left out")
    recall = tuple(
        EvalItem(key, one.fact.question, one.fact.answer, aliases=one.fact.aliases)
        for key, one in taught.items()
        if key in kept
    )
    return MQuAKE(
        [one.fact for key, one in taught.items() if key in kept],
        _retrieval(taught, mquake_cases.apart(cases, kept), settings),
        {"recall": recall, **splits},
        remarks,
    )


def _read(path: Path) -> list[_Row]:
    rows = []
    places: dict[str, str] = {}
    for record in tables.read(path):
        row = tables.parse(record, _Row)
        first_place = places.setdefault(str(row.case_id), record.place)
        if first_place != record.place:
            raise UserError(
                f"{record.place}: case_id {shown(str(row.case_id))} was used at {first_place}"
            )
        rows.append(row)
    return rows


def _number(rows: Iterable[_Row]) -> tuple[dict[str, _Taught], list[Case], list[str]]:
    """Facts by id, the cases that agree with them, and the contradictions of the others."""
    by_question: dict[str, _Taught] = {}
    cases, contradictions = [], []
    for row in rows:
        # A hop that was not edited has no subject of its own in the file.
        subjects = {edit.question: edit.subject for edit in row.requested_rewrite}
        ids, agrees = [], True
        for hop in row.new_single_hops:
            fact = Fact(
                f"mquake-{len(by_question) + 1:04}",
                hop.question,
                hop.answer,
                f"{hop.cloze} {hop.answer}.",
                subject=subjects.get(hop.question, ""),
                aliases=hop.answer_alias,
            )
            new = _Taught(fact, row.case_id)
            first = by_question.setdefault(hop.question, new)
            ids.append(first.fact.id)
            if first.fact.answer != hop.answer:
                agrees = False
                contradictions.append(
                    f"case {row.case_id}: {hop.question!r} has the answer {hop.answer!r}, but "
                    f"{first.fact.answer!r} in case {first.case_id}; the later edit and its "
                    f"case's {len(row.questions)} questions are left out"
                )
        if agrees:
            relation = row.requested_rewrite[0].relation_id if row.requested_rewrite else None
            answer = (row.new_answer, row.new_answer_alias)
            cases.append(Case(relation or "", tuple(ids), row.questions, *answer))
    return {one.fact.id: one for one in by_question.values()}, cases, contradictions


def _multi_hop(
    cases: Sequence[Case], kept: set[str]
) -> tuple[dict[str, tuple[EvalItem, ...]], int]:
    """Different questions of which all facts are kept, by split; how many have no split."""
    found: dict[str, dict[str, EvalItem]] = {name: {} for name in SPLITS.values()}
    numbers: Counter[str] = Counter()
    skipped = 0
    for case in cases:
        if not kept.issuperset(case.facts):
            continue
        name = SPLITS.get(len(case.facts))
        if name is None:
            skipped += len(case.questions)
            continue
        about = "+".join(case.facts)
        for question in case.questions:
            if question not in found[name]:
                numbers[about] += 1
                item = EvalItem(
                    f"{about}#{numbers[about]}", question, case.answer, aliases=case.aliases
                )
                found[name][question] = item
    return {name: tuple(items.values()) for name, items in found.items() if items}, skipped


def _retrieval(
    taught: dict[str, _Taught], apart: Sequence[Case], settings: MQuAKESettings
) -> list[EvalItem]:
    """Facts of held-out cases, each asked with its statement among those of others."""
    # The seeds differ as in the released converter; at 42 the draws are its draws.
    chosen = mquake_cases.choose(apart, settings.held_out, random.Random(settings.seed + 10))
    held_out = [taught[key] for key in dict.fromkeys(key for case in chosen for key in case.facts)]
    rng = random.Random(settings.seed + 2)
    items = []
    for one in held_out:
        gold = one.fact
        others = [other.fact.statement for other in held_out if other is not one]
        rng.shuffle(others)
        context = [gold.statement, *others[: settings.distractors]]
        rng.shuffle(context)
        items.append(EvalItem(gold.id, gold.question, gold.answer, tuple(context), gold.aliases))
    return items
