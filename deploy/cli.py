"""``mixsd-cluster``: parse first, import what is heavy later.

Exit codes: 0 done, 1 the run failed, 2 something given cannot work.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

_RUNS = click.option(
    "--runs", type=click.Path(path_type=Path), default=Path("runs"), help="Folder of all runs."
)


def _reported(command: Callable[..., Any]) -> Callable[..., Any]:
    """Print errors meant for people as one message and exit with their code."""

    @wraps(command)
    def wrapper(*arguments: Any, **named: Any) -> Any:
        from common.errors import RunError, UserError

        try:
            return command(*arguments, **named)
        except UserError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(2)
        except RunError as error:
            click.echo(f"failed: {error}", err=True)
            sys.exit(1)

    return wrapper


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mixsd-cluster")
def main() -> None:
    """Teach a language model new facts without making it forget."""


@main.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="A.B=C", help="Override a setting.")
@click.option("--detach", is_flag=True, help="Return once the run has started.")
@click.option("--address", help="Join this Ray cluster instead of starting one.")
@_RUNS
@_reported
def up(
    config: Path, overrides: tuple[str, ...], detach: bool, address: str | None, runs: Path
) -> None:
    """Start the run of CONFIG, or resume it, and follow it to its end."""
    from common import config as configuration
    from common.rundir import RunDir
    from deploy import cluster, launch, view

    if address is not None:
        overrides = (*overrides, f"cluster.address={address}")
    settings = configuration.load(config, overrides)
    run = RunDir(runs / settings.name)
    plan = launch.check_folder(settings, run)
    if plan == "finished":
        click.echo(f"run {run.name} is finished; see 'mixsd-cluster report {run.name}'")
        return
    click.echo(f"{'starting' if plan == 'new' else 'resuming'} run {run.name} in {run.root}")
    launch.start(settings, run, click.echo)
    if not detach and view.follow(run):
        cluster.stop_local(run)


@main.command()
@click.argument("run")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("--follow", is_flag=True, help="Stay until the run ends.")
@_RUNS
@_reported
def status(run: str, as_json: bool, follow: bool, runs: Path) -> None:
    """Show where RUN stands."""
    from deploy import view

    folder = _folder(run, runs)
    if as_json:
        click.echo(json.dumps(view.read(folder), indent=1))
    elif follow:
        view.follow(folder)
    else:
        for line in view.lines(view.read(folder)):
            click.echo(line)


@main.command()
@click.argument("run")
@click.option("--role", default="", help="Only this role, e.g. rollout-0.")
@_RUNS
@_reported
def logs(run: str, role: str, runs: Path) -> None:
    """Print the logs of RUN."""
    for path in sorted(_folder(run, runs).logs.glob(f"{role}*.log")):
        click.echo(f"==> {path} <==")
        click.echo(path.read_text(errors="replace"))


@main.command()
@click.argument("run")
@_RUNS
@_reported
def down(run: str, runs: Path) -> None:
    """Stop RUN and what was started for it; 'up' resumes it."""
    from deploy import launch

    folder = _folder(run, runs)
    stopped = launch.stop(folder)
    click.echo(f"run {folder.name} {'is stopped' if stopped else 'was not running'}")


@main.command()
@click.argument("run")
@_RUNS
@_reported
def report(run: str, runs: Path) -> None:
    """Write and name the report of RUN, as far as it has come."""
    from deploy.report import write_report

    folder = _folder(run, runs)
    write_report(folder)
    click.echo(folder.report)


@main.command()
@click.argument("run", nargs=-1, required=True)
@_RUNS
@_reported
def compare(run: tuple[str, ...], runs: Path) -> None:
    """Print several runs side by side."""
    from deploy import view

    view.compare([_folder(name, runs) for name in run])


def _folder(name: str, runs: Path) -> Any:
    from common.errors import UserError
    from common.rundir import RunDir

    run = RunDir(runs / name)
    if not run.config.is_file():
        known = sorted(path.parent.name for path in runs.glob("*/config.yaml"))
        raise UserError(f"no run {name!r} in {runs}; there are: {', '.join(known) or 'none'}")
    return run


if __name__ == "__main__":
    main()
