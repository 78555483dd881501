"""A whole run in simulation: queue, learner, rollout actors, controller, and their faults."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from actors.replay.work import work_items
from common import durable
from common.config import run_config
from common.config.run_config import RunConfig
from common.ledger import open_view
from common.records import Fact
from common.rundir import RunDir
from deploy.control import supervisor as supervising
from deploy.control.group import ActorGroup
from deploy.control.group_spec import GroupSpec
from deploy.control.launch import fit_ledger
from deploy.control.retry import Retry
from deploy.control.role_kind import RoleKind
from deploy.control.supervisor import RunFailed, Supervisor
from learner.checkpoint import existing
from tests.simulator import disk as disks
from tests.simulator.disk import Disk
from tests.simulator.queue import Control, Network, QueueProcess
from tests.simulator.roles import Ranks, Role, learner_of, patch_time, rollouts_of
from tests.simulator.world import Process, World

_COMMITS = ("commit", "restore")


class _Group(ActorGroup):
    """A group of simulated roles."""

    def __init__(self, cluster: Cluster, spec: GroupSpec, restarts: int) -> None:
        super().__init__(spec, cluster.config.cluster, restarts)
        self._cluster = cluster

    def adopt(self) -> bool:
        found = {name: self._cluster.roles.get(name) for name in self.spec.members}
        if self.kind is RoleKind.REPLAY:
            found = {name: self._cluster.network.queue for name in found}
        if any(role is None or not role.process.is_alive for role in found.values()):
            for role in found.values():
                if role is not None and role.process.is_reachable:
                    role.process.kill()
            return False
        self._watch(found)
        self._started = True
        return True

    def bring_up(self) -> None:
        if not self._actors:
            self._watch(self._cluster.create(self.spec))
        elif not self._started and self.kind is not RoleKind.REPLAY:
            self._started = True
            for index, role in enumerate(self._actors.values()):
                role.start(index)

    def call(self, method: str) -> None:
        for role in self._actors.values():
            getattr(role, method)()

    def end(self) -> None:
        for name, role in self._actors.items():
            if role is self._cluster.network.queue:
                self._cluster.kill_queue()
            elif role.process.is_reachable:
                role.process.kill()
            # One that is cut off lives on, under nobody's eyes.
            self._cluster.roles.pop(name, None)
        self._actors, self._health, self._polls, self._started = {}, {}, {}, False

    def dump_stacks(self, run: RunDir, members: Iterable[str]) -> None:
        self._cluster.stuck += [str(name) for name in members]

    def answer(self, now: float) -> str:
        """Take the reports of this moment; why a member died, or empty."""
        for name, role in self._actors.items():
            if not role.process.is_alive:
                return f"{name} died"
            is_silent = now < role.process.paused_until or not role.process.is_reachable
            if not is_silent:
                self.take(name, role.report(), now)
        return ""


class _Journal:
    """Keeps events in the trace."""

    began = 0.0

    def __init__(self, world: World) -> None:
        self._world = world
        self.texts: list[str] = []

    def event(self, text: str) -> None:
        self.texts.append(text)
        self._world.note(f"event: {text}")

    def note(self, text: str) -> None:
        if text not in self.texts:
            self.event(text)


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
        self.world, self.config = world, config
        world.root = str(root)
        self.run = RunDir(root / "run")
        self.run.create()
        (self.run.root / "model").mkdir()
        (root / "graves").mkdir()
        self.facts = [str(fact) for fact in range(num_facts)]
        self.network = Network(world)
        self.disk = Disk(world, self.run.root, root / "graves")
        self.journal = _Journal(world)
        self.roles: dict[str, Role] = {}
        self.controller = Process("none yet")
        self.controller.kill()
        self.outcome = ""
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
        """Change a byte of the newest checkpoint."""
        found = existing(self.run.checkpoints)
        if found:
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

    # -- what must hold ----------------------------------------------------------

    def check(self, poison: frozenset[int]) -> None:
        """Every exposure is trained once, in ledger and weights, and no model is gone."""
        assert self.outcome == "finished", self.outcome
        self.kill_queue()
        epochs = self.config.exposures_per_rollout
        with_ledger = open_view(self.run.ledger)
        trained, lost = with_ledger.trained(), {fact for fact, _, _ in with_ledger.lost()}
        counts, recount = with_ledger.counts(), with_ledger.recount()
        with_ledger.close()
        assert counts == recount
        if self.deaths < self.config.replay.poison_after:
            assert lost <= {str(fact) for fact in poison}, f"left out without a cause: {lost}"
        items = work_items(self.config, self.facts)
        wanted = {(f, d, e) for f, d in items for e in range(epochs) if f not in lost}
        assert len(trained) == len(set(trained)), "an exposure is committed twice"
        assert wanted <= set(trained), f"not trained: {wanted - set(trained)}"
        newest = existing(self.run.checkpoints)[0]
        assert newest.step == counts.committed_step == counts.last_step
        files = newest.folder.rglob("*.safetensors")
        if not any(path.read_bytes() in self.rotten for path in files):
            newest.verify()
            self._check_weights(newest.folder, trained)
        self._check_models()
        self._check_history()

    def _check_history(self) -> None:
        """No training that was committed is done again, unless its checkpoint was spoiled."""
        committed = 0
        for method, (_, step, *_) in ((m, a) for m, a in self.history if m in _COMMITS):
            if method == "restore" and not self.spoiled:
                assert step >= committed, f"back to step {step}, but {committed} was committed"
            committed = max(committed, step) if method == "commit" else committed

    def _check_weights(self, folder: Path, trained: list[tuple[str, int, int]]) -> None:
        from safetensors.torch import load_file

        found: dict[str, Any] = {}
        for path in folder.glob("model*.safetensors"):
            found |= load_file(path)
        expected = [sum(fact == one for one, _, _ in trained) for fact in self.facts]
        assert found["counts"].tolist() == expected, "the weights have other exposures"

    def _check_models(self) -> None:
        """Each checkpoint that was named is there, by its content, unless it was spoiled."""
        kept = {
            path.read_bytes()
            for folder in (self.run.checkpoints, self.run.checkpoints / ".superseded")
            for path in folder.glob("step_*/model*.safetensors")
        }
        gone = [name for name, content in self.named.items() if content not in kept]
        assert not [n for n in gone if self.named[n] not in self.spoiled], f"removed: {gone}"

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
            lambda spec, restarts: _Group(self, spec, restarts),
            poll=self._poll,
            queue=queue,
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
