"""``mixsd-cluster eval`` with a real engine: measured once, then read."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.one_core]


def _call(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(
        [sys.executable, "-m", "deploy.cli.main", "eval", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evaluations")
    chosen = ("prompts=short-sentence", "evaluator.max_tokens=16")
    overrides = [word for setting in chosen for word in ("--set", setting)]
    first = _call("packaged", "--suite", "in_domain", "--limit", "6", "--out", out, *overrides)
    assert "recall: 6 of 6" in first.stderr
    assert "vllm" not in first.stderr + first.stdout
    # Known results are printed without an engine.
    again = _call("packaged", "--suite", "in_domain", "--limit", "6", "--out", out, *overrides)
    assert "starting the engine" not in again.stderr
    assert again.stdout.splitlines()[-6:] == first.stdout.splitlines()[-6:]
    return out


def test_scores_have_intervals_and_every_response_is_kept(measured: Path) -> None:
    (path,) = measured.glob("step_0-*.json")
    result = json.loads(path.read_text())
    assert set(result["scores"]) >= {"recall", "retrieval"}
    for score in result["scores"].values():
        assert 0 <= score["low"] <= score["value"] <= score["high"] <= 1
        assert score["n"] == 6
        assert sum(score["errors"].values()) == round(6 * (1 - score["value"]))
    # The model has never seen the facts.
    assert result["scores"]["recall"]["value"] == 0
    lines = gzip.decompress(path.with_suffix(".jsonl.gz").read_bytes()).splitlines()
    assert len(lines) == 6 * len(result["scores"])


def test_responses_can_be_read_again(measured: Path) -> None:
    shown = _call("show", "packaged", "--suite", "in_domain", "--wrong", "--out", measured)
    assert "wrong (" in shown.stdout
    assert shown.stdout.count("--- recall") == 6
