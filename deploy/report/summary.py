"""The numbers of a run's report, from the files of its folder alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from actors.evaluation.results import by_step
from actors.evaluation.scores import (
    BenchmarkScore,
    FisherAlignment,
    NLLCheck,
    Scores,
    StepResults,
    Unmeasured,
)
from actors.evaluation.selection import Selection, select
from common.config.evaluation import HELD_OUT
from common.config.run_config import RunConfig, load
from common.estimates import mean_nll
from common.json_model import JsonModel
from common.ledger import open_view
from common.methods import Method, Mixed, StudentSampled
from common.records import Rollout, unpack_rollout
from common.rundir import RunDir, read_jsonl


class TargetNLL(BenchmarkScore):
    """Mean NLL per token with its interval; ``items``: the number of scored targets."""

    items: int


class NLLs(JsonModel):
    """NLL of each scored target under the base model, in nats a token."""

    targets: list[float]
    canonical: list[float]


class CheckpointSummary(StepResults):
    """The results of one step, and the share of the held-out capability that it keeps."""

    retention: float | None


class StepFigures(JsonModel):
    """One training step; ``loss`` in nats a token."""

    step: int
    loss: float
    tokens_per_second: float


class RunSummary(JsonModel):
    """The figures that tables, plots and comparisons show; also the run's report as JSON.

    ``exhausted`` lists the facts without a target, each with the reason. ``step`` is the
    last committed step, ``chosen`` that of the selected checkpoint; ``final`` and
    ``fisher`` are that checkpoint's.
    """

    run: str
    method: str
    by_student: bool
    facts: int
    accepted: int
    exhausted: list[tuple[str, str]]
    attempts: int
    exposures_expected: int
    exposures_trained: int
    stopped_early: bool
    step: int
    checkpoint: str
    chosen: int
    chosen_because: str
    target_nll: TargetNLL | None
    canonical_nll: TargetNLL | None
    scoring_share: float | None
    targets: dict[str, int]
    base: Scores
    final: Scores
    unverified: int
    accepted_by_attempt: dict[int, int]
    nlls: NLLs
    nll_check: NLLCheck | None
    fisher: FisherAlignment | Unmeasured | None
    checkpoints: list[CheckpointSummary]
    steps: list[StepFigures]


def evaluations(run: RunDir) -> list[StepResults]:
    """Results by step, the base model first."""
    return by_step(run.eval)


def chosen(config: RunConfig, results: Sequence[StepResults]) -> Selection | None:
    """The selected checkpoint, by the run's own rule."""
    settings = config.evaluator
    recall = {
        result.step: score.value
        for result in results
        if isinstance(score := result.scores.get("recall"), BenchmarkScore)
    }
    return select(recall, settings.select, settings.patience, settings.min_delta)


def summary(run: RunDir) -> RunSummary:
    """Summarize the run as far as it has come."""
    config = load(run.config)
    ledger = open_view(run.ledger)
    try:
        counts = ledger.counts()
        rollouts = [unpack_rollout(payload) for payload in ledger.payloads()]
        lost = [(fact, f"{outcome}: {reason}") for fact, outcome, reason in ledger.lost()]
    finally:
        ledger.close()
    results = evaluations(run)
    selection = chosen(config, results)
    # If there is no recall to select by, the last checkpoint is the result.
    step = counts.committed_step if selection is None else selection.step
    final = next((one for one in results if one.step == step), results[-1] if results else None)
    base = _base(results)
    checks = (one.analyses.nll_check for one in results)
    return RunSummary(
        run=run.name,
        method=config.method.name,
        by_student=config.student is not None,
        facts=counts.work,
        accepted=counts.accepted,
        exhausted=lost,
        attempts=counts.attempts,
        exposures_expected=counts.accepted * config.exposures_per_rollout - counts.skipped,
        exposures_trained=counts.trained,
        stopped_early=config.learner.early_stop
        and selection is not None
        and selection.settled
        and counts.trained < counts.exposures(config.exposures_per_rollout),
        step=counts.committed_step,
        checkpoint=str(run.checkpoints / f"step_{step}"),
        chosen=step,
        chosen_because="recall was not measured" if selection is None else selection.reason,
        target_nll=_nll([r.base_logprobs for r in rollouts]),
        canonical_nll=_nll([r.canonical_logprobs for r in rollouts]),
        scoring_share=_scoring_share(run),
        targets=_by_origin(rollouts, config.method),
        base=base,
        final={} if final is None else final.scores,
        unverified=sum(not rollout.verified for rollout in rollouts),
        accepted_by_attempt=_by_attempt(rollouts),
        nlls=NLLs(
            targets=[r.target_nll for r in rollouts if r.target_nll is not None],
            canonical=[r.canonical_nll for r in rollouts if r.canonical_nll is not None],
        ),
        nll_check=next((check for check in checks if check is not None), None),
        fisher=None if final is None else final.analyses.fisher,
        checkpoints=[
            CheckpointSummary.from_json({**one.to_json(), "retention": retention(base, one.scores)})
            for one in results
        ],
        steps=_steps(run),
    )


