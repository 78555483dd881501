"""Security: access to a cluster started for a run, and what a joined cluster keeps."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from common.config import run_config
from common.config.sections import ClusterSettings
from common.hardware import detect
from common.rundir import RunDir
from deploy.cluster import ray_cluster as cluster
from tests.integration.runs import command, status, write_config

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    """The run folder of a cluster that was started for another run."""
    run = RunDir(tmp_path_factory.mktemp("host") / "host")
    run.create()
    cluster.start_local(run, ClusterSettings())
    yield run
    cluster.stop_local(run)


def _up(host: RunDir, runs: Path, config: Path, *, token: Path) -> subprocess.CompletedProcess:
    environment = {
        **os.environ,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }
    address = cluster.address(host)
    return subprocess.run(
        command(runs, "up", config, "--address", address),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def _config(runs: Path, name: str, model: Path) -> Path:
    return write_config(
        runs,
        name=name,
        model=str(model),
        prompts="short-sentence",
        method={"name": "sft"},
        data={"kgfact": {"domains": 2, "entities": 4}},
        engine={"max_model_len": 256},
        learner={"epochs": 2, "batch_size": 4, "dtype": "float32"},
        evaluator={"actors": 0},
    )


def _actors(host: RunDir) -> str:
    """The named actors on the cluster, listed by a separate process: Ray reads its
    settings from the environment at import."""
    program = """
import sys
from pathlib import Path
from common.rundir import RunDir
from deploy.cluster import ray_cluster as cluster
with cluster.connected(RunDir(Path(sys.argv[1])), None) as ray:
    print(ray.util.list_named_actors(all_namespaces=True))
"""
    result = subprocess.run(
        [sys.executable, "-c", program, host.root], capture_output=True, text=True, check=True
    )
    return result.stdout.strip()


def test_only_loopback_is_listened_on(host):
    head = cluster.head_pid(host)
    prefix_group = [psutil.Process(head), *psutil.Process(head).children(recursive=True)]
    listening = {
        connection.laddr.ip
        for process in prefix_group
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening
    assert listening <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}


def test_folder_and_token_are_private(host):
    assert stat.S_IMODE(host.root.stat().st_mode) == 0o700
    assert stat.S_IMODE(host.token.stat().st_mode) == 0o600


def test_a_client_with_another_token_is_refused(host, tmp_path, tiny_model):
    wrong = tmp_path / "token"
    wrong.write_text("0" * 64)
    result = _up(host, tmp_path, _config(tmp_path, "stranger", tiny_model), token=wrong)
    assert result.returncode == 2
    assert "cannot be joined" in result.stderr
    assert "RAY_AUTH_TOKEN_PATH" in result.stderr


def test_a_joined_cluster_is_left_running_and_clean(host, tmp_path, tiny_model):
    result = _up(host, tmp_path, _config(tmp_path, "guest", tiny_model), token=host.token)
    assert result.returncode == 0, result.stderr
    queue = status(tmp_path, "guest")["queue"]
    assert queue["exposures_trained"] == queue["exposures_expected"] == 8
    # "auto" was settled by what the cluster's nodes have.
    used = run_config.load(tmp_path / "guest" / "config.yaml")
    assert (used.engine.device, used.engine.dtype) == ("cpu", detect().cpu_dtype)
    assert cluster.head_pid(host) is not None
    assert _actors(host) == "[]"
