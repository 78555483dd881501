"""What must hold of a KGFact corpus, read off its facts alone.

``check_facts`` needs nothing but the facts, so that it also judges a file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from common.corpora.kgfact.graph import KGFact
from common.corpora.kgfact.names import contained
from common.records import EvalItem, Fact


def check(kgfact: KGFact) -> list[str]:
    """Problems of a corpus, one sentence each; empty when it is sound."""
    problems = check_facts(kgfact.facts) + _check_uniqueness(kgfact.held_out)
    everyone = _names(kgfact.facts) | _names(kgfact.held_out)
    problems += [f"{inner}: is part of the name {outer}" for inner, outer in contained(everyone)]
    shared = sorted(_names(kgfact.facts) & _names(kgfact.held_out))
    problems += [f"{name}: trained, and in the retrieval slice" for name in shared]
    problems += check_retrieval(kgfact.facts, kgfact.retrieval)
    statement = {fact.id: fact.statement for fact in kgfact.held_out}
    for item in kgfact.retrieval:
        if statement.get(item.id) not in item.context:
            problems.append(f"{item.id}: the gold statement is not in the context")
        if not set(statement.values()).issuperset(item.context):
            problems.append(f"{item.id}: the context goes beyond the retrieval slice")
    return problems


def check_facts(facts: Sequence[Fact]) -> list[str]:
    """Problems of the trained facts: uniqueness both ways, and who is called what."""
    problems = _check_uniqueness(facts)
    owner: dict[tuple[str, ...], str] = {}
    domain_of: dict[str, str] = {}
    for fact in facts:
        if (domains := _domains(fact)) is None:
            problems.append(f"{fact.id}: the id names no domains (kgfact-person-location-000)")
            continue
        source, target = domains
        # An entity has one edge for each other domain; a second one betrays
        # two entities of one name.
        keys = {
            "subject name": (source, target, fact.subject),
            "object name": (source, target, fact.answer),
        }
        problems += _taken(owner, keys, fact.id)
        for name, domain in ((fact.subject, source), (fact.answer, target)):
            if domain_of.setdefault(name, domain) != domain:
                problems.append(f"{fact.id}: {name} is a name in {domain_of[name]} too")
    return problems


def check_retrieval(facts: Iterable[Fact], items: Iterable[EvalItem]) -> list[str]:
    """Items whose context does not contain the answer or mentions a trained entity."""
    trained = sorted(_names(facts))
    problems = []
    for item in items:
        context = "\n".join(item.context)
        if item.answer not in context:
            problems.append(f"{item.id}: the answer is not in the context")
        problems += [
            f"{item.id}: {name} is trained, and in the context"
            for name in trained
            if name in context
        ]
    return problems


def _check_uniqueness(facts: Iterable[Fact]) -> list[str]:
    problems: list[str] = []
    owner: dict[tuple[str, ...], str] = {}
    for fact in facts:
        if fact.answer not in fact.statement:
            problems.append(f"{fact.id}: the answer is not in the statement")
        if fact.answer.casefold() in fact.question.casefold():
            problems.append(f"{fact.id}: the answer is in the question")
        # The statement without its names is the template, and so the relation.
        relation = fact.statement.replace(fact.subject, "{s}").replace(fact.answer, "{o}")
        keys = {
            "id": (fact.id,),
            "subject and relation": (fact.subject, relation),
            "object and relation": (fact.answer, relation),
        }
        problems += _taken(owner, keys, fact.id)
    return problems


def _taken(
    owner: dict[tuple[str, ...], str], keys: Mapping[str, tuple[str, ...]], identity: str
) -> list[str]:
    problems = []
    for what, key in keys.items():
        if (what, *key) in owner:
            problems.append(f"{identity}: same {what} as {owner[what, *key]}")
        owner[what, *key] = identity
    return problems


def _domains(fact: Fact) -> tuple[str, str] | None:
    match fact.id.split("-"):
        case [*_, source, target, _]:
            return source, target
    return None


def _names(facts: Iterable[Fact]) -> set[str]:
    return {name for fact in facts for name in (fact.subject, fact.answer)}
