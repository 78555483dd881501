"""What cells of a study share: targets, the base model's results, and warm engines.

All of it is in the study's folder, and none of it changes what a cell computes:

targets       a cell whose targets depend on the same settings as those of an earlier cell gets that
              one's, see :func:`targets_key`
base results  evaluators find what others measured of the base model
              (``actors.evaluation.shared_results``)
engines       actors that are done wait for the next cell (``deploy.control.warm_pool``)
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from common.config.run_config import RunConfig
from common.ledger import copy_targets
from common.rundir import RunDir
from deploy.study.cells import Cell

_BASE, _WARM = "base", "warm"


def targets_key(config: RunConfig) -> str | None:
    """A hash of the settings that a run's targets depend on; None if they depend on training.

    Scores of targets under the base are part of them.
    """
    if config.student is not None:
        return None
    rollout = config.rollout.model_dump(mode="json", exclude={"actors", "slots"})
    content = config.model_dump(mode="json", include={"seed", "model", "prompts", "method", "data"})
    engine = config.engine
    return _hash(
        [content, rollout, engine.resolved_dtype, engine.max_model_len, config.rollouts_per_fact]
    )


def base_key(config: RunConfig) -> str:
    """A hash of what decides the base model's results besides its weights and the suites' keys."""
    engine = config.evaluator_engine
    return _hash([config.model, engine.resolved_device, engine.resolved_dtype])


def prepare(cell: Cell, study: Path, earlier: Iterable[Cell]) -> str:
    """Give the folder of a cell that has not started what others have; call before its start.

    Args:
        cell: the cell.
        study: folder of the study.
        earlier: cells that may have drawn the same targets.

    Returns:
        The name of the cell whose targets it gets; empty if it draws its own.
    """
    run = cell.run(study)
    run.create()
    _link(run.eval_shared, study / _BASE / base_key(cell.config))
    _link(run.warm, study / _WARM)
    run.ledger.unlink(missing_ok=True)
    run.identity.unlink(missing_ok=True)
    key = targets_key(cell.config)
    if key is None:
        return ""
    for other in earlier:
        source = other.run(study)
        if targets_key(other.config) == key and _copy(source, run, cell.config):
            return other.name
    return ""


def _copy(source: RunDir, run: RunDir, config: RunConfig) -> bool:
    copied = copy_targets(
        source.ledger,
        run.ledger,
        epochs=config.exposures_per_rollout,
        seed=config.seed,
        first_epoch=config.replay.first_epoch,
    )
    if copied:
        # The start compares it with facts and model as they are now.
        shutil.copyfile(source.identity, run.identity)
    return copied


def _link(link: Path, target: Path) -> None:
    """A link that stays right if the study's folder is moved."""
    target.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not link.is_symlink():
        link.symlink_to(os.path.relpath(target, link.parent))


def _hash(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
