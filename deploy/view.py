"""What a person sees of a run: status lines, the live view, tables.

Reads the run folder only, so it works on running and finished runs alike.
"""

from __future__ import annotations

import time
from typing import Any

from common.errors import RunError
from common.rundir import RunDir, read_json

ENDED = ("finished", "failed", "stopped", "interrupted")
_STALE_S = 20.0


def read(run: RunDir) -> dict[str, Any]:
    """``status.json`` with the latest scores; a silent controller is ``interrupted``."""
    from deploy.report import evaluations

    status = read_json(run.status) or {"run": run.name, "state": "interrupted", "updated": 0.0}
    if status["state"] not in ENDED and time.time() - status["updated"] > _STALE_S:
        status["state"] = "interrupted"
    results = evaluations(run)
    status["scores"] = {f"step_{result['step']}": result["scores"] for result in results}
    status["report"] = str(run.report) if run.report.exists() else None
    return status


def lines(status: dict[str, Any]) -> list[str]:
    """The state of a run in a few lines of at most 80 columns."""
    queue, learner = status.get("queue") or {}, status.get("learner") or {}
    out = [f"run {status['run']}: {status['state']}"]
    if status.get("cause"):
        out.append(f"cause: {status['cause']}")
    if queue:
        out.append(
            f"rollouts  {queue['accepted']}/{queue['facts']} accepted, "
            f"{queue['attempts']} attempts, {queue['exhausted']} dropped, "
            f"queue depth {queue['depth']}"
        )
        out.append(
            f"exposures {queue['exposures_trained']} trained of {queue['exposures_expected']}"
            f" ({queue['exposures_sampled']} sampled)"
        )
        if learner.get("loss") is not None:
            step, total = int(learner["step"]), queue["total_steps"]
            seconds = learner["step_seconds"]
            out.append(
                f"learner   step {step}/{total}, loss {learner['loss']:.3f}, "
                f"{seconds:.1f} s a step, ETA {_duration((total - step) * seconds)}"
            )
    roles = ", ".join(
        f"{name} {role['state']}" + (f" ({role['restarts']} restarts)" if role["restarts"] else "")
        for name, role in status.get("roles", {}).items()
    )
    if roles:
        out.append(f"roles     {roles}")
    for step, scores in list(status["scores"].items())[-1:]:
        shown = ", ".join(f"{k} {v['value']:.3f}" for k, v in scores.items() if "value" in v)
        out.append(f"scores    {step}: {shown}")
    if status.get("metrics_url") and status["state"] not in ENDED:
        out.append(f"metrics   {status['metrics_url']}")
    return out


def follow(run: RunDir) -> bool:
    """Show the run until it ends; Ctrl-C leaves it running. Whether it has ended.

    Raises:
        RunError: the run failed or lost its controller.
    """
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console()
    shown: list[str] = []
    try:
        if console.is_terminal:
            with Live(console=console, refresh_per_second=2) as live:
                while (status := read(run))["state"] not in ENDED:
                    live.update(Text("\n".join(lines(status))))
                    time.sleep(0.5)
        else:
            while (status := read(run))["state"] not in ENDED:
                current = lines(status)
                if current != shown and int(time.time()) % 10 == 0:
                    print(" | ".join(current[1:4]) or current[0], flush=True)
                    shown = current
                time.sleep(0.9)
    except KeyboardInterrupt:
        console.print(
            f"\ndetached; the run goes on. Come back: mixsd-cluster status {run.name} --follow"
        )
        return False
    if status["state"] in ("failed", "interrupted"):
        raise RunError(status.get("cause") or f"run {run.name} was interrupted; 'up' resumes it")
    if status["state"] == "stopped":
        print(f"run {run.name} is stopped; 'up' resumes it")
        return True
    compare([run])
    print(f"report     {run.report}")
    return True


def compare(runs: list[RunDir]) -> None:
    """A table of several runs: before and after, NLL, exposures."""
    from rich.console import Console
    from rich.table import Table

    from deploy.report import score_text, summary

    table = Table()
    for column in ("run", "what", "before", "after"):
        table.add_column(column, overflow="fold")
    for run in runs:
        figures = summary(run)
        for suite, after in figures["final"].items():
            table.add_row(
                run.name, suite, score_text(figures["base"].get(suite)), score_text(after)
            )
        for key in ("target_nll", "canonical_nll"):
            value = figures[key]
            table.add_row(run.name, key, "", "not scored" if value is None else f"{value:.2f}")
        table.add_row(
            run.name,
            "exposures",
            str(figures["exposures_expected"]),
            f"{figures['exposures_trained']} trained",
        )
        table.add_row(run.name, "checkpoint", "", figures["checkpoint"], end_section=True)
    Console().print(table)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
