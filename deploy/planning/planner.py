"""The plan of a run: what it needs, how long it takes, what limits it and what would help."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from common.config.auto import settle
from common.config.learner import LearnerSettings
from common.config.run_config import RunConfig
from common.hardware import Hardware
from deploy.planning import architecture, devices, workload
from deploy.planning.devices import Device
from deploy.planning.fitting import Changes, Machine, changed
from deploy.planning.memory import processes_of
from deploy.planning.queue_costs import actors_per_queue
from deploy.planning.roofline import (
    EngineModel,
    LearnerModel,
    iterations_per_rollout,
    rollouts_per_second,
)
from deploy.planning.simulation import (
    SimulationResult,
    System,
    simulate,
)

# A part is a bottleneck if at twice the speed it would save at least this share of the time.
_MATTERS = 0.03


@dataclass(frozen=True, slots=True)
class RolePlan:
    """One role. ``memory``: GiB of one device by part; ``speed``: as text."""

    role: str
    processes: int
    gpus: int
    memory: dict[str, float]
    memory_total: float
    memory_capacity: float
    tokens_per_s: float
    speed: str


@dataclass(frozen=True, slots=True)
class RunPlan:
    """The predictions. Times are seconds from the controller's start.

    ``queue_capacity``: rollout actors that the queue serves.
    ``rollouts``: those to draw, accepted or not.
    ``disk``: GiB of all checkpoints at the end.
    ``scaling``: change -> total seconds with it.
    ``nearest``: settings to change so that it fits; None: none was found.
    """

    name: str
    model: str
    parameters: int
    device: str
    source: str
    gpus: int
    roles: list[RolePlan]
    queue_capacity: int
    facts: int
    rollouts: int
    exposures: int
    steps: int
    generated_s: float
    trained_s: float
    total_s: float
    checkpoints: int
    checkpoint_s: float
    disk: float
    gpu_hours: float
    busy: dict[str, float]
    bottleneck: str
    scaling: dict[str, float]
    assumptions: list[str]
    notes: list[str]
    problems: list[str] = field(default_factory=list)
    nearest: Changes | None = None

    @property
    def fits(self) -> bool:
        """Whether it can run as configured."""
        return not self.problems


def system_of(
    config: RunConfig,
    device: Device,
    acceptance: float | None = None,
    target_tokens: int | None = None,
) -> System:
    """The system to simulate for a configuration.

    Args:
        config: the run.
        device: of every process.
        acceptance, target_tokens: as in :func:`workload.estimate`.

    Raises:
        UserError: the model or the corpus cannot be read.
    """
    chosen = device.fast_dtype
    config = settle(config, Hardware("cpu" if device.is_cpu else "cuda", chosen, chosen))
    arch = architecture.resolve(config.model)
    work = workload.estimate(config, arch, acceptance, target_tokens)
    engine = EngineModel(arch, device, config.engine)
    learner = LearnerModel(arch, device, config.learner)
    facts = config.num_work_items(len(work.items))
    return System(config, work, engine, learner, device, facts)


def actor_rate(system: System) -> float:
    """Rollouts/s of one actor with full slots."""
    slots = system.config.rollout.slots
    return rollouts_per_second(system.engine, system.workload, slots)


def queue_capacity(system: System) -> int:
    """Rollout actors with full slots that the queue serves."""
    rate = actor_rate(system)
    iterations = rate * iterations_per_rollout(system.workload) / system.config.rollout.slots
    return actors_per_queue(rate, iterations, system.costs)


def make_plan(system: System, gpus: int | None = None) -> RunPlan:
    """Plan a system on ``gpus`` devices (None: as many as it requests)."""
    config, work, device = system.config, system.workload, system.device
    arch = system.engine.architecture
    machine = Machine(arch, device, work, gpus)
    problems = machine.problems(config)
    outcome = simulate(system)
    checkpoints = _checkpoints(config.learner, outcome.steps)
    used = 0 if device.is_cpu else config.num_gpus()
    return RunPlan(
        name=config.name,
        model=config.model,
        parameters=arch.parameters,
        device=f"{device.cores} CPU cores" if device.is_cpu else device.name,
        source=device.source,
        gpus=used,
        roles=_roles(system),
        queue_capacity=queue_capacity(system),
        facts=sum(not item.rehearsed for item in work.items),
        rollouts=system.facts,
        exposures=config.learner.within_max_steps(outcome.accepted * config.exposures_per_rollout),
        steps=outcome.steps,
        generated_s=outcome.generated_s,
        trained_s=outcome.trained_s,
        total_s=outcome.total_s,
        checkpoints=checkpoints,
        checkpoint_s=system.learner.checkpoint(with_state=True),
        disk=_disk(system, checkpoints) / 2**30,
        gpu_hours=used * outcome.total_s / 3600,
        busy=outcome.busy,
        bottleneck=_bottleneck(system, outcome),
        scaling=_scaling(system),
        assumptions=_assumptions(system),
        notes=_notes(system),
        problems=list(problems.values()),
        nearest=machine.nearest(config) if problems else {},
    )


def _checkpoints(settings: LearnerSettings, steps: int) -> int:
    """Checkpoints of a run of ``steps``; the last step has one."""
    return sum(settings.has_checkpoint(step) or step == steps for step in range(1, steps + 1))


def _roles(system: System) -> list[RolePlan]:
    config, work, tp = system.config, system.workload, system.config.engine.tensor_parallel_size
    drawn = actor_rate(system) * work.attempts * work.target_tokens
    suites = sum(system.engine.suites(config.evaluator, work).values())
    step_s = system.learner.step(work)
    trained = system.learner.tokens(work) / step_s
    actors, ranks = config.rollout.actors, config.learner.ranks
    rolling = f"{drawn:,.0f} drawn tokens/s each"
    if work.mix_rate is None:
        rolling = f"scores {actor_rate(system):,.0f} targets/s each"
    facts = {
        "rollout": (actors, tp, drawn * actors, rolling),
        "learner": (ranks, 1, trained, f"{trained:,.0f} tokens/s, {step_s:.2g} s a step"),
        "evaluator": (config.evaluator.actors, tp, 0.0, f"{suites:.2g} s a checkpoint"),
    }
    shared = config.cluster.placement == "shared"
    plans = []
    for need in processes_of(config, system.engine.architecture, system.device, work):
        where = "in place of" if config.closes_for_fisher else "beside"
        beside = (config.evaluator.actors, 0, 0.0, f"{where} the evaluator's engine")
        count, each, tokens, speed = facts.get(need.role, beside)
        plans.append(
            RolePlan(
                role=need.role,
                processes=count,
                gpus=0 if system.device.is_cpu else min(1, each) if shared else count * each,
                memory={name: size / 2**30 for name, size in need.parts.items()},
                memory_total=need.total / 2**30,
                memory_capacity=need.capacity / 2**30,
                tokens_per_s=tokens,
                speed=speed,
            )
        )
    return plans


def _disk(system: System, checkpoints: int) -> float:
    """Bytes of every export and of the retained states."""
    learner = system.learner
    states = min(checkpoints, system.config.learner.keep_states)
    return checkpoints * learner.export_bytes + states * learner.state_bytes


def _bottleneck(system: System, outcome: SimulationResult) -> str:
    """The part that would shorten the run most if it were twice as fast."""
    parts = ("rollout", "learner", "evaluator", "start-up")
    saved = {
        part: 1 - simulate(replace(system, faster=part)).total_s / outcome.total_s for part in parts
    }
    worst = max(parts, key=lambda part: saved[part])
    return worst if saved[worst] >= _MATTERS else "none alone"


def _scaling(system: System) -> dict[str, float]:
    config = system.config
    changes: list[Changes] = [{"rollout.actors": 2 * config.rollout.actors}]
    if config.train:
        changes.append({"learner.ranks": 2 * config.learner.ranks})
    if config.rollout.actors > 1:
        changes.insert(0, {"rollout.actors": config.rollout.actors // 2})
    found = {}
    for change in changes:
        other = changed(config, change)
        if other is not None:
            scaled = replace(
                system, config=other, learner=replace(system.learner, settings=other.learner)
            )
            found[show_changes(change)] = simulate(scaled).total_s
    return found


def show_changes(changes: Changes) -> str:
    """Settings in the form of ``--set``."""
    return " ".join(f"{key}={str(value).lower()}" for key, value in changes.items())


def _assumptions(system: System) -> list[str]:
    work = system.workload
    lines = [
        f"{workload.PROMPT_CHARACTERS} characters per token in prompts, "
        f"{workload.TARGET_CHARACTERS} in targets"
    ]
    if work.has_student:
        lines.append(f"the student draws {work.target_tokens:.0f} tokens a rollout")
    elif work.mix_rate is not None:
        never = f", {work.unverifiable:.0%} of facts never do" if work.unverifiable else ""
        lines.append(
            f"{work.acceptance:.0%} of attempts verify{never} ({work.attempts:.1f} a fact)"
        )
        lines.append(f"drawn targets of {work.target_tokens:.0f} tokens")
    if generic := [item.target for item in work.items if item.rehearsed]:
        lines.append(f"answers to generic prompts of {generic[0]} tokens")
    return lines


def _notes(system: System) -> list[str]:
    config, work, notes = system.config, system.workload, []
    capacity = queue_capacity(system)
    if config.rollout.actors > capacity:
        notes.append(
            f"the queue serves {capacity} rollout actors at 70 % load; "
            f"{config.rollout.actors} are configured"
        )
    growth = [config.rollout.autoscale.max] if config.rollout.autoscale else []
    most = max([*growth, *(count.actors for count in config.rollout.schedule)], default=0)
    if most > config.rollout.actors:
        notes.append(f"planned at {config.rollout.actors} rollout actors; it may grow to {most}")
    longest = max(max(item.naive, item.expert) for item in work.items) + config.rollout.max_tokens
    if longest > config.engine.max_model_len:
        notes.append(
            f"the longest attempt may take {longest} tokens, more than "
            f"engine.max_model_len={config.engine.max_model_len}"
        )
    host = config.learner.ranks * 2 * system.engine.architecture.parameters / 2**30
    if config.train and config.learner.ranks > 1 and not system.device.is_cpu:
        notes.append(f"learner ranks load the whole model each: {host:.0f} GiB of host memory")
    return notes


def find_device(config: RunConfig, name: str | None, cores: int | None = None) -> Device:
    """The device of a plan: the one named, or the one that the configuration requests."""
    return devices.find(name or devices.default(config), cores)
