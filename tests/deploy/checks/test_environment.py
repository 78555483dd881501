"""Each check reports its finding and, if needed, a remedy."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from actors.evaluation.sandbox import sandbox as sandboxes
from deploy.checks import environment as doctor
from deploy.cli.main import main


def test_another_python_is_refused():
    assert doctor.python((3, 11)).state == "ok"
    assert doctor.python((3, 13)).state == "fail"


@pytest.mark.parametrize(("gib", "state"), [(16, "ok"), (4, "warn"), (2, "fail")])
def test_memory_is_judged_by_what_is_available(tmp_path, gib, state):
    path = tmp_path / "meminfo"
    path.write_text(f"MemTotal: 99999999 kB\nMemAvailable: {gib * 2**20} kB\n")
    assert doctor.memory(path).state == state


@pytest.mark.parametrize(("gib", "state"), [(50, "ok"), (5, "warn"), (1, "fail")])
def test_disk_is_judged_where_the_folder_will_be(tmp_path, gib, state):
    finding = doctor.disk("disk", tmp_path / "not" / "yet", lambda path: gib * 2**30)
    assert finding.state == state
    assert str(tmp_path) in finding.value


def test_a_folder_that_cannot_be_made_fails(tmp_path):
    (tmp_path / "file").write_text("")
    assert doctor.disk("disk", tmp_path / "file" / "runs").state == "fail"


def test_no_shared_memory_fails(tmp_path):
    assert doctor.shared_memory(tmp_path / "none").state == "fail"


def test_few_open_files_and_one_core_are_warned_of():
    assert doctor.open_files(1024).state == "warn"
    assert doctor.open_files(-1).value == "unlimited"
    assert doctor.cores(1).state == "warn"


def test_an_address_that_is_not_ours_cannot_be_bound():
    # TEST-NET-1 belongs to no machine.
    assert doctor.ports("192.0.2.1").state == "fail"
    assert doctor.ports("127.0.0.1").state == "ok"


def test_a_sandbox_that_cannot_be_made_is_a_warning_with_its_reason(monkeypatch):
    monkeypatch.setattr(sandboxes, "problem", lambda: "")
    assert doctor.sandbox().state == "ok"
    monkeypatch.setattr(sandboxes, "problem", lambda: "unshare: not permitted")
    refused = doctor.sandbox()
    assert (refused.state, refused.value) == ("warn", "unshare: not permitted")
    assert "user namespaces" in refused.remedy


def test_wrong_versions_and_conflicts_are_named(monkeypatch):
    versions = {"torch": "2.13.0+cpu", "ray": "2.1.0", "deepspeed": "0.19.8", "torchvision": "1"}
    monkeypatch.setattr(doctor, "_version", versions.get)
    wanted = ["torch==2.13.0", "ray==2.60.0", "deepspeed==0.19.8", 'vllm==0.1; extra == "gpu"']
    monkeypatch.setattr(doctor.importlib.metadata, "requires", lambda name: wanted)
    states = {finding.name: finding.state for finding in doctor.packages()}
    assert states == {"torch": "ok", "ray": "fail", "deepspeed": "ok", "transformers": "fail"}
    states = {finding.name: finding.state for finding in doctor.vllm()}
    assert states == {"vllm": "fail", "conflicts": "fail"}


def test_findings_that_fail_have_a_remedy_and_exit_with_1(monkeypatch):
    failing = doctor.Finding("memory", "fail", "1 GiB", "buy some")
    monkeypatch.setattr(doctor, "examine", lambda address, runs: iter([failing]))
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 1
    assert "fail memory" in result.output
    assert "buy some" in result.output


def test_this_machine_is_examined_to_the_end(tmp_path):
    result = CliRunner().invoke(main, ["doctor", "--json", "--runs", str(tmp_path / "runs")])
    findings = json.loads(result.output)
    assert {"python", "torch", "ray", "memory", "sandbox"} <= {line["name"] for line in findings}
    assert all(line["remedy"] for line in findings if line["state"] != "ok")
    assert not (tmp_path / "runs").exists()


def test_a_cluster_that_does_not_answer_fails():
    finding = doctor.ray("127.0.0.1:1")
    assert finding.state == "fail"
    assert "cannot connect" in finding.remedy


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_calls_the_program(shell):
    result = CliRunner().invoke(main, ["completion", shell])
    assert result.exit_code == 0
    assert f"_MIXSD_CLUSTER_COMPLETE={shell}_complete" in result.output


def test_bash_completes_commands(tmp_path):
    script = tmp_path / "complete.bash"
    script.write_text(CliRunner().invoke(main, ["completion", "bash"]).output)
    program = tmp_path / "mixsd-cluster"
    program.write_text(f"#!{sys.executable}\nfrom deploy.cli.main import main\nmain()\n")
    program.chmod(0o755)
    # As the shell does on TAB after "mixsd-cluster pl".
    commands = (
        f"source {script}; export PYTHONPATH=$PWD; PATH={tmp_path}:$PATH; "
        "COMP_WORDS=(mixsd-cluster pl); COMP_CWORD=1; "
        "_mixsd_cluster_completion mixsd-cluster; echo ${COMPREPLY[@]}"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run(
        ["bash", "-c", commands], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["plan"]
