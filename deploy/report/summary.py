"""The numbers of a run's report, from its ledger and the other files of its folder."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from actors.evaluation.results import base_scores, by_step
from actors.evaluation.scores import (
    BenchmarkScore,
    FisherAlignment,
    NLLCheck,
    Scores,
    StepResults,
    Unmeasured,
)
from actors.evaluation.selection import Selection, choose
from common.config.run_config import RunConfig, load
from common.json_model import JsonModel
from common.ledger import LedgerReader, open_view
from common.records import unpack_rollout
from common.rundir import RunDir, iter_jsonl, read_jsonl
from deploy.report.chain import LinkFigures, links, original_base
from deploy.report.retention import Retention, retention, retention_of_chain
from deploy.report.targets import NLLs, TargetFigures, TargetNLL

OpenLedger = Callable[[RunDir], AbstractContextManager[LedgerReader]]

# Of longer runs the curves show every second, third, … step.
MOST_STEPS = 10_000
# The page is for people; the ledger has all of them.
MOST_EXHAUSTED = 10_000


class CheckpointSummary(StepResults):
    """The results of one step, and the share of the held-out capability that it keeps.

    If the run continues another, ``retention`` is that of the original base, and
    ``batch_retention`` that of the model which this run began with; else the latter is None.
    """

    retention: Retention | None
    batch_retention: Retention | None


class StepFigures(JsonModel):
    """One training step; ``loss`` in nats a token."""

    step: int
    loss: float
    tokens_per_second: float


class RunSummary(JsonModel):
    """The figures that tables, plots and comparisons show; also the run's report as JSON.

    ``work`` counts the (fact, draw) pairs to roll out, and the generic prompts that are
    rehearsed; ``accepted`` of them have a target, and ``lost`` ones have none, or one that is not
    trained to the end; ``exhausted`` lists the first ``MOST_EXHAUSTED``, each with the reason.
    ``facts`` are without generic prompts. ``step`` is the last committed step, ``chosen`` that
    of the selected checkpoint; ``final`` and ``fisher`` are that checkpoint's.
    ``reached_max_steps``: training ended at ``learner.max_steps``. ``steps`` has one step of
    every ``steps_every``, without the ``skipped_steps``, whose gradient was not finite.
    ``base`` is the model that the run began with; if it continues another, ``original`` is the
    base of the chain's first run, and ``links`` has every run of the chain, this one last.
    """

    run: str
    method: str
    by_student: bool
    facts: int
    work: int
    accepted: int
    lost: int
    exhausted: list[tuple[str, str]]
    attempts: int
    exposures_expected: int
    exposures_trained: int
    stopped_early: bool
    reached_max_steps: bool
    step: int
    checkpoint: str
    chosen: int
    chosen_because: str
    target_nll: TargetNLL | None
    canonical_nll: TargetNLL | None
    scoring_share: float | None
    targets: dict[str, int]
    base: Scores
    original: Scores
    final: Scores
    links: list[LinkFigures]
    unverified: int
    accepted_by_attempt: dict[int, int]
    nlls: NLLs
    nll_check: NLLCheck | None
    fisher: FisherAlignment | Unmeasured | None
    checkpoints: list[CheckpointSummary]
    skipped_steps: int
    steps_every: int
    steps: list[StepFigures]


def evaluations(run: RunDir) -> list[StepResults]:
    """Results by step, the base model first."""
    return by_step(run.eval)


def chosen(config: RunConfig, results: Sequence[StepResults]) -> Selection | None:
    """The selected checkpoint, by the run's own rule."""
    return choose(results, config.evaluator, config.draws_mixed)


def ledger_file(run: RunDir) -> AbstractContextManager[LedgerReader]:
    """The ledger of a run that is not live."""
    return contextlib.closing(open_view(run.ledger))


