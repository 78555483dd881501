"""Benchmarks by name, and the suites that group them.

Add one: a module here that builds a :class:`~actors.evaluation.benchmarks.base.Benchmark`,
its name below and in ``common.config.evaluation.Suite``, and known-answer tests of its grader.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from actors.evaluation.benchmarks import (
    choice,
    earlier,
    humaneval,
    ifeval,
    in_domain,
    maths,
    mmlu,
    text,
)
from actors.evaluation.benchmarks.base import Benchmark, Materials

BUILDERS: dict[str, Callable[[Materials], Benchmark]] = {
    "recall": in_domain.recall,
    "retrieval": in_domain.retrieval,
    **{name: partial(in_domain.split, name) for name in in_domain.SPLITS},
    "edited": earlier.edited,
    "retracted": earlier.retracted,
    "mmlu": mmlu.build,
    "gsm8k": maths.gsm8k,
    "math500": maths.math500,
    "aime24": maths.aime24,
    "humaneval": humaneval.build,
    "arc_easy": choice.arc_easy,
    "piqa": choice.piqa,
    "wikitext2": text.wikitext2,
    "ifeval": ifeval.build,
    "text_nll": text.text_nll,
}

_HOPS = ("two_hop", "three_hop", "four_hop")

SUITES: dict[str, tuple[str, ...]] = {
    "in_domain": ("recall", "paraphrased", "retrieval", *_HOPS, "test", "unseen"),
    "general": ("mmlu", "gsm8k", "math500", "aime24", "humaneval"),
    "small": ("arc_easy", "piqa", "wikitext2", "ifeval", "retrieval"),
    "editing": ("recall", *_HOPS),
    # And the recall of each earlier batch.
    "earlier": ("edited", "retracted"),
}

# Suites that measure what the selection of a checkpoint needs.
WITH_RECALL = frozenset({"recall", *(name for name, of in SUITES.items() if "recall" in of)})


def members(suite: str, materials: Materials) -> tuple[str, ...]:
    """Names of a suite's benchmarks; a benchmark's own name is a suite of one.

    Splits that the run's corpus does not have are no part of ``in_domain`` and ``editing``;
    ``earlier`` has what there are facts for.
    """
    if suite == "earlier":
        return earlier.members(materials)
    if suite not in ("in_domain", "editing"):
        return SUITES.get(suite, (suite,))
    absent = set(in_domain.SPLITS) - materials.corpus.splits.keys()
    return tuple(name for name in SUITES[suite] if name not in absent)


def build(name: str, materials: Materials) -> Benchmark:
    """A member of a suite.

    Raises:
        NotMeasured: its items are not there.
    """
    if name.startswith(earlier.RECALL):
        return earlier.recall(int(name.removeprefix(earlier.RECALL)), materials)
    return BUILDERS[name](materials)
