"""Prometheus, and Grafana if it is installed, for the runs of one folder.

All files are in ``RUNS/.prometheus/``: a copy of the shipped configuration, the list
of live runs, the data, the logs and the password of Grafana's administrator. Both servers
listen on loopback and run until ``monitor down``. Independent of runs and of Ray.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from common.errors import RunError, UserError
from common.rundir import read_json, write_atomic
from deploy.cluster import process
from deploy.observability.prometheus.targets import default_folder

_READY_S = 30.0
_SHIPPED = Path(__file__).parent
# Where Grafana's packages install its files.
_GRAFANA_HOMES = tuple(
    map(Path, ("/usr/share/grafana", "/opt/grafana", "/usr/local/share/grafana"))
)
# Who is not signed in can look and no more; nobody makes an account, and Grafana sends and
# fetches nothing. compose.yaml has the same, and values.yaml for the Helm chart, without anonymous.
GRAFANA = {
    "GF_AUTH_ANONYMOUS_ENABLED": "true",
    "GF_AUTH_ANONYMOUS_ORG_ROLE": "Viewer",
    "GF_USERS_ALLOW_SIGN_UP": "false",
    "GF_USERS_ALLOW_ORG_CREATE": "false",
    "GF_SNAPSHOTS_EXTERNAL_ENABLED": "false",
    "GF_PLUGINS_PREINSTALL_DISABLED": "true",
    "GF_ANALYTICS_REPORTING_ENABLED": "false",
    "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
    "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES": "false",
}


def install(runs: Path) -> Path:
    """Write the shipped configuration for ``runs``; returns its folder."""
    targets = default_folder(runs.resolve())
    targets.mkdir(parents=True, exist_ok=True)
    folder = targets.parent
    shutil.copy(_SHIPPED / "prometheus" / "prometheus.yml", folder)
    shutil.copytree(_SHIPPED / "prometheus" / "rules", folder / "rules", dirs_exist_ok=True)
    return folder


def up(runs: Path, prometheus_port: int, grafana_port: int, say: Callable[[str], None]) -> None:
    """Start the servers that are not running.

    Raises:
        UserError: there is no ``prometheus``.
        RunError: a server did not become ready; the message names its log.
    """
    if shutil.which("prometheus") is None:
        raise UserError(
            "monitor: no 'prometheus' on PATH; install it (Debian: apt-get install prometheus), "
            "or open the status page that 'mixsd-cluster status RUN' prints"
        )
    folder = install(runs)
    url = start_prometheus(folder, prometheus_port)
    say(f"Prometheus {url}")
    grafana = shutil.which("grafana")
    if grafana is None:
        say(
            "Grafana    not on PATH; with Docker: docker compose -f deploy/docker/compose.yaml up. "
            "Each live run serves a status page."
        )
    else:
        say(f"Grafana    {start_grafana(folder, grafana, grafana_port, url)}")
        say(f"           administrator: admin, password in {_password(folder)}")


def start_prometheus(folder: Path, port: int) -> str:
    """Start Prometheus on an installed folder unless it runs there; returns its address."""
    return _serve(
        folder,
        "prometheus",
        [
            "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            "--storage.tsdb.retention.time=30d",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        {},
        f"http://127.0.0.1:{port}",
        "/-/ready",
    )


def start_grafana(folder: Path, binary: str, port: int, prometheus: str) -> str:
    """Start Grafana with the shipped dashboards; returns its address. Never run by the tests."""
    home = next((path for path in _GRAFANA_HOMES if path.is_dir()), None)
    if home is None:
        raise UserError(f"monitor: Grafana's files are in none of {[*map(str, _GRAFANA_HOMES)]}")
    grafana = _SHIPPED / "grafana"
    return _serve(
        folder,
        "grafana",
        [binary, "server", f"--homepath={home}"],
        {
            **GRAFANA,
            # Grafana reads the file itself, so that no environment shows the password.
            "GF_SECURITY_ADMIN_PASSWORD": f"$__file{{{_password(folder)}}}",
            "GF_SERVER_HTTP_ADDR": "127.0.0.1",
            "GF_SERVER_HTTP_PORT": str(port),
            # Grafana sets the password when it makes its database. One in the folder itself is
            # older than the password, so it is left alone.
            "GF_PATHS_DATA": str(folder / "grafana" / "data"),
            "GF_PATHS_LOGS": str(folder / "grafana" / "logs"),
            "GF_PATHS_PROVISIONING": str(grafana / "provisioning"),
            "MIXSD_PROMETHEUS_URL": prometheus,
            "MIXSD_DASHBOARDS": str(grafana / "dashboards"),
        },
        f"http://127.0.0.1:{port}",
        "/api/health",
    )


def down(runs: Path) -> list[str]:
    """Stop what :func:`up` started for ``runs``; returns what was running."""
    folder = default_folder(runs.resolve()).parent
    stopped = []
    for name in ("grafana", "prometheus"):
        state = read_json(folder / f"{name}.json")
        if state is not None:
            if process.end(state["pid"], state["started"]):
                stopped.append(name)
            (folder / f"{name}.json").unlink()
    return stopped


def _password(folder: Path) -> Path:
    """The private file with the password of Grafana's administrator; made once per folder."""
    path = folder / "grafana.password"
    if not path.exists():
        write_atomic(path, secrets.token_urlsafe(24), mode=0o600)
    return path


def _serve(
    folder: Path,
    name: str,
    command: Sequence[str],
    environment: Mapping[str, str],
    url: str,
    ready: str,
) -> str:
    state = read_json(folder / f"{name}.json")
    if state is not None and process.is_alive(state["pid"], state["started"]):
        return str(state["url"])
    if _answers(url):
        raise UserError(f"monitor: {url} is in use by another program; choose --{name}-port")
    log = folder / f"{name}.log"
    child = process.spawn(command, log, environment)
    deadline = time.monotonic() + _READY_S
    while not _answers(url + ready):
        if child.poll() is not None or time.monotonic() > deadline:
            _give_up(child)
            raise RunError(f"{name} did not become ready; its output is in {log}")
        time.sleep(0.1)
    state = {"pid": child.pid, "started": process.start_time(child.pid), "url": url}
    write_atomic(folder / f"{name}.json", json.dumps(state))
    return url


def _give_up(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        os.killpg(child.pid, 9)
    child.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2.0) as reply:
            return bool(reply.status == 200)
    except urllib.error.HTTPError as error:
        return error.code < 500
    except OSError:
        return False
