"""The report of a run of a million rollouts, and of one whose rollouts are large."""

from __future__ import annotations

import shutil

import pytest

from tests.benchmarks.report import build, measure


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("rollouts", "steps", "teacher_scores"),
    [(1_000_000, 100_000, False), (10_000, 1000, True)],
)
def test_the_report_of_a_long_run_takes_at_most_a_gibibyte(
    tmp_path, rollouts, steps, teacher_scores
):
    run = build(tmp_path / "long", rollouts=rollouts, steps=steps, teacher_scores=teacher_scores)
    try:
        assert measure(run)["peak_mib"] <= 1024
        assert run.report.exists()
    finally:
        # More than a gibibyte, which a failed test would keep.
        shutil.rmtree(run.root)
