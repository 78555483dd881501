"""The comparison of runs as a table in the terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from actors.evaluation.scores import BenchmarkScore, FisherAlignment, Scores
from common.printable import printable
from common.rundir import RunDir
from deploy.report.files import bases, measured, unmeasured
from deploy.report.graders import expand, rows
from deploy.report.summary import (
    OpenLedger,
    RunSummary,
    ledger_file,
    score_text,
    skipped_text,
    summary,
)
from deploy.report.targets import TargetNLL


def compare(runs: Sequence[RunDir], open_ledger: OpenLedger = ledger_file) -> None:
    """Print runs side by side, the base model first, and where their checkpoints are."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    def row(*cells: str) -> None:
        table.add_row(*(Text(printable(cell)) for cell in cells))

    summaries = [summary(run, open_ledger) for run in runs]
    columns: list[tuple[str, Scores, RunSummary | None]] = [
        (name, expand(scores), None) for name, scores in bases(summaries)
    ]
    columns += [(item.run, expand(item.final), item) for item in summaries]
    table = Table()
    for heading in ("", *(name for name, _, _ in columns)):
        table.add_column(Text(printable(heading)), overflow="fold")
    for suite in rows(measured(summaries), [scores for _, scores, _ in columns]):
        found = [scores.get(suite) for _, scores, _ in columns]
        sizes = sorted({score.n for score in found if isinstance(score, BenchmarkScore)})
        label = f"{suite} (n={'/'.join(map(str, sizes))})"
        row(label, *map(score_text, found))
    for label, text in _FIGURES:
        row(label, *("" if item is None else text(item) for _, _, item in columns))
    Console().print(table)
    for suite, reason in unmeasured(summaries).items():
        print(printable(f"{suite} is not measured: {reason}"))
    for item in summaries:
        print(printable(f"checkpoint {item.checkpoint} ({item.chosen_because})"))


def _nll(score: TargetNLL | None) -> str:
    return "not scored" if score is None else f"{score_text(score)} (n={score.items})"


def _fisher(item: RunSummary) -> str:
    if not isinstance(item.fisher, FisherAlignment) or item.fisher.alignment is None:
        return "not measured"
    return f"{item.fisher.alignment:.3f}"


def _retention(item: RunSummary) -> str:
    selected = [one for one in item.checkpoints if one.step == item.chosen]
    kept = selected[0].retention if selected else None
    if kept is None:
        base = "original base" if item.links else "base"
        text = f"not measured: the {base} scores on fewer than two held-out benchmarks"
    else:
        text = f"{kept.value:.2f} ({', '.join(kept.benchmarks)})"
    if selected and (batch := selected[0].batch_retention) is not None:
        text += f"; of this batch {batch.value:.2f} ({', '.join(batch.benchmarks)})"
    return text


def _targets(item: RunSummary) -> str:
    return f"{item.accepted} {'rollouts' if item.by_student else f'of {item.work}'}"


def _exposures(item: RunSummary) -> str:
    trained = f"{item.exposures_trained} of {item.exposures_expected}"
    early = "stopped early" if item.stopped_early else ""
    if item.reached_max_steps:
        early = "stopped at learner.max_steps"
    return ", ".join(part for part in (trained, early, skipped_text(item)) if part)


# Rows of the table below the scores.
_FIGURES: tuple[tuple[str, Callable[[RunSummary], str]], ...] = (
    ("target NLL", lambda item: _nll(item.target_nll)),
    ("canonical NLL", lambda item: _nll(item.canonical_nll)),
    ("retention", _retention),
    ("Fisher alignment", _fisher),
    ("targets", _targets),
    ("exposures", _exposures),
)
