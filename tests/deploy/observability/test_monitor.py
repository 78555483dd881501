from __future__ import annotations

import shutil
import subprocess

import pytest
from click.testing import CliRunner

from deploy.cli.main import main
from deploy.observability import monitor


def test_without_prometheus_the_error_names_a_remedy_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    result = CliRunner().invoke(main, ["monitor", "up", "--runs", str(tmp_path / "runs")])
    assert result.exit_code == 2
    assert "apt-get install prometheus" in result.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_an_installed_configuration_is_self_contained_and_is_renewed(tmp_path):
    folder = monitor.install(tmp_path)
    (folder / "targets" / "run.json").write_text('[{"targets": ["127.0.0.1:1"]}]')
    rules = folder / "rules" / "alerts.yml"
    shipped = rules.read_text()
    rules.write_text("of an older version")
    assert monitor.install(tmp_path) == folder
    assert rules.read_text() == shipped
    check = ["promtool", "check", "config", "--lint-fatal", folder / "prometheus.yml"]
    result = subprocess.run(check, capture_output=True, text=True, check=True)
    assert "WARNING" not in result.stdout + result.stderr


def test_the_error_of_a_server_that_does_not_start_names_its_log(tmp_path, monkeypatch):
    binary = tmp_path / "bin" / "prometheus"
    binary.parent.mkdir()
    binary.write_text("#!/bin/sh\necho no disk >&2\nexit 1\n")
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", f"{binary.parent}:/usr/bin:/bin")
    options = ["--runs", str(tmp_path / "runs"), "--prometheus-port", "19091"]
    result = CliRunner().invoke(main, ["monitor", "up", *options])
    assert result.exit_code == 1
    log = tmp_path / "runs" / ".prometheus" / "prometheus.log"
    assert str(log) in result.stderr
    assert log.read_text() == "no disk\n"
