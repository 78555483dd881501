"""The tables of a study: those of the paper's results, and those of the report's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from deploy.study.report.arms import DERIVED, Arm, Group, StudyFigures
from deploy.study.report.comparisons import Comparison, EqualRecall
from deploy.study.report.correlations import Association
from deploy.study.report.lr_selection import LrChoice
from deploy.study.report.statistics import Correlation, Estimate
from deploy.study.report.tables import SETTING, Table, Value, slug

_SEEDS = "Means over seeds with 95 % Student t intervals; one seed has no interval."
_HOPS = ("recall", "two_hop", "three_hop", "four_hop")
_OF_A_RATE = ("held-out", "retention", "target NLL", "Fisher alignment", "D_F", "‖Δθ‖²")


def paper_tables(study: StudyFigures) -> list[Table]:
    """Methods, mixing rates, benchmarks and knowledge editing, as far as the study has them."""
    groups = [group for group in study.groups if group.trained]
    tables = (_methods(groups), _mixing_rates(groups), _benchmarks(groups), _editing(groups))
    return [table for table in tables if table.rows]


def measure_table(group: Group) -> Table:
    """Every measure of a group's arms, side by side."""
    arms = group.measured
    return Table(
        f"measures-{slug(group.label)}",
        f"All measures: {group.label}",
        _SEEDS,
        ("measure", *(arm.label for arm in arms)),
        tuple((name, *(arm.estimate(name) for arm in arms)) for name in group.measures),
    )


def _methods(groups: Sequence[Group]) -> Table:
    def row(group: Group, arm: Arm) -> tuple[Value, ...]:
        learned = group.scope.in_domain
        names = (learned, f"{learned} (strict)", "held-out", "retention")
        return (
            arm.label,
            learned,
            *(arm.estimate(name) for name in names),
            "" if arm.is_base else len(arm.cells),
        )

    return _by_group(
        ("methods", "Methods: in-domain and held-out"),
        ("method", "in-domain", "score", "strict", "held-out mean", "retention", "seeds"),
        groups,
        lambda group: [row(group, arm) for arm in group.measured],
    )


def _mixing_rates(groups: Sequence[Group]) -> Table:
    def rows(group: Group) -> list[tuple[Value, ...]]:
        mixed = [arm for arm in group.measured if arm.mix_rate is not None]
        base = [arm for arm in group.measured if arm.is_base] if mixed else []
        return [
            (
                arm.label,
                "" if arm.mix_rate is None else f"{arm.mix_rate:g}",
                *(arm.estimate(name) for name in (group.scope.in_domain, *_OF_A_RATE)),
            )
            for arm in (*base, *sorted(mixed, key=lambda arm: arm.mix_rate or 0.0))
        ]

    return _by_group(
        ("mixing_rates", "Trade-off over λ"),
        ("method", "λ", "in-domain", *_OF_A_RATE),
        groups,
        rows,
    )


def _benchmarks(groups: Sequence[Group]) -> Table:
    names = list(
        dict.fromkeys(
            name
            for group in groups
            for name in group.measures
            if name not in DERIVED and " (" not in name
        )
    )
    return _by_group(
        ("benchmarks", "Each benchmark"),
        ("method", *names),
        groups,
        lambda group: [
            (arm.label, *(arm.estimate(name) for name in names)) for arm in group.measured
        ],
    )


def _editing(groups: Sequence[Group]) -> Table:
    edited = [group for group in groups if set(_HOPS[1:]) & set(group.measures)]
    return _by_group(
        ("editing", "Knowledge editing: questions over several hops"),
        ("method", *_HOPS, "held-out"),
        edited,
        lambda group: [
            (arm.label, *(arm.estimate(name) for name in (*_HOPS, "held-out")))
            for arm in group.measured
        ],
    )


def _by_group(
    names: tuple[str, str],
    head: tuple[str, ...],
    groups: Sequence[Group],
    rows: Callable[[Group], Sequence[tuple[Value, ...]]],
) -> Table:
    filled = [(group.label, *row) for group in groups for row in rows(group)]
    return Table(*names, _SEEDS, (SETTING, *head), tuple(filled))


def equal_recall_tables(found: Sequence[EqualRecall]) -> list[Table]:
    """Held-out scores at equal recall, and the differences between arms."""
    scores = Table(
        "equal_recall",
        "Held-out mean at equal in-domain score",
        "Interpolated between checkpoints. " + _SEEDS,
        (SETTING, "method", "held-out mean", "seeds"),
        tuple(
            (one.group, label, estimate, estimate.n)
            for one in found
            for label, estimate in one.held_out.items()
        ),
    )
    differences = Table(
        "equal_recall_differences",
        "Differences at equal in-domain score",
        "Second minus first, paired by seed. " + _SEEDS,
        (SETTING, "first", "second", "difference", "seeds"),
        tuple(
            (one.group, first, second, estimate, estimate.n)
            for one in found
            for (first, second), estimate in one.differences.items()
        ),
    )
    return [scores, differences]


def pair_table(comparisons: Sequence[Comparison]) -> Table:
    """All paired tests."""
    return Table(
        "pairs",
        "Paired tests on the same items",
        "Second minus first; 95 % interval by bootstrap over items, p by the exact sign-flip test "
        "over items, corrected by Holm over all rows.",
        (
            *(SETTING, "benchmark", "first", "second", "difference", "p", "corrected p"),
            *("first only", "second only", "items", "seeds"),
        ),
        tuple(
            (
                *(one.group, one.benchmark, one.first, one.second),
                *(one.not_paired or one.difference, one.p, one.corrected),
                *(one.only_first, one.only_second, one.items, len(one.seeds)),
            )
            for one in comparisons
        ),
    )


def correlation_table(found: Sequence[Association]) -> Table:
    """All correlations with forgetting."""
    return Table(
        "correlations",
        "Correlation with forgetting",
        "One point for each arm (mean over its seeds); 95 % intervals by Fisher's z.",
        (SETTING, "measure", "forgetting", "Pearson", "Spearman", "points", "measured"),
        tuple(
            (
                *(one.group, one.measure, one.forgetting),
                *(_estimate(one.pearson), _estimate(one.spearman), len(one.points), one.verdict),
            )
            for one in found
        ),
    )


def lr_table(study: StudyFigures) -> Table:
    """All candidates of each arm, with their validation scores."""
    return Table(
        "learning_rates",
        "Learning rates: validation scores",
        "Means over the seeds that are finished at every candidate.",
        (SETTING, "method", "learning rate", "validation", "held-out", "seeds", "chosen"),
        tuple(
            (group.label, arm.label, *row)
            for group in study.groups
            for arm in group.arms
            if arm.choice is not None
            for row in _lr_rows(arm.choice)
        ),
    )


def _lr_rows(choice: LrChoice) -> Iterator[tuple[Value, ...]]:
    for one in choice.candidates:
        validation, held_out = choice.scores.get(one.label, (None, None))
        mark = "chosen" if one.label == choice.label else ""
        if one.label not in choice.scores:
            mark = "not finished"
        yield (one.label, validation, held_out, len(choice.seeds), mark)


def _estimate(of: Correlation | None) -> Estimate | None:
    return None if of is None else Estimate(of.value, of.low, of.high, of.n)
