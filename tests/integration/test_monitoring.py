"""The shipped monitoring against a real Prometheus.

Minutes of the shipped rules become seconds here, so that a stall of 15 minutes
shows in as many seconds; nothing else of them is changed.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner

from common.config.sections import MetricsSettings
from common.rundir import RunDir
from deploy.cli.main import main
from deploy.observability import monitor
from deploy.observability.endpoint import Endpoint
from deploy.observability.grafana.boards import BOARDS
from deploy.observability.prometheus import targets
from tests.integration.runs import write_config
from tests.simulation import series

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("prometheus") is None,
        reason="prometheus is not installed (Debian: prometheus)",
    ),
]
HANGS_AFTER_S = 12.0
DASHBOARDS = Path(monitor.__file__).parent / "grafana" / "dashboards"
REAL = {
    "name": "real",
    "prompts": "short-sentence",
    "method": {"name": "mixsd", "mix_rate": 0.1},
    "data": {"kgfact": {"domains": 3, "entities": 4}, "limit": 6},
    "rollout": {"slots": 4, "max_tokens": 24, "on_exhausted": "canonical"},
    "learner": {"epochs": 1, "batch_size": 2, "checkpoint_every": 3},
    "evaluator": {"max_tokens": 24, "suites": ["recall"]},
}


class Prometheus:
    """The HTTP API of a running server."""

    def __init__(self, url: str) -> None:
        self.url = url

    def query(self, expression: str) -> list[dict]:
        return self._get("query", query=expression)["result"]

    def firing(self) -> dict[str, dict]:
        """Labels of the alerts that fire, by name."""
        alerts = self._get("alerts")["alerts"]
        return {a["labels"]["alertname"]: a["labels"] for a in alerts if a["state"] == "firing"}

    def targets(self) -> dict[str, str]:
        """Health of the scraped runs."""
        active = self._get("targets", state="active")["activeTargets"]
        return {target["labels"]["run"]: target["health"] for target in active}

    def _get(self, path: str, **parameters: str) -> dict:
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=10) as reply:
            answer = json.load(reply)
        assert answer["status"] == "success", answer
        return answer["data"]


def wait_for(what: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"not reached in {seconds} s"
        time.sleep(0.3)


def values(samples: list[dict]) -> list[float]:
    return [float(sample["value"][1]) for sample in samples]


def reads(prometheus: Prometheus, expression: str, expected: object) -> bool:
    return values(prometheus.query(expression)) == [expected]


def hurry(folder: Path) -> None:
    """Minutes become seconds in installed rules and scrape intervals."""
    for path in (folder / "rules").glob("*.yml"):
        text = re.sub(r"(?<=\[)(\d+)m(?=\])", r"\1s", path.read_text())
        path.write_text(re.sub(r"(?<=for: )(\d+)m$", r"\1s", text, flags=re.MULTILINE))
    path = folder / "prometheus.yml"
    path.write_text(re.sub(r"(?<=: )\d+s$", "1s", path.read_text(), flags=re.MULTILINE))


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """A simulated live run, whose rollout-1 soon hangs, and Prometheus beside it."""
    runs = tmp_path_factory.mktemp("runs")
    run, settings = RunDir(runs / "example"), MetricsSettings()
    run.create()
    endpoint = Endpoint(run, settings)
    stop, began = threading.Event(), time.monotonic()

    def live() -> None:
        while not stop.wait(0.25):
            now = time.monotonic() - began
            endpoint.show(series(now, hung_for=max(0.0, now - HANGS_AFTER_S)))

    endpoint.show(series(0.0))
    thread = threading.Thread(target=live)
    thread.start()
    targets.announce(run, settings, endpoint.address)
    folder = monitor.install(runs)
    hurry(folder)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    try:
        yield Prometheus(monitor.start_prometheus(folder, port)), run, endpoint
    finally:
        stop.set()
        thread.join()
        monitor.down(runs)
        endpoint.close()


def test_a_live_run_is_found_and_its_series_move(watched):
    prometheus, _, _ = watched
    wait_for(lambda: prometheus.targets() == {"example": "up"}, 15)
    wait_for(lambda: prometheus.query('mixsd_learner_step{run="example"}'), 15)
    step = 'max by (run) (mixsd_learner_step{run="example"})'
    first = values(prometheus.query(step))[0]
    wait_for(lambda: values(prometheus.query(step))[0] >= first + 3, 15)


def test_recorded_rates_are_those_of_the_run(watched):
    prometheus, _, _ = watched
    # The simulation trains 300 tokens/s and verifies half of its attempts. A rate reads low
    # until its window is full.
    for recorded, expected in (
        ("run:mixsd_acceptance:ratio10m", pytest.approx(0.5, abs=0.1)),
        ("run:mixsd_tokens_trained:rate5m", pytest.approx(300, rel=0.1)),
    ):
        wait_for(partial(reads, prometheus, recorded, expected), 20)


def test_an_injected_hang_fires_its_alert_for_that_actor_alone(watched):
    prometheus, _, _ = watched
    wait_for(lambda: "MixsdRolloutStalled" in prometheus.firing(), 60)
    firing = prometheus.firing()
    assert firing["MixsdRolloutStalled"]["actor"] == "rollout-1"
    assert firing["MixsdEvalRegressed"]["suite"] == "retrieval"
    assert firing["MixsdActorRestarted"]["actor"] == "rollout-1"
    assert set(firing) == {"MixsdRolloutStalled", "MixsdEvalRegressed", "MixsdActorRestarted"}


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.uid)
def test_every_panel_and_annotation_has_data(watched, board):
    """Runs after the hang, so that there are alerts to show."""
    prometheus, _, _ = watched
    shipped = json.loads((DASHBOARDS / f"{board.uid}.json").read_text())
    for panel in shipped["panels"]:
        for target in panel["targets"]:
            assert prometheus.query(filled(target["expr"])), (panel["title"], target["expr"])
    for event in shipped["annotations"]["list"]:
        if event["name"] != "Scale":
            assert prometheus.query(filled(event["expr"])), event["expr"]
    for variable in shipped["templating"]["list"][1:]:
        selector, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]).groups()
        found = prometheus.query(filled(selector))
        assert all(label in sample["metric"] for sample in found)
        assert found


def filled(expression: str) -> str:
    """As Grafana sends it, with all runs and actors chosen."""
    for variable, value in (("$run", ".*"), ("$actor", ".*"), ("$__rate_interval", "10s")):
        expression = expression.replace(variable, value)
    assert "$" not in expression, expression
    return expression


def test_a_second_up_finds_the_running_server_and_a_run_that_ends_leaves(watched):
    prometheus, run, _ = watched
    port = prometheus.url.rpartition(":")[2]
    assert monitor.start_prometheus(run.root.parent / ".prometheus", int(port)) == prometheus.url
    targets.withdraw(run, MetricsSettings())
    wait_for(lambda: prometheus.targets() == {}, 15)
    wait_for(lambda: not prometheus.query("mixsd_learner_step"), 15)


def test_a_real_run_joins_moves_and_leaves(tmp_path):
    """Ray, vLLM and DeepSpeed behind the shipped configuration unchanged."""
    path = write_config(tmp_path, **REAL)
    folder = monitor.install(tmp_path)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    prometheus = Prometheus(monitor.start_prometheus(folder, port))
    command = [sys.executable, "-m", "deploy.cli.main"]
    runs = ["--runs", str(tmp_path)]
    try:
        subprocess.run([*command, "up", str(path), "--detach", *runs], check=True)
        wait_for(lambda: reads(prometheus, 'up{run="real", job="mixsd"}', 1.0), 60)
        # A role's series end with it, and a small run may be past it by now.
        for series_seen in (
            "max_over_time(mixsd_engine_kv_usage[10m]) > 0",
            "last_over_time(mixsd_attempts_verified_total[10m]) > 0",
            "last_over_time(mixsd_learner_step[10m]) >= 1",
            'mixsd_eval_score{suite="recall"}',
        ):
            wait_for(partial(prometheus.query, series_seen), 180)
        wait_for(lambda: not list((folder / "targets").iterdir()), 180)
        wait_for(lambda: prometheus.targets() == {}, 20)
        states = prometheus.query("last_over_time(mixsd_run_state[10m])")
        assert "running" in {sample["metric"]["state"] for sample in states}
    finally:
        subprocess.run([*command, "down", "real", *runs], check=True)
        monitor.down(tmp_path)


def test_the_command_starts_prometheus_and_stops_what_it_started(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    options = ["--runs", str(tmp_path), "--prometheus-port", port]
    started = CliRunner().invoke(main, ["monitor", "up", *options])
    assert started.exit_code == 0, started.output
    assert f"http://127.0.0.1:{port}" in started.output
    rules = Prometheus(f"http://127.0.0.1:{port}")._get("rules")["groups"]
    assert {group["name"] for group in rules} >= {"mixsd", "mixsd-progress", "mixsd-faults"}
    stopped = CliRunner().invoke(main, ["monitor", "down", "--runs", str(tmp_path)])
    assert stopped.output == "stopped: prometheus\n"
    again = CliRunner().invoke(main, ["monitor", "down", "--runs", str(tmp_path)])
    assert again.output == "stopped: nothing was running\n"


def test_the_error_for_a_port_in_use_names_its_option(tmp_path, watched):
    port = watched[2].address.rpartition(":")[2]
    options = ["--runs", str(tmp_path), "--prometheus-port", port]
    result = CliRunner().invoke(main, ["monitor", "up", *options])
    assert result.exit_code == 2
    assert "in use by another program; choose --prometheus-port" in result.stderr
