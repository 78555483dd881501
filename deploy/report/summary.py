"""The numbers of a run's report, from the files of its folder alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from actors.evaluation.results import by_step
from actors.evaluation.selection import Selection, select
from common.config import run_config as configuration
from common.config.evaluation import HELD_OUT
from common.config.run_config import RunConfig
from common.estimates import mean_nll
from common.ledger import open_view
from common.methods import Method, Mixed, StudentSampled
from common.records import Rollout, unpack_rollout
from common.rundir import RunDir, read_jsonl


def evaluations(run: RunDir) -> list[dict[str, Any]]:
    """Results by step, the base model first."""
    return by_step(run.eval)


def chosen(config: RunConfig, results: list[dict[str, Any]]) -> Selection | None:
    """The checkpoint that counts as the run's result, by the run's own rule."""
    settings = config.evaluator
    recall = {
        result["step"]: result["scores"]["recall"]["value"]
        for result in results
        if "value" in result["scores"].get("recall", {})
    }
    return select(recall, settings.select, settings.patience, settings.min_delta)


def summary(run: RunDir) -> dict[str, Any]:
    """The figures that tables and comparisons show."""
    config = configuration.load(run.config)
    ledger = open_view(run.ledger)
    try:
        counts = ledger.counts()
        rollouts = [unpack_rollout(payload) for payload in ledger.payloads()]
        lost = [(fact, f"{outcome}: {reason}") for fact, outcome, reason in ledger.lost()]
    finally:
        ledger.close()
    results = evaluations(run)
    selection = chosen(config, results)
    # Without a recall to choose by, the last checkpoint is the result.
    step = counts.committed_step if selection is None else selection.step
    final = next((one for one in results if one["step"] == step), results[-1] if results else {})
    return {
        "run": run.name,
        "method": config.method.name,
        "by_student": config.student is not None,
        "facts": counts.work,
        "accepted": counts.accepted,
        "exhausted": lost,
        "attempts": counts.attempts,
        "exposures_expected": counts.accepted * config.exposures_per_rollout,
        "exposures_trained": counts.trained,
        "stopped_early": config.learner.early_stop
        and selection is not None
        and selection.settled
        and counts.trained < (counts.work - counts.lost) * config.exposures_per_rollout,
        "step": counts.committed_step,
        "checkpoint": str(run.checkpoints / f"step_{step}"),
        "chosen": step,
        "chosen_because": "recall was not measured" if selection is None else selection.reason,
        "target_nll": _nll([r.base_logprobs for r in rollouts]),
        "canonical_nll": _nll([r.canonical_logprobs for r in rollouts]),
        "scoring_share": _scoring_share(run),
        "targets": _by_origin(rollouts, config.method),
        "base": _base(results),
        "final": final.get("scores", {}),
        "unverified": sum(not rollout.verified for rollout in rollouts),
        "accepted_by_attempt": _by_attempt(rollouts),
        "nlls": {
            "targets": [r.target_nll for r in rollouts if r.target_nll is not None],
            "canonical": [r.canonical_nll for r in rollouts if r.canonical_nll is not None],
        },
        "nll_check": next(
            (one["analyses"]["nll_check"] for one in results if "nll_check" in one["analyses"]),
            None,
        ),
        "fisher": final.get("analyses", {}).get("fisher"),
        "checkpoints": [{**one, "retention": retention(_base(results), one)} for one in results],
        "steps": [
            {
                "step": line["step"],
                "loss": line["loss"],
                "tokens_per_second": line["tokens"] / line["seconds"],
            }
            for line in read_jsonl(run.steps)
        ],
    }


def retention(base: dict[str, Any], result: dict[str, Any]) -> float | None:
    """What is kept of the held-out capability: mean of score over the base's score.

    Over the shares of right answers (retrieval and the benchmarks outside the corpus) that
    both have and where the base is right at all; None where there is none.
    """
    kept = [
        result["scores"][name]["value"] / before["value"]
        for name, before in base.items()
        if name in {*HELD_OUT, "retrieval"}
        and before.get("unit") == "fraction"
        and before["value"] > 0
        and "value" in result["scores"].get(name, {})
    ]
    return sum(kept) / len(kept) if kept else None


def score_text(score: dict[str, Any] | None) -> str:
    """One score for a table: value and interval, or why there is none."""
    if score is None:
        return "not measured"
    if "value" not in score:
        return f"not measured: {score['not_measured']}"
    return f"{score['value']:.2f} [{score['low']:.2f}, {score['high']:.2f}]"


def _base(results: list[dict[str, Any]]) -> dict[str, Any]:
    """The base model's scores; none where it was not measured."""
    return results[0]["scores"] if results and results[0]["step"] == 0 else {}


def _nll(logprobs: list[list[float]]) -> dict[str, Any] | None:
    """Mean NLL a token over the scored targets, with interval; ``items``: how many they are."""
    scored = [target for target in logprobs if target]
    return {**asdict(mean_nll(scored)), "items": len(scored)} if scored else None


def _scoring_share(run: RunDir) -> float | None:
    """Share of the rollout engines' time that scoring took, since they last started."""
    busy = scoring = 0.0
    for line in read_jsonl(run.metrics, 1):
        for series in line["series"].values():
            busy += series.get("mixsd_rollout_busy_seconds_total", 0.0)
            scoring += series.get("mixsd_rollout_scoring_seconds_total", 0.0)
    return scoring / busy if busy else None


def _by_origin(rollouts: list[Rollout], method: Method) -> dict[str, int]:
    """Targets by how they came to be; an extension counts only where it changed something."""

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
    """Verified rollouts by the attempt (from 1) that gave them."""
    return dict(sorted(Counter(r.attempt + 1 for r in rollouts if r.verified).items()))
