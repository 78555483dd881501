"""Runs that are cheap enough to be broken, and what must hold of them afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common.ledger import open_view
from common.rundir import RunDir, read_jsonl
from tests.integration.runs import wait, write_config

FACTS, EPOCHS, BATCH = 120, 16, 8


def small_run(runs: Path, name: str, model: Path, **changes: Any) -> Path:
    settings: dict[str, Any] = {
        "name": name,
        "model": str(model),
        "prompts": "short-sentence",
        "method": {"name": "mixsd", "mix_rate": 0.3},
        "data": {"kgfact": {"domains": 5, "entities": 12}},
        "engine": {"dtype": "float32", "max_model_len": 256},
        "rollout": {"slots": 4, "max_tokens": 24, "max_retries": 1, "on_exhausted": "canonical"},
        "learner": {
            "dtype": "float32",
            "epochs": EPOCHS,
            "batch_size": BATCH,
            "lr": 1e-3,
            "checkpoint_every": 25,
        },
        "evaluator": {"suites": ["recall"], "max_tokens": 8},
        "cluster": {"stall_s": 20},
    }
    return write_config(runs, **{**settings, **changes})


def exactly_once(run: RunDir, expected: int = FACTS * EPOCHS, steps: bool = True) -> None:
    """Every (fact, epoch) was trained once, by the ledger and by the learner's own notes.

    Without ``steps`` only the ledger is asked: a learner cut off from everything but the
    folder may note a step that its successor trains again.
    """
    ledger = open_view(run.ledger)
    trained = ledger.trained()
    ledger.close()
    assert len(set(trained)) == len(trained) == expected
    if steps:
        lines = read_jsonl(run.steps)
        seen = [tuple(exposure) for line in lines for exposure in line["exposures"]]
        assert sorted(seen) == trained


def wait_step(runs: Path, name: str, step: int) -> dict[str, Any]:
    return wait(runs, name, lambda found: found["learner"].get("step", 0) > step, 120)
