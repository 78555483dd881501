"""The real replay queue as a process, and calls to it over a network that loses and repeats."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.replay.queue import ReplayQueue
from actors.replay.status import QueueStatus
from common.config.run_config import RunConfig
from common.errors import is_disk_full_text
from common.ledger import Ledger, LedgerError, LedgerUnavailable
from common.rundir import RunDir
from deploy.control.health import Report
from learner.interfaces import Batch
from tests.simulator.world import Process, World

_RETRY_S, _ANSWER_S, _PATIENCE_S = 0.5, 5.0, 300.0


class QueueProcess:
    """A process with the queue; its files are what a kill or a power cut leaves.

    ``history`` receives every call that was served.
    """

    def __init__(
        self,
        world: World,
        run: RunDir,
        config: RunConfig,
        facts: list[str],
        history: list[tuple[str, Any]],
    ) -> None:
        self.history = history
        self.process = Process("queue")
        self._world, self._run = world, run
        self._ledger = Ledger(
            run.ledger,
            epochs=config.exposures_per_rollout,
            seed=config.seed,
            first_epoch=config.replay.first_epoch,
        )
        self.queue = ReplayQueue(self._ledger, config, clock=lambda: world.now)
        self.queue.add_facts(facts)
        self._on_disk = self._wal_size()
        # Then every change is refused, as SQLite does.
        self.is_full = False

    def call(self, method: str, arguments: tuple[Any, ...]) -> Any:
        """Serve one call, all or nothing."""
        if self.is_full and method != "last_step":
            self._ledger.trouble = "database or disk is full"
            raise LedgerUnavailable(self._ledger.trouble)
        result = getattr(self.queue, method)(*arguments)
        self.history.append((method, arguments))
        if method in ("register", "restore", "sample", "prepare", "commit"):
            self._on_disk = self._wal_size()
        return result

    def report(self) -> Report:
        """As the queue's role reports."""
        status: QueueStatus = self.queue.status()
        trouble = self.queue.trouble
        done = status.accepted + status.exhausted + status.exposures_sampled
        return Report(
            "working",
            *(1, "head", ("", 0)),
            progress=done,
            milestone=done,
            waiting=trouble or "requests",
            disk_full=is_disk_full_text(trouble),
            queue=status,
        )

    def crash(self, *, power_cut: bool) -> None:
        """End it, and bring its files into the state that is left."""
        self.process.kill()
        copies = [path for path in self._files() if not path.name.endswith("-shm")]
        for path in copies:
            shutil.copy(path, path.with_suffix(path.suffix + ".copy"))
        # Closing it properly would tidy up.
        self._ledger.close()
        for path in self._files():
            if not path.name.endswith(".copy"):
                path.unlink()
        for path in copies:
            path.with_suffix(path.suffix + ".copy").rename(path)
        wal = self._wal
        if power_cut and wal.exists():
            size = wal.stat().st_size
            kept = self._world.rng.randint(min(self._on_disk, size), size)
            with wal.open("r+b") as file:
                file.truncate(kept)

    @property
    def _wal(self) -> Path:
        return self._run.ledger.with_name(self._run.ledger.name + "-wal")

    def _wal_size(self) -> int:
        return self._wal.stat().st_size if self._wal.exists() else 0

    def _files(self) -> list[Path]:
        return list(self._run.root.glob(f"{self._run.ledger.name}*"))


@dataclass(slots=True)
class Network:
    """How calls go wrong: shares of all, and the longest delay of a copy in seconds.

    Attributes:
        queue: the process that serves now, or None.
    """

    world: World
    lost_requests: float = 0.0
    lost_replies: float = 0.0
    copies: float = 0.0
    most_late_s: float = 60.0
    queue: QueueProcess | None = None

    def call(self, method: str, *arguments: Any) -> Any:
        """Like :class:`deploy.control.queue_client.QueueClient`: repeat until it is answered.

        Raises:
            LedgerError: the queue refuses.
            TimeoutError: no answer for long.
        """
        world, began = self.world, self.world.now
        while world.now - began < _PATIENCE_S:
            world.point(f"calls {method}")
            queue = self.queue
            if queue is None or not queue.process.is_alive:
                world.sleep(_RETRY_S)
                continue
            if world.rng.random() < self.lost_requests:
                world.sleep(_ANSWER_S)
                continue
            try:
                result = queue.call(method, arguments)
            except LedgerUnavailable:
                world.sleep(_RETRY_S)
                continue
            if world.rng.random() < self.copies:
                late = world.now + self.most_late_s * world.rng.random()
                world.at(late, self._copy(method, arguments))
            if world.rng.random() < self.lost_replies:
                world.sleep(_ANSWER_S)
                continue
            world.point()
            return result
        raise TimeoutError(f"the queue did not answer {method}")

    def send(self, method: str, *arguments: Any, **named: Any) -> None:
        """A message without an answer, which may be lost or come late."""
        if self.world.rng.random() >= self.lost_requests:
            late = self.world.now + self.world.rng.random()
            self.world.at(late, self._copy(method, arguments, named))

    def _copy(
        self, method: str, arguments: tuple[Any, ...], named: dict[str, Any] | None = None
    ) -> Callable[[], None]:
        def arrive() -> None:
            queue = self.queue
            if queue is not None and queue.process.is_alive:
                self.world.note(f"late {method}")
                with contextlib.suppress(LedgerError):
                    getattr(queue.queue, method)(*arguments, **(named or {}))

        return arrive


class Client:
    """The queue as learners and rollout actors see it."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def __getattr__(self, method: str) -> Callable[..., Any]:
        return lambda *arguments, **named: self._network.call(method, *arguments, *named.values())

    def sample(self, generation: int, step: int) -> Batch:
        return Batch(*self._network.call("sample", generation, step))


class Control:
    """The queue as the supervisor sees it."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def release(self, owner: str, *, died: bool) -> None:
        self._network.send("release", owner, died)

    def configure(self, settings: Any) -> None:
        self._network.send("configure", settings)

    def end(self) -> None:
        self._network.send("end")
