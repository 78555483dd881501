"""Whole runs through the command line."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from common.config import run_config
from common.hardware import Device
from common.rundir import RunDir, iter_jsonl
from deploy.report.summary import RunSummary, summary
from tests.gpu.checks.environment import ROOT
from tests.integration.runs import call, status

NAME = "gpu-lane"
# Eight facts, three epochs, and a little text.
SMALL = {
    "data.limit": "8",
    "rollout.max_tokens": "24",
    "learner.epochs": "3",
    "learner.batch_size": "4",
    "evaluator.suites": "[recall,text_nll]",
    "evaluator.max_tokens": "24",
    "evaluator.limit": "8",
    "evaluator.text_tokens": "256",
}


def smoke(device: Device, folder: Path) -> dict[str, Any]:
    """MixSD with ``configs/smoke.yaml``, small, and the Fisher information."""
    fisher = f"{{examples: 4, max_tokens: 16, parts: 2, cache: {folder / 'fisher'}}}"
    return _up(device, folder, "smoke", {**SMALL, "evaluator.fisher": fisher})


def opsd(device: Device, folder: Path, student: str = "weights") -> dict[str, Any]:
    """OPSD with ``configs/opsd-smoke.yaml``, small, all roles on one GPU.

    Args:
        device: of every role.
        folder: of the run.
        student: what is trained and sent to the engine: ``weights``, or an ``adapter`` whose engine
            is the teacher too.
    """
    settings = {**SMALL, "method.samples": "2", "cluster.placement": "shared"}
    if student == "adapter":
        method = "{name: opsd, samples: 2, teacher: engine, support: tail, top_k: 16}"
        settings |= {"method": method, "learner.lora": "{rank: 8}"}
        del settings["method.samples"]
    return _up(device, folder, "opsd-smoke", settings)


def _up(device: Device, folder: Path, config: str, settings: dict[str, str]) -> dict[str, Any]:
    """What ``up`` came to and how long it took."""
    settings |= {"name": NAME, "engine.device": device, "learner.device": device}
    options = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    run, began = RunDir(folder / NAME), time.time()
    try:
        call(folder, "up", ROOT / "configs" / f"{config}.yaml", *options)
        seconds = time.time() - began
        found = status(folder, NAME)
    except BaseException:
        _print_logs(run)
        raise
    finally:
        if run.root.exists():
            call(folder, "down", NAME)
    recorded = run_config.load(run.config)
    return {
        "state": found["state"],
        "placement": recorded.cluster.placement,
        "engine_share": recorded.engine.gpu_memory_utilization,
        "learner_share": recorded.learner_share,
        "restarts": sum(role["restarts"] for role in found["roles"].values()),
        "seconds": round(seconds, 1),
        "seconds_to_first_rollout": _seconds_to_first_rollout(run, began),
        **_results(summary(run)),
    }


def _seconds_to_first_rollout(run: RunDir, began: float) -> float | None:
    """As the run's own metrics have it, a line a second."""
    for line in iter_jsonl(run.metrics):
        if line["series"].get("replay", {}).get("mixsd_replay_rollouts", 0) > 0:
            return round(float(line["time"]) - began, 1)
    return None


def _results(figures: RunSummary) -> dict[str, Any]:
    written = figures.model_dump(mode="json")
    rates = [step.tokens_per_second for step in figures.steps]
    return {
        "facts": figures.facts,
        "accepted": figures.accepted,
        "exposures_expected": figures.exposures_expected,
        "exposures_trained": figures.exposures_trained,
        "skipped_steps": figures.skipped_steps,
        "losses": [step.loss for step in figures.steps],
        "most_tokens_per_s": max(rates, default=None),
        "base": written["base"],
        "final": written["final"],
        "fisher": written["fisher"],
    }


def _print_logs(run: RunDir) -> None:
    for path in sorted(run.logs.glob("*.log")):
        print(f"--- {path.name}")
        print("\n".join(path.read_text(errors="replace").splitlines()[-40:]))
