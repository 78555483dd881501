"""Corpora: sources of facts and held-out items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from common.corpora import limits
from common.corpora.batches import EarlierFact, follow
from common.corpora.settings import DataSettings
from common.errors import UserError
from common.records import EvalItem, Fact

Comparison = Literal["loose", "strict", "exact"]


@dataclass(frozen=True, slots=True)
class Corpus:
    """Facts to learn and questions about them.

    ``retrieval``  questions about facts that are never trained, with context
    ``splits``     other questions by name: ``paraphrased``, ``two_hop``, ``three_hop``,
                   ``four_hop``, ``test``, ``unseen``, and ``recall`` if answers have aliases
    ``remarks``    notes on the corpus for the user, one line each
    ``comparison`` how the paper's grader compares answers, see
                   ``actors.evaluation.benchmarks.released.in_domain``
    ``earlier``    facts of the earlier batches of a chain, which are not trained
    """

    facts: list[Fact]
    retrieval: list[EvalItem]
    splits: dict[str, tuple[EvalItem, ...]] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    comparison: Comparison = "loose"
    earlier: Sequence[EarlierFact] = ()

    @property
    def taught(self) -> list[Fact]:
        """The facts of all batches, this run's last."""
        return [*(one.fact for one in self.earlier), *self.facts]


def load(settings: DataSettings, earlier: Sequence[DataSettings] = ()) -> Corpus:
    """Build or read the corpus that a configuration names.

    Args:
        settings: of the corpus.
        earlier: those of earlier batches, the first first.

    Raises:
        UserError: a source is unreadable or malformed, see the modules of the corpora; or a fact
            replaces one that no earlier batch has.
    """
    corpus = _within_limit(settings)
    if not earlier:
        return corpus
    batches = [_within_limit(one).facts for one in earlier]
    return replace(corpus, earlier=follow([*batches, corpus.facts]))


def _within_limit(settings: DataSettings) -> Corpus:
    corpus = _load(settings)
    if not corpus.facts:
        raise UserError("data: the source contains no facts; name another file")
    # MQuAKE takes the limit itself: it keeps whole cases.
    if settings.limit is None or settings.mquake is not None:
        return corpus
    facts = limits.keep(corpus.facts, settings.limit)
    cut = {fact.id for fact in corpus.facts} - {fact.id for fact in facts}
    # Questions about facts that are not trained would measure nothing.
    splits = {
        name: tuple(item for item in items if cut.isdisjoint(_about(item)))
        for name, items in corpus.splits.items()
    }
    return replace(corpus, facts=facts, splits=splits)


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
        return Corpus(functions.facts, [], splits, comparison="strict")
    if settings.simpleqa is not None:
        from common.corpora import simpleqa, sources

        path = sources.published("simpleqa", settings.simpleqa, settings.root)
        return Corpus(simpleqa.build(path), [], comparison="exact")
    if settings.mquake is not None:
        from common.corpora import mquake, sources

        path = sources.published("mquake", settings.mquake, settings.root)
        edits = mquake.build(path, settings.mquake, settings.limit)
        return Corpus(edits.facts, edits.retrieval, edits.splits, tuple(edits.remarks))
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
