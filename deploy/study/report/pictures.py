"""The pictures of a group of arms; colours are methods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from deploy.report.drawing import BASE_COLOUR, Picture, as_picture, new_figure
from deploy.study.report.arms import Arm, Group
from deploy.study.report.correlations import Association
from deploy.study.report.frontier import pareto_front
from deploy.study.report.statistics import Estimate

_MARKERS = "os^Dv<>Pp*"


def group_pictures(group: Group, associations: Sequence[Association]) -> list[Picture]:
    """The trade-off, the trajectories, and what goes with forgetting."""
    drawn = [_trade_off(group), _trajectories(group)]
    drawn += [_scatter(group, one) for one in associations]
    return [picture for picture in drawn if picture is not None]


def _trade_off(group: Group) -> Picture | None:
    figure, axes = new_figure()
    learned = group.scope.in_domain
    points = [
        (arm, x, y)
        for arm in group.measured
        if (x := arm.estimate(learned)) is not None and (y := arm.estimate("held-out")) is not None
    ]
    styles = _styles(group)
    for arm, x, y in points:
        axes.errorbar(
            *(x.value, y.value, _bars(y), _bars(x)),
            **styles[arm.label],
            linestyle="none",
            capsize=2,
            label=arm.label,
        )
    front = [points[at] for at in pareto_front([(x.value, y.value) for _, x, y in points])]
    line = sorted((x.value, y.value) for _, x, y in front)
    if line:
        axes.plot(*zip(*line, strict=True), ":", color=BASE_COLOUR, linewidth=1)
    for arm, x, y in front:
        axes.plot(x.value, y.value, "o", color=BASE_COLOUR, markersize=13, fillstyle="none")
        axes.annotate(
            *(arm.label, (x.value, y.value)), xytext=(7, 7), textcoords="offset points", size=7
        )
    axes.set(xlabel=learned, ylabel="held-out mean")
    axes.margins(0.12)
    return as_picture(
        "In-domain and held-out",
        "Each point is an arm at its selected checkpoints, the mean over seeds with 95 % "
        "intervals both ways; up and to the right is better. Rings: the Pareto front "
        f"({', '.join(arm.label for arm, _, _ in front)}), arms that no other one beats in both.",
        figure,
        any(not arm.is_base for arm, _, _ in points),
    )


def _trajectories(group: Group) -> Picture | None:
    figure, axes = new_figure()
    styles = _styles(group)
    shown = False
    for arm in group.trained:
        for number, cell in enumerate(arm.cells.values()):
            path = cell.trajectory(group.scope)
            if len(path) < 2:
                continue
            shown = True
            x, y = [point[1] for point in path], [point[2] for point in path]
            label = arm.label if number == 0 else None
            axes.plot(x, y, "-", **styles[arm.label], linewidth=1, label=label, alpha=0.8)
            for step, *point in path:
                if step == arm.step(cell.seed):
                    axes.plot(*point, "o", color=BASE_COLOUR, markersize=10, fillstyle="none")
    axes.set(xlabel=group.scope.in_domain, ylabel="held-out mean")
    return as_picture(
        "Trajectories",
        "Each line is a run, each point a checkpoint; rings are the selected ones. Vertical: mean "
        f"of {', '.join(group.scope.path)}, which are measured at every checkpoint.",
        figure,
        shown,
    )


def _scatter(group: Group, found: Association) -> Picture | None:
    figure, axes = new_figure()
    styles = _styles(group)
    for label, x, y in found.points:
        axes.plot(x, y, **styles[label], linestyle="none", label=label)
    axes.set(xlabel=found.measure, ylabel=found.forgetting)
    axes.locator_params(axis="x", nbins=6)
    axes.ticklabel_format(axis="x", scilimits=(-2, 4))
    axes.margins(0.12)
    return as_picture(
        f"{found.measure} and forgetting",
        f"One point for each arm, the mean over its seeds. {_coefficients(found)}",
        figure,
        bool(found.points),
    )


def _coefficients(found: Association) -> str:
    if found.pearson is None or found.spearman is None:
        return f"No correlation, {found.verdict}."
    return (
        f"n = {len(found.points)}: Pearson {found.pearson.value:.2f}, Spearman "
        f"{found.spearman.value:.2f}; intervals are in the table."
    )


def _styles(group: Group) -> Mapping[str, dict[str, Any]]:
    """Colour by method and marker by arm within it."""
    return dict(_style(group.arms))


def _style(arms: Sequence[Arm]) -> Iterator[tuple[str, dict[str, Any]]]:
    methods: dict[str, list[Arm]] = {}
    for arm in arms:
        methods.setdefault(arm.method, []).append(arm)
    for number, of_method in enumerate(methods.values()):
        for place, arm in enumerate(of_method):
            colour = BASE_COLOUR if arm.is_base else f"C{number - 1}"
            marker = _MARKERS[place % len(_MARKERS)]
            yield arm.label, {"color": colour, "marker": marker, "markersize": 5}


def _bars(of: Estimate) -> list[list[float]] | None:
    if of.low is None or of.high is None:
        return None
    return [[of.value - of.low], [of.high - of.value]]
