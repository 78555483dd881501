"""Corpora: where facts and held-out items come from."""

from __future__ import annotations

from dataclasses import dataclass

from common.config import DataSettings
from common.records import Fact, RetrievalItem


@dataclass(frozen=True, slots=True)
class Corpus:
    """Facts to learn, and retrieval items about facts that are never trained."""

    facts: list[Fact]
    retrieval: list[RetrievalItem]


def load(settings: DataSettings) -> Corpus:
    """Build or read the corpus that a configuration names.

    Raises:
        UserError: see ``messages.read_facts``.
    """
    if settings.kgfact is not None:
        from common.corpora import kgfact

        spec = kgfact.KGFactSpec(
            domains=settings.kgfact.domains,
            entities=settings.kgfact.entities,
            seed=settings.kgfact.seed,
            distractors=settings.kgfact.distractors,
        )
        built = kgfact.build(spec)
        corpus = Corpus(list(built.facts), list(built.retrieval))
    else:
        from common.corpora.messages import read_facts

        assert settings.facts is not None
        corpus = Corpus(read_facts(settings.facts), [])
    return Corpus(corpus.facts[: settings.limit], corpus.retrieval)
