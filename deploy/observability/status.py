"""The status of a run for people: status lines and the live view.

Reads only the run folder, so it works on running and finished runs alike.
"""

from __future__ import annotations

import textwrap
import time
from typing import Literal

from actors.evaluation.scores import BenchmarkScore, Scores
from actors.replay.status import QueueStatus
from common.errors import RunError, RunInterrupted
from common.printable import printable
from common.rundir import RunDir, is_full
from deploy.observability.liveness import is_attended
from deploy.observability.run_status import (
    LearnerStatus,
    RoleStatus,
    RunStatus,
    RunView,
)
from deploy.observability.throughput import evaluation_progress, speed
from deploy.observability.time_left import time_left
from deploy.report.summary import evaluations
from deploy.report.table import compare

_INTERRUPTED_S = 5.0
_SILENT_S = 30.0
_PLAIN_EVERY_S = 10.0
_BAR = 24


def read(run: RunDir) -> RunView:
    """``status.json`` with the latest scores; ``interrupted`` if the controller is silent."""
    status = RunStatus.load(run) or _never_started(run)
    changes: dict[str, object] = {}
    if status.live:
        if is_full(run.root):
            # On a full disk the controller cannot write that the disk is full.
            changes["cause"] = f"no space left in {run.root}; free some and the run continues"
        elif not is_attended(run, status.updated):
            changes["state"] = "interrupted"
        elif (age := time.time() - status.updated) > _SILENT_S and not status.cause:
            changes["cause"] = f"the controller has told nothing for {age:.0f} s"
    elif status.state != "interrupted":
        # The controller writes its last status while the roles are still up.
        changes["roles"] = {
            name: role.model_copy(update={"state": "done" if role.state == "done" else "ended"})
            for name, role in status.roles.items()
        }
    results = evaluations(run)
    status = status.model_copy(update=changes)
    scores, recent = {f"step_{one.step}": one.scores for one in results}, speed(run)
    return RunView.from_json(
        {
            **status.to_json(),
            "scores": {f"step_{one.step}": one.to_json()["scores"] for one in results},
            "analyses": {f"step_{one.step}": one.to_json()["analyses"] for one in results},
            "report": str(run.report) if run.report.exists() else None,
            "speed": recent,
            "seconds_left": time_left(run, status, scores, recent),
            "evaluating": evaluation_progress(run),
        }
    )


def lines(status: RunView) -> list[str]:
    """The state of a run in a few lines of at most 80 columns."""
    out = [
        f"run        {status.run}: {status.state}, method {status.method}, "
        f"{duration(status.updated - status.began)}"
    ]
    if status.cause:
        out.append(f"cause      {status.cause}")
    if status.queue is not None:
        out += _rollout_lines(status, status.queue)
        if status.queue.exposures_expected:
            out += _learner_lines(status, status.queue)
    roles = [_role(name, role, status) for name, role in status.roles.items()]
    out += [f"{'roles' if i == 0 else '':10} {role}" for i, role in enumerate(roles)]
    if status.live:
        for event in status.events[-1:]:
            at = time.strftime("%H:%M:%S", time.localtime(event.time))
            out += textwrap.wrap(f"{'event':10} {at} {event.text}", 80, subsequent_indent=20 * " ")
    for step, scores in list(status.scores.items())[-1:]:
        wrapped = textwrap.wrap(f"{step}: {', '.join(_values(scores, '.3f'))}", 69)
        out += [f"{'scores' if i == 0 else '':10} {line}" for i, line in enumerate(wrapped)]
    for step, found in reversed(status.analyses.items()):
        if (fisher := found.alignment) is not None and fisher.alignment is not None:
            out.append(
                f"fisher     {step}: alignment {fisher.alignment:.3f}, D_F "
                f"{fisher.weighted:.3g}, |move|² {fisher.raw:.3g}"
            )
            break
    if status.metrics_url and status.live:
        address = status.metrics_url.removesuffix("/metrics")
        out.append(f"page       {address}/ (for Prometheus: /metrics)")
    return [printable(line) for line in out]


def plain_line(status: RunView) -> str:
    """The state of a run in one line, for logs."""
    queue, learner = status.queue, status.learner
    parts = [status.state]
    if queue is not None:
        parts += [
            f"rollouts {queue.accepted}/{queue.work}",
            f"attempts {queue.attempts}",
            f"dropped {queue.dropped}",
            f"depth {queue.depth}",
        ]
        if learner.loss is not None:
            parts += [f"step {int(learner.step)}/{queue.total_steps}", f"loss {learner.loss:.3f}"]
        if status.seconds_left is not None:
            parts.append(f"about {duration(status.seconds_left)} left")
    for step, scores in list(status.scores.items())[-1:]:
        parts.append(f"{step}: {' '.join(_values(scores, '.2f'))}")
    parts += [
        f"{name} restarted {role.restarts} times"
        for name, role in status.roles.items()
        if role.restarts
    ]
    return printable(" | ".join(parts))


