"""Roles that run the real loops of learner and rollout actors on toy engines.

The learner's weights count how often each fact was trained. So the last checkpoint itself tells
whether every exposure is in it exactly once.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file

from actors.rollout.loop import Job, RolloutLoop
from common.config.run_config import RunConfig
from common.errors import UserError, first_line, is_disk_full
from common.records import Fact, Rollout, Work
from common.rundir import RunDir
from deploy.control.health import Report, State
from deploy.control.role_kind import lease_owner
from learner.checkpoint import STATE, read_manifest
from learner.checkpoint_writer import TrainingState
from learner.worker import Learner
from tests.simulator.queue import Client, Network
from tests.simulator.world import Process, World

_FIRST_TARGET = 10


class Ranks:
    """Where the ranks of one learner meet."""

    def __init__(self, world: World, size: int) -> None:
        self._world, self.size = world, size
        self._given: dict[int, dict[int, Any]] = {}

    def exchange(self, turn: int, rank: int, value: Any) -> list[Any]:
        """What every rank has given in its ``turn``-th exchange."""
        given = self._given.setdefault(turn, {})
        given[rank] = value
        while len(given) < self.size:
            self._world.sleep(0.02)
        return [given[each] for each in range(self.size)]


class CountingEngine:
    """A training engine whose weights count the targets of each fact."""

    def __init__(
        self,
        world: World,
        ranks: Ranks,
        rank: int,
        facts: int,
        poison: frozenset[int],
    ) -> None:
        self._world, self._ranks, self._rank = world, ranks, rank
        self._turn = 0
        self.progress = 0
        self._poison = poison
        self._counts = torch.zeros(facts)
        self._updates = 0

    def step(self, rows: Any, num_target_tokens: int, lr: float, inputs: Any = ()) -> Any:
        self._world.sleep(0.5 + self._world.rng.random(), "takes a step")
        mine = [int(t) - _FIRST_TARGET for row in rows if row for t in row.targets_K]
        if self._poison & set(mine):
            self._world.note("a rollout kills the learner")
            self._world.process().kill()
            self._world.point()
        for theirs in self._meet(mine):
            for fact in theirs:
                self._counts[fact] += 1
        self._updates += 1
        return 1.0, 1.0

    def snapshot(self, with_state: bool) -> TrainingState:
        # No two checkpoints are alike, so that one which is gone is missed.
        mark = torch.tensor([self._world.rng.random()])
        weights = {"counts": self._counts.clone(), "mark": mark} if self._rank == 0 else {}
        mine = weights or {"other_mark": mark}
        files = {"config.json": b"{}"} if self._rank == 0 else {}
        state = {f"master/{name}": tensor for name, tensor in mine.items()} if with_state else {}
        return TrainingState(self._rank, self._ranks.size, mine, state, self._updates, files)

    def load_state(self, folder: Path) -> None:
        state = load_file(folder / STATE / "rank-0.safetensors")
        self._counts = state["master/counts"].clone()
        self._updates = read_manifest(folder).num_updates
        assert self._updates == read_manifest(folder).step
        self._world.sleep(0.5, "has loaded its state")

    def policy(self) -> Iterator[tuple[str, Any]]:
        yield "counts", self._counts

    def barrier(self) -> None:
        self._meet(None)

    def agree(self, values: tuple[int, ...]) -> tuple[int, ...]:
        agreed: tuple[int, ...] = self._meet(values)[0]
        return agreed

    def _meet(self, value: Any) -> list[Any]:
        self._turn += 1
        return self._ranks.exchange(self._turn, self._rank, value)


class _Decoder:
    """Finishes one attempt a step."""

    scoring_share = 0.0

    def __init__(self, world: World) -> None:
        self._world = world
        self.keys: list[str] = []

    @property
    def idle(self) -> bool:
        return not self.keys

    @property
    def num_attempts(self) -> int:
        return len(self.keys)

    def step(self) -> list[Any]:
        self._world.sleep(0.1 + 0.3 * self._world.rng.random(), "decodes")
        return [self.keys.pop(self._world.rng.randrange(len(self.keys)))]


class SimulatedRollouts(RolloutLoop[Job]):
    """The loop of a rollout actor; each target is one token that names the fact."""

    def __init__(self, world: World, owner: str, config: RunConfig, facts: Any, queue: Any) -> None:
        decoder: Any = _Decoder(world)
        prompts: Any = None
        super().__init__(
            owner, decoder, prompts, config.method, facts, queue, config.rollout, config.seed
        )
        self._keys = decoder.keys

    def _begin(self, key: str, work: Work) -> None:
        self._jobs[key] = Job(work, self._facts[work.fact_id])
        self._keys.append(key)

    def _on_attempt(self, drawn: Any) -> None:
        work = self._jobs[drawn].work
        target = [_FIRST_TARGET + int(work.fact_id)]
        empty: list[Any] = []
        self._insert(
            drawn,
            Rollout(
                *(work.fact_id, work.draw, 0, [1], target, empty, empty, empty, empty),
                *(None, 0, "", True),
            ),
        )

    def _on_score(self, scored: Any) -> None:
        raise NotImplementedError


class Role:
    """Like ``deploy.control.role.Role``: a worker in a thread, and reports."""

    def __init__(self, world: World, name: str, build: Callable[[Role, int], Any]) -> None:
        self.process = Process(name)
        self.name, self.pid = name, world.next_pid()
        self._world, self._build = world, build
        self._worker: Any = None
        self._state: State = "idle"
        self._failure: Exception | None = None
        self._notes: list[str] = []
        self._wants_drain = False

    def start(self, index: int) -> None:
        if self._state == "idle":
            self._state = "starting"
            self._world.spawn(self.process, lambda: self._run(index))

    def drain(self) -> None:
        self._wants_drain = True
        if self._worker is not None:
            self._worker.drain()

    def note(self, line: str) -> None:
        self._notes.append(line)
        self._world.note(f"{self.name}: {line}")

    def report(self) -> Report:
        worker, failure = self._worker, self._failure
        return Report(
            self._state,
            *(self.pid, "node", ("", 0)),
            progress=worker.progress if worker else 0.0,
            milestone=worker.milestone if worker else 0.0,
            waiting=worker.waiting if worker else "",
            cause=first_line(failure) if failure else "",
            permanent=isinstance(failure, UserError),
            disk_full=is_disk_full(failure) or getattr(worker, "is_disk_full", False),
            notes=tuple(self._notes[-20:]),
            noted=len(self._notes),
        )

    def _run(self, index: int) -> None:
        try:
            self._world.sleep(1.0 + self._world.rng.random(), "starts")
            self._worker = self._build(self, index)
            if self._wants_drain:
                self._worker.drain()
            self._state = "working"
            self._worker.run()
            self._state = "done"
        except Exception as error:
            self._world.note(f"{self.name} fails: {type(error).__name__}: {first_line(error)}")
            self._failure = error
            self._state = "failed"


def learner_of(
    world: World,
    run: RunDir,
    config: RunConfig,
    network: Network,
    num_facts: int,
    poison: frozenset[int],
) -> Callable[[Ranks], Callable[[Role, int], Learner]]:
    """Builds the ranks of learners that meet in ``Ranks``."""

    def of_group(ranks: Ranks) -> Callable[[Role, int], Learner]:
        def build(role: Role, index: int) -> Learner:
            engine: Any = CountingEngine(world, ranks, index, num_facts, poison)
            queue: Any = Client(network)
            return Learner(engine, queue, config.learner, run, run.root / "model", index, role.note)

        return build

    return of_group


def rollouts_of(
    world: World, config: RunConfig, network: Network, facts: dict[str, Fact]
) -> Callable[[Role, int], SimulatedRollouts]:
    """Builds rollout actors."""

    def build(role: Role, index: int) -> SimulatedRollouts:
        owner = lease_owner(role.name, "node", role.pid)
        return SimulatedRollouts(world, owner, config, facts, Client(network))

    return build


def patch_time(world: World, patch: Any) -> None:
    """Let the product's loops use simulated time."""
    from actors.replay import lease_client
    from actors.rollout import loop
    from deploy.control import group
    from learner import checkpoint_writer, worker

    for module in (lease_client, loop, group, checkpoint_writer, worker):
        patch.setattr(module, "time", world.time_module)
    patch.setattr(worker, "threading", world.threading_module)
    patch.setattr(worker, "secrets", SimpleNamespace(token_hex=_tokens()))
    patch.setattr(checkpoint_writer, "ThreadPoolExecutor", world.executor)


def _tokens() -> Callable[[int], str]:
    serial = itertools.count()
    return lambda size: f"token-{next(serial)}"
