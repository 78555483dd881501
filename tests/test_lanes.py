"""Workflows, hooks and pages call only targets that the Makefile has."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / ".ci" / "run"]
MAKEFILE = (ROOT / "Makefile").read_text()


def is_target(name: str) -> bool:
    return bool(re.search(rf"^{name}:|^{name.split('-')[0]}-%:", MAKEFILE, re.MULTILINE))


def commands(path: Path) -> list[str]:
    """The shell commands of a workflow or of the hooks, but for Debian packages."""
    content = yaml.safe_load(path.read_text())
    if "jobs" in content:
        steps = [step for job in content["jobs"].values() for step in job["steps"]]
        runs = [step["run"] for step in steps if "run" in step]
        return [run for run in runs if not run.startswith("sudo apt-get ")]
    return [hook["entry"] for repo in content["repos"] for hook in repo["hooks"]]


@pytest.mark.parametrize(
    "path", [*WORKFLOWS, ROOT / ".pre-commit-config.yaml"], ids=lambda path: path.name
)
def test_workflows_and_hooks_only_call_makefile_targets(path):
    found = commands(path)
    assert found
    for command in found:
        assert re.fullmatch(r"make [a-z-]+", command), command
        assert is_target(command.removeprefix("make ")), command


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_pages_only_name_makefile_targets(path):
    found = re.findall(r"(?:^|`)make ([a-z][a-z-]*)", path.read_text(), flags=re.MULTILINE)
    assert found
    for target in found:
        assert is_target(target), target


def test_every_lane_of_the_makefile_is_called_by_a_workflow():
    called = {command for path in WORKFLOWS for command in commands(path)}
    assert {"make check", "make test-fast", "make test", "make test-all"} <= called


def test_every_test_of_the_gate_is_in_one_lane_of_make_test():
    variables = dict(re.findall(r"^(FAST|GATE) := (.*)$", MAKEFILE, re.MULTILINE))
    recipe = re.search(r"^test: setup\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)[1]
    for name, value in variables.items():
        recipe = recipe.replace(f"$({name})", value)
    lanes = re.findall(r'-m "([^"]+)"', recipe)
    assert len(lanes) == 3
    names = ("slow", "one_core", "thorough", "gpu")
    for marks in product((True, False), repeat=len(names)):
        marked = dict(zip(names, marks, strict=True))
        inside = [lane for lane in lanes if eval(lane, {}, marked)]
        assert len(inside) == (not marked["thorough"] and not marked["gpu"]), marked
