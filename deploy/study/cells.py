"""The cells of a study: one run for each combination of the levels of its axes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from common.config.run_config import RunConfig
from common.rundir import RunDir

# The axis that replicates every other combination; intervals are over its levels.
SEED = "seed"
# The axis from which one level is chosen for each arm, on validation items.
LR = "learner.lr"
# Of a study's folder; it has that of each run.
CELLS = "cells"


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of a study.

    Args:
        name: of its run, within the study's folder.
        factors: the label of its level by axis, such as ``{"method": "mixsd",
            "method.mix_rate": "0.3", "learner.lr": "5e-05", "seed": "1"}``; axes of the study
            that do not concern the cell are absent.
        config: of its run.
    """

    name: str
    factors: Mapping[str, str]
    config: RunConfig

    @property
    def arm(self) -> str:
        """What is compared: the labels of all axes but seed and learning rate, joined."""
        return self._label(leave_out=(SEED, LR))

    @property
    def trial(self) -> str:
        """What seeds replicate: the labels of all axes but the seed, joined."""
        return self._label(leave_out=(SEED,))

    def run(self, study: Path) -> RunDir:
        """The folder of its run in that of the study."""
        return RunDir(study / CELLS / self.name)

    def _label(self, leave_out: tuple[str, ...]) -> str:
        labels = [label for axis, label in self.factors.items() if axis not in leave_out]
        return " ".join(labels) or "base"
