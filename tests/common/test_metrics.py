from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.registry import Collector

from common.metrics import CATALOGUE, MAX_LABEL_VALUES, metric_families, page
from tests.simulation import series

DOCS = Path(__file__).parents[2] / "docs"


def test_a_series_carries_its_run_its_actor_and_its_own_label():
    class Current(Collector):
        def collect(self):
            return metric_families(
                "r", {"replay": {"mixsd_replay_blocked_seconds_total": {"insert,max_bytes": 1.5}}}
            )

    registry = CollectorRegistry()
    registry.register(Current())
    assert (
        'mixsd_replay_blocked_seconds_total{actor="replay",reason="max_bytes",run="r",'
        'side="insert"} 1.5'
    ) in generate_latest(registry).decode().splitlines()


def test_a_metric_that_is_not_in_the_catalog_is_an_error():
    with pytest.raises(KeyError, match="mixsd_invented"):
        list(metric_families("r", {"replay": {"mixsd_invented": 1.0}}))


def test_a_label_cannot_take_more_values_than_its_bound():
    values = {f"suite-{index}": 0.0 for index in range(MAX_LABEL_VALUES + 1)}
    with pytest.raises(ValueError, match="65 values of suite"):
        list(metric_families("r", {"controller": {"mixsd_eval_score": values}}))


def test_names_are_unique_and_only_counters_are_totals():
    names = [spec.name for spec in CATALOGUE]
    assert len(set(names)) == len(names)
    for spec in CATALOGUE:
        assert spec.name.endswith("_total") == (spec.kind == "counter"), spec.name


def test_units_follow_from_the_name_unless_it_does_not_tell():
    units = {spec.name: spec.unit for spec in CATALOGUE}
    assert units["mixsd_rollout_busy_seconds_total"] == "seconds"
    assert units["mixsd_disk_free_bytes"] == "bytes"
    assert units["mixsd_learner_loss"] == "nats/token"
    assert units["mixsd_attempts_total"] == "count"


def test_the_docs_page_is_the_catalog():
    assert (DOCS / "metrics.md").read_text() == page(), "run: make generated"


def test_the_simulated_run_of_the_tests_moves_every_metric():
    simulated = {name for metrics in series(1.0).values() for name in metrics}
    assert simulated == {spec.name for spec in CATALOGUE}


def test_every_metric_of_the_catalogue_is_set_by_some_role():
    root = DOCS.parent
    setters = [
        root / "deploy" / "control" / "journal.py",
        *(root / "deploy" / "observability").glob("*.py"),
    ]
    setters += [*(root / "actors").rglob("*.py"), *(root / "learner").rglob("*.py")]
    text = "".join(path.read_text() for path in setters)
    for spec in CATALOGUE:
        assert f'"{spec.name}"' in text or f"{spec.name}=" in text, spec.name
