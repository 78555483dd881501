"""Folders of finished runs, made by hand, that later ones continue."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from actors.evaluation.results import EvaluatedModel, Results
from actors.evaluation.scores import Scores, StepResults
from common.config.run_config import RunConfig, dump, parse
from common.ledger import Ledger
from common.rundir import RunDir
from deploy.control.continuing import resolve
from tests.learner.test_checkpoint_folder import save


def written(name: str, **settings: Any) -> RunConfig:
    """A configuration as a user writes it."""
    raw = {"name": name, "method": {"name": "sft"}, "data": {"kgfact": {}}, **settings}
    return parse(raw, name)


def finish(
    runs: Path,
    config: RunConfig,
    scores: Mapping[int, Mapping[str, Any]],
    state: str = "finished",
) -> RunDir:
    """The folder that a run of ``config`` leaves.

    Args:
        runs: folder of all runs; may have those that it continues.
        config: as written.
        scores: by step, 0 is the base's; each other step has a checkpoint.
        state: how the run has ended.
    """
    run = RunDir(runs / config.name)
    run.create()
    run.config.write_text(dump(resolve(config, runs)))
    ledger = Ledger(run.ledger, epochs=config.learner.epochs, seed=0)
    ledger.add_work([("f", 0)])
    ledger.close()
    save(run.checkpoints, *(step for step in scores if step))
    for step, found in scores.items():
        values = typed({name: _score(of) for name, of in found.items()})
        Results(run.eval).write(
            EvaluatedModel(step, Path(), f"{step}-{run.name}"), "all", "key", values
        )
    run.status.write_text(json.dumps({"run": run.name, "state": state}))
    return run


def _score(value: Any) -> Any:
    """A share of 40 as a score; anything else is one already."""
    if not isinstance(value, float):
        return value
    return {"value": value, "low": value, "high": value, "n": 40, "unit": "fraction"}


def typed(scores: Mapping[str, Any]) -> Scores:
    """Scores as they are in a file of results."""
    return StepResults.from_json({"step": 0, "scores": scores, "analyses": {}}).scores
