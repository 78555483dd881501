"""KGFact: a graph of made-up entities, one fact an edge.

Fourteen domains, ten directed relations for every ordered pair of them; the
templates are data (``kgfact_relations/``). In a slice of ``entities`` entities
per domain, every entity has one edge to each later domain, so that a subject
and a relation name one object and an object and a relation name one subject.
A second slice, of other entities, is never trained: it makes the retrieval
items. Nothing here knows about prompts, models or files on disk.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import combinations

import yaml

from common.records import Fact, RetrievalItem

RELATIONS_PER_PAIR = 10
MAX_ENTITIES = 1000
MIN_WORD_LETTERS = 6

# The order of the domains is the direction of the edges: earlier to later.
# Each has sounds of its own: onsets / vowels / glides / links / endings, and
# again endings where a name has a second word. A word is
# onset vowel [glide vowel] link ending: two or three syllables.
_SOUNDS = {
    "person": "t d m r k l br s / a e i o / l r v / vr sk ld rv lm nd / in el is / elle ard ov esk",
    "location": "b h v dr gl w n s / a o u e / l r n / rn lv mb rth ndr zm / ath um est ouk",
    "organization": "k v st z cr ph m / e o a y / r l n / ntr lv xt rm ld / ex or ane / ond ax und",
    "event": "f s g l ch ar m / e i ou a / r l n / str lf nn rg ll dm / ide al ent / ive onde eth",
    "profession": "t d k br w g sp m / o a u i / l m r / lb rk mp nt rv sk / ist wright ern",
    "hobby": "sk b d fl p st w gr / e u o i / l r d / lv zb rf nk gm thr / ing ling",
    "skill": "m c p l n v gr s / o e a y / r d l / rd lm phr sc ndr lt / ance ence ism oft",
    "physical_object": "gr th b kr n d v / u o a i / r l n / rm zg lk dd rkh ndr / uth agg ox urn",
    "product": "v z n x l f pl r / e i a o / l r v / lm xt v zz rb nk / a ix o yl",
    "service": "sw h r g c tr l fl / i a ee o / l d r / ft rr pl nd mm bb / or eem ash / ex in ull",
    "media_work": "s l th m d v or / a e i u / l n r / lm lt nth rr v ph / a en or / une el adre",
    "digital_tool": "b k z v p y cl / y i o e / b l n / bb tr xl kk pl mb / ot yx od um",
    "task": "h br dr k m t sn w / a u o i / l r d / rg mp lk tch ndl ft / od um age arn",
    "time_period": "tr p m s c v h ul / e o i a / l v r / v zl rl ndr th nk / ene ade ial urn",
}
DOMAINS = tuple(_SOUNDS)

# English words and given names that these sounds can spell.
_COMMON = """
barnum bonking bunking candor caplin carlene condor darrel darren delving driftage dunking fallal
flunking horror landis landor mandel margent marlene marvel marvin mendel mervin mirror mistral
moleskin nascence numbest peplum pinking rabbin robbin rondel rondelle saliva salmis sandel sargent
sinistral siskin skunking stinking stonking targum thelma triplex trivial vitrum waftage wampum
winking winkling
"""


@dataclass(frozen=True)
class Relation:
    """One relation of a domain pair and its templates over ``{s}`` and ``{o}``."""

    name: str
    statement: str
    question: str
    clause: str


@dataclass(frozen=True)
class KGFactSpec:
    """What to build.

    domains             the first d of the 14 domains, 2..14
    entities            trained entities per domain, 1..1000
    seed                names, edges and contexts are a function of it
    distractors         most statements beside the gold one in a context, >= 0
    retrieval_entities  entities per domain of the untrained slice, 0..1000;
                        None means as many as ``entities``
    """

    domains: int
    entities: int
    seed: int
    distractors: int = 49
    retrieval_entities: int | None = None

    def __post_init__(self) -> None:
        bounds = {
            "domains": (self.domains, 2, len(DOMAINS)),
            "entities": (self.entities, 1, MAX_ENTITIES),
            "retrieval_entities": (self.num_retrieval_entities, 0, MAX_ENTITIES),
        }
        for key, (value, low, high) in bounds.items():
            if not low <= value <= high:
                raise ValueError(f"{key}: {value} is outside {low}..{high}; choose a value within")
        if self.distractors < 0:
            raise ValueError(f"distractors: {self.distractors} is below 0; use 0 for none")

    @property
    def num_retrieval_entities(self) -> int:
        return self.entities if self.retrieval_entities is None else self.retrieval_entities


@dataclass(frozen=True)
class KGFact:
    """``retrieval_facts[i]`` is the gold fact of ``retrieval[i]`` and has its id."""

    facts: list[Fact]
    retrieval: list[RetrievalItem]
    retrieval_facts: list[Fact]


def build(spec: KGFactSpec) -> KGFact:
    """Build the corpus: entities * d(d-1)/2 facts, and likewise for the other slice.

    The bytes depend on the spec and the templates alone. With one seed, the
    facts over d domains are among those over d + 1, and the trained slice does
    not depend on the retrieval slice.
    """
    names = _Names(spec.seed, DOMAINS[: spec.domains])
    facts = _edges(spec.seed, "kgfact", names.slice("trained", spec.entities))
    held_out = names.slice("retrieval", spec.num_retrieval_entities)
    gold = _edges(spec.seed, "kgfact-retrieval", held_out)
    return KGFact(facts, _retrieval(spec, gold), gold)


def relations(source: str, target: str) -> list[Relation]:
    """The ten relations from a domain to a later one."""
    return [Relation(**row) for row in _templates(source)[target]]


@cache
def _templates(source: str) -> dict[str, list[dict[str, str]]]:
    path = files("common.corpora") / "kgfact_relations" / f"{source}.yaml"
    rows: dict[str, list[dict[str, str]]] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return rows


def _edges(seed: int, prefix: str, entities: dict[str, list[str]]) -> list[Fact]:
    facts = []
    for source, target in combinations(entities, 2):
        rng = random.Random(f"{seed}:{prefix}:{source}:{target}")
        subjects = entities[source]
        # A permutation of the objects keeps (relation, object) -> subject unique
        # however many subjects share a relation.
        objects = rng.sample(entities[target], len(subjects))
        cycle = rng.sample(relations(source, target), RELATIONS_PER_PAIR)
        for number, (subject, answer) in enumerate(zip(subjects, objects, strict=True)):
            relation = cycle[number % RELATIONS_PER_PAIR]
            facts.append(
                Fact(
                    id=f"{prefix}-{source}-{target}-{number:03}",
                    question=relation.question.format(s=subject),
                    answer=answer,
                    statement=relation.statement.format(s=subject, o=answer),
                    subject=subject,
                )
            )
    return facts


def _retrieval(spec: KGFactSpec, gold: list[Fact]) -> list[RetrievalItem]:
    touching = defaultdict(list)
    for index, fact in enumerate(gold):
        touching[fact.subject].append(index)
        touching[fact.answer].append(index)
    items = []
    for index, fact in enumerate(gold):
        rng = random.Random(f"{spec.seed}:context:{fact.id}")
        others = sorted({*touching[fact.subject], *touching[fact.answer]} - {index})
        chosen = rng.sample(others, min(spec.distractors, len(others)))
        context = [gold[other].statement for other in (index, *chosen)]
        rng.shuffle(context)
        items.append(RetrievalItem(fact.id, fact.question, fact.answer, tuple(context)))
    return items


class _Names:
    """Hands out names: no word twice, no name inside another, whatever the case."""

    def __init__(self, seed: int, domains: tuple[str, ...]) -> None:
        self._seed = seed
        self._domains = domains
        self._words = set(_COMMON.split())
        self._names: set[str] = set()
        self._parts: set[str] = set()

    def slice(self, label: str, count: int) -> dict[str, list[str]]:
        """``count`` further names for every domain."""
        return {domain: self._draw(label, domain, count) for domain in self._domains}

    def _draw(self, label: str, domain: str, count: int) -> list[str]:
        rng = random.Random(f"{self._seed}:{label}:{domain}")
        onsets, vowels, glides, links, *endings = (
            sound.split() for sound in _SOUNDS[domain].split("/")
        )
        drawn: list[str] = []
        while len(drawn) < count:
            words = []
            for ending in endings:
                middle = [glides, vowels] if rng.randrange(2) else []
                words.append("".join(map(rng.choice, [onsets, vowels, *middle, links, ending])))
            name = " ".join(words)
            if min(map(len, words)) < MIN_WORD_LETTERS or self._words.intersection(words):
                continue
            parts = set(_parts(name, MIN_WORD_LETTERS))
            if name in self._parts or parts & self._names:
                continue
            self._words.update(words)
            self._names.add(name)
            self._parts |= parts
            drawn.append(name.title())
        return drawn


def _parts(text: str, least: int) -> Iterator[str]:
    """Substrings of at least ``least`` characters."""
    for start in range(len(text)):
        for end in range(start + least, len(text) + 1):
            yield text[start:end]


def check(kgfact: KGFact) -> list[str]:
    """Problems of a corpus, one sentence each; empty when it is sound."""
    problems: list[str] = []
    owner: dict[tuple[str, ...], str] = {}
    domain_of: dict[str, str] = {}
    for fact in (*kgfact.facts, *kgfact.retrieval_facts):
        _, source, target, _ = fact.id.rsplit("-", 3)
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
            # An entity has one edge for each other domain; a second one betrays
            # two entities of one name.
            "subject name": (source, target, fact.subject),
            "object name": (source, target, fact.answer),
        }
        for what, key in keys.items():
            if (what, *key) in owner:
                problems.append(f"{fact.id}: same {what} as {owner[what, *key]}")
            owner[what, *key] = fact.id
        for name, domain in ((fact.subject, source), (fact.answer, target)):
            if domain_of.setdefault(name, domain) != domain:
                problems.append(f"{fact.id}: {name} is a name in {domain_of[name]} too")
    problems += [f"{inner}: is part of the name {outer}" for inner, outer in _contained(domain_of)]
    return problems + _check_retrieval(kgfact)


def _contained(names: Iterable[str]) -> list[tuple[str, str]]:
    known = {name.casefold(): name for name in names}
    least = min(map(len, known), default=1)
    return [
        (known[part], name)
        for folded, name in known.items()
        for part in sorted(known.keys() & set(_parts(folded, least)) - {folded})
    ]


def _check_retrieval(kgfact: KGFact) -> list[str]:
    trained, held_out = (
        {name for fact in facts for name in (fact.subject, fact.answer)}
        for facts in (kgfact.facts, kgfact.retrieval_facts)
    )
    problems = [f"{name}: trained, and in the retrieval slice" for name in trained & held_out]
    problems.sort()
    statement = {fact.id: fact.statement for fact in kgfact.retrieval_facts}
    slice_statements = set(statement.values())
    for item in kgfact.retrieval:
        if statement.get(item.id) not in item.context:
            problems.append(f"{item.id}: the gold statement is not in the context")
        if not slice_statements.issuperset(item.context):
            problems.append(f"{item.id}: the context goes beyond the retrieval slice")
    return problems
