"""Saves a stack dump of a stuck process before it is killed."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from common.rundir import RunDir
from deploy.control.health import Report

_DUMP_S = 20.0


def save(run: RunDir, name: str, report: Report | None) -> Path | None:
    """Write the stack dump of ``name``'s process into ``logs/``; None if it never answered.

    Another process on the same node reads the stacks, so the process need not
    answer and may be stopped.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    if report is None:
        return None
    path = run.logs / f"{name}.{time.strftime('%H%M%S')}.stack"
    try:
        dump = ray.remote(_dump).options(
            num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(report.node, soft=False)
        )
        text = ray.get(dump.remote(report.pid), timeout=_DUMP_S)
    except ray.exceptions.RayError as error:
        text = f"the node of process {report.pid} did not answer: {error}"
    path.write_text(text, encoding="utf-8")
    return path


def _dump(pid: int) -> str:
    """Runs on the node of ``pid``."""
    program = Path(sys.executable).parent / "py-spy"
    result = subprocess.run(
        [str(program), "dump", "--pid", str(pid), "--nonblocking"],
        capture_output=True,
        text=True,
        timeout=_DUMP_S,
        check=False,
    )
    return result.stdout + result.stderr
