from __future__ import annotations

import json
from itertools import pairwise

import pytest

from deploy.observability.history import MAX_POINTS, History


def _drawn(tokens: float, actor: str = "rollout-0") -> dict:
    return {actor: {"mixsd_rollout_tokens_total": tokens}}


def test_counters_and_gauges_add_up_over_actors():
    history = History()
    history.add(
        1.0, {**_drawn(10), **_drawn(5, "rollout-1"), "replay": {"mixsd_replay_waiting": 7}}
    )
    assert history.points() == [{"time": 1.0, "tokens_drawn": 15.0, "waiting": 7.0}]


def test_a_restart_of_an_actor_keeps_the_total():
    history = History()
    for at, tokens in enumerate((10, 30, 4, 6)):
        history.add(float(at), _drawn(tokens))
    assert [point["tokens_drawn"] for point in history.points()] == [10, 30, 34, 36]


def test_an_actor_that_left_still_counts():
    history = History()
    history.add(0.0, {**_drawn(10), **_drawn(5, "rollout-1")})
    history.add(1.0, _drawn(12))
    assert history.points()[-1]["tokens_drawn"] == 17


def test_only_the_first_learner_rank_counts_since_each_reports_the_whole_batch():
    history = History()
    history.add(0.0, {f"learner-{rank}": {"mixsd_learner_tokens_total": 9.0} for rank in range(3)})
    assert history.points()[0]["tokens_trained"] == 9


def test_a_long_run_keeps_fewer_points_and_both_ends():
    history = History()
    for at in range(10 * MAX_POINTS + 3):
        history.add(float(at), _drawn(2.0 * at))
    points = history.points()
    assert MAX_POINTS / 2 <= len(points) <= MAX_POINTS + 1
    assert points[0]["time"] == 0
    assert points[-1]["time"] == 10 * MAX_POINTS + 2
    # Rates between kept points stay exact.
    assert all(point["tokens_drawn"] == 2 * point["time"] for point in points)
    gaps = {b["time"] - a["time"] for a, b in pairwise(points[:-1])}
    assert len(gaps) == 1


@pytest.mark.parametrize("torn", ['{"time": 2.0, "ser', '{"time": 2.0, "ser{"time": 2.5}\n'])
def test_a_resumed_run_continues_from_its_file_even_after_a_torn_line(tmp_path, torn):
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps({"time": 1.0, "series": _drawn(10)}) + "\n" + torn)
    history = History()
    history.load(path)
    history.add(3.0, _drawn(4))
    assert [point["tokens_drawn"] for point in history.points()] == [10, 14]


def test_a_run_without_a_file_has_no_points(tmp_path):
    history = History()
    history.load(tmp_path / "none.jsonl")
    assert history.points() == []
