"""The KGFact corpus: counts, uniqueness, names, templates, and what `check` sees."""

from __future__ import annotations

import os
import re
import string
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.corpora.kgfact import (
    DOMAINS,
    KGFact,
    KGFactSpec,
    Relation,
    build,
    check,
    relations,
)
from common.records import Fact

PAIRS = list(combinations(DOMAINS, 2))


@pytest.fixture(scope="module")
def small() -> KGFact:
    return build(KGFactSpec(domains=5, entities=10, seed=0))


def names(facts: list[Fact]) -> set[str]:
    return {name for fact in facts for name in (fact.subject, fact.answer)}


def every_relation() -> list[tuple[str, str, Relation]]:
    return [(*pair, relation) for pair in PAIRS for relation in relations(*pair)]


@pytest.mark.parametrize(
    ("domains", "entities", "count"),
    [(5, 10, 100), (7, 25, 525), (5, 4, 40), (2, 1, 1), (14, 3, 273)],
)
def test_the_count_of_facts_is_entities_times_the_pairs_of_domains(
    domains: int, entities: int, count: int
) -> None:
    kgfact = build(KGFactSpec(domains=domains, entities=entities, seed=1))
    assert len(kgfact.facts) == len(kgfact.retrieval) == len(kgfact.retrieval_facts) == count
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
    facts = [*kgfact.facts, *kgfact.retrieval_facts]
    asked = Counter((fact.subject, fact.question.replace(fact.subject, "{s}")) for fact in facts)
    answered = Counter((fact.answer, fact.question.replace(fact.subject, "{s}")) for fact in facts)
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


def test_the_first_names_of_seed_zero_are_these(small: KGFact) -> None:
    assert [fact.subject for fact in small.facts[:3]] == [
        "Brilmin Kelilmard",
        "Kilandin Lilmesk",
        "Rendis Malevrov",
    ]


def test_another_seed_gives_other_names() -> None:
    one, two = (build(KGFactSpec(2, 5, seed)) for seed in (0, 1))
    assert not names(one.facts) & names(two.facts)


def test_a_further_domain_or_another_retrieval_slice_leaves_the_facts_as_they_were() -> None:
    base = build(KGFactSpec(3, 8, seed=2))
    wider = build(KGFactSpec(4, 8, seed=2, retrieval_entities=3))
    assert set(base.facts) < set(wider.facts)


def test_no_name_contains_another_and_no_word_comes_twice() -> None:
    kgfact = build(KGFactSpec(domains=14, entities=30, seed=3))
    everyone = sorted(names(kgfact.facts) | names(kgfact.retrieval_facts))
    assert len(everyone) == 14 * 60
    folded = [name.casefold() for name in everyone]
    assert not [(a, b) for a in folded for b in folded if a != b and a in b]
    assert set(Counter(" ".join(folded).split()).values()) == {1}


def test_names_are_plain_capitalised_words() -> None:
    kgfact = build(KGFactSpec(domains=14, entities=20, seed=4))
    for name in names(kgfact.facts):
        assert re.fullmatch(r"[A-Z][a-z]{5,}( [A-Z][a-z]{5,})?", name), name


def test_no_name_stands_in_a_template() -> None:
    text = " ".join(
        f"{relation.statement} {relation.question} {relation.clause}"
        for _, _, relation in every_relation()
    ).casefold()
    kgfact = build(KGFactSpec(domains=14, entities=50, seed=6))
    assert not [name for name in names(kgfact.facts) if name.casefold() in text]


def test_trained_entities_and_retrieval_entities_are_disjoint(small: KGFact) -> None:
    held_out = names(small.retrieval_facts)
    assert len(held_out) == 50
    assert not names(small.facts) & held_out
    contexts = " ".join(line for item in small.retrieval for line in item.context)
    assert not [name for name in names(small.facts) if name in contexts]


def test_a_context_is_the_gold_statement_and_all_others_that_touch_its_ends(
    small: KGFact,
) -> None:
    for item, gold in zip(small.retrieval, small.retrieval_facts, strict=True):
        assert (item.id, item.question, item.answer) == (gold.id, gold.question, gold.answer)
        touching = [
            fact.statement
            for fact in small.retrieval_facts
            if {fact.subject, fact.answer} & {gold.subject, gold.answer}
        ]
        # Of 5 domains each end has 4 edges, and the gold fact is one of both.
        assert len(touching) == 7
        assert sorted(item.context) == sorted(touching)


def test_distractors_are_bounded_and_the_gold_statement_is_not_always_first() -> None:
    kgfact = build(KGFactSpec(domains=5, entities=10, seed=0, distractors=3))
    assert {len(item.context) for item in kgfact.retrieval} == {4}
    places = {
        item.context.index(gold.statement)
        for item, gold in zip(kgfact.retrieval, kgfact.retrieval_facts, strict=True)
    }
    assert places == {0, 1, 2, 3}
    alone = build(KGFactSpec(domains=5, entities=10, seed=0, distractors=0))
    assert [item.context for item in alone.retrieval] == [
        (gold.statement,) for gold in alone.retrieval_facts
    ]


