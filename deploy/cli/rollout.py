"""``rollout``: writes targets to a file for any trainer, without a learner."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from deploy.cli.options import RUNS, WITH, echo, reported

if TYPE_CHECKING:
    from common.config.run_config import RunConfig
    from common.rundir import RunDir

_SHOWN_LOST = 5


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="JSONL to write.")
@click.option("--so-far", is_flag=True, help="Write the targets drawn so far; start nothing.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@WITH
@click.option("--set", "overrides", multiple=True, metavar="A.B=C", help="Override a setting.")
@click.option("--address", help="Join this Ray cluster instead of starting one.")
@RUNS
@reported
def rollout(
    config: Path,
    out: Path,
    so_far: bool,
    force: bool,
    overlays: tuple[Path, ...],
    overrides: tuple[str, ...],
    address: str | None,
    runs: Path,
) -> None:
    """Draw the targets of CONFIG and write them to a file.

    The name of the run is that of CONFIG with the suffix -targets. If the command is
    interrupted, run it again to continue.
    """
    from common.config import run_config
    from common.errors import UserError
    from common.rundir import RunDir
    from deploy.control import launch
    from deploy.control.live_ledger import open_ledger
    from deploy.observability import status as view
    from deploy.report import export

    if address is not None:
        overrides = (*overrides, f"cluster.address={address}")
    name = run_config.load(config, overrides, overlays).name
    only = ("train=false", "evaluator.actors=0", f"name={name}-targets")
    written = run_config.load(config, (*overrides, *only), overlays)
    run = RunDir(runs / written.name)
    settings = launch.settled(written, run)
    export.check_out(out, force=force)
    if so_far:
        if not run.ledger.exists():
            raise UserError(f"run {run.name} has no targets yet")
    elif _start(settings, run):
        if (state := view.watch(run)) == "detached":
            echo(f"run the command again to write {out} at the end; --so-far writes it now")
            return
        launch.leave(run)
        if state == "stopped":
            return
    done = export.write_targets(run, out, open_ledger)
    echo(f"{done.targets} targets of {done.facts} facts in {out}")
    for fact_id, outcome, reason in done.lost[:_SHOWN_LOST]:
        echo(f"no target for {fact_id}: {outcome}, {reason}")
    if len(done.lost) > _SHOWN_LOST:
        echo(f"… and {len(done.lost) - _SHOWN_LOST} more; see {run.report}")


def _start(settings: RunConfig, run: RunDir) -> bool:
    """Start or resume the run; False if it is finished. A running one is left alone."""
    from common.config import run_config
    from deploy.cli.terminal import Stages
    from deploy.control import launch

    if launch.is_live(run) and run_config.load(run.config) == settings:
        echo(f"run {run.name} continues in {run.root}")
        return True
    state = launch.check_folder(settings, run)
    if state == "finished":
        return False
    echo(f"{'starting' if state == 'new' else 'resuming'} run {run.name} in {run.root}")
    with Stages() as say:
        launch.start(settings, run, say)
    return True
