"""A table of the report, and how it is written as CSV and as LaTeX."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from common.printable import printable
from deploy.study.report.statistics import Estimate

Value = str | int | float | Estimate | None

# The first column of tables over all settings (model and corpus).
SETTING = "setting"
# What LaTeX reads as commands, and symbols that its text fonts lack.
_LATEX = {
    "\\": r"\textbackslash{}",
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
    **{"~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"<": "$<$", ">": "$>$", "|": "$|$"},
    **{"λ": r"$\lambda$", "Δ": r"$\Delta$", "θ": r"$\theta$", "ρ": r"$\rho$"},
    **{"‖": r"$\|$", "²": "$^2$", "−": "$-$", "×": r"$\times$"},
}


@dataclass(frozen=True, slots=True)
class Table:
    """``name`` is that of its files; ``note`` says how to read it."""

    name: str
    title: str
    note: str
    head: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]

    def to_csv(self) -> str:
        """An estimate has four columns: value, low, high and n."""
        wide = [any(isinstance(row[at], Estimate) for row in self.rows) for at in range(self.width)]
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(
            f"{name} {part}".strip()
            for name, estimated in zip(self.head, wide, strict=True)
            for part in (("", "low", "high", "n") if estimated else ("",))
        )
        for row in self.rows:
            writer.writerow(
                part
                for value, estimated in zip(row, wide, strict=True)
                for part in _parts(value, estimated)
            )
        return buffer.getvalue()

    def to_latex(self) -> str:
        """A ``tabular`` for the package ``booktabs``; a rule separates settings."""
        lines = [
            f"% {printable(self.title)}: {printable(self.note)}".replace("\n", " "),
            rf"\begin{{tabular}}{{{'l' * self.width}}}",
            r"\toprule",
            _latex_row(self.head),
            r"\midrule",
        ]
        for number, row in enumerate(self.rows):
            if number and self.head[0] == SETTING and row[0] != self.rows[number - 1][0]:
                lines.append(r"\midrule")
            lines.append(_latex_row([text(value) for value in row]))
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])

    @property
    def width(self) -> int:
        """Number of columns."""
        return len(self.head)


def text(value: Value) -> str:
    """A value as people read it, without the number of seeds."""
    if value is None:
        return ""
    if isinstance(value, Estimate):
        return value.text(form(value.value))
    return f"{value:{form(value)}}" if isinstance(value, float) else str(value)


def form(value: float) -> str:
    """Three decimals, or three digits of very small and large numbers."""
    return ".3f" if value == 0 or 0.01 <= abs(value) < 10_000 else ".3g"


def escape_latex(raw: str) -> str:
    """Any text, so that LaTeX prints it."""
    return "".join(_LATEX.get(mark, mark) for mark in printable(raw))


def slug(label: str) -> str:
    """A label as part of a file's name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", label).strip("-.").lower() or "all"


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(escape_latex(cell) for cell in cells) + r" \\"


def _parts(value: Value, estimated: bool) -> Iterator[Value]:
    if isinstance(value, Estimate):
        yield from (value.value, value.low, value.high, value.n)
    else:
        yield value
        if estimated:
            yield from ("", "", "")
