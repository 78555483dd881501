"""The desired state of a live run: the file through which commands reach the controller.

``desired.json`` in the run folder. Commands write it, the controller reads it in
each iteration, so a change survives the controller and needs no Ray.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import Field, ValidationError

from common.config.run_config import RunConfig, live_change
from common.config.sections import ReplaySettings
from common.errors import UserError
from common.rundir import RunDir, read_json, write_atomic
from common.settings import Settings
from deploy.cluster.run_lock import DESIRED, RunLock


class Desired(Settings):
    """Counts of actors, live settings of the queue, and whether the run is to stop."""

    rollout: int = Field(ge=0, le=4096)
    evaluator: int = Field(ge=0, le=4096)
    replay: ReplaySettings
    stopped: bool = False


def read(run: RunDir, config: RunConfig) -> Desired:
    """The requested state, or that of the configuration if none was requested."""
    raw = read_json(run.desired)
    return _of_config(config) if raw is None else Desired.model_validate(raw)


def change(run: RunDir, config: RunConfig, changes: dict[str, Any]) -> Desired:
    """Request other values; keys are such as ``rollout`` and ``replay.max_bytes``.

    Raises:
        UserError: no such key, or a value out of range.
    """
    lock = RunLock(run, DESIRED)
    lock.acquire()
    try:
        raw = read(run, config).model_dump(mode="json")
        for key, value in changes.items():
            section, _, leaf = key.rpartition(".")
            node = raw.get(section) if section else raw
            if not isinstance(node, dict) or leaf not in node:
                live = [*(k for k in raw if k not in ("replay", "stopped"))]
                live += [f"replay.{name}" for name in raw["replay"]]
                raise UserError(
                    f"{key}: cannot be changed on a live run; these can: {', '.join(live)}"
                )
            node[leaf] = value
        try:
            desired = Desired.model_validate(raw)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            raise UserError(f"{key}: {first['msg']}, not {first['input']!r}") from error
        live_change(config, desired.replay)
        write_atomic(run.desired, json.dumps(desired.model_dump(mode="json")))
    finally:
        lock.release()
    return desired


def reset(run: RunDir) -> None:
    """Return to the state in the configuration, as each start of a run does."""
    run.desired.unlink(missing_ok=True)


def _of_config(config: RunConfig) -> Desired:
    return Desired(
        rollout=config.rollout.actors, evaluator=config.evaluator.actors, replay=config.replay
    )
