"""Corpora: sources of facts and held-out items."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from common.corpora.settings import DataSettings
from common.errors import UserError
from common.records import EvalItem, Fact


@dataclass(frozen=True, slots=True)
class Corpus:
    """Facts to learn and questions about them.

    ``retrieval``  questions about facts that are never trained, with context
    ``splits``     other questions by name: ``paraphrased``, ``two_hop``, ``test``,
                   ``unseen``, ``multi_hop``, and ``recall`` if answers have aliases
    ``remarks``    notes on the corpus for the user, one line each
    """

    facts: list[Fact]
    retrieval: list[EvalItem]
    splits: dict[str, tuple[EvalItem, ...]] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def load(settings: DataSettings) -> Corpus:
    """Build or read the corpus that a configuration names.

    Raises:
        UserError: the source is unreadable or malformed; see the modules of the corpora.
    """
    corpus = _load(settings)
    if not corpus.facts:
        raise UserError("data: the source contains no facts; name another file")
    if settings.limit is None:
        return corpus
    cut = {fact.id for fact in corpus.facts[settings.limit :]}
    # Questions about facts that are not trained would measure nothing.
    splits = {
        name: tuple(item for item in items if cut.isdisjoint(_about(item)))
        for name, items in corpus.splits.items()
    }
    return replace(corpus, facts=corpus.facts[: settings.limit], splits=splits)


def _about(item: EvalItem) -> list[str]:
    return item.id.partition("#")[0].split("+")


def _load(settings: DataSettings) -> Corpus:
    if settings.kgfact is not None:
        return _kgfact(settings)
    if settings.kgfunc is not None:
        from common.corpora import kgfunc

        chosen = settings.kgfunc
        functions = kgfunc.build(
            chosen.train_per_op, chosen.test_per_op, chosen.seed, chosen.wording
        )
        splits = {"test": tuple(functions.test), "unseen": tuple(functions.unseen)}
        return Corpus(functions.facts, [], splits)
    if settings.simpleqa is not None:
        from common.corpora import simpleqa, sources

        path = sources.published("simpleqa", settings.simpleqa, settings.root)
        return Corpus(simpleqa.build(path), [])
    if settings.mquake is not None:
        from common.corpora import mquake, sources

        edits = mquake.build(sources.published("mquake", settings.mquake, settings.root))
        splits = {"recall": tuple(edits.recall), "multi_hop": tuple(edits.multi_hop)}
        return Corpus(edits.facts, [], splits, tuple(edits.contradictions))
    assert settings.facts is not None
    return _custom(settings.facts)


def _kgfact(settings: DataSettings) -> Corpus:
    from common.corpora import kgfact

    assert settings.kgfact is not None
    spec = kgfact.KGFactSpec(
        domains=settings.kgfact.domains,
        entities=settings.kgfact.entities,
        seed=settings.kgfact.seed,
        distractors=settings.kgfact.distractors,
        wording=settings.kgfact.wording,
    )
    built = kgfact.build(spec)
    splits = {"paraphrased": tuple(built.paraphrased), "two_hop": tuple(built.two_hop)}
    return Corpus(built.facts, built.retrieval, splits)


def _custom(spec: str) -> Corpus:
    from common.corpora import messages, sources

    path = sources.locate(spec)
    facts = messages.read_facts(sources.train_files(path))
    splits = read_splits(path)
    return Corpus(facts, list(splits.pop("retrieval", ())), splits)


def read_splits(path: Path) -> dict[str, tuple[EvalItem, ...]]:
    """The splits besides ``train`` of a folder that ``data build`` wrote; else empty."""
    from common.corpora import folder, messages

    if not path.is_dir() or not folder.is_built(path):
        return {}
    names = [name for name in folder.read_card(path).splits if name != folder.TRAIN]
    return {name: messages.read_items(folder.file_of(path, name)) for name in names}
