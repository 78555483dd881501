"""Commands that change a live run: counts of actors, settings of the queue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from deploy.cli.options import RUNS, echo, find_run, reported


@click.command()
@click.argument("run")
@click.argument("counts", nargs=-1, required=True, metavar="ROLE=COUNT…")
@RUNS
@reported
def scale(run: str, counts: tuple[str, ...], runs: Path) -> None:
    """Change how many actors a live RUN has, e.g. rollout=4 evaluator=2."""
    _change(run, runs, counts, ("rollout", "evaluator"))


@click.command(name="set")
@click.argument("run")
@click.argument("settings", nargs=-1, required=True, metavar="KEY=VALUE…")
@RUNS
@reported
def set_live(run: str, settings: tuple[str, ...], runs: Path) -> None:
    """Change settings of a live RUN, e.g. replay.max_bytes=1000000."""
    _change(run, runs, settings, ())


def _change(run: str, runs: Path, assignments: tuple[str, ...], keys: tuple[str, ...]) -> None:
    from common.config import run_config, yaml_file
    from common.errors import UserError, shown
    from deploy.control import desired_state, launch

    folder = find_run(run, runs)
    changes: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or (keys and key not in keys):
            wanted = " or ".join(f"{name}=COUNT" for name in keys) or "KEY=VALUE"
            raise UserError(f"{shown(assignment)}: {wanted} is expected")
        changes[key] = yaml_file.parse(text, shown(assignment))
    if not launch.is_live(folder):
        raise UserError(f"run {folder.name} is not running; 'mixsd-cluster up' starts it")
    desired_state.change(folder, run_config.load(folder.config), changes)
    echo(f"run {folder.name} will have {', '.join(assignments)}; 'status' shows the progress")
