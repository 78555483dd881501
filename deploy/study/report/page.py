"""The report of a study as files: a self-contained page, JSON, CSV and tables."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common.rundir import finite, write_atomic
from deploy.report.files import describe_environment, render
from deploy.report.summary import OpenLedger, ledger_file
from deploy.study.cells import LR, Cell
from deploy.study.report.answers import fact_tables, write_answers
from deploy.study.report.arms import Arm, Group, StudyFigures, study_of
from deploy.study.report.comparisons import (
    Comparison,
    EqualRecall,
    at_equal_recall,
    compare_pairs,
)
from deploy.study.report.correlations import Association, associations
from deploy.study.report.lr_selection import RULE
from deploy.study.report.measured import seed_of
from deploy.study.report.study_tables import (
    correlation_table,
    equal_recall_tables,
    lr_table,
    measure_table,
    pair_table,
    paper_tables,
)
from deploy.study.report.tables import Table, form, text

_FOLDER = Path(__file__).parent


def write_study_report(
    title: str, cells: Sequence[Cell], folder: Path, open_ledger: OpenLedger = ledger_file
) -> Path:
    """Write the report of a study, as far as its cells are finished; returns the page's path.

    Beside ``report.html`` there are its numbers in ``report.json`` and ``report.csv``, and the
    tables in ``tables/`` as CSV and LaTeX.

    Args:
        title: of the page.
        cells: of the study.
        folder: of the study; it has the folders of the runs.
        open_ledger: opens the ledger of each finished cell.
    """
    from deploy.study.report.pictures import group_pictures

    study = study_of(title, cells, folder, open_ledger)
    pairs = compare_pairs(study.groups)
    levels = [at_equal_recall(group) for group in study.groups if group.trained]
    found = associations(study.groups)
    paper, equal = paper_tables(study), equal_recall_tables(levels)
    measures = {group.label: measure_table(group) for group in study.groups if group.trained}
    rates, tests, correlated = lr_table(study), pair_table(pairs), correlation_table(found)
    tables = [*paper, *measures.values(), *equal, rates, tests, correlated]
    written = [table for table in tables if table.rows]
    path = folder / "report.html"
    (folder / "tables").mkdir(exist_ok=True, mode=0o700)
    for table in written:
        write_atomic(folder / "tables" / f"{table.name}.csv", table.to_csv())
        write_atomic(folder / "tables" / f"{table.name}.tex", table.to_latex())
    write_answers(study, folder / "tables" / "answers.csv")
    environment = describe_environment()
    numbers = {"environment": environment, **_numbers(study, pairs, levels, found)}
    write_atomic(path.with_suffix(".json"), json.dumps(finite(numbers), indent=1, allow_nan=False))
    write_atomic(path.with_suffix(".csv"), _long(study))
    html = render(
        _FOLDER / "study.html.j2",
        study=study,
        paper=paper,
        measures=measures,
        pictures={
            group.label: group_pictures(group, [one for one in found if one.group == group.label])
            for group in study.groups
        },
        levels=levels,
        equal=equal,
        rates=rates,
        rule=RULE,
        tests=tests,
        pairs=pairs,
        correlated=correlated,
        facts=fact_tables(study),
        files=["report.json", "report.csv", *_names(written), "tables/answers.csv"],
        environment=environment,
        script=(_FOLDER / "facts.js").read_text(encoding="utf-8"),
        text=text,
        form=form,
    )
    write_atomic(path, html)
    return path


def _names(tables: Sequence[Table]) -> list[str]:
    return [f"tables/{table.name}.{kind}" for table in tables for kind in ("csv", "tex")]


def _numbers(
    study: StudyFigures,
    pairs: Sequence[Comparison],
    levels: Sequence[EqualRecall],
    found: Sequence[Association],
) -> dict[str, Any]:
    """Everything that the page shows, but for the texts of responses."""
    return {
        "title": study.title,
        "cells": [
            {"name": cell.name, "factors": dict(cell.factors), "state": study.states[cell.name]}
            for cell in study.cells
        ],
        "groups": [_group(group) for group in study.groups],
        "equal_recall": [_level(one) for one in levels],
        "pairs": [asdict(one) for one in pairs],
        "correlations": [{**asdict(one), "verdict": one.verdict} for one in found],
    }


def _group(group: Group) -> dict[str, Any]:
    return {
        "group": group.label,
        "scope": asdict(group.scope),
        "forgetting": group.forgetting,
        "arms": [_arm(group, arm) for arm in group.arms],
    }


def _arm(group: Group, arm: Arm) -> dict[str, Any]:
    estimates = {name: arm.estimate(name) for name in (*group.measures, group.forgetting)}
    return {
        "arm": arm.name,
        "method": arm.method,
        "mix_rate": arm.mix_rate,
        "learning_rate": None if arm.choice is None else asdict(arm.choice),
        "seeds": sorted(arm.cells),
        "steps": {seed: arm.step(seed) for seed in arm.cells},
        "estimates": {name: asdict(of) for name, of in estimates.items() if of is not None},
        "values": {seed: dict(values) for seed, values in arm.values.items()},
    }


def _level(one: EqualRecall) -> dict[str, Any]:
    return {
        **asdict(one),
        "differences": [
            {"first": first, "second": second, **asdict(of)}
            for (first, second), of in one.differences.items()
        ],
    }


def _long(study: StudyFigures) -> str:
    """One line for each measure of each cell that is shown, and one for each other cell."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    head = ("setting", "arm", "learning_rate", "seed", "cell", "state", "step", "measure", "value")
    writer.writerow(head)
    for group in study.groups:
        writer.writerows(_lines(study, group))
    return buffer.getvalue()


def _lines(study: StudyFigures, group: Group) -> Iterator[tuple[object, ...]]:
    shown = {one.cell.name: arm for arm in group.trained for one in arm.cells.values()}
    for arm in (arm for arm in group.measured if arm.is_base):
        for seed, values in arm.values.items():
            for name, value in values.items():
                yield (group.label, arm.label, "", seed, "", "finished", 0, name, value)
    for cell in group.cells:
        seed, state = seed_of(cell), study.states[cell.name]
        head = (group.label, cell.arm, cell.factors.get(LR, ""), seed, cell.name, state)
        if cell.name not in shown:
            yield (*head, "", "", "")
            continue
        arm = shown[cell.name]
        for name, value in arm.values[seed].items():
            yield (*head, arm.step(seed), name, value)
