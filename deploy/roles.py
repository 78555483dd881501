"""Roles as Ray actors: thin wrappers that build a plain class and run it.

Each wrapper takes what crosses a process (paths, names, handles), sets the
process up before anything heavy is imported, and runs its worker in
:meth:`run`, whose result tells the controller how the role ended.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import socket
import threading
import time
import traceback
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from actors.replay import ReplayQueue
from common import config as configuration
from common import corpora, models
from common.config import RunConfig
from common.errors import first_line, lacks_room
from common.ledger import Ledger, open_view
from common.metrics import Snapshot
from common.records import Rollout, unpack_rollout
from common.rundir import RunDir
from deploy.equipment import prompts_for, shelf_of, tutor_for
from deploy.health import Report, State
from deploy.remote import RemoteQueue

if TYPE_CHECKING:
    from learner.worker import Learner


class Worker(Protocol):
    """What a role runs."""

    @property
    def progress(self) -> float: ...
    @property
    def waiting(self) -> str: ...
    def run(self) -> int: ...
    def drain(self) -> None: ...
    def snapshot(self) -> Snapshot: ...


class Role:
    """What all roles share: configuration, a log file, a thread that works, and reports.

    The controller starts the work and asks how it goes; it holds no future of
    it, so a controller that dies leaves the work running and a new one asks on.

    Args:
        name: actor name, e.g. ``rollout-0``.
        root: the run folder.
        model_dir: the resolved base model.
    """

    def __init__(self, name: str, root: str, model_dir: str) -> None:
        self.name = name
        self.run_dir = RunDir(Path(root))
        self.config: RunConfig = configuration.load(self.run_dir.config)
        self.model_dir = Path(model_dir)
        prepare_process(self.run_dir.logs / f"{name}.log", self.config)
        self._worker: Worker | None = None
        self._engine: Any = None
        self._state: State = "idle"
        self._failure: Exception | None = None
        self._draining = False
        self._identity = _identity(self.config)

    def start(self, index: int, meeting: tuple[str, int]) -> None:
        """Begin to work; told twice, it works once.

        Args:
            index: of this member within its group.
            meeting: address where the group's members find each other.
        """
        if self._state == "idle":
            self._state = "starting"
            threading.Thread(target=self._run, args=(index, meeting), daemon=True).start()

    def poll(self) -> Report:
        """How it goes."""
        worker, failure = self._worker, self._failure
        engine = self._engine.snapshot() if self._engine else {}
        return Report(
            self._state,
            *self._identity,
            progress=worker.progress if worker else 0.0,
            waiting=worker.waiting if worker else "",
            cause=first_line(failure) if failure else "",
            # What the user gave, or numbers that diverge, fail again however often we try.
            hopeless=isinstance(failure, (ValueError, ArithmeticError)),
            disk_full=lacks_room(failure),
            snapshot={**worker.snapshot(), **engine} if worker else None,
        )

    def drain(self) -> None:
        """Take nothing new; the work ends once what is in hand is done."""
        self._draining = True
        if self._worker is not None:
            self._worker.drain()

    def say(self, line: str) -> None:
        """Write a line to the role's log, if there is room."""
        with contextlib.suppress(OSError):
            print(time.strftime("%H:%M:%S"), self.name, line, flush=True)

    def build(self, index: int, meeting: tuple[str, int]) -> Worker:
        """Make the worker; this is where engines start."""
        raise NotImplementedError

    def _run(self, index: int, meeting: tuple[str, int]) -> None:
        began = time.monotonic()
        try:
            worker = self.build(index, meeting)
            if self._draining:
                worker.drain()
            self._worker = worker
            self._state = "working"
            self.say(f"ready after {time.monotonic() - began:.1f} s")
            result = worker.run()
            self.say(f"done: {result}")
            self._state = "done"
        except Exception as error:
            self._failure = error
            self._state = "failed"
            with contextlib.suppress(OSError):
                traceback.print_exc()


class ReplayRole(Role):
    """The queue actor. Its state is the ledger file, so it may be restarted."""

    def __init__(self, name: str, root: str, model_dir: str) -> None:
        super().__init__(name, root, model_dir)
        config = self.config
        ledger = Ledger(
            self.run_dir.ledger,
            epochs=config.exposures_per_rollout,
            seed=config.seed,
            first_epoch=config.replay.first_epoch,
        )
        self._queue = ReplayQueue(ledger, config)
        self._queue.add_facts([fact.id for fact in corpora.load(config.data).facts])

    def poll(self) -> Report:
        """It works whenever it answers."""
        status = self._queue.status()
        return Report(
            "working",
            *self._identity,
            # A learner that resumes takes samples back; what follows is progress again.
            progress=status["accepted"] + status["exhausted"] + status["exposures_sampled"],
            waiting="requests",
            snapshot=self._queue.snapshot(),
            detail={**status, "settings": self._queue.settings.model_dump()},
        )

    def call(self, method: str, *arguments: Any, **named: Any) -> Any:
        """Call a method of the queue."""
        return getattr(self._queue, method)(*arguments, **named)


