"""The report of one run and of several: its files, and how it looks in a browser."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from actors.evaluation.results import EvaluatedModel, Results
from actors.evaluation.scores import Analyses, Scores, StepResults
from common.config.run_config import dump, parse
from common.ledger import Ledger
from common.records import pack_rollout
from common.rundir import RunDir, append_jsonl
from deploy.report.files import compare_scores, unmeasured, write_report
from deploy.report.summary import retention, summary
from deploy.report.table import compare
from tests.deploy.report.browser import CHROMIUM, browse, served
from tests.deploy.report.test_summary import PLAIN


def _score(value: float, unit: str = "fraction", **more: object) -> dict:
    return {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 40, "unit": unit, **more}


def _interval(value: float) -> dict:
    return {"value": value, "low": value, "high": value}


def _scores(recall: float, kept: float) -> dict:
    return {
        "recall": _score(
            recall,
            errors={"leakage": 3, "genuine": 2},
            graders={"strict": _interval(recall / 2), "paper": _interval(recall)},
        ),
        "retrieval": _score(0.6 * kept, errors={"format": 4}),
        "arc_easy": _score(0.4 * kept),
        "wikitext2": _score(3.6 + 0.3 * (1 - kept), "nats/token"),
        "piqa": {"not_measured": "the Hub did not give baber/piqa"},
    }


def _fisher(alignment: float) -> dict:
    def figures(ratio: float) -> dict:
        return {"alignment": ratio, "weighted": 0.4, "raw": 2.0, "trace": 9.0, "size": 90}

    layers = {name: figures(alignment * share) for name, share in _LAYERS.items()}
    return {**figures(alignment), "examples": 64, "benchmarks": {"arc_easy": 64}, "layers": layers}


_LAYERS = {"embed_tokens": 0.2, **{f"layer {n}": 1 + n / 30 for n in range(30)}, "norm": 0.5}


def _run(folder: Path, name: str, method: dict, nll: float, kept: tuple[float, ...]) -> RunDir:
    run = RunDir(folder / name)
    run.create()
    config = parse({"name": name, "method": method, "data": {"kgfact": {}}}, name)
    run.config.write_text(dump(config))
    ledger = Ledger(run.ledger, epochs=config.learner.epochs, seed=0)
    ledger.add_work([(f"f{n}", 0) for n in range(20)])
    for n in range(18):
        rollout = replace(
            PLAIN,
            fact_id=f"f{n}",
            attempt=n % 3,
            base_logprobs=[-nll - n / 20, -nll],
            canonical_logprobs=[-4.2 - n / 10],
        )
        ledger.insert(rollout.fact_id, 0, pack_rollout(rollout), attempts=rollout.attempt + 1)
    ledger.close()
    for step in range(1, 49):
        append_jsonl(
            run.steps,
            {
                "step": step,
                "loss": 3 / step if step > 1 else math.inf,
                "tokens": 900 + step,
                "seconds": 4.0,
            },
        )
    for number, share in enumerate(kept):
        model = EvaluatedModel(24 * number, Path(), f"w{number}-{name}")
        analyses = {"fisher": _fisher(1.0 + nll * number / 4)} if number else {"nll_check": _CHECK}
        scores = _typed(_scores(0.45 * number, share))
        Results(run.eval).write(model, "all", "key", scores, analyses=Analyses.from_json(analyses))
    return run


_CHECK = {
    "stored": 1.5,
    "recomputed": 1.501,
    "difference": 0.001,
    "largest": 0.02,
    "targets": 16,
    "tokens": 200,
}


@pytest.fixture
def runs(tmp_path):
    return [
        _run(tmp_path, "facts-sft", {"name": "sft"}, 4.2, (1.0, 0.5, 0.3)),
        _run(tmp_path, "facts-mixsd", {"name": "mixsd", "mix_rate": 0.1}, 2.4, (1.0, 0.95, 0.9)),
    ]


def _typed(scores: dict) -> Scores:
    return StepResults.from_json({"step": 0, "scores": scores, "analyses": {}}).scores


def test_retention_is_the_mean_share_of_the_held_out_scores_that_is_kept():
    base = _typed(_scores(0.0, 1.0) | {"humaneval": _score(0.0)})
    after = _typed(_scores(1.0, 0.5) | {"arc_easy": _score(0.3), "humaneval": _score(0.2)})
    # retrieval 0.3 of 0.6, arc_easy 0.3 of 0.4. Recall, NLLs and a base score of 0 are left out.
    kept = retention(base, after)
    assert kept is not None
    assert kept.value == pytest.approx((0.5 + 0.75) / 2)
    assert sorted(kept.benchmarks) == ["arc_easy", "retrieval"]
    assert retention({}, after) is None
    # One benchmark alone is not held-out capability.
    assert retention({"retrieval": base["retrieval"]}, after) is None


def test_a_change_counts_if_the_intervals_do_not_overlap_and_a_lower_nll_is_better():
    def change(before: dict, after: dict) -> str:
        return compare_scores(*_typed({"before": before, "after": after}).values())

    assert change(_score(0.5), _score(0.9)) == "better"
    assert change(_score(0.5), _score(0.6)) == "same"
    assert change(_score(3.5, "nats/token"), _score(3.9, "nats/token")) == "worse"
    assert change(_score(0.5), {"not_measured": "why"}) == ""


def test_numbers_are_written_beside_the_page_as_json_and_csv(runs, tmp_path):
    page = write_report(runs, tmp_path / "both.html")
    numbers = json.loads((tmp_path / "both.json").read_text())
    assert [run["run"] for run in numbers["runs"]] == ["facts-sft", "facts-mixsd"]
    # JSON has no infinity.
    assert numbers["runs"][0]["steps"][0]["loss"] is None
    assert numbers["environment"]["python"].startswith("3.")
    assert unmeasured([summary(run) for run in runs]) == {"piqa": "the Hub did not give baber/piqa"}
    rows = list(csv.DictReader((tmp_path / "both.csv").open()))
    found = {(row["run"], row["step"], row["measure"]): row["value"] for row in rows}
    assert found["facts-sft", "48", "recall"] == "0.9"
    assert found["facts-sft", "48", "recall: leakage"] == "3"
    assert float(found["facts-mixsd", "24", "fisher_alignment"]) == pytest.approx(1.6)
    assert float(found["facts-sft", "48", "retention"]) == pytest.approx(0.3)
    assert found["facts-sft", "48", "recall (strict)"] == "0.45"
    assert found["facts-sft", "48", "recall (paper)"] == "0.9"
    graders = numbers["runs"][0]["final"]["recall"]["graders"]
    assert graders["strict"]["value"] == 0.45
    html = page.read_text()
    assert "<th>recall (strict)</th>" in html
    assert "<th>recall (paper)</th>" not in html
    assert "piqa is not measured: the Hub did not give baber/piqa" in html
    assert "difference +0.0010" in html


def test_the_table_has_a_row_for_the_strict_score(runs, capsys):
    compare(runs)
    printed = capsys.readouterr().out
    (strict,) = [line for line in printed.splitlines() if "recall (strict)" in line]
    assert "0.45" in strict
    assert "recall (paper)" not in printed


def test_the_page_is_self_contained(runs, tmp_path):
    html = write_report(runs, tmp_path / "both.html").read_text()
    assert not re.search(r"https?://", html)
    assert set(re.findall(r'href="([^"]+)"', html)) == {"both.json", "both.csv"}
    assert all(src.startswith("data:") for src in re.findall(r'src="([^"]+)"', html))
    assert write_report(runs[:1]) == runs[0].report


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_browser_renders_it_without_errors_and_it_fits_a_phone(runs, tmp_path, count):
    page = write_report(runs[:count], tmp_path / "page.html")
    # The frame has a phone's width; a browser window may have a larger minimum.
    (tmp_path / "phone.html").write_text(
        '<iframe src="page.html" style="width:390px;height:800px;border:0"></iframe><script>'
        "onload = () => { const doc = document.querySelector('iframe').contentDocument;"
        "const root = doc.documentElement;"
        "const drawn = [...doc.images].filter((i) => i.complete && i.naturalWidth > 100);"
        "document.title = `${root.scrollWidth - root.clientWidth} too wide, ${drawn.length} drawn, "
        "${doc.images.length} in all` }</script>"
    )
    with served(tmp_path) as port:
        html, errors = browse(port, "phone.html", tmp_path, "--dump-dom")
        _, page_errors = browse(port, page.name, tmp_path, "--dump-dom")
    assert "<title>0 too wide, 8 drawn, 8 in all</title>" in html
    assert "CONSOLE" not in errors + page_errors
    # MIXSD_SCREENSHOTS keeps pages for people.
    if "MIXSD_SCREENSHOTS" in os.environ:
        shutil.copy(page, Path(os.environ["MIXSD_SCREENSHOTS"]) / f"report-{count}.html")
