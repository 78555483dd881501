"""What the check of a KGFact corpus sees."""

from __future__ import annotations

from dataclasses import replace

from common.corpora.kgfact import KGFact, check


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
    item = small.retrieval[0]
    gold = next(fact.statement for fact in small.held_out if fact.id == item.id)
    context = tuple(line for line in item.context if line != gold)
    planted = replace(small, retrieval=[replace(item, context=context), *small.retrieval[1:]])
    assert f"{item.id}: the gold statement is not in the context" in check(planted)


def test_check_finds_a_context_without_the_answer(small: KGFact) -> None:
    item = small.retrieval[0]
    context = tuple(line for line in item.context if item.answer not in line)
    planted = replace(small, retrieval=[replace(item, context=context), *small.retrieval[1:]])
    assert f"{item.id}: the answer is not in the context" in check(planted)


def test_check_finds_a_trained_entity_in_the_retrieval_slice(small: KGFact) -> None:
    item, trained = small.retrieval[0], small.facts[0]
    leaked = replace(item, context=(*item.context, trained.statement))
    planted = replace(small, retrieval=[leaked, *small.retrieval[1:]])
    assert check(planted) == [
        f"{item.id}: {name} is trained, and in the context"
        for name in sorted([trained.subject, trained.answer])
    ] + [f"{item.id}: the context goes beyond the retrieval slice"]

    shared = replace(small, held_out=[*small.held_out, trained])
    assert f"{trained.subject}: trained, and in the retrieval slice" in check(shared)
