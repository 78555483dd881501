"""The arms of a study as a table in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from common.printable import printable
from deploy.report.summary import OpenLedger, ledger_file
from deploy.study.cells import Cell
from deploy.study.report.arms import Arm, Group, StudyFigures, study_of
from deploy.study.report.statistics import Estimate

_COLUMNS = ("held-out", "retention", "target NLL", "Fisher alignment")


def compare_study(
    cells: Sequence[Cell], folder: Path, open_ledger: OpenLedger = ledger_file
) -> None:
    """Print all arms side by side, the base first, and which cells are not finished.

    Args:
        cells: of the study.
        folder: of the study.
        open_ledger: opens the ledger of each finished cell.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    study = study_of(folder.name, cells, folder, open_ledger)
    for group in study.groups:
        table = Table(title=Text(printable(group.label)), title_justify="left")
        for heading in ("", "in-domain", *_COLUMNS, "seeds"):
            table.add_column(Text(heading), overflow="fold")
        for arm in group.arms:
            if arm.cells or not arm.is_base:
                table.add_row(*(Text(printable(part)) for part in _row(group, arm)))
        Console().print(table)
    for line in _notes(study):
        print(printable(line))


def _row(group: Group, arm: Arm) -> list[str]:
    names = (group.scope.in_domain, *_COLUMNS)
    chosen = arm.choice.label if arm.choice is not None else None
    label = f"{arm.label}, lr {chosen}" if chosen is not None else arm.label
    if not arm.cells:
        return [label, *("" for _ in names), "none finished"]
    estimates = [arm.estimate(name) for name in names]
    return [label, *(_short(of) for of in estimates), "" if arm.is_base else str(len(arm.cells))]


def _short(of: Estimate | None) -> str:
    if of is None:
        return ""
    half = "" if of.high is None else f" ± {of.high - of.value:.3f}"
    return f"{of.value:.3f}{half}"


def _notes(study: StudyFigures) -> list[str]:
    learned = sorted({group.scope.in_domain for group in study.groups})
    notes = [
        f"In-domain: {', '.join(learned)}. Means over seeds with 95 % Student t intervals; one "
        "seed has no interval."
    ]
    if study.split:
        notes.append("In-domain scores are of the half of the items that chose no learning rate.")
    notes += [f"{cell.name} is left out: {study.states[cell.name]}" for cell in study.unfinished]
    return notes