def _steps(run: RunDir) -> list[StepFigures]:
    return [
        StepFigures(
            step=line["step"],
            loss=line["loss"],
            tokens_per_second=line["tokens"] / line["seconds"],
        )
        for line in read_jsonl(run.steps)
    ]


def retention(base: Scores, scores: Scores) -> float | None:
    """The share of the held-out capability that is kept: mean of score over base score.

    The mean is over the benchmarks that report a share of right answers (retrieval and
    those outside the corpus), have both scores, and on which the base is above zero; None
    if there is no such benchmark.
    """
    kept = [
        after.value / before.value
        for name, before in base.items()
        if name in {*HELD_OUT, "retrieval"}
        and isinstance(before, BenchmarkScore)
        and before.unit == "fraction"
        and before.value > 0
        and isinstance(after := scores.get(name), BenchmarkScore)
    ]
    return sum(kept) / len(kept) if kept else None


def score_text(score: BenchmarkScore | Unmeasured | None) -> str:
    """One score for a table: value and interval, or the reason why there is none."""
    if score is None:
        return "not measured"
    if isinstance(score, Unmeasured):
        return f"not measured: {score.not_measured}"
    return f"{score.value:.2f} [{score.low:.2f}, {score.high:.2f}]"


def _base(results: Sequence[StepResults]) -> Scores:
    """The base model's scores; empty if it was not measured."""
    return results[0].scores if results and results[0].step == 0 else {}


def _nll(logprobs: Sequence[list[float]]) -> TargetNLL | None:
    scored = [target for target in logprobs if target]
    return TargetNLL(**asdict(mean_nll(scored)), items=len(scored)) if scored else None


def _scoring_share(run: RunDir) -> float | None:
    """Share of the rollout engines' time spent on scoring, since they last started."""
    busy = scoring = 0.0
    for line in read_jsonl(run.metrics, 1):
        for series in line["series"].values():
            busy += series.get("mixsd_rollout_busy_seconds_total", 0.0)
            scoring += series.get("mixsd_rollout_scoring_seconds_total", 0.0)
    return scoring / busy if busy else None


def _by_origin(rollouts: list[Rollout], method: Method) -> dict[str, int]:
    """Targets by origin; an extension counts only if it changed the target."""

    def origin(rollout: Rollout) -> str:
        if rollout.fallback:
            return f"fallback: {rollout.fallback}"
        if rollout.mix_rate is None:
            return "canonical"
        marks = []
        first = method.target(0)
        if isinstance(first, StudentSampled):
            return "the student's own"
        if isinstance(first, Mixed) and rollout.mix_rate < first.mix_rate:
            marks.append("λ backed off")
        if rollout.num_protected:
            marks.append("answer protected")
        return "mixed" + (f" ({', '.join(marks)})" if marks else "")

    return dict(sorted(Counter(map(origin, rollouts)).items()))


def _by_attempt(rollouts: list[Rollout]) -> dict[int, int]:
    """Verified rollouts by the attempt (from 1) that produced them."""
    return dict(sorted(Counter(r.attempt + 1 for r in rollouts if r.verified).items()))