class RolloutRole(Role):
    """A rollout actor with its own engine."""

    def build(self, index: int, meeting: tuple[str, int]) -> Worker:
        """Load the engines: the reference's, the student's, or both where the former teaches."""
        from actors.engine import Engine
        from actors.policy_weights import PolicyWeights
        from actors.relay import Relay
        from actors.rollout import RolloutActor
        from actors.student import StudentActor
        from actors.teaching import scored_top

        config, model = self.config, models.load(self.model_dir)
        settings, has_student = config.rollout, config.student is not None
        is_taught = has_student and scored_top(config.method) > 0

        def load() -> Engine:
            return Engine(
                model.folder,
                config.engine.shared_by(2) if is_taught else config.engine,
                max_requests=2 * settings.slots,
                stop_token_ids=model.stop_token_ids,
                speculative_tokens=settings.speculative_tokens,
            )

        engine = self._engine = load()
        relay = Relay(engine, settings.slots)
        rest = (
            prompts_for(config, model),
            config.method,
            {fact.id: fact for fact in corpora.load(config.data).facts},
            RemoteQueue(config.cluster.stall_s),
            settings,
            config.seed,
        )
        if not has_student:
            return RolloutActor(self.name, relay, *rest)
        shelf = shelf_of(config, self.run_dir)
        weights = PolicyWeights(engine, shelf, self.name, config.publish.deadline_s)
        teacher = Relay(load(), settings.slots) if is_taught else None
        return StudentActor(self.name, relay, weights, *rest, teacher)


class LearnerRole(Role):
    """One rank of the learner."""

    _learner: Learner | None = None

    def build(self, index: int, meeting: tuple[str, int]) -> Worker:
        """Join the other ranks and load the student."""
        settings = self.config.learner
        os.environ.update(
            RANK=str(index),
            # Ray shows each actor its own GPU only, so it is always the first.
            LOCAL_RANK="0",
            WORLD_SIZE=str(settings.ranks),
            MASTER_ADDR=meeting[0],
            MASTER_PORT=str(meeting[1]),
        )
        if settings.resolved_device == "cpu":
            os.environ["DS_ACCELERATOR"] = "cpu"
        from learner.engine import TrainingEngine
        from learner.publishing import Publisher
        from learner.worker import Learner

        tutor = tutor_for(self.config, self.model_dir)
        engine = TrainingEngine(
            self.model_dir, settings, loss=self.config.method.loss, seed=self.config.seed
        )
        publisher = None
        if self.config.student is not None:
            shelf = shelf_of(self.config, self.run_dir)
            publisher = Publisher(
                shelf, self.config.publish, self.config.engine.dtype, index, self.say
            )
        self._learner = Learner(
            engine,
            RemoteQueue(self.config.cluster.stall_s),
            settings,
            self.run_dir,
            self.model_dir,
            index,
            self.say,
            tutor,
            publisher,
        )
        return self._learner

    def poll(self) -> Report:
        """How it goes; a checkpoint that does not fit yet is no failure."""
        report = super().poll()
        waits = self._learner is not None and self._learner.lacks_room
        return replace(report, disk_full=report.disk_full or waits)


class EvaluatorRole(Role):
    """An evaluator with its own engine."""

    def build(self, index: int, meeting: tuple[str, int]) -> Worker:
        """Load an engine of the base model."""
        from actors.analyses import add_analyses
        from actors.engine import Engine
        from actors.evaluator import Evaluator, materials_for
        from actors.results import Results, Target
        from common.weights import folder_hash
        from learner import checkpoint

        config = self.config
        model = models.load(self.model_dir)
        base = Target(0, model.folder, folder_hash(model.folder))
        engine = self._engine = Engine(
            model.folder,
            config.engine,
            max_requests=config.evaluator.slots,
            stop_token_ids=model.stop_token_ids,
        )

        def find() -> list[Target]:
            return [
                base,
                *(
                    Target(found.step, found.folder, found.weights_hash)
                    for found in checkpoint.existing(self.run_dir.checkpoints)
                ),
            ]

        corpus = corpora.load(config.data)
        prompts = prompts_for(config, model)
        materials = materials_for(model, prompts, corpus, config.evaluator, config.seed)
        results = Results(self.run_dir.eval)
        evaluator = Evaluator(
            engine,
            base.weights,
            materials,
            results,
            find,
            newest_first=not config.learner.early_stop,
        )

        def rollouts() -> list[Rollout]:
            with contextlib.closing(open_view(self.run_dir.ledger)) as ledger:
                return [unpack_rollout(payload) for payload in ledger.payloads()]

        add_analyses(evaluator, engine, base, materials, results, rollouts, self.say)
        return evaluator


def _identity(config: RunConfig) -> tuple[int, str, tuple[str, int]]:
    """Process, node, and a free address for peers to meet at."""
    import ray

    local = config.cluster.address is None
    host = "127.0.0.1" if local else str(ray.util.get_node_ip_address())
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
    return os.getpid(), str(ray.get_runtime_context().get_node_id()), (host, port)


def prepare_process(log: Path, config: RunConfig) -> None:
    """Send all output to the role's log and bound its threads; before heavy imports."""
    log.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    faulthandler.enable(file=2)
    if config.engine.resolved_device == "cpu":
        os.environ["OMP_NUM_THREADS"] = str(config.cluster.threads)
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
