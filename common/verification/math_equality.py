"""Whether two mathematical answers are equal, by math-verify in a separate process.

Its symbolic computation may never end on a model's output, and its own timeouts use signals,
which work in a main thread only. So a child process compares the answers. If it exceeds the
deadline it is killed, the result is "not equal", and the next comparison starts another child.
The child also keeps SymPy out of the caller's memory.
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

# The child's first reply includes its imports.
_START_S = 60.0
_DEADLINE_S = 10.0
_STEP_S = 3
_MAX_CHARS = 20_000

_lock = threading.Lock()
_child: subprocess.Popen[str] | None = None


def equal(response: str, answer: str) -> bool:
    """Whether the expression in ``response``, read from its end, equals ``answer``.

    Only the last 20,000 characters of a response are read.

    Raises:
        RunError: the child did not start.
    """
    return _compare(response[-_MAX_CHARS:], answer, boxes=False)


def equal_boxes(found: str, answer: str) -> bool:
    """Whether the content of two boxes is equal, as the paper's released code asks.

    math-verify is not symmetric: here ``found`` is in the place of the gold answer, so a
    relation may equal an interval, but an interval no relation.

    Raises:
        RunError: the child did not start.
    """
    return _compare(found[-_MAX_CHARS:], answer, boxes=True)


def _compare(response: str, answer: str, *, boxes: bool) -> bool:
    global _child
    with _lock:
        if _child is None or _child.poll() is not None:
            _child = _start()
        question = json.dumps([response, answer, boxes])
        reply = _ask(_child, question, _DEADLINE_S)
        if reply is None:
            _child.kill()
            _child.wait()
            _child = None
        return reply == "1"


def serve(questions: IO[str], replies: IO[str]) -> None:
    """Main loop of the child: one line of JSON in, one reply out."""
    import logging

    from math_verify import parse, verify

    # Input that does not parse is a normal result, not worth a log line.
    logging.disable(logging.CRITICAL)
    print("ready", file=replies, flush=True)
    for line in questions:
        response, answer, boxes = json.loads(line)
        if boxes:
            pair = (f"\\boxed{{{text}}}" for text in (response, answer))
            gold, target = (parse(text, parsing_timeout=_STEP_S) for text in pair)
        else:
            target = parse(response, parsing_timeout=_STEP_S)
            # math-verify parses bare LaTeX only between dollar signs.
            gold = parse(f"${answer}$", parsing_timeout=_STEP_S) or parse(answer)
        is_equal = bool(gold) and verify(gold, target, timeout_seconds=_STEP_S)
        print(int(is_equal), file=replies, flush=True)


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
            "this process's log; is the package math-verify installed?"
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
    """One line; None after the timeout. Every reply is one whole line."""
    assert child.stdout is not None
    ready, _, _ = select.select([child.stdout], [], [], seconds)
    return child.stdout.readline().strip() or None if ready else None
