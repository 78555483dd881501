"""The status page: access to it, and how it looks in a browser."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from actors.evaluation.results import EvaluatedModel, Results
from actors.evaluation.scores import Analyses, BenchmarkScore, FisherAlignment, Scores
from common.config.sections import MetricsSettings
from common.rundir import RunDir, write_atomic
from deploy.observability.endpoint import Endpoint
from deploy.observability.page.app import StatusPage
from tests.simulation import series

CHROMIUM = shutil.which("chromium")


def _scores(value: float, text: float) -> Scores:
    def score(at: float, unit: str) -> BenchmarkScore:
        return BenchmarkScore(value=at, low=at - 0.1, high=at + 0.1, n=40, unit=unit)

    return {"recall": score(value, "fraction"), "text_nll": score(text, "nats/token")}


@pytest.fixture
def run(tmp_path):
    """The folder of a run of two minutes and two checkpoints."""
    run = RunDir(tmp_path / "example")
    run.create()
    now = time.time()
    status = {
        "run": "example",
        "state": "running",
        "cause": "",
        "began": now - 120,
        "updated": now,
        "roles": {"rollout-0": {"state": "up", "restarts": 1}},
        "queue": {"work": 40, "accepted": 31, "total_steps": 150},
        "learner": {"step": 119.0, "loss": 0.2, "grad_norm": math.inf},
        "events": [{"time": now - 30, "text": "rollout-0 failed: <b>killed</b>; restart 1 of 3"}],
    }
    write_atomic(run.status, json.dumps(status))
    write_atomic(run.token, "f00d" * 16)
    for step, scores in ((0, _scores(0.1, 3.7)), (60, _scores(0.8, 3.8)), (120, _scores(0.9, 3.9))):
        fisher = FisherAlignment(alignment=1 + step / 1000, weighted=0.4, raw=2.0)
        analyses = Analyses(fisher=fisher) if step else None
        model = EvaluatedModel(step, Path(), "w")
        Results(run.eval).write(model, "all", "key", scores, analyses=analyses)
    step = {"seconds": 1.4, "tokens": 9, "exposures": [["fact", 0, 1]]}
    steps = [{**step, "time": now + 1.5 * number} for number in range(-9, 1)]
    run.steps.write_text("".join(json.dumps(step) + "\n" for step in steps))
    lines = [
        json.dumps({"time": now - 120 + second, "series": series(second)}) for second in range(120)
    ]
    run.metrics.write_text("\n".join(lines) + "\n")
    return run


@pytest.fixture
def endpoint(run):
    endpoint = Endpoint(run, MetricsSettings())
    endpoint.show(series(120))
    yield endpoint
    endpoint.close()


def _get(endpoint: Endpoint, path: str, **headers: str) -> str:
    request = urllib.request.Request(f"http://{endpoint.address}{path}", headers=headers)
    with urllib.request.urlopen(request, timeout=10) as reply:
        return reply.read().decode()


def test_status_history_and_metrics_are_served_beside_each_other(endpoint):
    status = json.loads(_get(endpoint, "/status.json"))
    assert status["scores"]["step_120"]["recall"]["value"] == 0.9
    # JSON has no infinity.
    assert status["learner"]["grad_norm"] is None
    points = json.loads(_get(endpoint, "/history.json"))
    assert len(points) == 121
    assert points[-1]["tokens_drawn"] == 2 * 100 * 120
    assert 'mixsd_learner_step{actor="learner-0",run="example"} 120.0' in _get(endpoint, "/metrics")


def test_the_page_is_self_contained_and_holds_no_secret(endpoint, run):
    served = {path: _get(endpoint, path) for path in ("/", "/page.css", "/page.js")}
    for text in (*served.values(), _get(endpoint, "/status.json"), _get(endpoint, "/history.json")):
        assert run.token.read_text() not in text
    for path in re.findall(r'(?:src|href)="([^"]+)"', served["/"]):
        assert path.startswith(("/", "data:"))
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", "".join(served.values()))


@pytest.mark.parametrize("path", ["/ray.token", "/config.yaml", "/..%2fray.token", "/app.py"])
def test_no_other_file_is_served(endpoint, path):
    with pytest.raises(urllib.error.HTTPError, match="404"):
        _get(endpoint, path)


def test_a_web_page_of_another_host_name_gets_nothing(endpoint):
    with pytest.raises(urllib.error.HTTPError, match="403"):
        _get(endpoint, "/status.json", Host=f"rebound.example:{endpoint.address.split(':')[1]}")


@pytest.mark.parametrize(
    ("path", "caller", "status"),
    [
        ("/", "10.0.0.7", "403"),
        ("/status.json", "::ffff:10.0.0.7", "403"),
        ("/", "::ffff:127.0.0.1", "200"),
        ("/metrics", "10.0.0.7", "200"),
    ],
)
def test_a_caller_from_another_machine_gets_metrics_only(path, caller, status):
    replies = []

    def metrics(environ, start):
        start("200 OK", [])
        return [b""]

    page = StatusPage(dict, list, metrics)
    environ = {"PATH_INFO": path, "REMOTE_ADDR": caller, "HTTP_HOST": "127.0.0.1:9464"}
    page(environ, lambda line, headers: replies.append(line))
    assert replies[0].startswith(status)


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_browser_draws_every_plot_without_errors(endpoint, tmp_path):
    stop = threading.Event()
    thread = threading.Thread(target=_keep_moving, args=(endpoint, stop))
    thread.start()
    try:
        # MIXSD_SCREENSHOTS keeps the picture for people.
        picture = Path(os.environ.get("MIXSD_SCREENSHOTS", tmp_path)) / "status.png"
        _browse(endpoint, tmp_path, f"--screenshot={picture}", "--window-size=1280,1080")
        html, errors = _browse(endpoint, tmp_path, "--dump-dom", "--enable-logging=stderr")
    finally:
        stop.set()
        thread.join()
    assert picture.stat().st_size > 10_000
    assert "CONSOLE" not in errors, errors
    assert html.count("<polyline") == 9
    assert 'Fisher alignment<span class="s0">1.12<' in html
    assert "no data yet" not in html
    assert "31 of 40 rollouts · step 119 of 150 · about 46 s left" in html
    assert "0.900 [0.800, 1.000]" in html
    assert "&lt;b&gt;killed&lt;/b&gt;" in html


def _keep_moving(endpoint: Endpoint, stop: threading.Event) -> None:
    second = 121.0
    while not stop.wait(0.5):
        endpoint.show(series(second))
        second += 0.5


def _browse(endpoint: Endpoint, profile: Path, *options: str) -> tuple[str, str]:
    command = [
        *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"),
        *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
        *("--disable-sync", "--hide-scrollbars", f"--user-data-dir={profile / 'browser'}"),
        *("--virtual-time-budget=1500", *options, f"http://{endpoint.address}/"),
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return result.stdout, result.stderr
