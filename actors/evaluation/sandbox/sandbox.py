"""Runs a program that a model wrote, contained.

The program gets a process tree, a network and a file system of its own
(``confine`` sets them up from Linux namespaces): no interfaces, nothing to read
but the Python installation and the system libraries, nothing to write but a
temporary folder in memory. Processes, memory, CPU time and file sizes are
bounded; at the time-out, or when the program ends, everything it started is
killed. An ordinary user needs unprivileged user namespaces; as root the program
runs as nobody. Where neither is available, nothing is run unless the settings allow it.

It contains accidents and carelessness of generated code. It is no proof against
an attack on the kernel, and a program that wants to can lie about its success.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_CONFINE = Path(__file__).parent / "confine.py"
_MAX_REPORT_BYTES = 4096


class SandboxError(RuntimeError):
    """Programs cannot be contained here; the message gives the reason and the remedy."""


@dataclass(frozen=True, slots=True)
class ExecutionResult:
    """``detail`` is empty for a program that ran to its end, else why it did not."""

    passed: bool
    detail: str = ""


class Sandbox:
    """Runs programs one by one; safe to use from several threads.

    Args:
        timeout_s: wall clock of one program.
        memory_mib: address space of one of its processes.
        processes: processes at once, all of them together.
        unsafe: where there is no isolation, run with the limits alone.

    Raises:
        SandboxError: isolation cannot be set up here, and ``unsafe`` is not set.
    """

    def __init__(
        self,
        *,
        timeout_s: float,
        memory_mib: int = 1024,
        processes: int = 16,
        unsafe: bool = False,
    ) -> None:
        problem = _problem()
        if problem and not unsafe:
            raise SandboxError(
                f"generated code cannot be contained here: {problem}; allow unprivileged user "
                "namespaces, run as root, or set evaluator.unsafe_code=true to run it with "
                "limits on time and memory only"
            )
        self.isolated = not problem
        self._timeout_s = timeout_s
        self._limits = {
            "isolated": self.isolated,
            "memory_bytes": memory_mib * 2**20,
            "processes": processes,
            "cpu_s": int(timeout_s) + 1,
        }

    def run(self, program: str) -> ExecutionResult:
        """Run ``program`` as a script of the standard library's Python."""
        return _run(program, self._timeout_s, self._limits)


@functools.cache
def _problem() -> str:
    """Why isolation does not work here; empty where it does. Found by trying."""
    if not sys.platform.startswith("linux"):
        return "it needs Linux namespaces"
    limits = {"isolated": True, "memory_bytes": 2**30, "processes": 16, "cpu_s": 10}
    outcome = _run("pass", 60.0, limits)
    return "" if outcome.passed else outcome.detail


def _run(program: str, timeout_s: float, limits: Mapping[str, int]) -> ExecutionResult:
    # Printed only at the program's end, so that leaving early is no success.
    token = secrets.token_hex(8)
    child = subprocess.Popen(
        # The base interpreter: a virtual environment's folders are not shown inside.
        [os.path.realpath(sys.executable), "-I", "-B", str(_CONFINE), json.dumps(limits)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        # Nothing of ours: no tokens, no paths.
        env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/tmp"},
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        with contextlib.suppress(BrokenPipeError):
            child.stdin.write(json.dumps({"token": token, "program": program}).encode())
            child.stdin.close()
        child.wait(timeout_s)
        # What it reported fits the pipe, or it would still be writing.
        os.set_blocking(child.stdout.fileno(), False)
        report = (child.stdout.read(_MAX_REPORT_BYTES) or b"").decode(errors="replace").strip()
    except subprocess.TimeoutExpired:
        return ExecutionResult(False, f"no end after {timeout_s:g} s")
    finally:
        _kill_group(child)
        child.stdout.close()
    if report == token:
        return ExecutionResult(True)
    return ExecutionResult(False, report or f"ended early (exit status {child.returncode})")


def _kill_group(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
