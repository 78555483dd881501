"""The report of a run that continues others: each batch over the chain, and the original base."""

from __future__ import annotations

import csv
import json
import shutil

import pytest

from deploy.report.files import bases, write_report
from deploy.report.retention import retention_of_chain
from deploy.report.summary import summary
from deploy.report.table import compare
from tests.deploy.chains import finish, typed, written


@pytest.fixture
def runs(tmp_path):
    """A chain of three runs, each selected at its only checkpoint."""
    first = {
        0: {"recall": 0.0, "mmlu": 0.8, "arc_easy": 0.5, "retrieval": 0.4},
        4: {"recall": 1.0, "mmlu": 0.8, "arc_easy": 0.4, "retrieval": 0.2},
    }
    second = {
        0: {"recall": 0.0, "recall_batch_1": 1.0, "mmlu": 0.8, "arc_easy": 0.4},
        6: {"recall": 0.9, "recall_batch_1": 0.7, "mmlu": 0.6, "arc_easy": 0.4},
    }
    third = {
        0: {"recall": 0.1, "mmlu": 0.6, "arc_easy": 0.4},
        8: {
            **{"recall": 0.8, "recall_batch_1": 0.5, "recall_batch_2": 0.75, "edited": 0.25},
            **{"mmlu": 0.4, "arc_easy": 0.2, "retrieval": 0.3},
        },
    }
    continues = {"second": "first", "third": "second"}
    return [
        finish(tmp_path, written(name, continues=continues.get(name)), scores)
        for name, scores in (("first", first), ("second", second), ("third", third))
    ]


def test_recall_of_each_batch_is_followed_over_the_runs_of_the_chain(runs):
    links = summary(runs[2]).links
    assert [link.run for link in links] == ["first", "second", "third"]
    assert [{batch: score.value for batch, score in link.recall.items()} for link in links] == [
        {1: 1.0},
        {1: 0.7, 2: 0.9},
        {1: 0.5, 2: 0.75, 3: 0.8},
    ]
    assert [link.edited and link.edited.value for link in links] == [None, None, 0.25]


def test_retention_is_that_of_the_original_base_and_that_of_the_batch_stands_beside_it(runs):
    figures = summary(runs[2])
    # Of the original base: mmlu 0.8, 0.6 and 0.4 of 0.8; arc_easy 0.4, 0.4 and 0.2 of 0.5.
    expected = [(1.0 + 0.8) / 2, (0.75 + 0.8) / 2, (0.5 + 0.4) / 2]
    assert [link.retention.value for link in figures.links] == pytest.approx(expected)
    # Recall and retrieval of the first run are of another corpus.
    assert sorted(figures.original) == ["arc_easy", "mmlu"]
    before, after = figures.checkpoints
    assert before.retention.value == pytest.approx((0.75 + 0.8) / 2)
    assert after.retention.value == pytest.approx((0.5 + 0.4) / 2)
    assert sorted(after.retention.benchmarks) == ["arc_easy", "mmlu"]
    # Of the model before this batch: mmlu 0.4 of 0.6, arc_easy 0.2 of 0.4.
    assert after.batch_retention.value == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_a_run_that_continues_none_has_the_retention_of_its_base_alone(runs):
    figures = summary(runs[0])
    assert (figures.original, figures.links) == ({}, [])
    # mmlu 1, arc_easy 0.8 and its own retrieval 0.5.
    assert figures.checkpoints[1].retention.value == pytest.approx((1 + 0.8 + 0.5) / 3)
    assert figures.checkpoints[1].batch_retention is None
    assert [name for name, _ in bases([figures])] == ["base"]


def test_scores_of_other_items_or_samplings_are_not_compared_over_runs():
    score = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 40, "unit": "fraction"}
    original = typed({"mmlu": score, "arc_easy": score, "piqa": score})
    fewer = typed({"mmlu": score, "arc_easy": score, "piqa": {**score, "n": 10, "value": 1.0}})
    assert retention_of_chain(original, fewer).benchmarks == ["mmlu", "arc_easy"]
    sampled = typed({"mmlu": score, "arc_easy": {**score, "temperature": 1.0}})
    assert retention_of_chain(original, sampled) is None


def test_page_and_tables_show_both_bases_every_batch_and_a_picture(runs, capsys, monkeypatch):
    page = write_report(runs[2:]).read_text()
    assert "<th>original base</th><th>base</th><th>third</th>" in page
    assert "0.45 (mmlu, arc_easy)" in page
    assert "0.58 (mmlu, arc_easy)" in page
    assert "<th>recall of batch 3</th>" in page
    assert 'alt="Batches up to third"' in page
    (numbers,) = json.loads(runs[2].report.with_suffix(".json").read_text())["runs"]
    assert numbers["links"][1]["recall"]["1"]["value"] == 0.7
    assert numbers["original"]["mmlu"]["value"] == 0.8
    rows = list(csv.DictReader(runs[2].report.with_suffix(".csv").open()))
    found = {row["measure"]: row["value"] for row in rows if row["step"] == "8"}
    assert float(found["retention"]) == pytest.approx(0.45)
    assert float(found["batch_retention"]) == pytest.approx(7 / 12)
    assert found["recall_batch_1"] == "0.5"
    monkeypatch.setenv("COLUMNS", "200")
    compare(runs[2:])
    printed = " ".join(capsys.readouterr().out.split())
    assert "original base" in printed
    assert "of this batch 0.58" in printed


def test_a_report_alone_has_no_section_of_batches(runs):
    page = write_report(runs[:1]).read_text()
    assert "original base" not in page
    assert "Batches up to" not in page


def test_what_is_no_longer_on_disk_of_an_earlier_run_is_left_out(runs):
    shutil.rmtree(runs[0].root)
    links = summary(runs[2]).links
    assert [sorted(link.recall) for link in links] == [[], [1, 2], [1, 2, 3]]
    assert [link.retention for link in links] == [None, None, None]
    write_report(runs[2:])
