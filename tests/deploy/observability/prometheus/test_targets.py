from __future__ import annotations

import json
import socket

from common.config.sections import MetricsSettings
from common.rundir import RunDir
from deploy.observability.prometheus import targets


def test_a_run_joins_the_list_beside_its_folder_and_leaves_it(tmp_path):
    run = RunDir(tmp_path / "runs" / "mine")
    targets.announce(run, MetricsSettings(), "127.0.0.1:4000")
    path = tmp_path / "runs" / ".prometheus" / "targets" / "mine.json"
    assert json.loads(path.read_text()) == [
        {"targets": ["127.0.0.1:4000"], "labels": {"run": "mine"}}
    ]
    targets.withdraw(run, MetricsSettings())
    assert list(path.parent.iterdir()) == []
    targets.withdraw(run, MetricsSettings())


def test_rays_nodes_are_listed_under_their_own_job(tmp_path):
    settings = MetricsSettings(targets=tmp_path)
    targets.announce(RunDir(tmp_path / "mine"), settings, "127.0.0.1:1", ["127.0.0.1:2", "h:3"])
    ray = json.loads((tmp_path / "mine.json").read_text())[1]
    assert ray == {"targets": ["127.0.0.1:2", "h:3"], "labels": {"run": "mine", "job": "ray"}}


def test_a_configured_folder_is_used_instead(tmp_path):
    settings = MetricsSettings(targets=tmp_path / "elsewhere")
    targets.announce(RunDir(tmp_path / "runs" / "mine"), settings, "127.0.0.1:4000")
    assert (tmp_path / "elsewhere" / "mine.json").exists()
    assert not (tmp_path / "runs").exists()


def test_an_address_for_all_interfaces_is_listed_by_the_machines_name(tmp_path):
    settings = MetricsSettings(targets=tmp_path)
    targets.announce(RunDir(tmp_path / "mine"), settings, "0.0.0.0:9464")
    entry = json.loads((tmp_path / "mine.json").read_text())[0]
    assert entry["targets"] == [f"{socket.gethostname()}:9464"]
