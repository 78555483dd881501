"""The desired state of a live run: the file through which commands reach the controller.

``desired.json`` in the run folder. Commands write it, the controller reads it in
each iteration, so a change survives the controller and needs no Ray.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import Field, ValidationError

from common import files
from common.config.run_config import RunConfig, live_change
from common.config.sections import ReplaySettings
from common.errors import UserError, invalid_value, shown
from common.rundir import RunDir, write_atomic
from common.settings import Settings
from deploy.cluster.run_lock import DESIRED, RunLock


class Desired(Settings):
    """Counts of actors, live settings of the queue, and whether the run is to stop.

    ``hand_on``: as in the cluster section, until a command sets the number of evaluators.
    """

    rollout: int = Field(ge=0, le=4096)
    evaluator: int = Field(ge=0, le=4096)
    hand_on: bool = False
    replay: ReplaySettings
    stopped: bool = False


def read(run: RunDir, config: RunConfig) -> Desired:
    """The requested state, or that of the configuration if none was requested.

    Raises:
        UserError: ``desired.json`` is damaged.
    """
    if not run.desired.exists():
        return _of_config(config)
    try:
        return Desired.model_validate(files.read_json(run.desired))
    except ValidationError as error:
        raise UserError(
            f"{run.desired}: {invalid_value(error.errors()[0])}; remove the file to return to the "
            "configured counts"
        ) from error


def change(run: RunDir, config: RunConfig, changes: dict[str, Any]) -> Desired:
    """Request other values; keys are such as ``rollout`` and ``replay.max_bytes``.

    Raises:
        UserError: no such key, or a value out of range.
    """
    lock = RunLock(run, DESIRED)
    lock.acquire()
    try:
        raw = read(run, config).model_dump(mode="json")
        live = [name for name in raw if name not in ("replay", "stopped")]
        live += [f"replay.{name}" for name in raw["replay"]]
        raw["hand_on"] &= "evaluator" not in changes
        for key, value in changes.items():
            if key not in (*live, "stopped"):
                raise UserError(
                    f"{shown(key)}: cannot be changed on a live run; these can: {', '.join(live)}"
                )
            section, _, leaf = key.rpartition(".")
            (raw[section] if section else raw)[leaf] = value
        try:
            desired = Desired.model_validate(raw)
        except ValidationError as error:
            raise UserError(invalid_value(error.errors()[0])) from error
        live_change(config, desired.replay)
        _check_gpu(config, desired)
        write_atomic(run.desired, json.dumps(desired.model_dump(mode="json")))
    finally:
        lock.release()
    return desired


def reset(run: RunDir) -> None:
    """Return to the state in the configuration, as each start of a run does."""
    run.desired.unlink(missing_ok=True)


def _check_gpu(config: RunConfig, desired: Desired) -> None:
    """Refuse actors that would wait forever for a part of a GPU that others have."""
    if desired.rollout > 1 and (reason := config.needs_one_gpu):
        raise UserError(f"rollout: {desired.rollout} actors, but {reason}; 1 is the most")
    engines = desired.rollout + desired.evaluator
    shares = config.rollout.actors + config.evaluator.actors
    on_gpu = config.engine.resolved_device == "cuda"
    if config.cluster.placement == "shared" and on_gpu and engines > shares:
        raise UserError(
            f"rollout={desired.rollout} and evaluator={desired.evaluator} are {engines} engines, "
            f"but cluster.placement is shared, and the GPU was divided among {shares} at the "
            "start; lower one of the two, or start a run with more rollout.actors"
        )


def _of_config(config: RunConfig) -> Desired:
    return Desired(
        rollout=config.rollout.actors,
        evaluator=config.evaluator.actors,
        hand_on=config.cluster.hand_on,
        replay=config.replay,
    )
