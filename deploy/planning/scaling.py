"""How throughput grows with rollout actors, and what stops it: a sweep of simulations.

Weak scaling: every actor gets the same number of facts, each trained once, and
processes do not share devices. So it shows the limits of the queue and the learner,
not how long one corpus takes (see ``planner``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from deploy.planning.fitting import changed
from deploy.planning.planner import queue_capacity
from deploy.planning.simulation import System, simulate

# Facts per actor, in multiples of its slots, so that start and end of a run weigh little;
# fewer if there would be very many facts in total.
_FILLINGS, _FEWEST, _MANY = 6, 2, 2**15
_SATURATED = 0.9
# Each process has a core of its own, and no checkpoint is written but the last, after everything
# that is counted here.
_ALONE = {
    "cluster.threads": 1,
    "learner.checkpoint_every": 10**9,
    "learner.max_steps": None,
    # By ipc there could be one actor only.
    "publish.transport": "memory",
}
IMAGES = (".png", ".svg", ".pdf")
ROLES = ("rollout", "queue", "learner")
# The learner is behind if more batches than this wait when the last rollout arrives.
_BEHIND = 4


@dataclass(frozen=True, slots=True)
class Point:
    """One number of actors. ``idle``: share of time, by role in ``ROLES``."""

    actors: int
    rollouts_per_s: float
    tokens_per_s: float
    idle: dict[str, float]
    queue_saturated: bool
    learner_behind: bool


@dataclass(frozen=True, slots=True)
class ScalingSweep:
    """A sweep; ``queue_capacity``: the actors that the queue serves at 70 % load."""

    points: list[Point]
    queue_capacity: int

    @property
    def queue_limit(self) -> int | None:
        """Fewest actors tried that saturate the queue."""
        return next((point.actors for point in self.points if point.queue_saturated), None)

    @property
    def learner_limit(self) -> int | None:
        """Fewest actors tried that outrun the learner in the first epoch."""
        return next((point.actors for point in self.points if point.learner_behind), None)


def sweep(
    system: System,
    counts: Iterable[int],
    *,
    cores: int | None = None,
    seen: Callable[[Point], None] = lambda point: None,
) -> ScalingSweep:
    """Simulate each number of actors.

    Args:
        system: what to scale; its learner stays as it is.
        counts: numbers of rollout actors.
        cores: that all processes share, on CPU; none: one each.
        seen: called with each point as it comes; a large one takes seconds.
    """
    if system.device.is_cpu:
        device = system.device
        alone = replace(device, cores=2**20, core_gain=1.0)
        system = replace(system, device=replace(device, cores=cores) if cores else alone)
    points = []
    for count in counts:
        points.append(_point(system, count))
        seen(points[-1])
    return ScalingSweep(points, queue_capacity(system))


def _point(system: System, actors: int) -> Point:
    config = changed(
        system.config,
        {"rollout.actors": actors, "learner.epochs": 1, "evaluator.actors": 0, **_ALONE},
    )
    assert config is not None
    filling = actors * config.rollout.slots
    facts = max(_FEWEST * filling, min(_FILLINGS * filling, _MANY))
    outcome = simulate(replace(system, config=config, facts=facts))
    return Point(
        actors=actors,
        rollouts_per_s=outcome.rollouts_per_s,
        tokens_per_s=outcome.rollouts_per_s * system.workload.target_tokens,
        idle={role: max(0.0, 1 - outcome.busy.get(role, 0.0)) for role in ROLES},
        queue_saturated=outcome.busy["queue"] > _SATURATED,
        learner_behind=outcome.backlog > _BEHIND * config.learner.batch_size,
    )


def plot(study: ScalingSweep, path: Path) -> None:
    """Write throughput and idle shares over the number of actors as an image."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    speed, idle = figure.subplots(1, 2)
    counts = [point.actors for point in study.points]
    rates = [point.rollouts_per_s for point in study.points]
    speed.loglog(counts, rates, "o-", label="simulated")
    speed.loglog(
        counts, [rates[0] * count / counts[0] for count in counts], ":", label="proportional"
    )
    speed.set_xlabel("rollout actors")
    speed.set_ylabel("accepted rollouts/s")
    speed.legend()
    for role in ROLES:
        idle.semilogx(counts, [point.idle[role] for point in study.points], "o-", label=role)
    idle.set_xlabel("rollout actors")
    idle.set_ylabel("idle share of time")
    idle.set_ylim(-0.03, 1.03)
    idle.legend()
    for axis in (speed, idle):
        axis.set_xscale("log", base=2)
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