def follow(run: RunDir) -> bool:
    """:func:`watch` the run, and print its results; returns whether it has ended.

    Raises:
        RunInterrupted: the run lost its controller.
        RunError: the run failed.
    """
    state = watch(run)
    if state == "finished":
        compare([run])
        print(printable(f"report     {run.report}"))
    return state != "detached"


def watch(run: RunDir) -> Literal["finished", "stopped", "detached"]:
    """Show the run until it ends; Ctrl-C leaves it running.

    Raises:
        RunInterrupted: the run lost its controller.
        RunError: the run failed.
    """
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console()
    shown, printed = "", 0.0
    try:
        if console.is_terminal:
            with Live(console=console, refresh_per_second=2) as live:
                while (status := _settled(run)).live:
                    live.update(Text("\n".join(lines(status))))
                    time.sleep(0.5)
        else:
            while (status := _settled(run)).live:
                current = plain_line(status)
                if current != shown and time.monotonic() - printed >= _PLAIN_EVERY_S:
                    print(time.strftime("%H:%M:%S"), current, flush=True)
                    shown, printed = current, time.monotonic()
                time.sleep(0.5)
    except KeyboardInterrupt:
        print(
            f"\ndetached; the run continues. To follow it again: "
            f"mixsd-cluster status {printable(run.name)} --follow"
        )
        return "detached"
    if status.state == "interrupted":
        raise RunInterrupted(f"run {run.name} was interrupted; start it again to resume it")
    if status.state == "failed":
        raise RunError(status.cause)
    if status.state == "stopped":
        print(printable(f"run {run.name} is stopped; start it again to resume it"))
        return "stopped"
    return "finished"


def _settled(run: RunDir) -> RunView:
    """The status; an interruption only if it lasts, since Ray may be at work on it."""
    deadline = time.monotonic() + _INTERRUPTED_S
    while (status := read(run)).state == "interrupted" and time.monotonic() < deadline:
        time.sleep(0.5)
    return status


def _never_started(run: RunDir) -> RunStatus:
    """The status of a run whose controller wrote none."""
    return RunStatus(
        run=run.name,
        state="interrupted",
        cause="",
        method="unknown",
        began=0.0,
        updated=0.0,
        metrics_url=None,
        roles={},
        queue=None,
        learner=LearnerStatus(),
        events=[],
    )


def _rollout_lines(status: RunView, queue: QueueStatus) -> list[str]:
    settled = queue.accepted + queue.dropped
    drawing = status.live and settled < queue.work
    rate = _rate(status.speed.rollout_tokens) if drawing else ""
    return [
        f"rollouts   {_bar(settled, queue.work)} {queue.accepted}/{queue.work} accepted{rate}",
        f"           {queue.attempts} attempts, {queue.dropped} dropped, queue depth {queue.depth}",
    ]


def _learner_lines(status: RunView, queue: QueueStatus) -> list[str]:
    learner = status.learner
    out = [
        f"exposures  {_bar(queue.exposures_sampled, queue.exposures_expected)} "
        f"{queue.exposures_sampled}/{queue.exposures_expected}, "
        f"{queue.exposures_trained} committed{', ended early' if queue.ended else ''}",
    ]
    if learner.loss is not None:
        out.append(
            f"learner    step {int(learner.step)}/{queue.total_steps}, loss {learner.loss:.3f}"
            f"{_rate(status.speed.learner_tokens)}"
        )
    if status.live:
        pace = [] if learner.loss is None else [_pace(status.speed.step_seconds)]
        left = status.seconds_left
        pace += [] if left is None else [f"about {duration(left)} left"]
        if text := ", ".join(filter(None, pace)):
            out.append(f"{'time':10} {text}")
    if status.live:
        out += [f"waiting    {side}: {why}" for side, why in queue.waiting.items()]
    return out


def _role(name: str, role: RoleStatus, status: RunView) -> str:
    text = f"{name} {role.state}"
    if status.live and role.state not in ("up", "done"):
        text += f", {duration(status.updated - role.since)}"
    if status.live and name in status.evaluating:
        item = status.evaluating[name]
        text += f", {item.done} of {item.total} items measured"
        if item.seconds_left is not None:
            text += f", {duration(item.seconds_left)} left"
    return text + (f" ({role.restarts} restarts)" if role.restarts else "")


def _pace(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.1f} s a step"


def _values(scores: Scores, form: str) -> list[str]:
    return [
        f"{name} {score.value:{form}}"
        for name, score in scores.items()
        if isinstance(score, BenchmarkScore)
    ]


def _bar(done: float, total: float) -> str:
    filled = round(_BAR * done / total) if total else 0
    return "█" * filled + "░" * (_BAR - filled)


def _rate(tokens: float | None) -> str:
    return "" if tokens is None else f", {tokens:.0f} tokens/s"


def duration(seconds: float) -> str:
    """A time for people."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
