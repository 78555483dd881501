"""Two hosts on one machine: network namespaces with a link between them."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.cable import Cable

HEAD, NODE, PORT = "10.77.0.1", "10.77.0.2", 6399


class Hosts:
    """Host ``a`` holds the head of a Ray cluster, host ``b`` a further node."""

    def __init__(self, folder: Path, tag: str) -> None:
        self._folder = folder
        self.a, self.b = f"{tag}a", f"{tag}b"
        token = folder / "token"
        token.write_text(secrets.token_hex(32))
        self.environment = {
            **os.environ,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
            "RAY_health_check_initial_delay_ms": "1000",
            "RAY_health_check_period_ms": "1000",
            "RAY_health_check_timeout_ms": "2000",
            "RAY_health_check_failure_threshold": "3",
        }
        self._processes: dict[str, subprocess.Popen] = {}

    def on(self, host: str, command: list[str]) -> subprocess.CompletedProcess:
        """Run a command on a host and wait for it."""
        return subprocess.run(
            ["ip", "netns", "exec", host, *command],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def start(self, host: str, num_cpus: int) -> None:
        """Start Ray on a host; the head first."""
        temporary = f"/tmp/{host}"
        shutil.rmtree(temporary, ignore_errors=True)
        place = (
            ["--head", f"--port={PORT}", f"--node-ip-address={HEAD}", f"--temp-dir={temporary}"]
            if host == self.a
            else [f"--address={HEAD}:{PORT}", f"--node-ip-address={NODE}"]
        )
        log = (self._folder / f"{host}.log").open("ab")
        self._processes[host] = subprocess.Popen(
            [
                *("ip", "netns", "exec", host),
                *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *place),
                *("--disable-usage-stats", f"--num-cpus={num_cpus}"),
                "--object-store-memory=100000000",
            ],
            env=self.environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        deadline = time.monotonic() + 60
        while "Ray runtime started" not in (self._folder / f"{host}.log").read_text():
            assert time.monotonic() < deadline, f"Ray did not start on {host}"
            time.sleep(0.2)

    def kill(self, host: str) -> None:
        """The power goes off: every process of Ray on a host is gone at once."""
        pids = subprocess.run(
            ["ip", "netns", "pids", host], capture_output=True, text=True, check=True
        ).stdout.split()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        self._processes.pop(host).wait()
        (self._folder / f"{host}.log").write_text("")

    def link(self, state: str) -> None:
        """Cut the link (``down``) or mend it (``up``)."""
        self.on(self.b, ["ip", "link", "set", self.b, state])

    def narrow(self, rate: str) -> None:
        """Let no more than ``rate`` through, each way."""
        for host in (self.a, self.b):
            shape = f"tc qdisc add dev {host} root tbf rate {rate} burst 32kb latency 200ms"
            result = self.on(host, shape.split())
            assert result.returncode == 0, result.stderr

    def lose(self, share: float) -> None:
        """Lose this share of packets, each way; skips where the kernel cannot."""
        for host in (self.a, self.b):
            rule = f"-A INPUT -i {host} -m statistic --mode random --probability {share} -j DROP"
            if shutil.which("iptables") is None:
                pytest.skip("losing packets needs iptables (Debian's package iptables)")
            result = self.on(host, ["iptables", *rule.split()])
            if result.returncode != 0:
                pytest.skip(f"iptables does not lose packets here: {result.stderr}")

    def lost(self, host: str) -> int:
        """Packets that a host has lost by :meth:`lose`."""
        table = self.on(host, ["iptables", "-nvxL", "INPUT"]).stdout
        return sum(int(line.split()[0]) for line in table.splitlines() if "DROP" in line)

    def connect_s(self) -> float:
        """Seconds that the second host takes to connect to the head: a round trip and a little."""
        program = (
            "import socket, time; began = time.monotonic(); "
            f"socket.create_connection(('{HEAD}', {PORT})); print(time.monotonic() - began)"
        )
        return float(self.on(self.b, [sys.executable, "-c", program]).stdout)


@contextlib.contextmanager
def two_hosts(folder: Path, delay_s: float = 0.0) -> Iterator[Hosts]:
    """Make both hosts; skips where namespaces are not permitted.

    Args:
        folder: for the token and for Ray's logs.
        delay_s: of every packet between them, each way.
    """
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("network namespaces need root and iproute2")
    hosts = Hosts(folder, f"mx{os.getpid() % 10000}")
    made = subprocess.run(["ip", "netns", "add", hosts.a], capture_output=True, check=False)
    if made.returncode != 0:
        pytest.skip("this machine does not permit network namespaces")
    cable = None
    try:
        subprocess.run(["ip", "netns", "add", hosts.b], check=True)
        if delay_s:
            cable = _cable(hosts, delay_s)
        else:
            link = f"{hosts.a} netns {hosts.a} type veth peer name {hosts.b} netns {hosts.b}"
            subprocess.run(["ip", "link", "add", *link.split()], check=True)
        for host, address in ((hosts.a, HEAD), (hosts.b, NODE)):
            for line in (
                f"ip addr add {address}/24 dev {host}",
                f"ip link set {host} up",
                "ip link set lo up",
            ):
                result = hosts.on(host, line.split())
                assert result.returncode == 0, result.stderr
        yield hosts
    finally:
        for host in (hosts.b, hosts.a):
            with contextlib.suppress(KeyError, subprocess.CalledProcessError):
                hosts.kill(host)
            subprocess.run(["ip", "netns", "del", host], check=False)
        if cable is not None:
            cable.close()


def _cable(hosts: Hosts, delay_s: float) -> Cable:
    try:
        return Cable(hosts.a, hosts.b, delay_s)
    except OSError as error:
        pytest.skip(f"this machine does not permit TAP devices, which the delay needs: {error}")
