"""Two arms on the same items, and all arms where they know the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from deploy.study.report.arms import Arm, Group
from deploy.study.report.frontier import Point, at_equal_first
from deploy.study.report.items import Items, Key, is_reported
from deploy.study.report.measured import Scope
from deploy.study.report.statistics import (
    Estimate,
    holm,
    mean_interval,
    paired_bootstrap,
    sign_flip_p,
)


@dataclass(frozen=True, slots=True)
class Comparison:
    """``second`` minus ``first`` in the share of right answers on a benchmark's items.

    Args:
        group, benchmark, first, second: what is compared.
        seeds: that both arms have.
        items: that were answered by both.
        only_first, only_second: responses that only one of them has right, over all seeds.
        difference: of the shares, with the paired bootstrap's interval; ``n`` counts items.
        p: of the exact sign-flip test over items.
        corrected: the same, by Holm over all comparisons of the study.
        not_paired: why there is no test; the figures are then empty.
    """

    group: str
    benchmark: str
    first: str
    second: str
    seeds: tuple[str, ...] = ()
    items: int = 0
    only_first: int = 0
    only_second: int = 0
    difference: Estimate | None = None
    p: float | None = None
    corrected: float | None = None
    not_paired: str = ""


def compare_pairs(groups: Sequence[Group]) -> list[Comparison]:
    """All pairs of arms of each group, the base included, on each benchmark."""
    found = [one for group in groups for one in _pairs(group)]
    tested = [number for number, one in enumerate(found) if one.p is not None]
    corrected = holm([p for one in found if (p := one.p) is not None])
    for number, value in zip(tested, corrected, strict=True):
        found[number] = replace(found[number], corrected=value)
    return found


def _pairs(group: Group) -> Iterator[Comparison]:
    benchmarks = dict.fromkeys((group.scope.in_domain, *group.scope.held_out))
    for benchmark in benchmarks:
        for first, second in combinations(group.measured, 2):
            yield _compare(group.label, group.scope, benchmark, first, second)


def _compare(label: str, scope: Scope, benchmark: str, first: Arm, second: Arm) -> Comparison:
    empty = Comparison(label, benchmark, first.label, second.label)
    seeds = tuple(sorted(first.cells.keys() & second.cells.keys()))
    if not seeds:
        return replace(empty, not_paired="no seed is finished in both arms")
    # Per item: (difference, trials), and responses that one arm alone has right.
    differences: Counter[Key] = Counter()
    trials: Counter[Key] = Counter()
    discordant: Counter[bool] = Counter()
    for seed in seeds:
        a, b = (_right(arm, seed, benchmark, scope) for arm in (first, second))
        if reason := _not_paired(a, b):
            return replace(empty, not_paired=f"seed {seed}: {reason}")
        for key, rights in a.items():
            for one, other in zip(rights, b[key], strict=True):
                differences[key] += other - one
                trials[key] += 1
                if one != other:
                    discordant[other] += 1
    kinds = Counter((differences[key], trials[key]) for key in trials)
    low, high = paired_bootstrap(kinds)
    value = differences.total() / trials.total()
    return replace(
        empty,
        seeds=seeds,
        items=len(trials),
        only_first=discordant[False],
        only_second=discordant[True],
        difference=Estimate(value, low, high, len(trials)),
        p=sign_flip_p([differences[key] for key in trials]),
    )


def _right(arm: Arm, seed: str, benchmark: str, scope: Scope) -> dict[Key, list[bool]]:
    items = arm.cells[seed].items(arm.step(seed)).get(benchmark, Items())
    if scope.split and benchmark == scope.in_domain:
        return {key: rights for key, rights in items.right.items() if is_reported(key[0])}
    return items.right


def _not_paired(a: dict[Key, list[bool]], b: dict[Key, list[bool]]) -> str:
    """Why two arms' responses are not about the same items; empty if they are."""
    if not a or not b:
        return "an arm has no responses"
    if a.keys() != b.keys():
        return f"{len(a.keys() & b.keys())} of {len(a.keys() | b.keys())} items are in both arms"
    if any(len(rights) != len(b[key]) for key, rights in a.items()):
        return "the arms have different numbers of samples"
    return ""


@dataclass(frozen=True, slots=True)
class EqualRecall:
    """Held-out scores of a group's arms where their in-domain scores are equal.

    Args:
        group: its label.
        levels: the in-domain score by seed.
        held_out: by arm, over those seeds.
        differences: of two arms, second minus first, over those seeds.
        refused: by seed, why there is no such score.
    """

    group: str
    levels: dict[str, float]
    held_out: dict[str, Estimate]
    differences: dict[tuple[str, str], Estimate]
    refused: dict[str, str]


def at_equal_recall(group: Group) -> EqualRecall:
    """Compare a group's arms on their trajectories, at the highest score that all of them reach."""
    arms = {arm.label: arm for arm in group.trained}
    seeds = sorted({seed for arm in arms.values() for seed in arm.cells})
    levels: dict[str, float] = {}
    kept: dict[str, dict[str, float]] = {}
    refused: dict[str, str] = {}
    for seed in seeds:
        if missing := [label for label, arm in arms.items() if seed not in arm.cells]:
            refused[seed] = f"{', '.join(missing)} is not finished"
            continue
        paths = {label: _path(arm, seed, group.scope) for label, arm in arms.items()}
        try:
            levels[seed], kept[seed] = at_equal_first(paths)
        except ValueError as error:
            refused[seed] = str(error)
    return EqualRecall(
        group.label,
        levels,
        {
            label: mean_interval([of_seed[label] for of_seed in kept.values()])
            for label in (arms if kept else ())
        },
        {
            (a, b): mean_interval([of_seed[b] - of_seed[a] for of_seed in kept.values()])
            for a, b in (combinations(arms, 2) if kept else ())
        },
        refused,
    )


def _path(arm: Arm, seed: str, scope: Scope) -> list[Point]:
    return [(learned, kept) for _, learned, kept in arm.cells[seed].trajectory(scope)]
