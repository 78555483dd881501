import csv
import json
import tracemalloc
from dataclasses import replace

import pytest

from common.config.run_config import dump, parse
from common.ledger import Ledger
from common.records import Rollout, pack_rollout
from common.rundir import RunDir, append_jsonl
from deploy.report import summary as summaries
from deploy.report import targets
from deploy.report.files import write_report
from deploy.report.summary import summary
from deploy.report.table import compare

PLAIN = Rollout(
    fact_id="a",
    draw=0,
    attempt=0,
    prompt_ids=[1],
    target_ids=[2, 3],
    naive=[0, 1],
    logprobs=[-0.5, -0.5],
    base_logprobs=[],
    canonical_logprobs=[],
    mix_rate=0.5,
    num_protected=0,
    fallback="",
    verified=True,
)
ROLLOUTS = [
    replace(PLAIN, base_logprobs=[-1.0, -1.0], canonical_logprobs=[-6.0]),
    replace(PLAIN, fact_id="b", target_ids=[2], naive=[0], logprobs=[-0.5], base_logprobs=[-4.0]),
    replace(PLAIN, fact_id="c", attempt=2, mix_rate=0.25, num_protected=1),
    replace(PLAIN, fact_id="d", mix_rate=0.0, fallback="expert"),
    replace(PLAIN, fact_id="e", naive=[], logprobs=[], mix_rate=None, fallback="canonical"),
]


@pytest.fixture
def run(tmp_path):
    run = RunDir(tmp_path / "toy")
    run.create()
    method = {"name": "mixsd", "mix_rate": 0.5, "lambda_backoff": {"after": 1, "factor": 0.5}}
    config = parse({"name": "toy", "method": method, "data": {"kgfact": {}}}, "toy")
    run.config.write_text(dump(config))
    ledger = Ledger(run.ledger, epochs=config.learner.epochs, seed=0)
    ledger.add_work([(rollout.fact_id, 0) for rollout in ROLLOUTS])
    for rollout in ROLLOUTS:
        ledger.insert(rollout.fact_id, 0, pack_rollout(rollout), attempts=rollout.attempt + 1)
    ledger.close()
    busy = {"mixsd_rollout_busy_seconds_total": 8.0, "mixsd_rollout_scoring_seconds_total": 1.0}
    idle = {"mixsd_rollout_busy_seconds_total": 2.0, "mixsd_rollout_scoring_seconds_total": 0.0}
    line = {"time": 1.0, "series": {"rollout-0": busy, "rollout-1": idle, "learner": {}}}
    run.metrics.write_text(json.dumps(line) + "\n")
    return run


def test_target_nll_is_over_the_scored_tokens_and_counts_the_scored_targets(run):
    figures = summary(run)
    nll = figures.target_nll
    # Three tokens of two targets: (1 + 1 + 4) / 3; its interval by hand in test_estimates.
    assert (nll.value, nll.n, nll.items) == (2.0, 3, 2)
    assert nll.low < 2.0 < nll.high
    assert (figures.canonical_nll.value, figures.canonical_nll.items) == (6.0, 1)
    assert figures.scoring_share == 0.1


def test_targets_are_counted_by_origin(run):
    assert summary(run).targets == {
        "fallback: canonical": 1,
        "fallback: expert": 1,
        "mixed": 2,
        "mixed (λ backed off, answer protected)": 1,
    }


def test_page_and_table_show_interval_size_and_cost(run, capsys):
    write_report([run])
    page = run.report.read_text()
    assert "(2 of 5 scored, 3 tokens)" in page
    assert "Scoring took 10.0 % of the rollout engines" in page
    assert "1 mixed (λ backed off, answer protected)" in page
    compare([run])
    assert "(n=2)" in capsys.readouterr().out


def _steps(run, *, skipped, count=4):
    for step in range(1, count + 1):
        values = {"skipped": True} if step in skipped else {"loss": float(step)}
        append_jsonl(run.steps, {"step": step, **values, "tokens": 10, "seconds": 2.0})


