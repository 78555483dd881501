"""Whether two mathematical answers are equal, asked of math-verify in a process of its own.

Its symbolic work can take for ever on what a model writes, and its own timeouts
are signals, which only a main thread may have. So a child process judges; one
that is not done in time is killed, its verdict is "not equal", and the next
question starts another. The child also keeps SymPy out of the caller's memory.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import subprocess
import sys
import threading
from typing import IO

from common.errors import RunError

# The child's first answer waits for its imports.
_START_S = 60.0
_DEADLINE_S = 10.0
_STEP_S = 3
_MAX_CHARS = 20_000

_lock = threading.Lock()
_child: subprocess.Popen[str] | None = None


def equal(response: str, answer: str) -> bool:
    """Whether the expression in ``response``, read from its end, equals ``answer``.

    Only the end of an overlong response is read.

    Raises:
        RunError: the child does not start.
    """
    global _child
    with _lock:
        if _child is None or _child.poll() is not None:
            _child = _start()
        question = json.dumps([response[-_MAX_CHARS:], answer])
        reply = _ask(_child, question, _DEADLINE_S)
        if reply is None:
            _child.kill()
            _child.wait()
            _child = None
        return reply == "1"


def serve(questions: IO[str], replies: IO[str]) -> None:
    """Answer one line of JSON after another; the child's main loop."""
    import logging

    from math_verify import parse, verify

    # Unreadable input is a verdict here, not an event.
    logging.disable(logging.CRITICAL)
    print("ready", file=replies, flush=True)
    for line in questions:
        response, answer = json.loads(line)
        found = parse(response, parsing_timeout=_STEP_S)
        # A bare LaTeX answer is only read as such between dollar signs.
        wanted = parse(f"${answer}$", parsing_timeout=_STEP_S) or parse(answer)
        verdict = bool(wanted) and verify(wanted, found, timeout_seconds=_STEP_S)
        print(int(verdict), file=replies, flush=True)


def _start() -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from common.verification.math_equality import serve; "
            "serve(sys.stdin, sys.stdout)",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    atexit.register(child.kill)
    if _read(child, _START_S) != "ready":
        child.kill()
        raise RunError(
            f"verify mode math: math-verify did not start in {_START_S:.0f} s; its error is in "
            "this process' log; is the package math-verify installed?"
        )
    return child


def _ask(child: subprocess.Popen[str], question: str, seconds: float) -> str | None:
    assert child.stdin is not None
    try:
        child.stdin.write(question + "\n")
    except BrokenPipeError:
        return None
    return _read(child, seconds)


def _read(child: subprocess.Popen[str], seconds: float) -> str | None:
    """One line; None if it does not come in time. Every reply is one whole line."""
    assert child.stdout is not None
    ready, _, _ = select.select([child.stdout], [], [], seconds)
    return child.stdout.readline().strip() or None if ready else None
