"""Starts and watches whole runs through the command line, as a user does."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from common.rundir import RunDir
from deploy.observability import status as view


def command(runs: Path, *arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "deploy.cli.main", *map(str, arguments), "--runs", str(runs)]


def call(runs: Path, *arguments: str | Path) -> str:
    """Standard output of a command that must succeed."""
    result = subprocess.run(command(runs, *arguments), capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def write_config(runs: Path, **config: Any) -> Path:
    """Write NAME.yaml."""
    path = runs / f"{config['name']}.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def status(runs: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(call(runs, "status", name, "--json"))
    return found


def wait(
    runs: Path, name: str, what: Callable[[dict[str, Any]], bool], seconds: float
) -> dict[str, Any]:
    """Poll the status until ``what`` holds; fails if the run fails.

    Reads it as ``mixsd-cluster status --json`` does, but in this process: a command every half
    second would take most of a core from the run.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = view.read(RunDir(runs / name)).to_json()
        if what(found):
            return found
        assert found["state"] not in ("failed", "interrupted"), found
        time.sleep(0.2)
    pytest.fail(f"not reached in {seconds} s: {found}")


def counts(found: dict[str, Any]) -> dict[str, Any]:
    """The queue's counts; zeros until the queue has answered once."""
    return found["queue"] or dict.fromkeys(("leased", "committed_step", "accepted"), 0)
