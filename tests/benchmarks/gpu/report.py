"""The table and the line of JSON of ``make bench-gpu``."""

from __future__ import annotations

from typing import Any

from tests.benchmarks.gpu.goals import EXPECTED, GOALS, PREDICTED
from tests.benchmarks.gpu.processes import Contender, Figures, Results

# Rows that others are divided by.
_BASES = ("plain_vllm_async", "one_call_a_token")
_MACHINE = "machine"
_DIGITS = 5
# Figures by the head of their column.
_DECODING = {
    **{"tokens/s": "tokens_per_s", "step ms": "step_ms", "start s": "start_s"},
    **{"/ async": "over_plain_vllm_async", "/ one call": "over_one_call_a_token"},
}
_TRAINING = {
    **{"tokens/s": "tokens_per_s", "step ms": "step_ms"},
    **{"mfu of matmul": "mfu_of_matmul", "of data sheet": "mfu_of_peak"},
    **{"kernels / wall": "kernel_share", "launches": "launches", "peak GiB": "peak_gib"},
}

Found = dict[str, Any]


def as_json(contenders: dict[str, Contender], results: Results) -> Found:
    """All figures by row, those that follow from several rows, and why rows are missing."""
    measured = {
        name: figures
        for outcome in results.outcomes.values()
        for name, figures in outcome.rows.items()
    }
    machine = measured.pop(_MACHINE, None)
    names = [row for one in contenders.values() for row in one.rows if row != _MACHINE]
    rows = {name: _completed(name, measured, machine or {}) for name in names}
    trial = results.device == "cpu"
    found: Found = _rounded(
        {
            "trial": trial,
            "device": results.device,
            "machine": machine,
            "rows": rows,
            "goals": [
                {
                    "goal": str(goal),
                    "value": goal.value(rows),
                    "state": "trial" if trial else goal.state(rows),
                }
                for goal in GOALS
            ],
            "seconds": {name: outcome.seconds for name, outcome in results.outcomes.items()},
            "reasons": {name: one.reason for name, one in results.outcomes.items() if one.reason},
            "left_out": results.left_out,
        }
    )
    return found


def progress(name: str, results: Results) -> str:
    """A line on a contender that has ended."""
    outcome = results.outcomes[name]
    rows = ", ".join(_brief(row, figures) for row, figures in outcome.rows.items())
    text = f"{name}, {outcome.seconds:.0f} s: {rows or 'nothing'}"
    return f"{text}; {outcome.reason}" if outcome.reason else text


def text(found: Found) -> str:
    """What people read of :func:`as_json`."""
    rows = {name: one for name, one in found["rows"].items() if one is not None}
    decoding = {name: one for name, one in rows.items() if "start_s" in one}
    training = {name: one for name, one in rows.items() if "train_flops" in one}
    others = {name: one for name, one in rows.items() if name not in decoding | training}
    lines = [_brief(name, one) for name, one in others.items()]
    lines += [
        f"goal {one['goal']}: {_show(one['value'])}, {one['state']}" for one in found["goals"]
    ]
    lines += [f"{name} has failed: {reason}" for name, reason in found["reasons"].items()]
    if found["left_out"]:
        lines.append(f"the budget left out {', '.join(found['left_out'])}")
    parts = [_table("decoding", _DECODING, decoding), _table("training", _TRAINING, training)]
    parts.append("\n".join(lines))
    if found["trial"]:
        parts.insert(0, "a trial on the CPU, at tiny shapes: the figures mean nothing")
    return "\n\n".join(part for part in parts if part)


def _completed(name: str, measured: dict[str, Figures], machine: Figures) -> Figures | None:
    """A row with the figures that depend on others; None if it was not measured."""
    row = measured.get(name)
    if row is None:
        return None
    row = dict(row)
    if "start_s" in row:
        for base in _BASES:
            other = measured.get(base)
            row[f"over_{base}"] = other and row["tokens_per_s"] / other["tokens_per_s"]
    if "train_flops" in row:
        for key, flops in (("mfu_of_matmul", "matrix_flops"), ("mfu_of_peak", "peak_flops")):
            row[key] = row["train_flops"] / machine[flops] if machine.get(flops) else None
    if name in EXPECTED:
        row["expected_tokens_per_s"] = EXPECTED[name]
    return row


def _expected(name: str) -> str:
    if name not in EXPECTED:
        return "-"
    kind = "predicted" if name in PREDICTED else "before"
    return f"{EXPECTED[name]:,.0f} {kind}"


def _brief(name: str, figures: Figures) -> str:
    """A row's figures in one line; of decoding and training the rate alone."""
    if "step_ms" in figures:
        return f"{name} {_show(figures['tokens_per_s'])} tokens/s"
    shown = [f"{key} {_show(value)}" for key, value in figures.items() if _is_number(value)]
    phases = [f"{key} {_show(value)}" for key, value in figures.get("phases", {}).items()]
    return f"{name}: {', '.join(shown)}" + (f" ({', '.join(phases)})" if phases else "")


def _table(title: str, columns: dict[str, str], rows: dict[str, Figures]) -> str:
    """Figures by head, and what was expected; empty without rows."""
    if not rows:
        return ""
    lines = [[title, *columns, "expected"]]
    for name, figures in rows.items():
        lines.append(
            [name, *(_show(figures.get(key)) for key in columns.values()), _expected(name)]
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if at else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def _show(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _rounded(value: Any) -> Any:
    """Floats of the whole with five digits."""
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list) else value
