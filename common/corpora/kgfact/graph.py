"""The graph of a KGFact corpus and the splits that are read off it.

In the trained slice, ``entities`` entities a domain, every entity has one edge
to each later domain, so that a subject and a relation name one object and an
object and a relation name one subject. A second slice, of other entities, is
never trained and makes the retrieval items. There every relation of a pair of
domains joins every subject to an object: an entity touches 10(d−1) statements,
enough for 49 distractors from d = 4 on, and both kinds of uniqueness still hold.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

from common.corpora.kgfact.names import DOMAINS, Names
from common.corpora.kgfact.relations import (
    PAPER_PARAPHRASES,
    RELATIONS_PER_PAIR,
    Relation,
    relations,
)
from common.corpora.settings import Wording
from common.errors import UserError
from common.records import EvalItem, Fact

MAX_ENTITIES = 1000


@dataclass(frozen=True)
class KGFactSpec:
    """What to build.

    domains             the first d of the 14 domains, 2..14
    entities            trained entities per domain, 1..1000
    seed                names, edges and contexts are a function of it
    distractors         most statements beside the gold one in a context, >= 0
    retrieval_entities  entities per domain of the untrained slice, 0..1000;
                        None means as many as ``entities``
    wording             paraphrased questions: five wordings per fact, or ``paper``: the
                        question in one of the ten templates of the released code
    """

    domains: int
    entities: int
    seed: int
    distractors: int = 49
    retrieval_entities: int | None = None
    wording: Wording = "ours"

    def __post_init__(self) -> None:
        bounds = {
            "domains": (self.domains, 2, len(DOMAINS)),
            "entities": (self.entities, 1, MAX_ENTITIES),
            "retrieval_entities": (self.num_retrieval_entities, 0, MAX_ENTITIES),
        }
        for key, (value, low, high) in bounds.items():
            if not low <= value <= high:
                raise UserError(f"{key}: {value} is outside {low}..{high}; choose a value within")
        if self.distractors < 0:
            raise UserError(f"distractors: {self.distractors} is below 0; use 0 for none")

    @property
    def num_retrieval_entities(self) -> int:
        return self.entities if self.retrieval_entities is None else self.retrieval_entities


@dataclass(frozen=True)
class KGFact:
    """A corpus.

    ``held_out`` are the statements of the untrained slice, as facts. Each retrieval item
    is a question about one of them: it has its id, and its and others' statements as context.
    ``paraphrased`` has further questions about every fact; ``two_hop`` has one about
    the end of every chain of two facts.
    """

    facts: list[Fact]
    retrieval: list[EvalItem]
    held_out: list[Fact]
    paraphrased: list[EvalItem]
    two_hop: list[EvalItem]


@dataclass(frozen=True, slots=True)
class _Edge:
    id: str
    source: str
    target: str
    subject: str
    relation: Relation
    answer: str

    def fact(self) -> Fact:
        return Fact(
            id=self.id,
            question=self.relation.question.format(s=self.subject),
            answer=self.answer,
            statement=self.relation.statement.format(s=self.subject, o=self.answer),
            subject=self.subject,
        )


def build(spec: KGFactSpec) -> KGFact:
    """Build the corpus: entities * d(d-1)/2 facts, and as many retrieval items.

    The bytes depend on the spec and the templates alone. With one seed, the
    facts over d domains are among those over d + 1, and the trained slice does
    not depend on the retrieval slice.
    """
    names = Names(spec.seed, DOMAINS[: spec.domains])
    edges = list(_sparse(spec.seed, names.slice("trained", spec.entities)))
    others = names.slice("retrieval", spec.num_retrieval_entities)
    held_out = {edge.id: edge.fact() for edge in _dense(spec.seed, others)}
    return KGFact(
        [edge.fact() for edge in edges],
        list(_retrieval(spec, held_out)),
        list(held_out.values()),
        list(_paraphrased(spec, edges)),
        list(_two_hop(edges)),
    )


def _sparse(seed: int, entities: Mapping[str, list[str]]) -> Iterator[_Edge]:
    """One edge for each entity and later domain."""
    for source, target in combinations(entities, 2):
        rng = random.Random(f"{seed}:kgfact:{source}:{target}")
        subjects = entities[source]
        # A permutation of the objects keeps (relation, object) -> subject unique
        # however many subjects share a relation.
        objects = rng.sample(entities[target], len(subjects))
        cycle = rng.sample(relations(source, target), RELATIONS_PER_PAIR)
        for number, (subject, answer) in enumerate(zip(subjects, objects, strict=True)):
            relation = cycle[number % RELATIONS_PER_PAIR]
            identity = f"kgfact-{source}-{target}-{number:03}"
            yield _Edge(identity, source, target, subject, relation, answer)


def _dense(seed: int, entities: Mapping[str, list[str]]) -> Iterator[_Edge]:
    """Ten edges for each entity and later domain; number 10 i + k is of subject i.

    The k-th relation shifts subjects to objects by k: a permutation for each
    relation, and from ten entities on no two relations join the same two.
    """
    for source, target in combinations(entities, 2):
        rng = random.Random(f"{seed}:kgfact-retrieval:{source}:{target}")
        subjects = entities[source]
        objects = rng.sample(entities[target], len(subjects))
        cycle = rng.sample(relations(source, target), RELATIONS_PER_PAIR)
        for index, subject in enumerate(subjects):
            for shift, relation in enumerate(cycle):
                identity = f"kgfact-retrieval-{source}-{target}-{10 * index + shift:04}"
                answer = objects[(index + shift) % len(objects)]
                yield _Edge(identity, source, target, subject, relation, answer)


def _retrieval(spec: KGFactSpec, held_out: Mapping[str, Fact]) -> Iterator[EvalItem]:
    """For each subject and later domain one item; the relation goes round with the subject."""
    touching = defaultdict(set)
    for fact in held_out.values():
        touching[fact.subject].add(fact.id)
        touching[fact.answer].add(fact.id)
    for gold in held_out.values():
        index, shift = divmod(int(gold.id.rsplit("-", 1)[1]), RELATIONS_PER_PAIR)
        if shift != index % RELATIONS_PER_PAIR:
            continue
        rng = random.Random(f"{spec.seed}:context:{gold.id}")
        others = sorted((touching[gold.subject] | touching[gold.answer]) - {gold.id})
        chosen = rng.sample(others, min(spec.distractors, len(others)))
        context = [held_out[other].statement for other in (gold.id, *chosen)]
        rng.shuffle(context)
        yield EvalItem(gold.id, gold.question, gold.answer, tuple(context))


def _paraphrased(spec: KGFactSpec, edges: list[_Edge]) -> Iterator[EvalItem]:
    for edge in edges:
        for number, wording in enumerate(_wordings(spec, edge), start=1):
            yield EvalItem(f"{edge.id}#{number}", wording, edge.answer)


def _wordings(spec: KGFactSpec, edge: _Edge) -> tuple[str, ...]:
    if spec.wording == "ours":
        return edge.relation.wordings(edge.subject)
    rng = random.Random(f"{spec.seed}:paraphrased:{edge.id}")
    return (rng.choice(PAPER_PARAPHRASES).format(q=edge.fact().question),)


def _two_hop(edges: list[_Edge]) -> Iterator[EvalItem]:
    """Every chain s -> m -> o of two facts: the second question, asked of m by its clause."""
    leaving = defaultdict(list)
    for edge in edges:
        leaving[edge.subject].append(edge)
    for first in edges:
        middle = first.relation.clause.format(s=first.subject)
        for second in leaving[first.answer]:
            yield EvalItem(
                f"{first.id}+{second.id}",
                second.relation.question.format(s=middle),
                second.answer,
            )
