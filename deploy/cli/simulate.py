"""``simulate``: how a run's throughput grows with rollout actors."""

from __future__ import annotations

from pathlib import Path

import click

from deploy.cli.options import DEVICES, RUNS, WITH, echo, reported

_POWERS = ",".join(str(2**exponent) for exponent in range(11))


def _counts(_context: click.Context, _parameter: click.Parameter, value: str) -> list[int]:
    try:
        counts = [int(part) for part in value.split(",")]
    except ValueError:
        raise click.BadParameter(f"{value!r}: numbers and commas are expected") from None
    if not all(1 <= count <= 4096 for count in counts):
        raise click.BadParameter(f"{value!r}: each must be from 1 to 4096")
    return sorted(set(counts))


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@WITH
@click.option("--set", "overrides", multiple=True, metavar="A.B=C", help="Override a setting.")
@click.option("--actors", default=_POWERS, callback=_counts, help="Numbers of rollout actors.")
@click.option("--device", type=click.Choice(DEVICES), help="Default: the device in CONFIG.")
@click.option("--cores", type=click.IntRange(1), help="Shared CPU cores; default: one per process.")
@click.option("--plot", "image", type=click.Path(path_type=Path), help="Write a plot here.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@RUNS
@reported
def simulate(
    config: Path,
    overlays: tuple[Path, ...],
    overrides: tuple[str, ...],
    actors: list[int],
    device: str | None,
    cores: int | None,
    image: Path | None,
    as_json: bool,
    runs: Path,
) -> None:
    """Simulate a run of CONFIG with increasing numbers of rollout actors.

    Every actor gets the same number of facts, each trained once.
    """
    import json
    from dataclasses import asdict

    from common.config import run_config
    from common.errors import UserError
    from deploy.control import continuing
    from deploy.planning import planner, scaling, text

    settings = continuing.resolve(run_config.load(config, overrides, overlays), runs)
    if image is not None:
        if not image.parent.is_dir() or not run_config.is_writable(image.parent):
            raise UserError(f"--plot {image}: its folder does not exist or cannot be written")
        if image.suffix not in scaling.IMAGES:
            raise UserError(f"--plot {image}: must end in {', '.join(scaling.IMAGES)}")
    system = planner.system_of(settings, planner.find_device(settings, device))

    def seen(point: scaling.Point) -> None:
        if not as_json:
            echo(text.point_line(point))

    if not as_json:
        echo(text.point_head())
    study = scaling.sweep(system, actors, cores=cores, seen=seen)
    if as_json:
        echo(json.dumps(asdict(study), indent=1))
    else:
        echo()
        for line in text.study_lines(study):
            echo(line)
    if image is not None:
        scaling.plot(study, image)
