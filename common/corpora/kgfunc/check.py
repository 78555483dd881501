"""Checks of worked solutions in both wordings, and of the facts that have them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from common.corpora.kgfunc import check_ours, check_paper
from common.corpora.kgfunc.operations import TRAINED, digits
from common.records import Fact

_INPUT = re.compile(r"kgfunc-([B-H])-(\d{5})")


def check_facts(facts: Iterable[Fact]) -> list[str]:
    """Wrong lines of every fact's target, named by fact and line; empty when all are right."""
    problems = []
    for fact in facts:
        known = _INPUT.fullmatch(fact.id)
        if known is None:
            problems.append(f"{fact.id}: the id names no operation and input (kgfunc-B-00123)")
            continue
        label, number = known[1], int(known[2])
        problems += [f"{fact.id}: {problem}" for problem in check(label, number, fact.target)]
        if fact.answer != str(TRAINED[label](digits(number))):
            problems.append(f"{fact.id}: the answer {fact.answer} is not {label}({number})")
    return problems


def check(label: str, number: int, solution: str) -> list[str]:
    """Problems of one solution in either wording, each with its line number."""
    if solution.rpartition("\n")[2].startswith("\\boxed"):
        return check_paper.check(label, number, solution)
    return check_ours.check(label, number, solution)
