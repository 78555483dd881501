"""What a person sees of a run: status lines, the live view, tables.

Reads the run folder only, so it works on running and finished runs alike.
"""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Literal

from common.errors import RunError
from common.rundir import RunDir, is_full, read_json
from deploy.observability.throughput import measuring, speed

ENDED = ("finished", "failed", "stopped", "interrupted")
_STALE_S = 20.0
_PLAIN_EVERY_S = 10.0
_BAR = 24
# A run whose controller never wrote a word.
_NEVER_STARTED: dict[str, Any] = {
    "queue": None,
    "learner": {},
    "events": [],
    "state": "interrupted",
    "cause": "",
    "method": "unknown",
    "began": 0.0,
    "updated": 0.0,
    "metrics_url": None,
    "roles": {},
}


def read(run: RunDir) -> dict[str, Any]:
    """``status.json`` with the latest scores; a silent controller is ``interrupted``."""
    from deploy.report.summary import evaluations

    status = read_json(run.status) or {**_NEVER_STARTED, "run": run.name}
    if status["state"] not in ENDED:
        if is_full(run.root):
            # The controller cannot write that it cannot write.
            status["cause"] = f"no space left in {run.root}; free some and the run goes on"
        elif time.time() - status["updated"] > _STALE_S:
            status["state"] = "interrupted"
    elif status["state"] != "interrupted":
        # The last word is written while the roles still stand.
        for role in status["roles"].values():
            role["state"] = "done" if role["state"] == "done" else "ended"
    results = evaluations(run)
    status["scores"] = {f"step_{result['step']}": result["scores"] for result in results}
    status["analyses"] = {f"step_{result['step']}": result["analyses"] for result in results}
    status["report"] = str(run.report) if run.report.exists() else None
    status["speed"] = asdict(speed(run))
    status["measuring"] = {actor: asdict(item) for actor, item in measuring(run).items()}
    return status


def lines(status: dict[str, Any]) -> list[str]:
    """The state of a run in a few lines of at most 80 columns."""
    queue, learner = status.get("queue") or {}, status.get("learner") or {}
    speed, live = status["speed"], status["state"] not in ENDED
    out = [
        f"run        {status['run']}: {status['state']}, method {status['method']}, "
        f"{_duration(status['updated'] - status['began'])}"
    ]
    if status["cause"]:
        out.append(f"cause      {status['cause']}")
    if queue:
        early = ", ended early" if queue.get("ended") else ""
        dropped = queue["exhausted"] + queue["quarantined"]
        settled = queue["accepted"] + dropped
        drawing = live and settled < queue["facts"]
        rate = _rate(speed["rollout_tokens"], "tokens/s") if drawing else ""
        out += [
            f"rollouts   {_bar(settled, queue['facts'])} {queue['accepted']}/{queue['facts']} "
            f"accepted{rate}",
            f"           {queue['attempts']} attempts, {dropped} dropped, "
            f"queue depth {queue['depth']}",
        ]
    if queue and queue["exposures_expected"]:
        out += [
            f"exposures  {_bar(queue['exposures_sampled'], queue['exposures_expected'])} "
            f"{queue['exposures_sampled']}/{queue['exposures_expected']}, "
            f"{queue['exposures_trained']} committed{early}",
        ]
        if learner.get("loss") is not None:
            step, total = int(learner["step"]), queue["total_steps"]
            out.append(
                f"learner    step {step}/{total}, loss {learner['loss']:.3f}"
                f"{_rate(speed['learner_tokens'], 'tokens/s')}"
            )
            if live and step < total and speed["step_seconds"]:
                left = _duration((total - step) * speed["step_seconds"])
                out.append(f"           {speed['step_seconds']:.1f} s a step, {left} left")
        if live:
            out += [f"waiting    {side}: {why}" for side, why in queue["waiting"].items()]
    roles = [_role(name, role, status, live) for name, role in status["roles"].items()]
    out += [f"{'roles' if i == 0 else '':10} {role}" for i, role in enumerate(roles)]
    for step, scores in list(status["scores"].items())[-1:]:
        shown = [f"{k} {v['value']:.3f}" for k, v in scores.items() if "value" in v]
        wrapped = textwrap.wrap(f"{step}: {', '.join(shown)}", 69)
        out += [f"{'scores' if i == 0 else '':10} {line}" for i, line in enumerate(wrapped)]
    for step, found in reversed(status["analyses"].items()):
        if found.get("fisher", {}).get("alignment") is not None:
            fisher = found["fisher"]
            out.append(
                f"fisher     {step}: alignment {fisher['alignment']:.3f}, D_F "
                f"{fisher['weighted']:.3g}, |move|² {fisher['raw']:.3g}"
            )
            break
    if status["metrics_url"] and live:
        address = status["metrics_url"].removesuffix("/metrics")
        out.append(f"page       {address}/ (for Prometheus: /metrics)")
    return out


def _role(name: str, role: dict[str, Any], status: dict[str, Any], live: bool) -> str:
    text = f"{name} {role['state']}"
    if live and role["state"] not in ("up", "done"):
        text += f", {_duration(status['updated'] - role['since'])}"
    if live and name in status["measuring"]:
        item = status["measuring"][name]
        text += f", {item['done']} of {item['total']} items measured"
        if item["seconds_left"] is not None:
            text += f", {_duration(item['seconds_left'])} left"
    return text + (f" ({role['restarts']} restarts)" if role["restarts"] else "")


