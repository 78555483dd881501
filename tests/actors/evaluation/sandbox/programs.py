"""Runs programs in a sandbox."""

from __future__ import annotations

from actors.evaluation.sandbox.sandbox import ExecutionResult, Sandbox


def run(sandbox: Sandbox, program: str) -> ExecutionResult:
    """Run a program as the start of a solution; it passes where it comes to its end."""
    return sandbox.run_tests(f"{program}\ndef end(): pass\n", "end", "assert end() is None")
