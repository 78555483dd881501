"""``doctor``: checks this machine and suggests remedies."""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import wrap

import click

from deploy.cli.options import RUNS, echo, reported


@click.command()
@click.option("--address", help="Also check that this Ray cluster can be joined.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@RUNS
@reported
def doctor(address: str | None, as_json: bool, runs: Path) -> None:
    """Check this machine; exits with 1 if something would fail."""
    import json
    from dataclasses import asdict

    from deploy.checks.environment import examine

    findings = []
    for finding in examine(address, runs):
        findings.append(finding)
        if as_json:
            continue
        echo(f"{finding.state:<5}{finding.name:<14}{finding.value}")
        for line in wrap(finding.remedy, 74):
            echo(f"{'':>5}{line}")
    if as_json:
        echo(json.dumps([asdict(finding) for finding in findings], indent=1))
    if any(finding.state == "fail" for finding in findings):
        sys.exit(1)
