"""A run as a discrete-event model: actors, queue, limiter, learner, evaluator.

Each role is a process that waits for the same things as the real one (see
``actors.rollout.mixed``, ``actors.replay.queue``, ``learner.worker``,
``actors.evaluation.evaluator``) and works for the seconds that ``roofline`` gives. Restarts
and failures are not modeled.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from dataclasses import dataclass, field

from actors.replay.limiter import wanted_by_next_epoch
from common.config.run_config import RunConfig
from deploy.planning.devices import Device
from deploy.planning.events import Call, Compute, Loop, Process, Server, Sleep
from deploy.planning.queue_costs import QueueCosts
from deploy.planning.roofline import ROLLOUT_BYTES_A_TOKEN, EngineModel, LearnerModel
from deploy.planning.slots import Slots
from deploy.planning.workload import Item, Workload

_POLL_S = 0.2
# For Ray to start an actor's process, and for the actor to read its configuration.
_SPAWN_S = 3.0


@dataclass(frozen=True, slots=True)
class System:
    """What is simulated.

    ``facts``: work items; the workload's lengths repeat. ``faster``: the part
    ("rollout", "learner", "evaluator" or "start-up") whose work takes half the time.
    """

    config: RunConfig
    workload: Workload
    engine: EngineModel
    learner: LearnerModel
    device: Device
    facts: int
    costs: QueueCosts = field(default_factory=QueueCosts)
    faster: str | None = None


@dataclass(slots=True)
class SimulationResult:
    """The outcome of a simulation. Times are seconds from the controller's start.

    ``busy``: share of the time in which each role computed, from when it was ready to its
    last work, as the mean over its members; the learner's steps and checkpoints are
    separate. For the queue: share of the generation time in which it served calls. The
    rest is idle.
    """

    total_s: float = 0.0
    generated_s: float = 0.0
    trained_s: float = 0.0
    started_s: float = 0.0
    accepted: int = 0
    exhausted: int = 0
    attempts: int = 0
    drawn_tokens: int = 0
    steps: int = 0
    # Rollouts that no step had sampled when the last one arrived.
    backlog: int = 0
    busy: dict[str, float] = field(default_factory=dict)

    @property
    def rollouts_per_s(self) -> float:
        """Accepted rollouts over the time in which actors worked."""
        return self.accepted / max(1e-9, self.generated_s - self.started_s)


def simulate(system: System) -> SimulationResult:
    """Run the model to its end; the same system gives the same result."""
    return _Run(system).run()


class _Run:
    def __init__(self, system: System) -> None:
        self._system = system
        self._config = system.config
        device = system.device
        elastic = device.is_cpu and self._config.cluster.threads == "auto"
        # Of the kernels of several processes, a GPU computes those of one at a time.
        one_gpu = not device.is_cpu and self._config.cluster.placement == "shared"
        cores = 1.0 if one_gpu else float(device.cores or math.inf)
        self._loop = Loop(cores, device.core_gain, elastic)
        self._queue = Server(system.costs.latency_s)
        self._random = random.Random(system.config.seed)
        self._next_fact = 0
        self._settled = 0
        self._sampled = 0
        self._steps = self._version = 0
        self._checkpoints = [0]
        self._writing = False
        self._learner_done = False
        self._served_s = 0.0
        self._ready: dict[str, float] = {}
        self._ended: dict[str, float] = {}
        self._computed: dict[str, float] = defaultdict(float)
        self._out = SimulationResult()
        mean = system.workload.naive_tokens + system.workload.target_tokens
        self._max_waiting = system.config.replay.max_bytes / (mean * ROLLOUT_BYTES_A_TOKEN)
        self._step_s = system.learner.step(system.workload)
        # As the roles poll; less often if steps are so long that nothing is missed.
        self._poll_s = max(_POLL_S, self._step_s / 20)
        # A rank without a row waits for the others.
        self._in_phases = self._config.cluster.placement == "phases"
        self._busy_ranks = sum(map(bool, system.learner.rows(system.workload)))

    def run(self) -> SimulationResult:
        for _ in range(self._config.rollout.actors):
            self._loop.start(self._actor())
        if self._config.train:
            self._loop.start(self._learn())
        else:
            self._learner_done = True
        if self._config.evaluator.actors:
            self._loop.start(self._evaluate())
        out = self._out
        out.total_s = self._loop.run()
        out.started_s = self._ready.get("rollout", 0.0)
        for role, computed in self._computed.items():
            members = self._config.rollout.actors if role == "rollout" else 1
            since = self._ready["learner" if role == "checkpoints" else role]
            out.busy[role] = computed / max(1e-9, self._ended[role] - since) / members
        span = max(1e-9, out.generated_s - out.started_s)
        out.busy["queue"] = min(1.0, self._served_s / span)
        return out

    def _work(self, part: str, seconds: float, cores: int = 1) -> Compute:
        return Compute(seconds / 2 if part == self._system.faster else seconds, cores)

    def _note(self, role: str, began: float) -> None:
        self._computed[role] += self._loop.now - began
        self._ended[role] = self._loop.now

    # -- rollout actors -------------------------------------------------------

    def _actor(self) -> Process:
        system, costs = self._system, self._system.costs
        slots = Slots(system.engine, system.workload, self._config.rollout, self._random)
        yield Sleep(_SPAWN_S)
        yield self._work("start-up", system.engine.start())
        self._ready.setdefault("rollout", self._loop.now)
        self._ended.setdefault("rollout", self._loop.now)
        version = self._version
        while True:
            if version != self._version and not slots.held:
                version = self._version
                yield self._work("rollout", system.engine.load())
            if slots.free and version == self._version:
                yield Call(self._queue, costs.lease_s)
                slots.add(self._lease(slots.free))
            if not slots.held:
                if self._is_drawn:
                    break
                yield Sleep(self._poll_s)
                continue
            seconds = slots.begin()
            if seconds:
                began = self._loop.now
                yield self._work("rollout", seconds)
                self._note("rollout", began)
            # An exhausted fact costs the queue as much as an insert.
            if leaving := slots.end():
                yield Call(self._queue, costs.insert_s + len(leaving) * costs.rollout_s)
            for accepted in leaving:
                self._settle(accepted)
        self._out.attempts += slots.attempts
        self._out.drawn_tokens += slots.drawn_tokens

    def _lease(self, count: int) -> list[tuple[Item, float]]:
        """Facts with the probability that an attempt verifies; unverifiable ones spread evenly."""
        makes_space = self._config.train and not self._in_phases
        if makes_space and self._out.accepted - self._sampled >= self._max_waiting:
            return []
        if self._is_drawn:
            return []
        lag, first = self._config.replay.max_lag, self._next_fact
        if lag is None:
            count = min(count, self._wanted())
        else:
            steps = self._version + lag + 1 - self._steps
            held = self._out.accepted - self._sampled + first - self._settled
            count = max(0, min(count, steps * self._config.learner.batch_size - held))
        self._next_fact = min(self._system.facts, first + count)
        work = self._system.workload
        return [
            (
                work.items[index % len(work.items)],
                0.0
                if int((index + 1) * work.unverifiable) > int(index * work.unverifiable)
                else work.acceptance,
            )
            for index in range(first, self._next_fact)
        ]

    def _wanted(self) -> int:
        """Work items that may be leased, where every epoch has its own; see the queue's limiter."""
        config = self._config
        if not config.train or self._in_phases or not config.method.draws_every_epoch:
            return self._system.facts
        per_epoch = max(1, self._system.facts // config.learner.epochs)
        passed = self._sampled + self._out.exhausted
        wanted = wanted_by_next_epoch(per_epoch, self._next_fact, passed)
        # A learner that waits for a batch gets one.
        coming = self._next_fact - passed
        return max(0, wanted, config.learner.batch_size - coming)

    @property
    def _is_drawn(self) -> bool:
        """Every fact is settled, or there are rollouts for all steps that are left."""
        if self._settled == self._system.facts:
            return True
        settings = self._config.learner
        if not self._config.train or settings.max_steps is None:
            return False
        left = (settings.max_steps - self._steps) * settings.batch_size
        return self._out.accepted - self._sampled >= left

    def _settle(self, accepted: bool) -> None:
        self._settled += 1
        if accepted:
            self._out.accepted += 1
        else:
            self._out.exhausted += 1
        self._out.generated_s = self._loop.now
        self._ended["rollout"] = self._loop.now
        if self._is_drawn:
            self._out.backlog = max(0, self._out.accepted - self._sampled)
            self._served_s = self._queue.busy_s

    # -- learner and evaluator ---------------------------------------------------

    def _learn(self) -> Process:
        system, settings = self._system, self._config.learner
        while self._in_phases and not self._is_drawn:
            yield Sleep(self._poll_s)
        yield Sleep(_SPAWN_S)
        yield self._work("start-up", system.learner.start(), settings.ranks)
        self._ready["learner"] = self._loop.now
        step = 0
        while True:
            yield Call(self._queue, system.costs.sample_s)
            count = self._batch()
            if count is None:
                yield Sleep(self._poll_s)
                continue
            if count == 0:
                break
            self._sampled += count
            step += 1
            self._steps = step
            began = self._loop.now
            yield self._work(
                "learner", self._step_s * count / settings.batch_size, self._busy_ranks
            )
            self._note("learner", began)
            if system.workload.has_student and step % self._config.publish.every == 0:
                self._version = step
            self._out.steps = step
            if settings.has_checkpoint(step):
                yield from self._save(step, settings.has_state(step))
        if not settings.has_checkpoint(step):
            yield from self._save(step, True)
        while self._writing:
            yield Sleep(self._poll_s)
        self._out.trained_s = self._loop.now
        self._learner_done = True

    def _batch(self) -> int | None:
        """Size of the next batch; None: wait; 0: training is over."""
        settings, settled = self._config.learner, self._settled == self._system.facts
        if self._steps == settings.max_steps:
            return 0
        accepted = self._out.accepted
        if settled:
            return min(
                settings.batch_size, accepted * self._config.exposures_per_rollout - self._sampled
            )
        enough = accepted >= self._config.replay.min_size or self._is_drawn
        return (
            settings.batch_size
            if enough and (accepted - self._sampled >= settings.batch_size)
            else None
        )

    def _save(self, step: int, with_state: bool) -> Process:
        """Copy the state; it is written during the next steps, one checkpoint at a time."""
        began = self._loop.now
        while self._writing:
            yield Sleep(self._poll_s)
        yield self._work("learner", self._system.learner.snapshot(with_state))
        self._note("checkpoints", began)
        self._writing = True
        self._loop.start(self._write(step, with_state), at=self._loop.now)

    def _write(self, step: int, with_state: bool) -> Process:
        yield self._work("learner", self._system.learner.checkpoint(with_state))
        self._writing = False
        self._checkpoints.append(step)

    def _evaluate(self) -> Process:
        system, measured = self._system, 0
        while self._in_phases and not self._learner_done:
            yield Sleep(self._poll_s)
        yield Sleep(_SPAWN_S)
        yield self._work("start-up", system.engine.start())
        self._ready["evaluator"] = self._loop.now
        seconds = sum(system.engine.suites(self._config.evaluator, system.workload).values())
        while not (self._learner_done and measured == len(self._checkpoints)):
            if measured == len(self._checkpoints):
                yield Sleep(self._poll_s)
                continue
            began = self._loop.now
            yield self._work("evaluator", seconds + (system.engine.load() if measured else 0.0))
            self._note("evaluator", began)
            measured += 1
