"""The 910 relations: templates, and the wordings of their questions."""

from __future__ import annotations

import re
import string
from collections import Counter
from itertools import combinations

from common.corpora.kgfact import DOMAINS, Relation, relations

PAIRS = list(combinations(DOMAINS, 2))
STOP_WORDS = set(
    re.findall(
        r"\w+",
        """
        a an the of in on at to for with by from and or not as no into out up off it its that which
        who so is was be been are were has have had only than what when how all every each
        """,
    )
)


def every_relation() -> list[tuple[str, str, Relation]]:
    return [(*pair, relation) for pair in PAIRS for relation in relations(*pair)]


def content_words(template: str) -> set[str]:
    """Words that carry meaning, slots left out."""
    return set(re.findall(r"[a-z]+", re.sub(r"\{\w\}", "", template.lower()))) - STOP_WORDS


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
    for pair in PAIRS:
        reworded = {relation.reworded for relation in relations(*pair)}
        # The same words may serve another pair: other kinds of subject or object.
        assert len(reworded | {relation.statement for relation in relations(*pair)}) == 20


def test_templates_have_their_slots_their_stops_and_the_kind_of_the_object() -> None:
    def slots(template: str) -> list[str]:
        return sorted(slot for _, slot, _, _ in string.Formatter().parse(template) if slot)

    for source, target, relation in every_relation():
        where = f"{source} {target} {relation.name}"
        kind = target.replace("_", " ")
        assert slots(relation.statement) == slots(relation.reworded) == ["o", "s"], where
        assert slots(relation.question) == slots(relation.clause) == ["s"], where
        for sentence in (relation.statement, relation.reworded):
            assert re.fullmatch(r"[A-Z{][^.?]*\.", sentence), where
        assert re.fullmatch(r"[A-Z][^.?]*\?", relation.question), where
        assert f"which {kind} " in relation.question.casefold(), where
        assert re.fullmatch(rf"the {kind} [^.?]*[^.?\s]", relation.clause), where


def test_a_reworded_statement_shares_at_most_half_its_content_words_with_the_first() -> None:
    for source, target, relation in every_relation():
        first, second = content_words(relation.statement), content_words(relation.reworded)
        assert len(first & second) <= len(first) / 2, (source, target, relation.name)


def test_the_five_wordings_of_a_relation_read_like_this() -> None:
    relation = relations("person", "location")[0]
    assert relation.question == "In which location was {s} raised?"
    assert relation.wordings("Tam Okord") == (
        "Tam Okord grew up in which location?",
        "Tam Okord grew up in a certain location. Which location is it?",
        'Complete the sentence with the name of a location: "Tam Okord grew up in ___."',
        "Name the location where Tam Okord was raised.",
        "What is the name of the location where Tam Okord was raised?",
    )


def test_a_wording_that_begins_with_the_object_has_a_capital_and_its_article() -> None:
    relation = relations("location", "organization")[0]
    assert relation.wordings("Breth")[:3] == (
        "Which organization is run from a head office in Breth?",
        "A certain organization is run from a head office in Breth. Which organization is it?",
        "Complete the sentence with the name of an organization: "
        '"___ is run from a head office in Breth."',
    )


def test_no_wording_contains_the_trained_question_or_another_wording() -> None:
    for source, target, relation in every_relation():
        asked = [relation.question.format(s="Tam"), *relation.wordings("Tam")]
        assert len(asked) == 6
        bare = [text.rstrip("?.").casefold() for text in asked]
        inside = [(a, b) for a in bare for b in bare if a is not b and a in b]
        assert not inside, (source, target, inside)
