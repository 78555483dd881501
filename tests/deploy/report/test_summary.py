import json
from dataclasses import replace

import pytest

from common.config.run_config import dump, parse
from common.ledger import Ledger
from common.records import Rollout, pack_rollout
from common.rundir import RunDir
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