def summary(run: RunDir, open_ledger: OpenLedger = ledger_file) -> RunSummary:
    """Summarize the run as far as it has come; ``open_ledger`` opens its ledger."""
    config = load(run.config)
    with open_ledger(run) as ledger:
        counts = ledger.counts()
        targets = TargetFigures(map(unpack_rollout, ledger.payloads()), config.method)
        lost = ledger.lost(MOST_EXHAUSTED)
    results = evaluations(run)
    selection = chosen(config, results)
    # If there is no recall to select by, the last checkpoint is the result.
    step = counts.committed_step if selection is None else selection.step
    final = next((one for one in results if one.step == step), results[-1] if results else None)
    base, original = base_scores(results), original_base(config)
    checks = (one.analyses.nll_check for one in results)
    steps, every, skipped = _steps(run)
    rehearsal, items = config.method.rehearsal, counts.work // config.rollouts_per_fact
    expected = config.learner.within_max_steps(counts.exposures(config.exposures_per_rollout))
    return RunSummary(
        run=run.name,
        method=config.method.name,
        by_student=config.student is not None,
        facts=items if rehearsal is None else rehearsal.num_facts(items),
        work=counts.work,
        accepted=counts.accepted,
        lost=counts.lost + counts.poisoned,
        exhausted=[(fact, f"{outcome}: {reason}") for fact, outcome, reason in lost],
        attempts=counts.attempts,
        exposures_expected=config.learner.within_max_steps(
            counts.accepted * config.exposures_per_rollout - counts.skipped
        ),
        exposures_trained=counts.trained,
        stopped_early=config.learner.early_stop
        and selection is not None
        and selection.settled
        and counts.trained < expected,
        reached_max_steps=counts.committed_step == config.learner.max_steps,
        step=counts.committed_step,
        checkpoint=str(run.checkpoints / f"step_{step}"),
        chosen=step,
        chosen_because="recall was not measured" if selection is None else selection.reason,
        target_nll=targets.scored.mean,
        canonical_nll=targets.canonical.mean,
        scoring_share=_scoring_share(run),
        targets=targets.by_origin,
        base=base,
        original=original,
        final={} if final is None else final.scores,
        links=links(config, run.name, final, original),
        unverified=targets.unverified,
        accepted_by_attempt=targets.accepted_by_attempt,
        nlls=targets.nlls,
        nll_check=next((check for check in checks if check is not None), None),
        fisher=None if final is None else final.analyses.fisher,
        checkpoints=[_checkpoint(one, config, base, original) for one in results],
        skipped_steps=skipped,
        steps_every=every,
        steps=steps,
    )


def skipped_text(run: RunSummary) -> str:
    """How many steps had no effect, and why; empty if none."""
    if not run.skipped_steps:
        return ""
    steps = "step" if run.skipped_steps == 1 else "steps"
    return f"{run.skipped_steps} {steps} skipped: gradient not finite"


def score_text(score: BenchmarkScore | Unmeasured | None) -> str:
    """One score for a table: value and interval, or the reason why there is none."""
    if score is None:
        return "not measured"
    if isinstance(score, Unmeasured):
        return f"not measured: {score.not_measured}"
    return f"{score.value:.2f} [{score.low:.2f}, {score.high:.2f}]"


def _checkpoint(
    one: StepResults, config: RunConfig, base: Scores, original: Scores
) -> CheckpointSummary:
    since_base = retention(base, one.scores)
    kept = {"retention": since_base, "batch_retention": None}
    if config.chain:
        since_original = retention_of_chain(original, one.scores)
        kept = {"retention": since_original, "batch_retention": since_base}
    return CheckpointSummary.model_validate({**dict(one), **kept})


def _steps(run: RunDir) -> tuple[list[StepFigures], int, int]:
    """At most ``MOST_STEPS`` steps, one of how many each is, and the number of skipped ones."""
    newest = sum(line["step"] for line in read_jsonl(run.steps, 1))
    every = max(1, -(-newest // MOST_STEPS))
    steps, skipped = [], 0
    for line in iter_jsonl(run.steps):
        if line.get("skipped"):
            skipped += 1
        elif (newest - line["step"]) % every == 0:
            speed = line["tokens"] / line["seconds"]
            steps.append(StepFigures(step=line["step"], loss=line["loss"], tokens_per_second=speed))
    return steps, every, skipped


def _scoring_share(run: RunDir) -> float | None:
    """Share of the rollout engines' time spent on scoring, since they last started."""
    busy = scoring = 0.0
    for line in read_jsonl(run.metrics, 1):
        for series in line["series"].values():
            busy += series.get("mixsd_rollout_busy_seconds_total", 0.0)
            scoring += series.get("mixsd_rollout_scoring_seconds_total", 0.0)
    return scoring / busy if busy else None
