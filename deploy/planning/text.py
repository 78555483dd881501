"""Plans and sweeps as lines of at most 80 columns."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import wrap

from deploy.planning.planner import RunPlan, show_changes
from deploy.planning.scaling import ROLES, Point, ScalingSweep


def plan_lines(plan: RunPlan) -> Iterator[str]:
    """A plan as text."""
    yield f"{plan.name}: {plan.model}, {plan.parameters / 1e9:.3g} B parameters, on {plan.device}"
    yield from _item("figures", plan.source)
    yield ""
    yield f"{'role':<10}{'processes':>9}{'GPUs':>6}{'GiB each':>10}{'of':>7}   speed"
    for role in plan.roles:
        yield (
            f"{role.role.split()[-1]:<10}{role.processes:>9}{role.gpus or '-':>6}"
            f"{role.memory_total:>10.1f}{role.memory_capacity:>7.1f}   {role.speed}"
        )
    yield (f"{'queue':<10}{1:>9}{'-':>6}{'':>17}   serves {plan.queue_capacity:,} rollout actors")
    yield ""
    for role in plan.roles:
        parts = [f"{name} {size:.2g}" for name, size in role.memory.items() if size >= 0.05]
        yield from _item(f"{role.role.split()[-1]} GiB", ", ".join(parts))
    yield ""
    draws = f", {plan.rollouts:,} rollouts" if plan.rollouts != plan.facts else ""
    yield from _item(
        "work", f"{plan.facts:,} facts{draws}, {plan.exposures:,} exposures, {plan.steps:,} steps"
    )
    trained = f"trained after {duration(plan.trained_s)}, " if plan.steps else ""
    yield from _item(
        "time",
        f"rollouts in after {duration(plan.generated_s)}, {trained}"
        f"all done after {duration(plan.total_s)}",
    )
    if plan.checkpoints:
        yield from _item(
            "checkpoints",
            f"{plan.checkpoints}, at most {duration(plan.checkpoint_s)} each; "
            f"{plan.disk:,.1f} GiB of disk",
        )
    if plan.gpus:
        yield from _item("GPUs", f"{plan.gpus}, {plan.gpu_hours:.3g} GPU-hours")
    busy = ", ".join(f"{role} {share:.0%}" for role, share in sorted(plan.busy.items()))
    yield from _item("busy", busy)
    yield from _item("bottleneck", plan.bottleneck)
    for change, seconds in plan.scaling.items():
        yield from _item("", f"with {change}: {duration(seconds)}")
    yield from _item("assumed", "; ".join(plan.assumptions))
    for note in plan.notes:
        yield from _item("note", note)
    for problem in plan.problems:
        yield from _item("NO FIT", problem)
    if plan.problems:
        nearest = "no setting was found" if plan.nearest is None else show_changes(plan.nearest)
        yield from _item("nearest", nearest)


def point_head() -> str:
    """Names of the columns of :func:`point_line`."""
    idle = "".join(f"{role + ' idle':>14}" for role in ROLES)
    return f"{'actors':>6}{'rollouts/s':>12}{'tokens/s':>12}{idle}"


def point_line(point: Point) -> str:
    """One number of actors."""
    idle = "".join(f"{point.idle[role]:>14.0%}" for role in ROLES)
    return (
        f"{point.actors:>6}{_figures(point.rollouts_per_s):>12}{point.tokens_per_s:>12,.0f}{idle}"
    )


def study_lines(study: ScalingSweep) -> Iterator[str]:
    """The summary of a sweep."""
    limit = study.queue_limit
    yield from _item("queue", f"saturated from {limit} actors" if limit else "never saturated")
    yield from _item("capacity", f"at 70 % load the queue serves {study.queue_capacity} actors")
    limit = study.learner_limit
    behind = f"falls behind the actors from {limit}" if limit else "keeps up with every number"
    yield from _item("learner", f"{behind} in the first epoch")


def duration(seconds: float) -> str:
    """Seconds in readable units."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 120 else f"{seconds / 3600:.1f} h"


def _figures(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _item(name: str, value: str) -> Iterator[str]:
    for index, line in enumerate(wrap(value, 66) or [""]):
        yield f"{name if index == 0 else '':<14}{line}".rstrip()
