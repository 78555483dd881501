"""The Ray cluster of a run: started here on loopback, or joined.

A cluster started here is private: token authentication, loopback listeners,
no dashboard, no usage reports, no fixed ports. Only its own head process is
ever stopped; ``ray stop`` would end every Ray on the machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.config.sections import ClusterSettings
from common.errors import RunError, UserError
from common.rundir import RunDir, read_json, write_atomic
from deploy.cluster import process

_START_TIMEOUT_S = 60.0
# A Ray CPU is a slot for one actor: a live run may have more actors than cores.
_SLOTS = 256


def namespace(run: RunDir) -> str:
    """Ray namespace of a run's named actors."""
    return f"mixsd-{run.name}"


def start_local(run: RunDir, settings: ClusterSettings) -> None:
    """Start a head on this machine and describe it in ``cluster.json``.

    Raises:
        RunError: the head did not start; the message names its log.
    """
    if not run.token.exists():
        # A process that has joined a cluster can join its successor by the same token only.
        write_atomic(run.token, secrets.token_hex(32))
    # Paths of Unix sockets have at most 107 characters, so the folder is not the run's.
    temp_dir = Path(tempfile.mkdtemp(prefix="mixsd-"))
    # First of all, so that a command killed from here on leaves nothing that is not known.
    _describe(run, temp_dir)
    log = run.logs / "ray.log"
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"),
        *("--port=0", f"--ray-client-server-port={_free_port()}"),
        *("--node-ip-address=127.0.0.1", "--include-dashboard=false", "--disable-usage-stats"),
        *(f"--num-cpus={_SLOTS}", f"--temp-dir={temp_dir}"),
        f"--object-store-memory={settings.object_store_mib * 2**20}",
    ]
    # What has no setting of its own, such as the queue, computes nothing.
    head = process.spawn(command, log, {**_ray_environment(run), "OMP_NUM_THREADS": "1"})
    _describe(run, temp_dir, head.pid)
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not (head_address := _head_address(temp_dir, log)):
        if head.poll() is not None or time.monotonic() > deadline:
            head.kill()
            raise RunError(f"Ray did not start; its output is in {log}")
        time.sleep(0.1)
    _describe(run, temp_dir, head.pid, head_address)


def lend(owner: RunDir, run: RunDir) -> None:
    """Let ``run`` use the head of ``owner``, which it never stops.

    Raises:
        RunError: ``owner`` has no live head.
    """
    description = read_json(owner.cluster)
    if description is None or head_pid(owner) is None:
        raise RunError(f"{owner.root} has no Ray head; start it again")
    write_atomic(run.token, owner.token.read_text())
    write_atomic(run.cluster, json.dumps({**description, "lent": True}, indent=1))


def is_lent(run: RunDir) -> bool:
    """Whether the run's head is that of others, see :func:`lend`."""
    description = read_json(run.cluster)
    return description is not None and description.get("lent", False)


def _describe(run: RunDir, temp_dir: Path, pid: int | None = None, address: str = "") -> None:
    started = None if pid is None else process.start_time(pid)
    description = {"address": address, "pid": pid, "started": started, "temp_dir": str(temp_dir)}
    write_atomic(run.cluster, json.dumps(description, indent=1))


def stop_local(run: RunDir) -> bool:
    """Stop the head that :func:`start_local` started; False if there is none.

    A head that was lent goes on; the run only forgets it.
    """
    description = read_json(run.cluster)
    if description is None:
        return False
    ended = False
    if not description.get("lent", False):
        head = _head(description)
        ended = head is not None and process.end(*head)
        shutil.rmtree(description["temp_dir"], ignore_errors=True)
    run.cluster.unlink(missing_ok=True)
    run.token.unlink(missing_ok=True)
    return ended


def head_pid(run: RunDir) -> int | None:
    """Process id of the run's head, its own or a lent one, if exactly this process is alive."""
    description = read_json(run.cluster)
    head = None if description is None else _head(description)
    return head[0] if head is not None and process.is_alive(*head) else None


def address(run: RunDir) -> str | None:
    """Address of the run's own cluster, if it has one."""
    description = read_json(run.cluster)
    return None if description is None else str(description["address"]) or None


def _head(description: dict[str, Any]) -> tuple[int, int] | None:
    """Process id and start time of a head, even if the command died before it noted them."""
    if description["pid"] is not None:
        return int(description["pid"]), description["started"] or 0
    return process.find(f"--temp-dir={description['temp_dir']}")


@contextlib.contextmanager
def connected(run: RunDir, join: str | None) -> Iterator[Any]:
    """A connection to the cluster at ``join``, else to the run's own; gives the ``ray`` module.

    Raises:
        UserError: the cluster does not answer or refuses the token.
    """
    local = address(run)
    if local is not None:
        os.environ.update(_ray_environment(run))
    target = join or local
    if target is None:
        raise UserError(f"run {run.name} has no cluster; start it with 'mixsd-cluster up'")
    if join is not None:
        check_reachable(join)
    import ray

    ray.init(
        address=target,
        namespace=namespace(run),
        log_to_driver=False,
        logging_level="ERROR",
        _node_ip_address="127.0.0.1" if local is not None else None,
    )
    try:
        yield ray
    finally:
        ray.shutdown()


def metrics_addresses() -> list[str]:
    """Addresses at which the nodes of the joined cluster serve Ray's own metrics.

    A cluster started here serves none: Ray's metrics agent is part of its dashboard.
    """
    import ray

    return [
        f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}"
        for node in ray.nodes()
        if node["Alive"] and node["MetricsExportPort"] > 0
    ]


def check_reachable(address: str) -> None:
    """Check the health of the cluster at ``address``.

    Raises:
        UserError: it does not answer, or refuses the token.
    """
    reason = _unreachable(address)
    if reason is not None:
        raise UserError(
            f"the Ray cluster at {address} cannot be joined: {reason}; check cluster.address, "
            "RAY_AUTH_MODE and RAY_AUTH_TOKEN_PATH"
        )


def _unreachable(address: str) -> str | None:
    host, _, port = address.rpartition(":")
    if port.isdecimal():
        # Ray itself waits long on a port without a listener.
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except (OSError, OverflowError) as error:
            return f"cannot connect ({error})"
    # ray.init() with a wrong address or token takes 20 s, and its error does not help.
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        return "no answer in 60 s"
    if result.returncode == 0:
        return None
    detail = (result.stderr or result.stdout).strip().splitlines()
    return detail[-1] if detail else "no answer"


def _head_address(temp_dir: Path, log: Path) -> str:
    """``host:port`` of the head that has started in ``temp_dir``; empty until it has."""
    if "Ray runtime started" not in log.read_text(errors="replace"):
        return ""
    try:
        # Ray creates this file and then fills it, so for a moment it is empty.
        return (temp_dir / "ray_current_cluster").read_text().strip()
    except FileNotFoundError:
        return ""


def _ray_environment(run: RunDir) -> dict[str, str]:
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(run.token.resolve()),
        # Without this Ray binds all interfaces, whatever the node address.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        # Detect a dead node after 4 s and an unreachable one after 12 s, not 67 s.
        "RAY_health_check_initial_delay_ms": "1000",
        "RAY_health_check_period_ms": "1000",
        "RAY_health_check_timeout_ms": "2000",
        "RAY_health_check_failure_threshold": "3",
        # Ray's memory monitor kills what it can restart, the youngest first: the controller, 50 MB,
        # again and again. The kernel kills the largest worker, and the controller says so.
        "RAY_memory_monitor_refresh_ms": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
