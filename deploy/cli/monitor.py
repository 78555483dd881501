"""Commands that bring up monitoring for the runs of a folder."""

from __future__ import annotations

from pathlib import Path

import click

from deploy.cli.options import RUNS, echo, reported


@click.group()
def monitor() -> None:
    """Run Prometheus, and Grafana if installed, for all runs of a folder."""


@monitor.command()
@click.option("--prometheus-port", default=9090, show_default=True, type=click.IntRange(1, 65535))
@click.option("--grafana-port", default=3000, show_default=True, type=click.IntRange(1, 65535))
@RUNS
@reported
def up(prometheus_port: int, grafana_port: int, runs: Path) -> None:
    """Start the servers on loopback; runs join and leave automatically."""
    from deploy.observability import monitor as servers

    servers.up(runs, prometheus_port, grafana_port, echo)


@monitor.command()
@RUNS
@reported
def down(runs: Path) -> None:
    """Stop the servers; their data stays."""
    from deploy.observability import monitor as servers

    stopped = servers.down(runs)
    echo(f"stopped: {', '.join(stopped) or 'nothing was running'}")
