"""Background processes that outlive the command that started them.

A process is identified by its id and its kernel start time, since ids are reused.
Only such a process is ever stopped.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path


def spawn(
    command: Sequence[str], log: Path, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start a process in its own session; its output goes to ``log``."""
    with log.open("wb") as file:
        return subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def start_time(pid: int) -> int | None:
    """Kernel start time of a process, clock ticks since boot; None if it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[19])


def is_alive(pid: int, started: int) -> bool:
    """Whether exactly this process runs."""
    return start_time(pid) == started


def find(argument: str) -> tuple[int, int] | None:
    """Process id and start time of a process with this command-line argument; None if gone."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if argument.encode() in path.read_bytes().split(b"\0"):
                pid = int(path.parent.name)
                started = start_time(pid)
                if started is not None:
                    return pid, started
    return None


def end(pid: int, started: int, patience_s: float = 20.0) -> bool:
    """SIGTERM it, after ``patience_s`` SIGKILL its group; False if it was gone already."""
    if not is_alive(pid, started):
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + patience_s
    while is_alive(pid, started) and time.monotonic() < deadline:
        time.sleep(0.1)
    if is_alive(pid, started):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    return True
