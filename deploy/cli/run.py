"""Commands on a run: start, watch, stop, report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from deploy.cli.options import RUNS, WITH, echo, find_run, reported


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@WITH
@click.option("--set", "overrides", multiple=True, metavar="A.B=C", help="Override a setting.")
@click.option("--detach", is_flag=True, help="Return once the run has started.")
@click.option("--address", help="Join this Ray cluster instead of starting one.")
@click.option(
    "--accept-older-ledger",
    is_flag=True,
    help="Resume with a ledger that is behind its checkpoints; those are moved aside.",
)
@RUNS
@reported
def up(
    config: Path,
    overlays: tuple[Path, ...],
    overrides: tuple[str, ...],
    detach: bool,
    address: str | None,
    accept_older_ledger: bool,
    runs: Path,
) -> None:
    """Start the run of CONFIG, or resume it, and follow it to its end."""
    from common.config import run_config
    from common.rundir import RunDir
    from deploy.cli.terminal import Stages
    from deploy.control import launch
    from deploy.control.attend import attend

    if address is not None:
        overrides = (*overrides, f"cluster.address={address}")
    written = run_config.load(config, overrides, overlays)
    run = RunDir(runs / written.name)
    settings = launch.settled(written, run)
    state = launch.check_folder(settings, run)
    if state == "finished":
        echo(f"run {run.name} is finished; see 'mixsd-cluster report {run.name}'")
        return
    echo(f"{'starting' if state == 'new' else 'resuming'} run {run.name} in {run.root}")
    with Stages() as say:
        launch.start(settings, run, say, accept_older_ledger=accept_older_ledger)
    if not detach:
        given = (
            *(str(config), f"--runs={runs}"),
            *(f"--with={overlay}" for overlay in overlays),
            *(f"--set={override}" for override in overrides),
        )
        attend(settings, run, lambda: _start_again(run.name, given))


def _start_again(name: str, given: Sequence[str]) -> None:
    """Start a run whose Ray head has died, by the same command.

    Raises:
        RunError: it does not start.
    """
    import subprocess
    import sys

    from common.errors import RunError

    echo(f"the Ray head of run {name} has died; the run is started again")
    command = [sys.executable, "-m", "deploy.cli.main", "up", *given, "--detach"]
    if subprocess.run(command, check=False).returncode != 0:
        raise RunError(f"run {name} lost its Ray head and could not be started again")


@click.command()
@click.argument("run")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--follow", is_flag=True, help="Stay until the run ends.")
@RUNS
@reported
def status(run: str, as_json: bool, follow: bool, runs: Path) -> None:
    """Show the status of RUN."""
    from deploy.observability import status as view

    folder = find_run(run, runs)
    if as_json:
        echo(json.dumps(view.read(folder).to_json(), indent=1))
    elif follow:
        view.follow(folder)
    else:
        for line in view.lines(view.read(folder)):
            echo(line)


@click.command()
@click.argument("run")
@click.option("--role", default="", help="Only this role, e.g. rollout-0.")
@RUNS
@reported
def logs(run: str, role: str, runs: Path) -> None:
    """Print the logs of RUN."""
    for path in sorted(find_run(run, runs).logs.glob(f"{role}*.log")):
        echo(f"==> {path} <==")
        echo(path.read_text(errors="replace"))


@click.command()
@click.argument("run")
@RUNS
@reported
def down(run: str, runs: Path) -> None:
    """Stop RUN and its processes; 'up' resumes it."""
    from deploy.control import launch

    folder = find_run(run, runs)
    stopped = launch.stop(folder)
    echo(f"run {folder.name} {'is stopped' if stopped else 'was not running'}")


@click.command()
@click.argument("run", nargs=-1, required=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="HTML file; JSON and CSV go beside it.",
)
@RUNS
@reported
def report(run: tuple[str, ...], out: Path | None, runs: Path) -> None:
    """Write the report of RUN so far and print its path; several runs share one page."""
    from deploy.control.live_ledger import open_ledger
    from deploy.report.files import write_report

    folders = [find_run(name, runs) for name in run]
    if out is None and len(folders) > 1:
        out = runs / f"report-{'-'.join(folder.name for folder in folders)}.html"
    echo(write_report(folders, out, open_ledger))


@click.command()
@click.argument("run", nargs=-1, required=True)
@RUNS
@reported
def compare(run: tuple[str, ...], runs: Path) -> None:
    """Print several runs side by side."""
    from deploy.control.live_ledger import open_ledger
    from deploy.report import table

    table.compare([find_run(name, runs) for name in run], open_ledger)
