"""That the measurements still run; their figures are in docs/results.md."""

from __future__ import annotations

import json
import sys

import pytest

from tests.benchmarks import replay

pytestmark = [pytest.mark.slow, pytest.mark.thorough]


def test_the_queues_benchmark_runs_at_a_small_size(monkeypatch, capsys):
    monkeypatch.setattr(
        sys, "argv", ["replay", "--sizes", "200", "400", "--actor-size", "200", "--callers", "2"]
    )
    replay.main()
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert min(figures.values()) > 0
