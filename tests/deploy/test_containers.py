"""Docker and Slurm files agree with the tree and the configuration; neither can run here."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from common.config import run_config as configuration

ROOT = Path(__file__).parents[2]
DOCKER, SLURM = ROOT / "deploy" / "docker", ROOT / "deploy" / "slurm" / "run.sbatch"
COMPOSE = DOCKER / "compose.yaml"
# Images without a digest, and why.
UNPINNED = {"mixsd-cluster:0.1.0": "built from this tree: it has a digest once it is pushed"}


@pytest.fixture
def services():
    return yaml.safe_load(COMPOSE.read_text())["services"]


def test_every_image_has_a_digest(services):
    overlays = ROOT.glob("deploy/kuberay/**/*.yaml")
    images = [
        *re.findall(r"^FROM (\S+)", (DOCKER / "Dockerfile").read_text(), flags=re.MULTILINE),
        *(service["image"] for service in services.values()),
        *re.findall(r"\bimage: (\S+)", "".join(path.read_text() for path in overlays)),
    ]
    assert images[0] == images[1]
    open_ones = {
        image
        for image in images
        if not re.fullmatch(r"[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}", image)
    }
    assert open_ones == set(UNPINNED)


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
    subprocess.run(["docker-compose", "-f", COMPOSE, "config", "-q"], check=True)
