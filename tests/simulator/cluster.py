"""A whole run in simulation: queue, learner, rollout actors, controller, and their faults."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from actors.replay.status import QueueStatus
from common import durable
from common.config import run_config
from common.config.run_config import RunConfig
from common.records import Fact
from common.rundir import RunDir
from deploy.control import supervisor as supervising
from deploy.control.group_spec import GroupSpec
from deploy.control.launch import fit_ledger
from deploy.control.out_of_memory import OutOfMemory
from deploy.control.retry import Retry
from deploy.control.role_kind import REPLAY_ACTOR, RoleKind
from deploy.control.supervisor import RunFailed, Supervisor
from learner.checkpoint import existing
from tests.simulator import disk as disks
from tests.simulator.disk import Disk
from tests.simulator.groups import Group, Journal
from tests.simulator.queue import Control, Network, QueueProcess
from tests.simulator.roles import Ranks, Role, learner_of, patch_time, rollouts_of
from tests.simulator.world import Process, World

# A learner resumes between its first and its last call of these.
_RESUMING = ("register", "last_step", "restore", "sample")


class Cluster:
    """One run from its start to its end.

    Args:
        world: its time and chance.
        root: folder of the run; ``graveyard`` beside it.
        config: of the run.
        num_facts: facts "0", "1", ….
        poison: facts whose rollouts kill the learner.
        patch: pytest's monkeypatch.
    """

    def __init__(
        self,
        world: World,
        root: Path,
        config: RunConfig,
        num_facts: int,
        poison: frozenset[int],
        patch: Any,
    ) -> None:
        self.world, self.config, self.poison = world, config, poison
        world.root = str(root)
        self.run = RunDir(root / "run")
        self.run.create()
        (self.run.root / "model").mkdir()
        (root / "graves").mkdir()
        self.facts = [str(fact) for fact in range(num_facts)]
        self.network = Network(world)
        self.disk = Disk(world, self.run.root, root / "graves")
        self.journal = Journal(world)
        self.roles: dict[str, Role] = {}
        self.controller = Process("none yet")
        self.controller.kill()
        self.outcome = ""
        self.last_told: QueueStatus | None = None
        self.history: list[tuple[str, Any]] = []
        self.stuck: list[str] = []
        # Faults that may kill a learner in a step, which looks like a poison rollout.
        self.deaths = 0
        # Weights of every checkpoint that ever got its name for good.
        self.named: dict[str, bytes] = {}
        self.spoiled: set[bytes] = set()
        # What became of them: nobody reads the last one again.
        self.rotten: set[bytes] = set()
        self._tick_errors = self._boots = 0
        patch_time(world, patch)
        disks.install(self.disk, patch)
        patch.setattr(supervising, "is_full", lambda folder, least=0: self.disk.is_full)
        self._watch_names(patch)
        known = {fact: Fact(fact, "", "") for fact in self.facts}
        self._learner = learner_of(world, self.run, config, self.network, num_facts, poison)
        self._rollouts = rollouts_of(world, config, self.network, known)

    # -- life ------------------------------------------------------------------

    def up(self) -> None:
        """What the command does: check the folder, and start a controller."""
        fit_ledger(self.run, accept_older=False)
        self._start_controller(adopts=False)

    def create(self, spec: GroupSpec) -> dict[str, Any]:
        """Processes of a group, not started yet."""
        if spec.kind is RoleKind.REPLAY:
            self.network.queue = QueueProcess(
                self.world, self.run, self.config, self.facts, self.history
            )
            self.network.queue.is_full = self.disk.is_full
            return {spec.name: self.network.queue}
        if spec.kind is RoleKind.LEARNER:
            build: Callable[[Role, int], Any] = self._learner(Ranks(self.world, len(spec.members)))
        else:
            build = self._rollouts
        if self.config.cluster.placement == "phases":
            others = [
                name
                for name, role in self.roles.items()
                if role.process.is_alive
                and role.process.is_reachable
                and not name.startswith(spec.kind.value)
            ]
            assert not others, f"{spec.name} starts while {others} have the devices"
        created = {name: Role(self.world, name, build) for name in spec.members}
        self.roles |= created
        return created

    # -- faults ----------------------------------------------------------------

    def kill_queue(self, *, power_cut: bool = False) -> None:
        """End the queue like kill -9 does."""
        if self.network.queue is not None and self.network.queue.process.is_alive:
            self.network.queue.crash(power_cut=power_cut)

    def kill_controller(self) -> None:
        """End the controller; Ray starts another, which adopts the roles."""
        self.controller.kill()
        self._later(3.0, lambda: self._start_controller(adopts=True))

    def cut_power_of_queue(self) -> None:
        """The queue's machine is another one, and starts again by itself."""
        self.kill_queue(power_cut=True)

    def cut_power(self) -> None:
        """All processes and all that was not forced to disk are gone; then ``up`` again."""
        self._boots += 1
        self.controller.kill()
        for role in self.roles.values():
            role.process.kill()
        self.kill_queue(power_cut=True)
        self.roles.clear()
        self.disk.is_full = False
        self.disk.cut_power()
        self.world.note("the power is cut")
        self._later(1.0, self.up)

    def spoil_checkpoint(self) -> None:
        """Change a byte of the newest checkpoint, unless a learner reads it in this moment."""
        found = existing(self.run.checkpoints)
        last = next((m for m, _ in reversed(self.history) if m in _RESUMING), "sample")
        if found and last == "sample":
            files = sorted(found[0].folder.rglob("*.safetensors"))
            path = self.world.rng.choice(files)
            content = bytearray(path.read_bytes())
            self.spoiled.add(bytes(content))
            # The counts come first among the tensors, which end the file.
            content[-9] ^= 0x40
            path.write_bytes(content)
            self.rotten.add(bytes(content))
            self.disk._keep(path)
            self.world.note(f"{path.relative_to(self.run.checkpoints)} is spoiled")

    def fail_ticks(self, count: int) -> None:
        """Let the next ticks of the controller meet an I/O error."""
        self._tick_errors = count

    def fill_disk(self, is_full: bool) -> None:
        """Let nothing more fit on the disk, or make room again."""
        self.disk.is_full = is_full
        if self.network.queue is not None:
            self.network.queue.is_full = is_full

    def heal_disk(self) -> None:
        """Let the disk be as fast as ever."""
        self.disk.delay_s = 0.0

    # -- private -----------------------------------------------------------------

    def _watch_names(self, patch: Any) -> None:
        rename = durable.rename

        def noting(source: Path, target: Path) -> None:
            rename(source, target)
            if target.parent == self.run.checkpoints and target.name.startswith("step_"):
                for path in target.glob("model*.safetensors"):
                    self.named[f"{target.name}/{path.name}"] = path.read_bytes()

        patch.setattr(durable, "rename", noting)

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        """Do it, unless the power is cut before."""
        boot = self._boots
        self.world.at(self.world.now + seconds, lambda: act() if boot == self._boots else None)

    def _start_controller(self, *, adopts: bool) -> None:
        # The lock in the run's folder: one at a time.
        if self.outcome or self.controller.is_alive:
            return
        self.controller = Process("controller")
        self.world.spawn(self.controller, lambda: self._control(adopts))

    def _control(self, adopts: bool) -> None:
        world, journal = self.world, self.journal
        typed: Any = journal
        queue: Any = Control(self.network)
        supervisor = Supervisor(
            self.run,
            self.config,
            "model",
            typed,
            {},
            lambda spec, restarts: Group(self, spec, restarts),
            poll=self._poll,
            queue=queue,
            memory=OutOfMemory(count=lambda: 0),
            clock=lambda: world.now,
        )
        retry = Retry(
            self.config.cluster.stall_s,
            0.5,
            lambda cause: world.note(f"controller: {cause}"),
            passes=RunFailed,
            clock=lambda: world.now,
            sleep=world.sleep,
        )

        def tick() -> Any:
            if self._tick_errors:
                self._tick_errors -= 1
                raise OSError(5, "Input/output error")
            return supervisor.tick()

        try:
            if adopts:
                supervisor.adopt()
            while not (state := retry(tick)).has_ended:
                world.sleep(0.5)
            self.outcome = state.name
            self.last_told = supervisor.groups["replay"].reports[REPLAY_ACTOR].queue
        except RunFailed as error:
            self.outcome = f"failed: {error}"

    def _poll(self, groups: Iterable[Any]) -> dict[str, str]:
        deaths = {group.name: group.answer(self.world.now) for group in groups}
        return {name: why for name, why in deaths.items() if why}


def config_of(**changes: Any) -> RunConfig:
    """A small run."""
    raw: dict[str, Any] = {
        "name": "simulated",
        "method": {"name": "sft"},
        "data": {"kgfact": {}},
        "engine": {"device": "cpu"},
        "rollout": {"actors": 2, "slots": 2},
        "replay": {"lease_s": 20, "poison_after": 3},
        "learner": {"device": "cpu", "batch_size": 2, "checkpoint_every": 2, "zero_stage": 0},
        "evaluator": {"actors": 0},
        "cluster": {"stall_s": 60, "start_timeout_s": 60, "max_restarts": 20},
    }
    for section, values in changes.items():
        raw[section] = {**raw.get(section, {}), **values}
    return run_config.parse(json.loads(json.dumps(raw)), "simulation")
