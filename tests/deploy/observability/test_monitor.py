from __future__ import annotations

import re
import shutil
import stat
import subprocess
from pathlib import Path

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


@pytest.fixture
def grafana(tmp_path, monkeypatch):
    """Starts Grafana on a folder, and returns the command and the environment that it gets."""
    monkeypatch.setattr(monitor, "_GRAFANA_HOMES", (tmp_path,))
    got = []
    monkeypatch.setattr(
        monitor, "_serve", lambda folder, name, command, env, *_: got.append((command, env))
    )

    def start(folder):
        folder.mkdir(exist_ok=True)
        monitor.start_grafana(folder, "grafana", 3000, "http://127.0.0.1:9090")
        return got[-1]

    return start


def _password_file(environment):
    match = re.fullmatch(r"\$__file\{(.+)\}", environment["GF_SECURITY_ADMIN_PASSWORD"])
    return Path(match[1])


def test_grafanas_password_is_made_once_per_folder_and_only_its_private_file_has_it(
    grafana, tmp_path
):
    command, environment = grafana(tmp_path / "one")
    file = _password_file(environment)
    password = file.read_text()
    assert file.parent == tmp_path / "one"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(password) >= 32
    assert password not in f"{command} {environment}"
    _, again = grafana(tmp_path / "one")
    assert _password_file(again).read_text() == password
    _, other = grafana(tmp_path / "two")
    assert _password_file(other).read_text() != password


def test_grafana_listens_on_loopback_and_shows_without_letting_anybody_change_or_sign_up(
    grafana, tmp_path
):
    _, environment = grafana(tmp_path / "runs")
    assert environment["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert environment["GF_USERS_ALLOW_SIGN_UP"] == "false"
    assert environment["GF_PLUGINS_PREINSTALL_DISABLED"] == "true"


def test_a_database_from_before_the_password_is_not_used(grafana, tmp_path):
    old = tmp_path / "runs" / "grafana" / "grafana.db"
    old.parent.mkdir(parents=True)
    old.write_text("its administrator has the default password")
    _, environment = grafana(tmp_path / "runs")
    assert Path(environment["GF_PATHS_DATA"]) != old.parent
    assert old.exists()
