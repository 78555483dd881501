"""Shared by all commands: options, error output, runs by name."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from common.printable import printable

if TYPE_CHECKING:
    from common.rundir import RunDir

RUNS = click.option(
    "--runs", type=click.Path(path_type=Path), default=Path("runs"), help="Folder of all runs."
)

WITH = click.option(
    "--with",
    "overlays",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Settings over those of CONFIG; later files win. Extends the run's name by FILE's.",
)

# As in deploy.planning.devices, which is not imported to parse a command line.
DEVICES = (
    *("b200", "h200", "h100", "a100", "a100-40gb", "l40s"),
    *("rtx5090", "rtx4090", "l4", "a10", "cpu"),
)


def echo(text: object = "", err: bool = False) -> None:
    """Print a line. Text of models, data and logs cannot control the terminal (``printable``)."""
    click.echo(printable(str(text)), err=err)


def reported(command: Callable[..., Any]) -> Callable[..., Any]:
    """Print user-facing errors as one message and exit with their code."""

    @wraps(command)
    def wrapper(*arguments: Any, **named: Any) -> Any:
        from common.errors import RunError, UserError

        try:
            return command(*arguments, **named)
        except UserError as error:
            echo(f"error: {error}", err=True)
            sys.exit(2)
        except RunError as error:
            echo(f"failed: {error}", err=True)
            sys.exit(1)

    return wrapper


def find_run(name: str, runs: Path) -> RunDir:
    """The folder of an existing run.

    Raises:
        UserError: there is none; the message lists the existing runs.
    """
    from common.errors import UserError
    from common.rundir import RunDir

    run = RunDir(runs / name)
    if not run.config.is_file():
        known = sorted(path.parent.name for path in runs.glob("*/config.yaml"))
        raise UserError(f"no run {name!r} in {runs}; there are: {', '.join(known) or 'none'}")
    return run