def plain_line(status: dict[str, Any]) -> str:
    """The state of a run in one line, for logs."""
    queue, learner = status.get("queue") or {}, status.get("learner") or {}
    parts = [status["state"]]
    if queue:
        parts += [
            f"rollouts {queue['accepted']}/{queue['facts']}",
            f"attempts {queue['attempts']}",
            f"dropped {queue['exhausted'] + queue['quarantined']}",
            f"depth {queue['depth']}",
        ]
        if learner.get("loss") is not None:
            step, total = int(learner["step"]), queue["total_steps"]
            parts += [f"step {step}/{total}", f"loss {learner['loss']:.3f}"]
            seconds = status["speed"]["step_seconds"]
            if seconds and step < total:
                parts.append(f"{_duration((total - step) * seconds)} left")
    for step, scores in list(status["scores"].items())[-1:]:
        shown = [f"{k} {v['value']:.2f}" for k, v in scores.items() if "value" in v]
        parts.append(f"{step}: {' '.join(shown)}")
    parts += [
        f"{name} restarted {role['restarts']} times"
        for name, role in status["roles"].items()
        if role["restarts"]
    ]
    return " | ".join(parts)


def follow(run: RunDir) -> bool:
    """:func:`watch` the run, and show what came of it; whether it has ended.

    Raises:
        RunError: the run failed or lost its controller.
    """
    state = watch(run)
    if state == "finished":
        compare([run])
        print(f"report     {run.report}")
    return state != "detached"


def watch(run: RunDir) -> Literal["finished", "stopped", "detached"]:
    """Show the run until it ends; Ctrl-C leaves it running.

    Raises:
        RunError: the run failed or lost its controller.
    """
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console()
    shown, printed = "", 0.0
    try:
        if console.is_terminal:
            with Live(console=console, refresh_per_second=2) as live:
                while (status := read(run))["state"] not in ENDED:
                    live.update(Text("\n".join(lines(status))))
                    time.sleep(0.5)
        else:
            while (status := read(run))["state"] not in ENDED:
                current = plain_line(status)
                if current != shown and time.monotonic() - printed >= _PLAIN_EVERY_S:
                    print(time.strftime("%H:%M:%S"), current, flush=True)
                    shown, printed = current, time.monotonic()
                time.sleep(0.5)
    except KeyboardInterrupt:
        console.print(
            f"\ndetached; the run goes on. Come back: mixsd-cluster status {run.name} --follow"
        )
        return "detached"
    if status["state"] in ("failed", "interrupted"):
        raise RunError(
            status.get("cause") or f"run {run.name} was interrupted; start it again to resume it"
        )
    if status["state"] == "stopped":
        print(f"run {run.name} is stopped; start it again to resume it")
        return "stopped"
    return "finished"


def compare(runs: list[RunDir]) -> None:
    """A table of runs side by side, the base model first, and where their checkpoints are."""
    from rich.console import Console
    from rich.table import Table

    from deploy.report.files import bases, measured, unmeasured
    from deploy.report.summary import score_text, summary

    summaries = [summary(run) for run in runs]
    columns: list[tuple[str, Any, Any]] = [
        (name, scores, None) for name, scores in bases(summaries)
    ]
    columns += [(item["run"], item["final"], item) for item in summaries]
    table = Table()
    for heading in ("", *(name for name, _, _ in columns)):
        table.add_column(heading, overflow="fold")
    for suite in measured(summaries):
        sizes = {scores[suite]["n"] for _, scores, _ in columns if "n" in scores.get(suite, {})}
        label = f"{suite} (n={'/'.join(map(str, sorted(sizes)))})"
        table.add_row(label, *(score_text(scores.get(suite)) for _, scores, _ in columns))
    for label, text in _FIGURES:
        table.add_row(label, *("" if item is None else text(item) for _, _, item in columns))
    Console().print(table)
    for suite, reason in unmeasured(summaries).items():
        print(f"{suite} is not measured: {reason}")
    for item in summaries:
        print(f"checkpoint {item['checkpoint']} ({item['chosen_because']})")


def _nll(score: dict[str, Any] | None) -> str:
    from deploy.report.summary import score_text

    return "not scored" if score is None else f"{score_text(score)} (n={score['items']})"


def _fisher(item: dict[str, Any]) -> str:
    alignment = (item["fisher"] or {}).get("alignment")
    return "not measured" if alignment is None else f"{alignment:.3f}"


def _retention(item: dict[str, Any]) -> str:
    kept = [one["retention"] for one in item["checkpoints"] if one["step"] == item["chosen"]]
    return f"{kept[0]:.2f}" if kept and kept[0] is not None else "not measured"


# Rows of the table below the scores.
_FIGURES: tuple[tuple[str, Callable[[dict[str, Any]], str]], ...] = (
    ("target NLL", lambda item: _nll(item["target_nll"])),
    ("canonical NLL", lambda item: _nll(item["canonical_nll"])),
    ("retention", _retention),
    ("Fisher alignment", _fisher),
    (
        "targets",
        lambda item: (
            f"{item['accepted']} {'rollouts' if item['by_student'] else 'of ' + str(item['facts'])}"
        ),
    ),
    (
        "exposures",
        lambda item: (
            f"{item['exposures_trained']} of {item['exposures_expected']}"
            f"{', stopped early' if item['stopped_early'] else ''}"
        ),
    ),
)


def _bar(done: float, total: float) -> str:
    filled = round(_BAR * done / total) if total else 0
    return "█" * filled + "░" * (_BAR - filled)


def _rate(value: float | None, unit: str) -> str:
    return "" if value is None else f", {value:.0f} {unit}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
