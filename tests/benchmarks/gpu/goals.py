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
        """The figure or ratio; None if a row is missing."""
        found = [rows.get(name) for name in (self.row, self.over) if name]
        figures = [float(one[self.figure]) for one in found if one is not None]
        if len(figures) < len(found):
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
    Goal("end_to_end", 60.0, figure="seconds", at_most=True),
)

# Useful tokens/s on one H100.
PREDICTED = {"paired_0.3": 10_700.0, "paired_0.1": 10_700.0}
MEASURED_BEFORE = {
    **{"sessions_0.3": 5757.0, "plain": 8645.0, "plain_vllm_async": 13_268.0},
    **{"one_call_a_token": 1355.0, "learner_1.7b": 13_000.0, "learner_0.6b": 14_969.0},
}
EXPECTED = PREDICTED | MEASURED_BEFORE
