"""The catalogue of metrics: every series that a run exports, by role.

Roles keep plain numbers and hand them over as a snapshot; the run's one
endpoint turns snapshots into Prometheus families. So there is one door to
guard, and a dead actor's series end with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

Role = Literal["rollout", "replay", "learner", "evaluator", "controller"]

# Metric name -> value, or -> {label value: value} where the metric has a label.
Snapshot = Mapping[str, float | Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Spec:
    """One metric. Every series carries ``run`` and ``actor``; ``label`` is one more."""

    name: str
    kind: Literal["counter", "gauge"]
    role: Role
    help: str
    label: str | None = None


CATALOGUE: tuple[Spec, ...] = (
    Spec("mixsd_rollouts_accepted_total", "counter", "rollout", "Rollouts accepted."),
    Spec("mixsd_rollouts_exhausted_total", "counter", "rollout", "Facts whose attempts failed."),
    Spec("mixsd_attempts_total", "counter", "rollout", "Attempts finished."),
    Spec("mixsd_rollout_tokens_total", "counter", "rollout", "Tokens drawn in attempts."),
    Spec("mixsd_rollout_naive_tokens_total", "counter", "rollout", "Tokens the naive side drew."),
    Spec("mixsd_rollout_scored_tokens_total", "counter", "rollout", "Target tokens scored."),
    Spec("mixsd_rollout_in_flight", "gauge", "rollout", "Attempts in flight."),
    Spec("mixsd_rollout_busy_seconds_total", "counter", "rollout", "Seconds of engine steps."),
    Spec("mixsd_replay_rollouts", "gauge", "replay", "Rollouts in the ledger."),
    Spec("mixsd_replay_waiting", "gauge", "replay", "Rollouts before their first exposure."),
    Spec("mixsd_replay_waiting_bytes", "gauge", "replay", "Payload bytes of those."),
    Spec("mixsd_replay_leased", "gauge", "replay", "Work items leased to actors."),
    Spec("mixsd_replay_sampled_total", "counter", "replay", "Exposures bound to a step."),
    Spec("mixsd_replay_trained", "gauge", "replay", "Exposures committed."),
    Spec(
        "mixsd_replay_blocked_seconds_total",
        "counter",
        "replay",
        "Seconds a side was made to wait.",
        "side",
    ),
    Spec("mixsd_learner_step", "gauge", "learner", "Optimizer steps done."),
    Spec("mixsd_learner_loss", "gauge", "learner", "Loss of the last step, nats a token."),
    Spec("mixsd_learner_grad_norm", "gauge", "learner", "Gradient norm before clipping."),
    Spec("mixsd_learner_learning_rate", "gauge", "learner", "Learning rate of the last step."),
    Spec("mixsd_learner_tokens_total", "counter", "learner", "Prompt and target tokens trained."),
    Spec("mixsd_learner_target_tokens_total", "counter", "learner", "Target tokens trained."),
    Spec("mixsd_learner_step_seconds", "gauge", "learner", "Seconds of the last step."),
    Spec("mixsd_learner_wait_seconds_total", "counter", "learner", "Seconds without a batch."),
    Spec("mixsd_learner_checkpoint_seconds", "gauge", "learner", "Seconds of the last checkpoint."),
    Spec("mixsd_eval_score", "gauge", "evaluator", "Score on the newest checkpoint.", "suite"),
    Spec("mixsd_eval_step", "gauge", "evaluator", "Step of the newest evaluated checkpoint."),
    Spec("mixsd_eval_items", "gauge", "evaluator", "Items of the benchmark in progress."),
    Spec("mixsd_eval_items_done", "gauge", "evaluator", "Items of it that are done."),
    Spec("mixsd_eval_seconds_total", "counter", "evaluator", "Seconds spent in evaluation."),
    Spec("mixsd_actor_up", "gauge", "controller", "1 while the actor answers."),
    Spec("mixsd_actor_restarts_total", "counter", "controller", "Restarts of the actor."),
)

_BY_NAME = {spec.name: spec for spec in CATALOGUE}


def families(run: str, snapshots: Mapping[str, Snapshot]) -> Iterator[Metric]:
    """Prometheus families of the given snapshots, keyed by actor name.

    Raises:
        KeyError: a snapshot holds a metric that the catalogue lacks.
    """
    by_metric: dict[str, list[tuple[str, float | Mapping[str, float]]]] = {}
    for actor, snapshot in sorted(snapshots.items()):
        for name, value in snapshot.items():
            by_metric.setdefault(_BY_NAME[name].name, []).append((actor, value))
    for spec in CATALOGUE:
        if spec.name not in by_metric:
            continue
        labels = ["run", "actor", *([spec.label] if spec.label else [])]
        family: Metric
        if spec.kind == "counter":
            family = CounterMetricFamily(spec.name.removesuffix("_total"), spec.help, labels=labels)
        else:
            family = GaugeMetricFamily(spec.name, spec.help, labels=labels)
        for actor, value in by_metric[spec.name]:
            parts = value.items() if isinstance(value, Mapping) else [(None, value)]
            for part, number in parts:
                family.add_metric([run, actor, *([part] if part is not None else [])], number)
        yield family
