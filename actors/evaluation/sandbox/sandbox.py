"""Runs a function that a model wrote against tests, contained.

The function and the tests run in two processes that share nothing but two pipes of plain
data, so the function can neither read the tests nor touch their verdict (``inside``). Each
process has a process tree, a network and a file system of its own, from Linux namespaces:
no interfaces, nothing to read but the Python installation and the system libraries, nothing
to write but a temporary folder in memory (``confine``). It makes only the system calls that
Python needs to compute, and no other process (``seccomp``). Memory, CPU time, threads and
files are bounded; at the time-out, or when the tests end, everything is killed.

An ordinary user needs unprivileged user namespaces; as root the code runs as nobody. Where
isolation is not available, nothing is run unless the settings allow it. It is no proof
against an attack on the kernel.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Where our packages lie. The base interpreter does not know: a virtual environment's
# folders are not shown inside.
_ROOT = Path(__file__).parents[3]
_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from actors.evaluation.sandbox import inside; del sys.path[0]; inside.main()"
)
_MAX_REPORT_BYTES = 4096


class SandboxError(RuntimeError):
    """Code cannot be contained here; the message gives the reason and the remedy."""


@dataclass(frozen=True, slots=True)
class ExecutionResult:
    """``detail`` is empty where the tests ran to their end, else why they did not."""

    passed: bool
    detail: str = ""


class Sandbox:
    """Tests solutions one by one; safe to use from several threads.

    Args:
        timeout_s: wall clock of one solution and its tests.
        memory_mib: address space of each of the two processes.
        unsafe: where there is no isolation, run with the limits alone.

    Raises:
        SandboxError: isolation cannot be set up here, and ``unsafe`` is not set.
    """

    def __init__(self, *, timeout_s: float, memory_mib: int = 1024, unsafe: bool = False) -> None:
        reason = problem()
        if reason and not unsafe:
            raise SandboxError(
                f"generated code cannot be contained here: {reason}; allow unprivileged user "
                "namespaces, run as root, or set evaluator.unsafe_code=true to run it with "
                "limits on time and memory only"
            )
        self.isolated = not reason
        self._timeout_s = timeout_s
        self._limits = {
            "isolated": self.isolated,
            "memory_bytes": memory_mib * 2**20,
            "cpu_s": int(timeout_s) + 1,
        }

    def run_tests(self, solution: str, entry_point: str, tests: str) -> ExecutionResult:
        """Run ``tests`` against the function ``entry_point`` of ``solution``.

        Both are sources for the standard library's Python. The tests see the function under
        its name; its arguments and results pass by value, as plain data (``values``).
        """
        return _run(solution, entry_point, tests, self._timeout_s, self._limits)


@functools.cache
def problem() -> str:
    """Why isolation does not work here; empty where it does. Found by trying."""
    if not sys.platform.startswith("linux"):
        return "it needs Linux namespaces"
    limits = {"isolated": True, "memory_bytes": 2**30, "cpu_s": 10}
    outcome = _run("def probe(): pass", "probe", "assert probe() is None", 60.0, limits)
    return "" if outcome.passed else outcome.detail


class _Process:
    """One of the two, started with its ends of the pipes: ``(read, write)``."""

    def __init__(self, task: Mapping[str, Any], ends: tuple[int, int]) -> None:
        self._child = subprocess.Popen(
            [os.path.realpath(sys.executable), "-I", "-B", "-c", _START, str(_ROOT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=ends,
            start_new_session=True,
            # Nothing of ours: no tokens, no paths.
            env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/tmp"},
        )
        assert self._child.stdin is not None
        with contextlib.suppress(BrokenPipeError), self._child.stdin as stream:
            stream.write(json.dumps({**task, "read": ends[0], "write": ends[1]}).encode())

    def result(self, deadline: float) -> ExecutionResult:
        """What it reported at its end, else how it ended.

        Raises:
            subprocess.TimeoutExpired: it has not ended at ``deadline`` (monotonic clock).
        """
        self._child.wait(max(0.0, deadline - time.monotonic()))
        assert self._child.stdout is not None
        # What it reported fits the pipe, or it would still be writing.
        os.set_blocking(self._child.stdout.fileno(), False)
        said = (self._child.stdout.read(_MAX_REPORT_BYTES) or b"").decode(errors="replace").strip()
        with contextlib.suppress(ValueError, TypeError):
            return ExecutionResult(**json.loads(said.partition("\n")[0]))
        return ExecutionResult(False, said or f"ended early (exit status {self._child.returncode})")

    def kill(self) -> None:
        """End it and all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()
        assert self._child.stdout is not None
        self._child.stdout.close()


def _run(
    solution: str, entry_point: str, tests: str, timeout_s: float, limits: Mapping[str, Any]
) -> ExecutionResult:
    deadline = time.monotonic() + timeout_s
    with contextlib.ExitStack() as started:

        def start(role: str, source: str, read: int, write: int) -> _Process:
            task = {**limits, "role": role, "source": source, "entry_point": entry_point}
            process = _Process(task, (read, write))
            started.callback(process.kill)
            return process

        (call, calls), (result, results) = os.pipe(), os.pipe()
        try:
            solver = start("solution", solution, call, results)
            tester = start("tests", tests, result, calls)
        finally:
            for end in (call, calls, result, results):
                os.close(end)
        try:
            outcome = tester.result(deadline)
            if outcome.passed or outcome.detail:
                return outcome
            # The solution ended before the tests; it says why, and nothing about them.
            return ExecutionResult(False, solver.result(deadline).detail)
        except subprocess.TimeoutExpired:
            return ExecutionResult(False, f"no end after {timeout_s:g} s")
