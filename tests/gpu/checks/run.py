"""A whole run through the command line."""

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
# Eight of the forty facts, three epochs, and Fisher information from a little text.
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
    """``up configs/smoke.yaml``, small: what it came to and how long it took."""
    fisher = f"{{examples: 4, max_tokens: 16, parts: 2, cache: {folder / 'fisher'}}}"
    settings = {
        **SMALL,
        "name": NAME,
        "engine.device": device,
        "learner.device": device,
        "evaluator.fisher": fisher,
    }
    options = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    run, began = RunDir(folder / NAME), time.time()
    try:
        call(folder, "up", ROOT / "configs" / "smoke.yaml", *options)
        seconds = time.time() - began
        found = status(folder, NAME)
    except BaseException:
        _print_logs(run)
        raise
    finally:
        if run.root.exists():
            call(folder, "down", NAME)
    return {
        "state": found["state"],
        "placement": run_config.load(run.config).cluster.placement,
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
