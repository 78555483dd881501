from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from common.metrics import CATALOGUE

ROOT = Path(__file__).parents[4]
SHIPPED = ROOT / "deploy" / "observability" / "prometheus"
CASES = Path(__file__).parent / "alerts_test.yml"
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)"
)


def _rules(name: str) -> list[dict]:
    groups = yaml.safe_load((SHIPPED / "rules" / f"{name}.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


@needs_promtool
def test_prometheus_accepts_the_configuration_and_the_rules():
    subprocess.run(["promtool", "check", "config", SHIPPED / "prometheus.yml"], check=True)


@needs_promtool
def test_alerts_fire_when_they_should_and_only_then():
    result = subprocess.run(
        ["promtool", "test", "rules", CASES.name],
        cwd=CASES.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_alert_has_a_case_that_fires_and_one_that_does_not():
    cases = [
        case
        for test in yaml.safe_load(CASES.read_text())["tests"]
        for case in test.get("alert_rule_test", [])
    ]
    fires = {case["alertname"] for case in cases if case["exp_alerts"]}
    silent = {case["alertname"] for case in cases if not case["exp_alerts"]}
    alerts = {rule["alert"] for rule in _rules("alerts")}
    assert fires == silent == alerts


@pytest.mark.parametrize(
    "path",
    [
        *sorted((SHIPPED / "rules").glob("*.yml")),
        *sorted((ROOT / "deploy" / "observability" / "grafana").rglob("*.json")),
        *sorted((ROOT / "docs").glob("*.md")),
    ],
    ids=lambda path: path.name,
)
def test_no_rule_dashboard_or_page_names_a_metric_that_no_role_exports(path):
    # A recorded series is named level:metric:operation, so colons delimit no raw metric.
    recorded = {rule["record"] for rule in _rules("recording")}
    named = set(re.findall(r"(?<![\w.-])[\w:]*mixsd_[a-z0-9_:]+", path.read_text()))
    known = {spec.name for spec in CATALOGUE} | recorded
    assert named <= known, named - known
