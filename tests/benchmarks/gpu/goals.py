"""What the figures are held against: goals, and what was expected before the measurement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Figures = dict[str, Any]
State = Literal["met", "missed", "not measured"]


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound on a figure of a row, or on its ratio to that of another row.

    Attributes:
        row: whose figure is judged.
        bound: at least, or at most.
        over: the row that it is divided by; empty: none.
        figure: its name.
        at_most: whether the bound is from above.
    """

    row: str
    bound: float
    over: str = ""
    figure: str = "tokens_per_s"
    at_most: bool = False

    def __str__(self) -> str:
        sign = "<=" if self.at_most else ">="
        what = f"{self.row} / {self.over}" if self.over else f"{self.row}, {self.figure}"
        return f"{what} {sign} {self.bound:g}"

    def value(self, rows: dict[str, Figures | None]) -> float | None:
        """The figure or ratio; None if one is missing."""
        names = [name for name in (self.row, self.over) if name]
        found = [(rows.get(name) or {}).get(self.figure) for name in names]
        figures = [float(figure) for figure in found if figure is not None]
        if len(figures) < len(names):
            return None
        return figures[0] / figures[1] if self.over else figures[0]

    def state(self, rows: dict[str, Figures | None]) -> State:
        """Whether these rows meet it."""
        value = self.value(rows)
        if value is None:
            return "not measured"
        return "met" if (value <= self.bound if self.at_most else value >= self.bound) else "missed"


GOALS = (
    Goal("paired_0.3", 0.80, over="plain_vllm_async"),
    Goal("paired_0.1", 0.90, over="plain_vllm_async"),
    Goal("paired_0.3", 7.5, over="one_call_a_token"),
    Goal("learner_1.7b", 0.40, figure="mfu_of_peak"),
    Goal("learner_1.7b_batch_20", 0.20, figure="mfu_of_peak"),
    Goal("learner_1.7b_zero_2", 0.90, over="learner_1.7b"),
    Goal("learner_0.6b", 40_000.0),
    Goal("end_to_end", 60.0, figure="seconds", at_most=True),
)

# Useful tokens/s on one H100.
PREDICTED = {"paired_0.3": 10_700.0, "paired_0.1": 10_700.0}
MEASURED_BEFORE = {
    **{"sessions_0.3": 5757.0, "plain": 8645.0, "plain_vllm_async": 13_268.0},
    **{"one_call_a_token": 1355.0, "learner_1.7b": 13_000.0, "learner_0.6b": 14_969.0},
}
EXPECTED = PREDICTED | MEASURED_BEFORE
