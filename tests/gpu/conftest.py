"""The GPU lane: every check in a process of its own, and one report of their figures.

``MIXSD_GPU_LANE_DEVICE`` is the device, ``cuda`` or ``cpu``; ``MIXSD_GPU_REPORT`` the report.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DEVICE = os.environ.get("MIXSD_GPU_LANE_DEVICE") or "cuda"
REPORT = Path(os.environ.get("MIXSD_GPU_REPORT") or ROOT / "runs" / "gpu-lane.json")
LIMIT_S = 300
# After the check's own limit, and then for what ends it.
GRACE_S = 60
LOG_LINES = 150

Figures = dict[str, Any]
Reported = Generator[None, pytest.TestReport, pytest.TestReport]
_BEGAN = time.time()
_FIGURES = pytest.StashKey[Figures]()
_environment: Figures = {}
_checks: list[Figures] = []


def pytest_configure(config: pytest.Config) -> None:
    if DEVICE not in ("cuda", "cpu"):
        raise pytest.UsageError(f"MIXSD_GPU_LANE_DEVICE is {DEVICE!r}; set it to cuda or cpu")


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Figures:
    """What the lane runs on; not found out in this process, which would then hold GPU memory."""
    _environment.update(_run("environment.describe", {}, tmp_path_factory.mktemp("environment")))
    return _environment


@pytest.fixture(scope="session")
def device(environment: Figures) -> str:
    """The lane's device; skips where it is not there."""
    if DEVICE == "cuda" and not environment["figures"]["gpus"]:
        remark = environment["figures"]["remark"] or "no NVIDIA driver"
        pytest.skip(f"needs an NVIDIA GPU that the installed torch can use ({remark})")
    return DEVICE


@pytest.fixture
def cuda_only(device: str) -> Callable[[str], None]:
    """Skips on a CPU, with the reason."""

    def need(reason: str) -> None:
        if device == "cpu":
            pytest.skip(reason)

    return need


@pytest.fixture
def check(device: str, request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Figures]:
    """Runs a check with its settings; returns its figures, which are also in the report."""

    def run(name: str, **settings: str) -> Figures:
        entry = request.node.stash.setdefault(_FIGURES, {"check": name, "settings": settings})
        entry.update(_run(name, settings, tmp_path))
        figures: Figures = entry["figures"]
        return figures

    return run


def _run(name: str, settings: dict[str, str], folder: Path) -> Figures:
    """Figures and seconds of a check; its output is shown if the test fails."""
    out, log = folder / "figures.json", folder / "log"
    command = [sys.executable, "-m", "tests.gpu.run_check", name, "--device", DEVICE]
    command += ["--out", str(out), "--limit", str(LIMIT_S)]
    if settings:
        command += ["--set", *(f"{key}={value}" for key, value in settings.items())]
    with log.open("w") as file:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code: int | str = process.wait(LIMIT_S + GRACE_S)
        except subprocess.TimeoutExpired:
            code = f"no answer in {LIMIT_S + GRACE_S} s"
        finally:
            _end(process)
    print("\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES:]))
    if code != 0 or not out.exists():
        pytest.fail(f"{' '.join(command)} ended with {code}; its output is below", pytrace=False)
    found: Figures = json.loads(out.read_text())
    return found


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a check and what it has started, such as the workers of an engine."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Reported:
    report = yield
    if report.when == "call" or (report.when == "setup" and not report.passed):
        skip = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        _checks.append(
            {"test": item.name, "outcome": report.outcome}
            | {"reason": skip.removeprefix("Skipped: "), "seconds": round(report.duration, 1)}
            | item.stash.get(_FIGURES, {})
        )
    return report


def pytest_unconfigure() -> None:
    """Write the report, if a check has run, and name it below everything else."""
    if all(one["outcome"] == "skipped" for one in _checks):
        return
    report = {
        "environment": _environment.get("figures"),
        "seconds": round(time.time() - _BEGAN, 1),
        "outcomes": Counter(one["outcome"] for one in _checks),
        "checks": _checks,
    }
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps(report, indent=1) + "\n")
    print(f"figures of the GPU lane, on {DEVICE}: {REPORT}")
