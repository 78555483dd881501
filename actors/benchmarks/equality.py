"""Whether two mathematical answers are equal, by math-verify in a process of its own.

Its symbolic work may take for ever on what a model writes, and its own time-outs
are signals, which only a main thread may have. So one child process judges; it
is replaced when it is late, and being late means not equal.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading

from common.errors import RunError

_DEADLINE_S = 10.0
# The first word waits for the child's imports.
_START_S = 90.0
_MAX_CHARS = 20_000

_lock = threading.Lock()
_child: subprocess.Popen[str] | None = None


def equal(response: str, answer: str) -> bool:
    """Whether the last expression of ``response`` equals ``answer``.

    Raises:
        RunError: the judge does not start.
    """
    global _child
    with _lock:
        if _child is None or _child.poll() is not None:
            _child = _start()
        assert _child.stdin is not None
        _child.stdin.write(json.dumps([response[-_MAX_CHARS:], answer]) + "\n")
        verdict = _read(_child, _DEADLINE_S)
        if verdict is None:
            _child.kill()
            _child.wait()
            _child = None
        return verdict == "True"


def serve() -> None:
    """The child: one verdict a line of JSON, until its input ends."""
    import logging

    from math_verify import parse, verify

    # Unreadable input is a verdict here, not an event.
    logging.disable(logging.CRITICAL)
    print("ready", flush=True)
    for line in sys.stdin:
        response, answer = json.loads(line)
        found = parse(response, parsing_timeout=None)
        # A bare LaTeX answer is read as such only between dollar signs.
        wanted = parse(f"${answer}$", parsing_timeout=None) or parse(answer, parsing_timeout=None)
        print(bool(wanted) and bool(verify(wanted, found, timeout_seconds=None)), flush=True)


def _start() -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", f"from {__name__} import serve; serve()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    if _read(child, _START_S) != "ready":
        child.kill()
        raise RunError(
            f"math-verify did not start in {_START_S:.0f} s; its error is in this process' log; "
            "is the package math-verify installed?"
        )
    return child


def _read(child: subprocess.Popen[str], seconds: float) -> str | None:
    """One line, None if it does not come in time; the child writes whole lines only."""
    assert child.stdout is not None
    ready, _, _ = select.select([child.stdout], [], [], seconds)
    return child.stdout.readline().strip() or None if ready else None
