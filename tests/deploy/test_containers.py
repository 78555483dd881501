"""Docker and Slurm files agree with the tree and the configuration; neither can run here."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from common.config import run_config as configuration
from deploy.observability import monitor

ROOT = Path(__file__).parents[2]
DOCKER, SLURM = ROOT / "deploy" / "docker", ROOT / "deploy" / "slurm" / "run.sbatch"
COMPOSE = DOCKER / "compose.yaml"
VALUES = ROOT / "deploy" / "observability" / "grafana" / "values.yaml"
# Images without a digest, and why.
UNPINNED = {"mixsd-cluster:0.1.0": "built from this tree: it has a digest once it is pushed"}


@pytest.fixture
def services():
    return yaml.safe_load(COMPOSE.read_text())["services"]


def test_every_image_has_a_digest(services):
    chart = yaml.safe_load(VALUES.read_text())["image"]
    overlays = ROOT.glob("deploy/kuberay/**/*.yaml")
    images = [
        *re.findall(r"^FROM (\S+)", (DOCKER / "Dockerfile").read_text(), flags=re.MULTILINE),
        *(service["image"] for service in services.values()),
        f"grafana/grafana:{chart['tag']}@sha256:{chart['sha']}",
        *re.findall(r"\bimage: (\S+)", "".join(path.read_text() for path in overlays)),
    ]
    assert images[0] == images[1]
    assert images.count(services["grafana"]["image"]) == 2
    open_ones = {
        image
        for image in images
        if not re.fullmatch(r"[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}", image)
    }
    assert open_ones == set(UNPINNED)


def test_grafana_in_compose_is_closed_as_under_monitor_and_requires_a_password(services):
    environment = services["grafana"]["environment"]
    assert monitor.GRAFANA.items() <= environment.items()
    assert environment["GF_SECURITY_ADMIN_PASSWORD"].startswith("${MIXSD_GRAFANA_PASSWORD:?")
    assert "deploy/docker/.env" in (ROOT / ".gitignore").read_text().splitlines()
    assert "**/.env" in (ROOT / ".dockerignore").read_text().splitlines()


def test_grafana_on_kubernetes_takes_its_password_from_a_secret_and_lets_nobody_else_in():
    values = yaml.safe_load(VALUES.read_text())
    assert values["admin"]["existingSecret"] == "mixsd-grafana"
    assert "adminPassword" not in values
    ini = values["grafana.ini"]
    # The settings of the other two deployments, in the chart's spelling.
    settings = {
        f"GF_{section.upper().replace('.', '_')}_{key.upper()}": str(value).lower()
        for section, keys in ini.items()
        for key, value in keys.items()
    }
    anonymous = {name for name in monitor.GRAFANA if name.startswith("GF_AUTH_ANONYMOUS")}
    expected = {name: value for name, value in monitor.GRAFANA.items() if name not in anonymous}
    assert settings == {**expected, "GF_AUTH_ANONYMOUS_ENABLED": "false"}


def test_what_compose_mounts_is_there(services):
    text = [volume for service in services.values() for volume in service.get("volumes", [])]
    sources = [re.sub(r"\$\{\w+:-([^}]+)\}", r"\1", volume).split(":")[0] for volume in text]
    files = [source for source in sources if source.startswith(".")]
    assert len(files) == 5
    for source in files:
        assert (DOCKER / source).exists(), source


def test_the_settings_of_compose_and_slurm_are_settings(services):
    command = services["run"]["command"]
    compose = [command[at + 1] for at, word in enumerate(command) if word == "--set"]
    slurm = re.findall(r"--set ([a-z_]+\.\S+)", SLURM.read_text().split("set -euo")[1])
    assert len(compose) == 3
    assert len(slurm) == 1
    config = configuration.load(ROOT / "configs" / "smoke.yaml", [*compose, *slurm])
    assert (config.metrics.host, config.metrics.port) == ("0.0.0.0", 9464)


def test_prometheus_in_compose_has_the_layout_of_its_configuration(services):
    mounted = {volume.split(":")[1] for volume in services["prometheus"]["volumes"]}
    config = yaml.safe_load(
        (ROOT / "deploy" / "observability" / "prometheus" / "prometheus.yml").read_text()
    )
    for pattern in [
        *config["rule_files"],
        *config["scrape_configs"][0]["file_sd_configs"][0]["files"],
    ]:
        assert f"/etc/prometheus/{Path(pattern).parent}" in mounted


def test_compose_reaches_beyond_this_machine_with_no_port(services):
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_image_is_built_from_what_is_there():
    text = (DOCKER / "Dockerfile").read_text()
    for line in re.findall(r"^COPY (?!--from)(.+) \S+$", text, flags=re.MULTILINE):
        for source in line.split():
            assert (ROOT / source).exists(), source
    ignored = (ROOT / ".dockerignore").read_text()
    for package in ("requirements", "common", "actors", "learner", "deploy"):
        assert f"COPY {package} {package}" in text
        assert f"!{package}" in ignored


def test_the_slurm_script_is_sound_bash():
    subprocess.run(["bash", "-n", SLURM], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", SLURM], check=True)


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="docker-compose is missing")
def test_docker_compose_accepts_the_file():
    command = ["docker-compose", "-f", COMPOSE, "config", "-q"]
    open_one = {name: value for name, value in os.environ.items() if "GRAFANA" not in name}
    refused = subprocess.run(command, env=open_one, capture_output=True, text=True)
    assert "MIXSD_GRAFANA_PASSWORD is missing a value" in refused.stderr
    subprocess.run(command, env={**open_one, "MIXSD_GRAFANA_PASSWORD": "secret"}, check=True)
