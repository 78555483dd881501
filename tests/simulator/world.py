"""Simulated time and processes: one thread runs at a time, and a seed decides which.

Product code runs unchanged on real threads, but each waits for the world's permission at its
*points*: sleeps, calls of the queue, file operations. So a run is a function of its seed.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import random
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any


class Killed(BaseException):
    """Ends the threads of a process that was killed."""


class Process:
    """Threads that live and die together.

    Attributes:
        is_reachable: whether others can kill it. One that is cut off lives on.
        paused_until: stopped like by SIGSTOP until then.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_alive = True
        self.is_reachable = True
        self.paused_until = 0.0

    def kill(self) -> None:
        """End it, at the next point of each of its threads."""
        self.is_alive = False


class _Thread:
    def __init__(self, process: Process, act: Callable[[], Any], world: World) -> None:
        self.process, self.wake = process, world.now
        self.has_ended = False
        self.go, self.back = threading.Semaphore(0), world.back
        self._act = act
        self._real = threading.Thread(target=self._run, daemon=True)
        self._real.start()

    def _run(self) -> None:
        self.go.acquire()
        try:
            if self.process.is_alive:
                self._act()
        except Killed:
            pass
        finally:
            self.has_ended = True
            self.back.release()


class World:
    """Runs simulated processes until all is done.

    Args:
        seed: decides everything that may come out differently.
    """

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.now = 0.0
        self.clock_error = 0.0
        self.back = threading.Semaphore(0)
        self.trace: list[str] = []
        # Left out of the trace, since its name is random.
        self.root = "\0"
        self._threads: list[_Thread] = []
        self._running: _Thread | None = None
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = itertools.count()

    def next_pid(self) -> int:
        """A process id that was not used before."""
        return 100 + next(self._serial)

    # -- for the scene ---------------------------------------------------------

    def spawn(self, process: Process, act: Callable[[], Any]) -> None:
        """Run ``act`` in a thread of ``process``."""
        self._threads.append(_Thread(process, act, self))

    def at(self, time: float, act: Callable[[], None]) -> None:
        """Run ``act`` at ``time``, between two points."""
        heapq.heappush(self._events, (time, next(self._serial), act))

    def run(self, is_over: Callable[[], bool], most_s: float) -> None:
        """Run until ``is_over``, and then end all threads.

        Raises:
            TimeoutError: that takes more than ``most_s`` simulated seconds.
        """
        try:
            while not is_over():
                self._step()
                if self.now > most_s:
                    raise TimeoutError(f"not over after {most_s:g} s")
        finally:
            for thread in self._threads:
                thread.process.kill()
            while self._threads:
                self._resume(self._threads[-1])

    def note(self, text: str) -> None:
        """Add a line to the trace."""
        self.trace.append(f"{self.now:9.3f} {text}".replace(self.root, ""))

    def digest(self) -> str:
        """Hash of all that has happened."""
        return hashlib.sha256("\n".join(self.trace).encode()).hexdigest()

    # -- for simulated threads -------------------------------------------------

    def point(self, what: str = "") -> None:
        """Let others run, or be killed here."""
        self.sleep(0.001 * self.rng.random(), what)

    def sleep(self, seconds: float, what: str = "") -> None:
        """Let ``seconds`` pass; in the thread of the world itself nothing happens."""
        thread = self._running
        if thread is None or threading.current_thread() is not thread._real:
            return
        if not thread.process.is_alive:
            raise Killed
        if what:
            self.note(f"{thread.process.name} {what}")
        thread.wake = self.now + seconds
        self.back.release()
        thread.go.acquire()
        if not thread.process.is_alive:
            raise Killed

    def process(self) -> Process:
        """The process whose thread runs now."""
        assert self._running is not None
        return self._running.process

    @property
    def time_module(self) -> Any:
        """Takes the place of the module ``time``."""
        return SimpleNamespace(
            monotonic=lambda: self.now,
            time=lambda: 1e9 + self.now + self.clock_error,
            sleep=self.sleep,
            strftime=lambda form: "00:00:00",
        )

    @property
    def threading_module(self) -> Any:
        """Takes the place of the module ``threading``: its events only."""
        return SimpleNamespace(Event=lambda: Event(self))

    def executor(self, max_workers: int, thread_name_prefix: str = "") -> Executor:
        """Takes the place of ``ThreadPoolExecutor``."""
        return Executor(self)

    # -- private ---------------------------------------------------------------

    def _step(self) -> None:
        ready = [thread for thread in self._threads if self._wake_of(thread) <= self.now]
        if self._events and self._events[0][0] <= self.now:
            heapq.heappop(self._events)[2]()
        elif ready:
            self._resume(self.rng.choice(ready))
        else:
            wakes = [self._wake_of(thread) for thread in self._threads]
            wakes += [self._events[0][0]] if self._events else []
            assert wakes, "nothing is left to run"
            self.now = max(self.now, min(wakes))

    @staticmethod
    def _wake_of(thread: _Thread) -> float:
        # A killed one ends at once.
        if not thread.process.is_alive:
            return 0.0
        return max(thread.wake, thread.process.paused_until)

    def _resume(self, thread: _Thread) -> None:
        self._running = thread
        thread.go.release()
        self.back.acquire()
        self._running = None
        if thread.has_ended:
            self._threads.remove(thread)


class Event:
    """Like ``threading.Event``."""

    def __init__(self, world: World) -> None:
        self._world, self._is_set = world, False

    def set(self) -> None:
        self._is_set = True

    def is_set(self) -> bool:
        return self._is_set

    def wait(self, timeout: float) -> bool:
        if not self._is_set:
            self._world.sleep(timeout)
        return self._is_set


class Future:
    """Like ``concurrent.futures.Future``."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._outcome: tuple[Any, Exception | None] | None = None

    def run(self, act: Callable[[], Any]) -> None:
        try:
            self._outcome = act(), None
        except Exception as error:
            self._outcome = None, error

    def done(self) -> bool:
        return self._outcome is not None

    def result(self) -> Any:
        while self._outcome is None:
            self._world.sleep(0.05)
        result, error = self._outcome
        if error is not None:
            raise error
        return result


class Executor:
    """One worker of the process that made it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._jobs: list[tuple[Future, Callable[[], Any]]] = []
        self._is_running = False

    def submit(self, act: Callable[..., Any], *arguments: Any) -> Future:
        future = Future(self._world)
        self._jobs.append((future, lambda: act(*arguments)))
        if not self._is_running:
            self._is_running = True
            self._world.spawn(self._world.process(), self._run)
        return future

    def shutdown(self) -> None:
        while self._jobs or self._is_running:
            self._world.sleep(0.05)

    def _run(self) -> None:
        while self._jobs:
            future, act = self._jobs[0]
            future.run(act)
            del self._jobs[0]
        self._is_running = False
