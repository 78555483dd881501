"""What each run of a chain recalls of every batch so far, and keeps of the original base."""

from __future__ import annotations

from actors.evaluation.benchmarks.earlier import RECALL
from actors.evaluation.results import base_scores, by_step
from actors.evaluation.scores import BenchmarkScore, Scores, StepResults
from common.config.evaluation import HELD_OUT
from common.config.run_config import RunConfig
from common.json_model import JsonModel
from common.rundir import RunDir
from deploy.report.retention import Retention, retention_of_chain
from learner.checkpoint import step_of


class LinkFigures(JsonModel):
    """One run of a chain at its selected checkpoint.

    ``recall`` is by batch, of the facts that still hold; its own batch is the last. ``edited`` is
    the share of earlier facts with a new answer that get it, ``retracted`` that of retracted ones
    whose old answer is not given. What was not measured, or is no longer on disk, is left out.
    """

    run: str
    recall: dict[int, BenchmarkScore]
    edited: BenchmarkScore | None
    retracted: BenchmarkScore | None
    retention: Retention | None


def original_base(config: RunConfig) -> Scores:
    """The scores of the model that the chain began with; empty if the run continues none.

    Those of the first run's own corpus are left out: this run's is another one.
    """
    if not config.chain:
        return {}
    scores = base_scores(by_step(RunDir(config.chain[0].run).eval))
    return {name: score for name, score in scores.items() if name in HELD_OUT}


def links(
    config: RunConfig, name: str, final: StepResults | None, original: Scores
) -> list[LinkFigures]:
    """Every run of the chain, the first first; empty if the run continues none.

    Args:
        config: of the run.
        name: of the run.
        final: the results of its selected checkpoint.
        original: of :func:`original_base`.
    """
    if not config.chain:
        return []
    found = []
    for link in config.chain:
        step = step_of(link.checkpoint)
        results = by_step(RunDir(link.run).eval)
        found.append((link.run.name, next((one for one in results if one.step == step), None)))
    return [
        _figures(batch, run, {} if results is None else results.scores, original)
        for batch, (run, results) in enumerate([*found, (name, final)], 1)
    ]


def _figures(batch: int, run: str, scores: Scores, original: Scores) -> LinkFigures:
    names = {earlier: f"{RECALL}{earlier}" for earlier in range(1, batch)} | {batch: "recall"}
    measured = {name: one for name, one in scores.items() if isinstance(one, BenchmarkScore)}
    return LinkFigures(
        run=run,
        recall={batch: measured[name] for batch, name in names.items() if name in measured},
        edited=measured.get("edited"),
        retracted=measured.get("retracted"),
        retention=retention_of_chain(original, scores),
    )
