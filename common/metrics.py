"""The catalog of metrics: every series that a run exports, by role.

Roles return their current metrics as plain numbers, and the run's endpoint converts these to
Prometheus metric families. So a run has only one port to secure, and the series of an actor
end when it dies. ``python -m common.metrics`` prints ``docs/metrics.md``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

Role = Literal["rollout", "engine", "replay", "learner", "evaluator", "controller"]

# Metric name -> value, or -> {label value: value} where the metric has a label; where it has
# two, named "a,b", the values are joined in the same way.
MetricValues = Mapping[str, float | Mapping[str, float]]


# Most values of a metric's own label per actor, which bounds the number of series.
MAX_LABEL_VALUES = 64

_UNIT_WORDS = ("seconds", "bytes", "tokens")


@dataclass(frozen=True, slots=True)
class Spec:
    """One metric. Every series has the labels ``run`` and ``actor``; ``label`` is another one.

    ``measured_in``: the unit, if the name does not end with it.
    """

    name: str
    kind: Literal["counter", "gauge"]
    role: Role
    help: str
    label: str | None = None
    measured_in: str | None = None

    @property
    def unit(self) -> str:
        """Unit of the value."""
        word = self.name.removesuffix("_total").rpartition("_")[2]
        return self.measured_in or (word if word in _UNIT_WORDS else "count")


CATALOGUE: tuple[Spec, ...] = (
    Spec("mixsd_rollouts_accepted_total", "counter", "rollout", "Rollouts accepted."),
    Spec(
        "mixsd_rollouts_exhausted_total", "counter", "rollout", "Facts whose attempts all failed."
    ),
    Spec("mixsd_attempts_total", "counter", "rollout", "Attempts finished."),
    Spec(
        "mixsd_attempts_verified_total",
        "counter",
        "rollout",
        "Attempts that the verifier accepted.",
    ),
    Spec(
        "mixsd_attempts_cancelled_total",
        "counter",
        "rollout",
        "Attempts cancelled because another one won.",
    ),
    Spec("mixsd_rollout_tokens_total", "counter", "rollout", "Tokens sampled in attempts."),
    Spec(
        "mixsd_rollout_naive_tokens_total",
        "counter",
        "rollout",
        "Tokens sampled from the naive conditional.",
    ),
    Spec(
        "mixsd_rollout_walked_tokens_total",
        "counter",
        "rollout",
        "Tokens reused from the attempt tree instead of sampled.",
    ),
    Spec("mixsd_rollout_scored_tokens_total", "counter", "rollout", "Target tokens scored."),
    Spec(
        "mixsd_rollout_weights_version",
        "gauge",
        "rollout",
        "Version of the student's weights in the engine.",
        measured_in="steps",
    ),
    Spec(
        "mixsd_rollout_publish_seconds",
        "gauge",
        "rollout",
        "Seconds to load the newest version: drain, load, check (by transfer: drain, load).",
        "phase",
    ),
    Spec("mixsd_rollout_in_flight", "gauge", "rollout", "Attempts in flight."),
    Spec("mixsd_rollout_busy_seconds_total", "counter", "rollout", "Seconds in engine steps."),
    Spec(
        "mixsd_rollout_scoring_seconds_total",
        "counter",
        "rollout",
        "Busy seconds spent on scoring, by its share of each step's tokens.",
    ),
    Spec(
        "mixsd_engine_kv_usage",
        "gauge",
        "engine",
        "Fraction of KV blocks in use, including idle sessions.",
        measured_in="0 to 1",
    ),
    Spec("mixsd_engine_running", "gauge", "engine", "Requests running in vLLM."),
    Spec("mixsd_engine_waiting", "gauge", "engine", "Requests waiting in vLLM's scheduler."),
    Spec("mixsd_engine_idle_sessions", "gauge", "engine", "Sessions without a running request."),
    Spec("mixsd_engine_preempted", "gauge", "engine", "Preemptions of live requests."),
    Spec("mixsd_replay_rollouts", "gauge", "replay", "Rollouts in the ledger."),
    Spec("mixsd_replay_waiting", "gauge", "replay", "Rollouts not trained on yet."),
    Spec("mixsd_replay_waiting_bytes", "gauge", "replay", "Payload bytes of those."),
    Spec("mixsd_replay_leased", "gauge", "replay", "Work items leased to actors."),
    Spec(
        "mixsd_replay_sampled_total", "counter", "replay", "Training examples assigned to a step."
    ),
    Spec("mixsd_replay_trained", "gauge", "replay", "Training examples in committed steps."),
    Spec(
        "mixsd_replay_quarantined",
        "gauge",
        "replay",
        "Facts quarantined because actors died on them.",
    ),
    Spec("mixsd_replay_stale", "gauge", "replay", "Rollouts dropped as too old before training."),
    Spec(
        "mixsd_replay_committed_step",
        "gauge",
        "replay",
        "Step of the newest committed checkpoint.",
        measured_in="steps",
    ),
    Spec(
        "mixsd_replay_blocked_seconds_total",
        "counter",
        "replay",
        "Seconds that a side was blocked (insert: actors; sample: learner).",
        "side,reason",
    ),
    Spec("mixsd_learner_step", "gauge", "learner", "Optimizer steps done.", measured_in="steps"),
    Spec(
        "mixsd_learner_loss",
        "gauge",
        "learner",
        "Loss of the last step.",
        measured_in="nats/token",
    ),
    Spec(
        "mixsd_learner_grad_norm",
        "gauge",
        "learner",
        "Gradient norm before clipping.",
        measured_in="norm",
    ),
    Spec(
        "mixsd_learner_learning_rate",
        "gauge",
        "learner",
        "Learning rate of the last step.",
        measured_in="rate",
    ),
    Spec(
        "mixsd_learner_published_version",
        "gauge",
        "learner",
        "Version of the newest published weights.",
        measured_in="steps",
    ),
    Spec(
        "mixsd_learner_publish_seconds",
        "gauge",
        "learner",
        "Seconds to publish it: gather, sum, write (by transfer: meet, the rendezvous; send).",
        "phase",
    ),
    Spec("mixsd_learner_tokens_total", "counter", "learner", "Prompt and target tokens trained."),
    Spec("mixsd_learner_target_tokens_total", "counter", "learner", "Target tokens trained."),
    Spec("mixsd_learner_step_seconds", "gauge", "learner", "Seconds of the last step."),
    Spec("mixsd_learner_wait_seconds_total", "counter", "learner", "Seconds without a batch."),
    Spec(
        "mixsd_learner_skipped_total",
        "counter",
        "learner",
        "Steps skipped for a non-finite gradient.",
    ),
    Spec(
        "mixsd_learner_checkpoint_seconds",
        "gauge",
        "learner",
        "Seconds to write the last checkpoint.",
    ),
    Spec(
        "mixsd_learner_checkpoint_stall_seconds",
        "gauge",
        "learner",
        "Seconds that it stopped training.",
    ),
    Spec("mixsd_eval_items", "gauge", "evaluator", "Items of the benchmark in progress."),
    Spec("mixsd_eval_items_done", "gauge", "evaluator", "Finished items of that benchmark."),
    Spec("mixsd_eval_seconds_total", "counter", "evaluator", "Seconds spent in evaluation."),
    *(
        Spec(name, "gauge", "controller", meaning, "suite", measured_in="fraction, or nats/token")
        for name, meaning in (
            ("mixsd_eval_score", "Score of the newest evaluated checkpoint."),
            ("mixsd_eval_score_low", "Lower end of that score's 95 % interval."),
            ("mixsd_eval_score_high", "Upper end of that score's 95 % interval."),
            ("mixsd_eval_base_low", "Lower end of the base model's interval."),
            ("mixsd_eval_base_high", "Upper end of the base model's interval."),
        )
    ),
    Spec(
        "mixsd_eval_step",
        "gauge",
        "controller",
        "Step of the newest evaluated checkpoint.",
        measured_in="steps",
    ),
    *(
        Spec(name, "gauge", "controller", meaning, measured_in=unit)
        for name, meaning, unit in (
            (
                "mixsd_fisher_alignment",
                "Newest measured checkpoint: (D_F / |move|^2) / (tr F / d); 1: independent of F.",
                "ratio",
            ),
            (
                "mixsd_fisher_displacement",
                "D_F of that checkpoint: sum of F times squared distance from the base.",
                "nats",
            ),
            (
                "mixsd_raw_displacement",
                "Squared distance of that checkpoint's weights from the base's.",
                "squared weight",
            ),
        )
    ),
    Spec("mixsd_run_state", "gauge", "controller", "1 for the current state of the run.", "state"),
    Spec("mixsd_disk_free_bytes", "gauge", "controller", "Free space on the run folder's disk."),
    Spec("mixsd_disk_size_bytes", "gauge", "controller", "Size of that disk."),
    Spec(
        "mixsd_actor_up",
        "gauge",
        "controller",
        "1 while the actor is alive.",
        measured_in="0 or 1",
    ),
    Spec("mixsd_actor_restarts_total", "counter", "controller", "Restarts of the actor."),
)

_BY_NAME = {spec.name: spec for spec in CATALOGUE}


def metric_families(run: str, by_actor: Mapping[str, MetricValues]) -> Iterator[Metric]:
    """Prometheus metric families of the metrics of each actor.

    Raises:
        KeyError: a metric is not in the catalog.
        ValueError: a label has more than ``MAX_LABEL_VALUES`` values.
    """
    by_metric: dict[str, list[tuple[str, float | Mapping[str, float]]]] = {}
    for actor, metrics in sorted(by_actor.items()):
        for name, value in metrics.items():
            by_metric.setdefault(_BY_NAME[name].name, []).append((actor, value))
    for spec in CATALOGUE:
        if spec.name not in by_metric:
            continue
        own_labels = spec.label.split(",") if spec.label else []
        labels = ["run", "actor", *own_labels]
        family: Metric
        if spec.kind == "counter":
            family = CounterMetricFamily(spec.name.removesuffix("_total"), spec.help, labels=labels)
        else:
            family = GaugeMetricFamily(spec.name, spec.help, labels=labels)
        for actor, value in by_metric[spec.name]:
            parts = value.items() if isinstance(value, Mapping) else [(None, value)]
            if len(parts) > MAX_LABEL_VALUES:
                raise ValueError(f"{spec.name} of {actor}: {len(parts)} values of {spec.label}")
            for part, number in parts:
                values = part.split(",", len(own_labels) - 1) if part is not None else []
                family.add_metric([run, actor, *values], number)
        yield family


def page() -> str:
    """The catalog as a Markdown page."""
    lines = [
        "# Metrics",
        "",
        "Written by `make generated` from `common/metrics.py`; a test compares the two.",
        "",
        "A run serves all metrics at one address; `mixsd-cluster status RUN` shows it. Every",
        "series has the labels `run` and `actor`; a few have another one. A counter restarts at 0",
        "when its actor restarts, and the series of an actor end when it stops.",
    ]
    for role in get_args(Role):
        lines += ["", f"## {_TITLES[role]}", ""]
        lines += ["| name | kind | unit | label | meaning |", "| --- | --- | --- | --- | --- |"]
        lines += [
            f"| `{spec.name}` | {spec.kind} | {spec.unit} | {spec.label or ''} | {spec.help} |"
            for spec in CATALOGUE
            if spec.role == role
        ]
    return "\n".join([*lines, ""])


_TITLES: dict[Role, str] = {
    "rollout": "Rollout actors",
    "engine": "Engines, of rollout actors and evaluators",
    "replay": "Replay queue",
    "learner": "Learner ranks",
    "evaluator": "Evaluators",
    "controller": "Run and controller",
}

if __name__ == "__main__":
    print(page(), end="")
