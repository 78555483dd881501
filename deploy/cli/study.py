"""``study``: a grid of runs as one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from deploy.cli.options import DEVICES, RUNS, echo, reported

if TYPE_CHECKING:
    from deploy.study.folder import Study


class _FileFirst(click.Group):
    """``study FILE`` is ``study run FILE``: what is no command is a file."""

    def format_usage(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage(context.command_path, "FILE [OPTIONS] | COMMAND [ARGS]...")

    def parse_args(self, context: click.Context, arguments: list[str]) -> list[str]:
        first = next((one for one in arguments if not one.startswith("-")), None)
        if first is not None and first not in self.commands:
            arguments = ["run", *arguments]
        return super().parse_args(context, arguments)


@click.group(cls=_FileFirst)
def study() -> None:
    """Run a grid of configurations as one: FILE names the base and what varies.

    "study FILE" is short for "study run FILE".
    """


@study.command("run")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Print the cells with time and cost; start nothing.")
@click.option("--device", type=click.Choice(DEVICES), help="With --dry-run: plan for this device.")
@click.option("--at-once", type=click.IntRange(1), help="Cells that run at once.")
@RUNS
@reported
def run_study(
    file: Path, dry_run: bool, device: str | None, at_once: int | None, runs: Path
) -> None:
    """Run all cells of the study in FILE, or resume it. Ctrl-C leaves running cells running."""
    from deploy.study import folder

    found = folder.read(file)
    if dry_run:
        from deploy.study import dry_run as dry

        for line in dry.lines(found, device):
            echo(line)
        return
    root = runs / found.name
    _check_not_a_run(root)
    folder.save(found, root)
    _conduct(found, root, at_once)


def _check_not_a_run(root: Path) -> None:
    from common.errors import UserError
    from common.rundir import RunDir

    if RunDir(root).config.exists():
        raise UserError(f"{root} is the folder of a run; choose another name for the study")


def _conduct(found: Study, root: Path, at_once: int | None) -> None:
    """Run the cells, then write the page.

    Raises:
        RunError: cells failed; the others have finished.
    """
    from common.errors import RunError
    from deploy.study.capacity import num_at_once
    from deploy.study.conductor import Conductor
    from deploy.study.table import Display

    with Display() as display:
        places = at_once or found.at_once or num_at_once(found.cells)
        display.say(f"study {found.name}: {len(found.cells)} cells, {places} at once, in {root}")
        conductor = Conductor(found, root, display.say, places)
        try:
            conductor.run(display.show)
        except KeyboardInterrupt:
            display.say("detached; running cells continue. Start the study again to go on")
            return
    _write_report(root)
    if missing := conductor.unfinished():
        reasons = [f"{cell}: {reason}" for cell, reason in missing.items()]
        raise RunError("\n".join([f"{len(missing)} cells have not finished", *reasons]))


def _write_report(root: Path) -> None:
    from deploy.control.live_ledger import open_ledger
    from deploy.study import folder
    from deploy.study.report.page import write_study_report

    found = folder.load(root)
    echo(f"report     {write_study_report(found.name, found.cells, root, open_ledger)}")


@study.command()
@click.argument("name")
@RUNS
@reported
def status(name: str, runs: Path) -> None:
    """Show the cells of study NAME."""
    from rich.console import Console

    from deploy.study import folder
    from deploy.study.progress import progress_of
    from deploy.study.table import table

    found = folder.load(runs / name)
    Console().print(table([progress_of(cell, runs / name) for cell in found.cells]))


@study.command()
@click.argument("name")
@RUNS
@reported
def report(name: str, runs: Path) -> None:
    """Write the page of study NAME so far, and print its path."""
    from deploy.study import folder

    folder.load(runs / name)
    _write_report(runs / name)


@study.command()
@click.argument("name")
@RUNS
@reported
def compare(name: str, runs: Path) -> None:
    """Print the arms of study NAME side by side."""
    from deploy.study import folder
    from deploy.study.report.terminal import compare_study

    found = folder.load(runs / name)
    compare_study(found.cells, runs / name)


@study.command()
@click.argument("name")
@RUNS
@reported
def down(name: str, runs: Path) -> None:
    """Stop the running cells of study NAME; 'study' resumes it."""
    from deploy.study import folder
    from deploy.study.conductor import stop

    stopped = stop(folder.load(runs / name), runs / name)
    echo(f"study {name}: {stopped} cells stopped")
