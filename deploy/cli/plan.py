"""``plan``: predicts the resources and time of a run from its configuration."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from deploy.cli.options import DEVICES, RUNS, WITH, echo, reported


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@WITH
@click.option("--set", "overrides", multiple=True, metavar="A.B=C", help="Override a setting.")
@click.option("--device", type=click.Choice(DEVICES), help="Default: the device in CONFIG.")
@click.option("--gpus", type=click.IntRange(1), help="Available GPUs; default: as many as needed.")
@click.option("--cores", type=click.IntRange(1), help="CPU cores; default: those of this machine.")
@click.option(
    "--acceptance",
    type=click.FloatRange(0, 1, min_open=True),
    help="Share of attempts that verify; default: the model's.",
)
@click.option(
    "--target-tokens", type=click.IntRange(1), help="Length of a target; default: the canonical's."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@RUNS
@reported
def plan(
    config: Path,
    overlays: tuple[Path, ...],
    overrides: tuple[str, ...],
    device: str | None,
    gpus: int | None,
    cores: int | None,
    acceptance: float | None,
    target_tokens: int | None,
    as_json: bool,
    runs: Path,
) -> None:
    """Predict memory, speed and time of a run of CONFIG; needs no weights.

    Exits with 1 if it does not fit, and prints the nearest settings that do.
    """
    import json
    from dataclasses import asdict

    from common.config import run_config
    from deploy.control import continuing
    from deploy.planning import planner, text

    settings = continuing.resolve(run_config.load(config, overrides, overlays), runs)
    found = planner.find_device(settings, device, cores)
    system = planner.system_of(settings, found, acceptance, target_tokens)
    result = planner.make_plan(system, gpus)
    if as_json:
        echo(json.dumps({**asdict(result), "fits": result.fits}, indent=1))
    else:
        for line in text.plan_lines(result):
            echo(line)
    if not result.fits:
        sys.exit(1)
