"""The list of live runs that Prometheus reads (``file_sd``): one file per run.

A run's controller writes its file when it starts and removes it when the run has
ended. If the controller is killed, the file remains and Prometheus shows the target
as down, as an operator should see it, until ``up`` or ``down``.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from pathlib import Path

from common.config.sections import MetricsSettings
from common.rundir import RunDir, write_atomic


def default_folder(runs: Path) -> Path:
    """The folder in which the runs of ``runs`` list themselves."""
    return runs / ".prometheus" / "targets"


def announce(run: RunDir, settings: MetricsSettings, address: str, ray: Sequence[str] = ()) -> None:
    """List the run's metrics at ``address`` (host:port), and those of its Ray nodes."""
    host, _, port = address.rpartition(":")
    if host in ("0.0.0.0", "[::]"):
        address = f"{socket.gethostname()}:{port}"
    path = _path(run, settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    entries: list[dict[str, object]] = [{"targets": [address], "labels": {"run": run.name}}]
    if ray:
        entries.append({"targets": list(ray), "labels": {"run": run.name, "job": "ray"}})
    # Prometheus may run as another user; an address is no secret.
    write_atomic(path, json.dumps(entries, indent=1), mode=0o644)


def withdraw(run: RunDir, settings: MetricsSettings) -> None:
    """Take the run off the list."""
    _path(run, settings).unlink(missing_ok=True)


def _path(run: RunDir, settings: MetricsSettings) -> Path:
    folder = settings.targets or default_folder(run.root.resolve().parent)
    return folder / f"{run.name}.json"
