"""Checks of facts behind ``mixsd-cluster data check``.

A problem makes ``up`` fail or breaks a guarantee of a built corpus. Duplicates and
contradictions are only reported. This module uses no model and prints nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.corpora import folder, messages, sources
from common.corpora.messages import Scan
from common.errors import UserError
from common.records import EvalItem, Fact
from common.verification.verifier import normalise


@dataclass(frozen=True, slots=True)
class Inspection:
    """Findings; ``duplicates`` and ``contradictions`` name the places of each group of facts."""

    scan: Scan
    splits: dict[str, tuple[EvalItem, ...]]
    duplicates: list[str]
    contradictions: list[str]
    problems: list[str]


def inspect(spec: str) -> Inspection:
    """Check a file, a folder or a Hub data set of facts.

    Raises:
        UserError: it cannot be read.
    """
    path = sources.locate(spec)
    scan = messages.scan(sources.train_files(path))
    duplicates, contradictions = _repeated_questions(scan.facts, scan.places)
    problems = list(scan.problems)
    splits: dict[str, tuple[EvalItem, ...]] = {}
    if path.is_dir() and folder.is_built(path):
        problems += folder.check_hashes(path)
        splits = _splits(path, problems)
        problems += _check_built(folder.read_card(path).corpus, scan.facts, splits)
    return Inspection(scan, splits, duplicates, contradictions, problems)


def _splits(path: Path, problems: list[str]) -> dict[str, tuple[EvalItem, ...]]:
    from common.corpora import read_splits

    try:
        return read_splits(path)
    except UserError as error:
        problems.append(str(error))
        return {}


def _repeated_questions(
    facts: Sequence[Fact], places: Mapping[str, str]
) -> tuple[list[str], list[str]]:
    """Groups of facts with the same question: (same answer, different answers)."""
    asked: dict[str, list[Fact]] = defaultdict(list)
    for fact in facts:
        asked[normalise(fact.question)].append(fact)
    duplicates, contradictions = [], []
    for group in asked.values():
        answers = {normalise(fact.answer): fact.answer for fact in group}
        where = ", ".join(places[fact.id] for fact in group)
        question = group[0].question
        if len(answers) > 1:
            listed = ", ".join(map(repr, answers.values()))
            contradictions.append(f"{where}: {question!r} is answered {listed}")
        elif len(group) > 1:
            duplicates.append(f"{where}: {question!r} is asked {len(group)} times")
    return duplicates, contradictions


def _check_built(
    corpus: str, facts: Sequence[Fact], splits: Mapping[str, Sequence[EvalItem]]
) -> list[str]:
    from common.corpora import kgfact, kgfunc

    checks: dict[str, Callable[[], list[str]]] = {
        "kgfact": lambda: [
            *kgfact.check_facts(facts),
            *kgfact.check_retrieval(facts, splits.get("retrieval", ())),
        ],
        "kgfunc": lambda: kgfunc.check_facts(facts),
    }
    return checks[corpus]() if corpus in checks else []
