"""The graph of a KGFact corpus: counts, uniqueness, and the splits read off it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.corpora.kgfact import KGFact, KGFactSpec, build, check, relations
from common.errors import UserError
from common.records import Fact


def names(facts: list[Fact]) -> set[str]:
    return {name for fact in facts for name in (fact.subject, fact.answer)}


def gold_of(kgfact: KGFact) -> list[Fact]:
    """The fact of each retrieval item."""
    known = {fact.id: fact for fact in kgfact.held_out}
    return [known[item.id] for item in kgfact.retrieval]


@pytest.mark.parametrize(
    ("domains", "entities", "count"),
    [(5, 10, 100), (7, 25, 525), (5, 4, 40), (2, 1, 1), (14, 3, 273)],
)
def test_the_count_of_facts_is_entities_times_the_pairs_of_domains(
    domains: int, entities: int, count: int
) -> None:
    kgfact = build(KGFactSpec(domains=domains, entities=entities, seed=1))
    assert len(kgfact.facts) == len(kgfact.retrieval) == count
    assert check(kgfact) == []


def test_the_retrieval_slice_has_its_own_size() -> None:
    assert len(build(KGFactSpec(3, 10, seed=0, retrieval_entities=4)).retrieval) == 12
    assert build(KGFactSpec(3, 10, seed=0, retrieval_entities=0)).retrieval == []


def test_every_pair_of_domains_has_one_fact_per_source_entity(small: KGFact) -> None:
    pairs = Counter(fact.id.rsplit("-", 1)[0] for fact in small.facts)
    assert len(pairs) == 10
    assert set(pairs.values()) == {10}
    assert pairs["kgfact-person-location"] == 10
    assert small.facts[3].id == "kgfact-person-location-003"


def test_ten_entities_use_each_of_the_ten_relations_once(small: KGFact) -> None:
    edges = [fact for fact in small.facts if "-person-location-" in fact.id]
    assert {relation.statement for relation in relations("person", "location")} == {
        fact.statement.replace(fact.subject, "{s}").replace(fact.answer, "{o}") for fact in edges
    }


@settings(max_examples=12, deadline=None)
@given(
    domains=st.integers(2, 14),
    entities=st.integers(1, 15),
    retrieval_entities=st.none() | st.integers(0, 12),
    distractors=st.integers(0, 8),
    seed=st.integers(-3, 2**40),
)
def test_any_spec_gives_a_sound_corpus(
    domains: int, entities: int, retrieval_entities: int | None, distractors: int, seed: int
) -> None:
    spec = KGFactSpec(domains, entities, seed, distractors, retrieval_entities)
    assert check(build(spec)) == []


def test_a_subject_and_a_question_have_one_answer_and_an_answer_has_one_subject() -> None:
    kgfact = build(KGFactSpec(domains=4, entities=25, seed=5))
    for facts in (kgfact.facts, kgfact.held_out):
        templates = [fact.question.replace(fact.subject, "{s}") for fact in facts]
        asked = Counter(zip((fact.subject for fact in facts), templates, strict=True))
        answered = Counter(zip((fact.answer for fact in facts), templates, strict=True))
        assert set(asked.values()) == set(answered.values()) == {1}


def test_the_same_seed_gives_the_same_bytes_whatever_the_hash_seed() -> None:
    code = (
        "import hashlib; from common.corpora.kgfact import *;"
        "print(hashlib.sha256(repr(build(KGFactSpec(4, 6, 11))).encode()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={
                **os.environ,
                "PYTHONHASHSEED": hash_seed,
                "PYTHONPATH": os.pathsep.join(sys.path),
            },
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("0", "1", "271828")
    }
    assert len(digests) == 1
    assert len(digests.pop().strip()) == 64


def test_a_further_domain_or_another_retrieval_slice_leaves_the_facts_as_they_were() -> None:
    base = build(KGFactSpec(3, 8, seed=2))
    wider = build(KGFactSpec(4, 8, seed=2, retrieval_entities=3))
    assert set(base.facts) < set(wider.facts)


def test_trained_entities_and_retrieval_entities_are_disjoint(small: KGFact) -> None:
    held_out = names(small.held_out)
    assert len(held_out) == 50
    assert not names(small.facts) & held_out
    contexts = " ".join(line for item in small.retrieval for line in item.context)
    assert not [name for name in names(small.facts) if name in contexts]


def test_there_is_one_retrieval_item_for_each_subject_and_later_domain(small: KGFact) -> None:
    asked = Counter((fact.subject, *fact.id.split("-")[2:4]) for fact in gold_of(small))
    assert len(asked) == 100
    assert set(asked.values()) == {1}
    assert [(item.question, item.answer) for item in small.retrieval] == [
        (fact.question, fact.answer) for fact in gold_of(small)
    ]


@pytest.mark.parametrize(
    ("domains", "entities", "statements"), [(7, 25, 50), (5, 10, 50), (4, 10, 50), (3, 10, 39)]
)
def test_a_context_is_the_gold_statement_and_49_others_that_touch_its_ends(
    domains: int, entities: int, statements: int
) -> None:
    # Of d domains each end touches 10 (d - 1) statements, the gold one with both:
    # 2 (10 (d - 1) - 1) others, which is 38 at d = 3.
    kgfact = build(KGFactSpec(domains, entities, seed=0))
    ends = {fact.statement: {fact.subject, fact.answer} for fact in kgfact.held_out}
    for item, gold in zip(kgfact.retrieval, gold_of(kgfact), strict=True):
        assert gold.statement in item.context
        assert len(item.context) == len(set(item.context)) == statements
        assert all(ends[line] & {gold.subject, gold.answer} for line in item.context)


def test_the_ends_of_a_retrieval_item_stand_together_in_its_gold_statement_alone() -> None:
    kgfact = build(KGFactSpec(domains=7, entities=25, seed=3))
    for item, gold in zip(kgfact.retrieval, gold_of(kgfact), strict=True):
        both = [line for line in item.context if gold.subject in line and gold.answer in line]
        assert both == [gold.statement]


def test_distractors_are_bounded_and_the_gold_statement_is_not_always_first() -> None:
    kgfact = build(KGFactSpec(domains=5, entities=10, seed=0, distractors=3))
    assert {len(item.context) for item in kgfact.retrieval} == {4}
    places = {
        item.context.index(gold.statement)
        for item, gold in zip(kgfact.retrieval, gold_of(kgfact), strict=True)
    }
    assert places == {0, 1, 2, 3}
    alone = build(KGFactSpec(domains=5, entities=10, seed=0, distractors=0))
    assert [item.context for item in alone.retrieval] == [
        (gold.statement,) for gold in gold_of(alone)
    ]


def test_the_two_hop_split_is_every_chain_through_the_trained_facts(small: KGFact) -> None:
    # A chain takes an entity of domain i over j to k: 10 entities x C(5, 3).
    chains = [
        (first, second)
        for first in small.facts
        for second in small.facts
        if second.subject == first.answer
    ]
    assert len(chains) == len(small.two_hop) == 100
    for (first, second), item in zip(chains, small.two_hop, strict=True):
        assert item.id == f"{first.id}+{second.id}"
        assert item.answer == second.answer
        assert first.subject in item.question
        assert first.answer not in item.question
    assert len(build(KGFactSpec(7, 25, seed=0)).two_hop) == 875


def test_a_two_hop_question_puts_the_clause_of_the_first_fact_into_the_second() -> None:
    kgfact = build(KGFactSpec(3, 2, seed=0))
    first, second = kgfact.facts[1], kgfact.facts[5]
    assert (first.subject, second.subject) == ("Kilandin Lilmesk", first.answer)
    (item,) = [item for item in kgfact.two_hop if item.id == f"{first.id}+{second.id}"]
    assert item.question == (
        "Which organization is forbidden to operate in the location to which Kilandin Lilmesk "
        "plans to retire?"
    )


def test_the_paraphrased_split_asks_every_fact_in_five_wordings(small: KGFact) -> None:
    assert len(small.paraphrased) == 500
    for index, fact in enumerate(small.facts):
        items = small.paraphrased[5 * index : 5 * index + 5]
        assert [item.id for item in items] == [f"{fact.id}#{n}" for n in range(1, 6)]
        assert {item.answer for item in items} == {fact.answer}
        assert all(fact.subject in item.question for item in items)
        assert not any(fact.answer in item.question for item in items)


def test_in_the_papers_wording_every_fact_has_one_paraphrase_with_the_trained_question(
    small: KGFact,
) -> None:
    paper = build(KGFactSpec(domains=5, entities=10, seed=0, wording="paper"))
    assert paper.facts == small.facts
    assert paper.retrieval == small.retrieval
    for fact, item in zip(paper.facts, paper.paraphrased, strict=True):
        assert (item.id, item.answer) == (f"{fact.id}#1", fact.answer)
        assert item.question.endswith(f" {fact.question}")
    wider = build(KGFactSpec(domains=6, entities=10, seed=0, wording="paper"))
    assert set(paper.paraphrased) <= set(wider.paraphrased)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"domains": 1}, "domains: 1 is outside 2..14"),
        ({"domains": 15}, "domains: 15 is outside 2..14"),
        ({"entities": 0}, "entities: 0 is outside 1..1000"),
        ({"retrieval_entities": 1001}, "retrieval_entities: 1001 is outside 0..1000"),
        ({"distractors": -1}, "distractors: -1 is below 0"),
    ],
)
def test_a_spec_out_of_bounds_is_refused_by_name(change: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        KGFactSpec(**{"domains": 5, "entities": 10, "seed": 0, **change})
