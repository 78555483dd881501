"""Roles as Ray actors: thin wrappers that build a plain class and run it.

Each wrapper takes what crosses a process (paths, names, handles), sets the
process up before anything heavy is imported, and runs its worker in
:meth:`run`, whose result tells the controller how the role ended.
"""

from __future__ import annotations

import faulthandler
import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from actors.replay import Grant, ReplayQueue
from common import config as configuration
from common import corpora, models
from common.config import RunConfig
from common.ledger import Ledger
from common.metrics import Snapshot
from common.prompts import PRESETS, Prompts
from common.rundir import RunDir

_CALL_DEADLINE_S = 60.0


class Role:
    """What all roles share: configuration, a log file, snapshot and stop.

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
        self.worker: Any = None
        self._stopped = False
        prepare_process(self.run_dir.logs / f"{name}.log", self.config)

    def pid(self) -> int:
        """Process id; also the sign that the constructor is done."""
        return os.getpid()

    def snapshot(self) -> Snapshot:
        """The worker's metrics; empty while it starts."""
        return self.worker.snapshot() if self.worker is not None else {}

    def stop(self) -> None:
        """Ask the worker to return from its run."""
        self._stopped = True
        if self.worker is not None:
            self.worker.stop()

    def say(self, line: str) -> None:
        """Write a line to the role's log."""
        print(time.strftime("%H:%M:%S"), self.name, line, flush=True)

    def _go(self, worker: Any) -> int:
        self.worker = worker
        self.say("ready")
        result: int = 0 if self._stopped else worker.run()
        self.say(f"done: {result}")
        return result


class ReplayRole:
    """The queue actor. Its state is the ledger file, so it may be restarted."""

    def __init__(self, root: str) -> None:
        run = RunDir(Path(root))
        config = configuration.load(run.config)
        prepare_process(run.logs / "replay.log", config)
        learner = config.learner
        ledger = Ledger(run.ledger, epochs=learner.epochs, seed=config.seed)
        self.queue = ReplayQueue(
            ledger, config.replay, epochs=learner.epochs, batch_size=learner.batch_size
        )

    def call(self, method: str, *arguments: Any, **named: Any) -> Any:
        """Call a method of the queue."""
        return getattr(self.queue, method)(*arguments, **named)


class RemoteQueue:
    """The queue as actors and learner see it: plain calls that survive its restart."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def lease(self, owner: str, count: int, holding: Sequence[int]) -> Grant:
        grant: Grant = self._call("lease", owner, count, holding)
        return grant

    def insert(self, payload: bytes, attempts: int) -> bool:
        return bool(self._call("insert", payload, attempts))

    def exhaust(self, fact_id: str, draw: int, reason: str, attempts: int) -> bool:
        return bool(self._call("exhaust", fact_id, draw, reason, attempts))

    def sample(self, step: int) -> Any:
        from learner.worker import Batch

        return Batch(*self._call("sample", step))

    def commit(self, step: int) -> None:
        self._call("commit", step)

    def restore(self, step: int) -> None:
        self._call("restore", step)

    def _call(self, method: str, *arguments: Any) -> Any:
        import ray

        deadline = time.monotonic() + _CALL_DEADLINE_S
        while True:
            try:
                return ray.get(self._handle.call.remote(method, *arguments))
            except ray.exceptions.RayActorError:
                # Every call may be repeated; Ray is restarting the actor.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)


class RolloutRole(Role):
    """A rollout actor with its own engine."""

    def run(self, queue: Any) -> int:
        """Roll out until the queue has no more work; returns rollouts accepted."""
        from actors.engine import Engine
        from actors.relay import Relay
        from actors.rollout import RolloutActor

        model = models.load(self.model_dir)
        settings = self.config.rollout
        engine = Engine(
            model.folder,
            self.config.engine,
            max_requests=2 * settings.slots,
            stop_token_ids=model.stop_token_ids,
        )
        facts = {fact.id: fact for fact in corpora.load(self.config.data).facts}
        return self._go(
            RolloutActor(
                self.name,
                Relay(engine, settings.slots),
                prompts_for(self.config, model),
                self.config.method,
                facts,
                RemoteQueue(queue),
                settings,
                self.config.seed,
            )
        )


class LearnerRole(Role):
    """One rank of the learner."""

    def find_endpoint(self) -> tuple[str, int]:
        """Address and free port for the ranks to meet at; asked of rank 0."""
        if self.config.cluster.address is None:
            host = "127.0.0.1"
        else:
            import ray

            host = ray.util.get_node_ip_address()
        with socket.socket() as probe:
            probe.bind((host, 0))
            return host, probe.getsockname()[1]

    def run(self, queue: Any, rank: int, endpoint: tuple[str, int]) -> int:
        """Train until the exposures are used up; returns the last step."""
        settings = self.config.learner
        os.environ.update(
            RANK=str(rank),
            # Ray shows each actor its own GPU only, so it is always the first.
            LOCAL_RANK="0",
            WORLD_SIZE=str(settings.ranks),
            MASTER_ADDR=endpoint[0],
            MASTER_PORT=str(endpoint[1]),
        )
        if settings.resolved_device == "cpu":
            os.environ["DS_ACCELERATOR"] = "cpu"
        from learner.engine import TrainingEngine
        from learner.worker import Learner

        engine = TrainingEngine(
            self.model_dir, settings, loss=self.config.method.loss, seed=self.config.seed
        )
        return self._go(
            Learner(
                engine,
                RemoteQueue(queue),
                settings,
                self.run_dir,
                self.model_dir,
                rank,
                self.say,
            )
        )


class EvaluatorRole(Role):
    """An evaluator with its own engine."""

    _finishing = False

    def finish(self) -> None:
        """No more checkpoints will come."""
        self._finishing = True
        if self.worker is not None:
            self.worker.finish()

    def run(self, queue: Any) -> int:
        """Measure the base and every checkpoint; returns how many."""
        from actors.engine import Engine
        from actors.evaluator import Evaluator, Target
        from learner import checkpoint

        model = models.load(self.model_dir)
        engine = Engine(
            model.folder,
            self.config.engine,
            max_requests=self.config.evaluator.slots,
            stop_token_ids=model.stop_token_ids,
        )

        def find() -> list[Target]:
            return [
                Target(0, model.folder, "base"),
                *(
                    Target(found.step, found.folder, found.weights_hash)
                    for found in checkpoint.existing(self.run_dir.checkpoints)
                ),
            ]

        evaluator = Evaluator(
            engine,
            model,
            prompts_for(self.config, model),
            corpora.load(self.config.data),
            self.config.evaluator,
            self.run_dir,
            find,
        )
        if self._finishing:
            evaluator.finish()
        return self._go(evaluator)


def prompts_for(config: RunConfig, model: models.Model) -> Prompts:
    """The run's prompt renderer."""
    return Prompts(model.tokenizer, PRESETS[config.prompts], model.stop_token_ids[0])


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