def test_every_pair_of_domains_has_ten_relations_of_different_names() -> None:
    assert len(PAIRS) == 91
    for pair in PAIRS:
        found = [relation.name for relation in relations(*pair)]
        assert len(found) == len(set(found)) == 10, pair
        assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", name) for name in found), pair


def test_no_template_comes_twice() -> None:
    for field in ("statement", "question", "clause"):
        seen = Counter(getattr(relation, field) for _, _, relation in every_relation())
        assert not [text for text, count in seen.items() if count > 1]


def test_templates_have_their_slots_their_stops_and_the_kind_of_the_object() -> None:
    def slots(template: str) -> list[str]:
        return sorted(slot for _, slot, _, _ in string.Formatter().parse(template) if slot)

    for source, target, relation in every_relation():
        where = f"{source} {target} {relation.name}"
        kind = target.replace("_", " ")
        assert slots(relation.statement) == ["o", "s"], where
        assert slots(relation.question) == slots(relation.clause) == ["s"], where
        assert re.fullmatch(r"[A-Z{][^.?]*\.", relation.statement), where
        assert re.fullmatch(r"[A-Z][^.?]*\?", relation.question), where
        assert f"which {kind} " in relation.question.casefold(), where
        assert re.fullmatch(rf"the {kind} [^.?]*[^.?\s]", relation.clause), where


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
    with pytest.raises(ValueError, match=re.escape(message)):
        KGFactSpec(**{"domains": 5, "entities": 10, "seed": 0, **change})


def with_fact(kgfact: KGFact, index: int, **change: str) -> KGFact:
    facts = list(kgfact.facts)
    facts[index] = replace(facts[index], **change)
    return replace(kgfact, facts=facts)


def test_check_finds_a_second_object_of_a_subject_and_relation(small: KGFact) -> None:
    fact = small.facts[0]
    other = small.facts[1].answer
    again = replace(
        fact,
        id="kgfact-person-location-010",
        answer=other,
        statement=fact.statement.replace(fact.answer, other),
    )
    problems = check(replace(small, facts=[*small.facts, again]))
    assert f"{again.id}: same subject and relation as {fact.id}" in problems


def test_check_finds_a_second_subject_of_an_object_and_relation(small: KGFact) -> None:
    fact, other = small.facts[0], small.facts[1].subject
    planted = with_fact(
        small,
        1,
        answer=fact.answer,
        statement=fact.statement.replace(fact.subject, other),
    )
    assert f"{small.facts[1].id}: same object and relation as {fact.id}" in check(planted)


def test_check_finds_a_repeated_fact(small: KGFact) -> None:
    fact = small.facts[0]
    problems = check(replace(small, facts=[*small.facts, fact]))
    assert f"{fact.id}: same id as {fact.id}" in problems


def test_check_finds_a_name_in_two_domains(small: KGFact) -> None:
    person, event = small.facts[0].subject, "kgfact-event-profession-000"
    index = next(i for i, fact in enumerate(small.facts) if fact.id == event)
    assert f"{event}: {person} is a name in person too" in check(
        with_fact(small, index, subject=person)
    )


def test_check_finds_a_name_inside_another(small: KGFact) -> None:
    fact = small.facts[0]
    inner = fact.answer[1:].casefold()
    planted = with_fact(
        small, 1, answer=inner, statement=f"{small.facts[1].subject} likes {inner}."
    )
    assert f"{inner}: is part of the name {fact.answer}" in check(planted)


def test_check_finds_an_answer_given_away_or_left_out(small: KGFact) -> None:
    fact = small.facts[0]
    assert check(with_fact(small, 0, question=f"Is it {fact.answer.lower()}?")) == [
        f"{fact.id}: the answer is in the question"
    ]
    assert f"{fact.id}: the answer is not in the statement" in check(
        with_fact(small, 0, statement=f"{fact.subject} lives somewhere.")
    )


def test_check_finds_a_context_without_its_gold_statement(small: KGFact) -> None:
    item, gold = small.retrieval[0], small.retrieval_facts[0]
    context = tuple(line for line in item.context if line != gold.statement)
    planted = replace(small, retrieval=[replace(item, context=context), *small.retrieval[1:]])
    assert check(planted) == [f"{item.id}: the gold statement is not in the context"]


def test_check_finds_a_trained_entity_in_the_retrieval_slice(small: KGFact) -> None:
    item, trained = small.retrieval[0], small.facts[0]
    leaked = replace(item, context=(*item.context, trained.statement))
    planted = replace(small, retrieval=[leaked, *small.retrieval[1:]])
    assert check(planted) == [f"{item.id}: the context goes beyond the retrieval slice"]

    shared = replace(small, retrieval_facts=[*small.retrieval_facts, trained])
    assert f"{trained.subject}: trained, and in the retrieval slice" in check(shared)
