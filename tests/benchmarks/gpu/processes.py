"""Contenders one after the other, each in a process of its own, within a budget of seconds.

A contender is a generator of rows. Its process writes them to a file as they come, so what is
measured stays when a later row fails or takes too long.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.hardware import Device

Figures = dict[str, Any]
Rows = Iterator[tuple[str, Figures]]

ROOT = Path(__file__).parents[3]
_LOG_LINES = 40
_REASON_CHARACTERS = 300
_GRACE_S = 10.0


@dataclass(frozen=True)
class Contender:
    """What one process measures.

    Attributes:
        rows: names of the rows that it yields, in order.
        limit_s: after which it is killed.
        measure: yields the rows; receives the device and a folder that all contenders share.
    """

    rows: tuple[str, ...]
    limit_s: float
    measure: Callable[[Device, Path], Rows]


@dataclass(frozen=True)
class Outcome:
    """What a process came to: its rows, seconds, and why some are missing; empty: none is."""

    rows: dict[str, Figures]
    seconds: float
    reason: str = ""


@dataclass
class Results:
    """Outcomes by contender, and the contenders that the budget left out."""

    device: Device
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def run_all(
    contenders: dict[str, Contender],
    results: Results,
    budget_s: float,
    start: Callable[[str, float], Outcome],
    done: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Run each contender, the first first, until ``budget_s`` is used up.

    Args:
        contenders: by name.
        results: receives the outcomes.
        budget_s: for all; a process gets its own limit, or what is left if that is less.
        start: runs a contender for so many seconds at most.
        done: receives the name of a contender that has an outcome.
        clock: seconds.
    """
    end = clock() + budget_s
    for name, contender in contenders.items():
        left = end - clock()
        if left <= 0:
            results.left_out.append(name)
            continue
        results.outcomes[name] = start(name, min(contender.limit_s, left))
        done(name)


def run(command: Sequence[str], out: Path, limit_s: float) -> Outcome:
    """The outcome of a process that writes to ``out`` as :func:`serve` does.

    If it fails, the end of its output is printed.
    """
    log, began = out.with_suffix(".log"), time.monotonic()
    with log.open("w") as file:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": _python_path(), "HF_HUB_OFFLINE": "1"},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(limit_s)
            reason = f"its process ended with {code}" if code else ""
        except subprocess.TimeoutExpired:
            reason = f"no result in {limit_s:.0f} s"
        finally:
            _end(process)
    found: Figures = {"rows": {}, "reason": ""}
    if out.exists():
        found = json.loads(out.read_text())
    reason = found["reason"] or reason
    if reason:
        print("\n".join(log.read_text(errors="replace").splitlines()[-_LOG_LINES:]), flush=True)
    return Outcome(found["rows"], time.monotonic() - began, reason)


def serve(rows: Rows, out: Path) -> None:
    """Write rows to ``out`` as they come, and the reason if one fails; in the process itself."""
    found: dict[str, Figures] = {}
    reason = ""
    try:
        for name, figures in rows:
            found[name] = figures
            _write(out, found, "")
    except Exception as error:
        traceback.print_exc()
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:_REASON_CHARACTERS]
    _write(out, found, reason)


def _write(out: Path, rows: dict[str, Figures], reason: str) -> None:
    partial = out.with_suffix(".partial")
    partial.write_text(json.dumps({"rows": rows, "reason": reason}))
    partial.rename(out)


def _python_path() -> str:
    """This repository, before what the caller has."""
    return os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and what it has started; it may take down a cluster first."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
