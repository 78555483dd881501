"""Logs step values to TensorBoard and Weights & Biases.

Both are optional packages; if a requested one is missing, the learner fails when it
starts, before any work is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.config.learner import LearnerSettings
from common.errors import UserError
from common.rundir import RunDir


class Trackers:
    """The trackers that ``learner.tensorboard`` and ``learner.wandb`` enable; on rank 0 only.

    Raises:
        UserError: a package is missing.
    """

    def __init__(self, settings: LearnerSettings, run: RunDir) -> None:
        self._events: Any = None
        self._wandb: Any = None
        if settings.tensorboard:
            try:
                from tensorboardX import SummaryWriter
            except ImportError as error:
                raise UserError(
                    "learner.tensorboard is true, but tensorboardX is not installed; "
                    "run 'pip install tensorboardX' or set it to false"
                ) from error
            self._events = SummaryWriter(str(run.tensorboard))
        if settings.wandb is not None:
            try:
                import wandb
            except ImportError as error:
                raise UserError(
                    f"learner.wandb is {settings.wandb}, but wandb is not installed; "
                    "run 'pip install wandb' or leave it unset"
                ) from error
            # The run's name is the id too, so that a restarted learner appends to the same run.
            self._wandb = wandb.init(
                project=settings.wandb,
                id=run.name,
                name=run.name,
                dir=str(run.root),
                resume="allow",
            )

    def close(self) -> None:
        """Flush and close."""
        if self._events is not None:
            self._events.close()
        if self._wandb is not None:
            self._wandb.finish()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record the values of a step under ``learner/``."""
        if self._events is not None:
            for name, value in values.items():
                self._events.add_scalar(f"learner/{name}", value, step)
            self._events.flush()
        if self._wandb is not None:
            self._wandb.log({f"learner/{name}": value for name, value in values.items()}, step=step)