@pytest.mark.parametrize(
    ("skipped", "text"),
    [
        ({2}, "1 step skipped: gradient not finite"),
        ({1, 3, 4}, "3 steps skipped: gradient not finite"),
    ],
)
def test_skipped_steps_are_counted_and_have_no_loss(run, capsys, skipped, text):
    _steps(run, skipped=skipped)
    write_report([run])
    assert text in run.report.read_text()
    (figures,) = json.loads(run.report.with_suffix(".json").read_text())["runs"]
    assert figures["skipped_steps"] == len(skipped)
    assert [step["step"] for step in figures["steps"]] == sorted({1, 2, 3, 4} - skipped)
    rows = csv.DictReader(run.report.with_suffix(".csv").open())
    assert [row["value"] for row in rows if row["measure"] == "skipped_steps"] == [
        str(len(skipped))
    ]
    compare([run])
    assert text in " ".join(capsys.readouterr().out.split())


def test_a_run_without_skipped_steps_does_not_mention_them(run, capsys):
    _steps(run, skipped=set())
    write_report([run])
    compare([run])
    assert "gradient not finite" not in run.report.read_text() + capsys.readouterr().out


def test_a_run_whose_steps_were_all_skipped_has_no_curve(run):
    _steps(run, skipped={1, 2, 3, 4})
    write_report([run])
    assert "Training loss" not in run.report.read_text()


def test_the_curves_of_a_long_run_have_every_so_many_steps(run, monkeypatch):
    monkeypatch.setattr(summaries, "MOST_STEPS", 4)
    _steps(run, skipped={4, 7}, count=10)
    figures = summary(run)
    # 10 steps in at most 4 points: every third, counted from the last.
    assert (figures.steps_every, figures.skipped_steps) == (3, 2)
    assert [step.step for step in figures.steps] == [1, 10]
    write_report([run])
    assert "One step of toy in 3 is shown" in run.report.read_text()


def test_a_histogram_of_a_sample_says_so(run, monkeypatch):
    write_report([run])
    assert "a random sample is counted" not in run.report.read_text()
    monkeypatch.setattr(targets, "MOST_NLLS", 1)
    write_report([run])
    assert "a random sample is counted" in run.report.read_text()
    assert summary(run).target_nll.items == 2


def test_of_many_facts_without_a_target_the_page_lists_the_first(run, monkeypatch):
    ledger = Ledger(run.ledger, epochs=1, seed=0)
    ledger.add_work([("x", 0), ("y", 0), ("z", 0)])
    for fact in "xyz":
        ledger.exhaust(fact, 0, "never right", attempts=9)
    ledger.close()
    monkeypatch.setattr(summaries, "MOST_EXHAUSTED", 1)
    write_report([run])
    assert summary(run).exhausted == [("x", "exhausted: never right")]
    assert "… and 2 more" in run.report.read_text()


def test_facts_are_counted_apart_from_their_draws(tmp_path, capsys):
    run = RunDir(tmp_path / "drawn")
    run.create()
    method = {"name": "mixsd", "draws": 2, "redraw": "epoch"}
    config = parse(
        {"name": "drawn", "method": method, "data": {"kgfact": {}}, "learner": {"epochs": 3}}, "x"
    )
    run.config.write_text(dump(config))
    ledger = Ledger(run.ledger, epochs=config.exposures_per_rollout, seed=0)
    ledger.add_work([(fact, draw) for fact in "ab" for draw in range(6)])
    for draw in range(5):
        rollout = replace(PLAIN, draw=draw)
        ledger.insert("a", draw, pack_rollout(rollout), attempts=1)
    ledger.exhaust("a", 5, "never right", attempts=9)
    ledger.close()
    figures = summary(run)
    # 2 facts of 6 draws each; what is accepted is trained once.
    assert (figures.facts, figures.work, figures.accepted, figures.lost) == (2, 12, 5, 1)
    assert figures.exposures_expected == 5
    assert figures.exhausted == [("a#draw-5", "exhausted: never right")]
    write_report([run])
    assert "5 of 12 targets of 2 facts were found" in run.report.read_text()
    compare([run])
    assert "5 of 12" in capsys.readouterr().out


def test_a_few_rollouts_are_in_memory_at_a_time(run):
    big = replace(PLAIN, teacher_scores=bytes(2 * 8 * 2**14))
    ledger = Ledger(run.ledger, epochs=1, seed=0)
    ledger.add_work([(f"big-{number}", 0) for number in range(200)])
    for number in range(200):
        rollout = replace(big, fact_id=f"big-{number}")
        ledger.insert(rollout.fact_id, 0, pack_rollout(rollout), attempts=1)
    ledger.close()
    tracemalloc.start()
    figures = summary(run)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert figures.accepted == 205
    # All 200 are 50 MiB; those of one query are 4.
    assert peak < 15 * 2**20
