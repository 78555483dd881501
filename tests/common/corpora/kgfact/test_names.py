"""Names of made-up entities: their form, and that no dictionary has them."""

from __future__ import annotations

import re
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest

from common import models
from common.corpora.kgfact import DOMAINS, KGFact, KGFactSpec, build, relations
from common.corpora.kgfact.names import spellings
from common.records import Fact

WORD_LIST = Path("/usr/share/dict/words")


def names(facts: list[Fact]) -> set[str]:
    return {name for fact in facts for name in (fact.subject, fact.answer)}


def test_the_first_names_of_seed_zero_are_these(small: KGFact) -> None:
    assert [fact.subject for fact in small.facts[:3]] == [
        "Brilmin Kelilmard",
        "Kilandin Lilmesk",
        "Rendis Malevrov",
    ]


def test_another_seed_gives_other_names() -> None:
    one, two = (build(KGFactSpec(2, 5, seed)) for seed in (0, 1))
    assert not names(one.facts) & names(two.facts)


def test_no_name_contains_another_and_no_word_comes_twice() -> None:
    kgfact = build(KGFactSpec(domains=14, entities=30, seed=3))
    everyone = sorted(names(kgfact.facts) | names(kgfact.held_out))
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
        f"{relation.statement} {relation.reworded} {relation.question} {relation.clause}"
        for pair in combinations(DOMAINS, 2)
        for relation in relations(*pair)
    ).casefold()
    kgfact = build(KGFactSpec(domains=14, entities=50, seed=6))
    assert not [name for name in names(kgfact.facts) if name.casefold() in text]
    assert not set(re.findall(r"[a-z]+", text)) & spellings()


def test_every_word_of_a_corpus_is_among_the_spellings() -> None:
    kgfact = build(KGFactSpec(domains=14, entities=50, seed=8))
    words = set(" ".join(names(kgfact.facts) | names(kgfact.held_out)).casefold().split())
    assert words <= spellings()


def test_there_are_some_150_000_spellings_and_none_of_these_english_words() -> None:
    assert len(spellings()) == 148_536
    assert not spellings() & {"mirror", "marvin", "horror", "sargent", "siskin", "bombyx"}


@pytest.mark.skipif(not WORD_LIST.exists(), reason="this machine has no /usr/share/dict/words")
def test_no_spelling_is_in_the_machines_word_list() -> None:
    assert not spellings() & set(WORD_LIST.read_text(encoding="utf-8").casefold().split())


@pytest.mark.slow
@pytest.mark.one_core
def test_no_spelling_is_a_word_of_the_packaged_tokenizer() -> None:
    vocabulary = models.load(models.resolve(models.PACKAGED)).tokenizer.get_vocab()
    # A token that begins with a blank is a word, or begins one.
    words = {token[1:].casefold() for token in vocabulary if token.startswith("Ġ")}
    assert len(words) > 20_000
    assert not spellings() & words
