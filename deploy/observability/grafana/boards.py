"""The dashboards' panels. ``panels`` turns them into Grafana's JSON.

``$run`` and ``$actor`` are the dashboards' variables. Metric names come from the
catalog and the recording rules; a test rejects any other name.
"""

from __future__ import annotations

from dataclasses import dataclass

RATE = "suffix: tokens/s"
SHARE = "percentunit"
NATS = "suffix: nats/token"


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel: queries as (PromQL, legend) pairs; ``stat`` shows only the last value."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    description: str = ""
    stat: bool = False
    largest: float | None = None


@dataclass(frozen=True, slots=True)
class Board:
    """One dashboard."""

    uid: str
    title: str
    panels: tuple[Panel, ...]


_RUN = '{run=~"$run"}'
_ACTOR = '{run=~"$run", actor=~"$actor"}'


def _rate(metric: str, labels: str = _ACTOR) -> str:
    return f"rate({metric}{labels}[$__rate_interval])"


def _of_run(metric: str, aggregate: str = "max") -> str:
    """A metric that is the same on every learner rank, or with ``sum`` one that adds up."""
    return f"{aggregate} by (run) ({metric})"


OVERVIEW = Board(
    "mixsd-overview",
    "MixSD: overview",
    (
        Panel("State", "none", ((f"mixsd_run_state{_RUN}", "{{run}}: {{state}}"),), stat=True),
        Panel("Step", "none", ((_of_run(f"mixsd_learner_step{_RUN}"), "{{run}}"),), stat=True),
        Panel(
            "Rollouts", "none", ((_of_run(f"mixsd_replay_rollouts{_RUN}"), "{{run}}"),), stat=True
        ),
        Panel(
            "Alerts firing",
            "none",
            (('count(ALERTS{alertname=~"Mixsd.*", alertstate="firing"}) or vector(0)', ""),),
            stat=True,
        ),
        Panel(
            "Tokens/s",
            RATE,
            (
                (_of_run(_rate("mixsd_rollout_tokens_total", _RUN), "sum"), "{{run}} generated"),
                (_of_run(_rate("mixsd_learner_tokens_total", _RUN)), "{{run}} trained"),
            ),
        ),
        Panel(
            "Tokens/s by actor",
            RATE,
            ((_rate("mixsd_rollout_tokens_total"), "{{run}} {{actor}}"),),
        ),
        Panel(
            "Acceptance",
            SHARE,
            ((f"run:mixsd_acceptance:ratio10m{_RUN}", "{{run}}"),),
            "Share of attempts that verify, over ten minutes.",
            largest=1.0,
        ),
        Panel(
            "Queue",
            "none",
            (
                (f"mixsd_replay_waiting{_RUN}", "{{run}} rollouts waiting"),
                (f"mixsd_replay_leased{_RUN}", "{{run}} facts leased"),
            ),
        ),
        Panel("Loss", NATS, ((_of_run(f"mixsd_learner_loss{_RUN}"), "{{run}}"),)),
        Panel(
            "Scores over checkpoints",
            SHARE,
            (('mixsd_eval_score{run=~"$run", suite!~".*nll.*"}', "{{run}} {{suite}}"),),
            largest=1.0,
        ),
        Panel(
            "Text NLL over checkpoints",
            NATS,
            (('mixsd_eval_score{run=~"$run", suite=~".*nll.*"}', "{{run}} {{suite}}"),),
        ),
        Panel(
            "Blocked time",
            SHARE,
            ((f"run_side:mixsd_blocked:ratio5m{_RUN}", "{{run}} {{side}}"),),
            "Share of time in which the queue blocks inserts (actors) or samples (the learner).",
            largest=1.0,
        ),
    ),
)

ACTORS = Board(
    "mixsd-actors",
    "MixSD: rollout actors and engines",
    (
        Panel("Tokens/s", RATE, ((_rate("mixsd_rollout_tokens_total"), "{{actor}}"),)),
        Panel(
            "Scored tokens/s", RATE, ((_rate("mixsd_rollout_scored_tokens_total"), "{{actor}}"),)
        ),
        Panel(
            "Acceptance",
            SHARE,
            (
                (
                    f"{_rate('mixsd_attempts_verified_total')} / {_rate('mixsd_attempts_total')}",
                    "{{actor}}",
                ),
            ),
            largest=1.0,
        ),
        Panel(
            "Exhausted facts",
            "none",
            ((f"mixsd_rollouts_exhausted_total{_ACTOR}", "{{actor}}"),),
        ),
        Panel(
            "Share of naive tokens",
            SHARE,
            (
                (
                    f"{_rate('mixsd_rollout_naive_tokens_total')}"
                    f" / {_rate('mixsd_rollout_tokens_total')}",
                    "{{actor}}",
                ),
            ),
            "Follows method.mix_rate.",
            largest=1.0,
        ),
        Panel(
            "Rollouts/min",
            "none",
            ((f"60 * {_rate('mixsd_rollouts_accepted_total')}", "{{actor}}"),),
        ),
        Panel("Attempts in flight", "none", ((f"mixsd_rollout_in_flight{_ACTOR}", "{{actor}}"),)),
        Panel(
            "Busy",
            SHARE,
            ((_rate("mixsd_rollout_busy_seconds_total"), "{{actor}}"),),
            "Share of time in engine steps; the actor waits for work in the rest.",
            largest=1.0,
        ),
        Panel("KV cache", SHARE, ((f"mixsd_engine_kv_usage{_ACTOR}", "{{actor}}"),), largest=1.0),
        Panel(
            "Requests in vLLM",
            "none",
            (
                (f"mixsd_engine_running{_ACTOR}", "{{actor}} running"),
                (f"mixsd_engine_waiting{_ACTOR}", "{{actor}} waiting"),
                (f"mixsd_engine_idle_sessions{_ACTOR}", "{{actor}} idle sessions"),
            ),
            "Idle sessions wait for the other side of their rollout and hold KV blocks.",
        ),
        Panel("Preemptions", "none", ((f"mixsd_engine_preempted{_ACTOR}", "{{actor}}"),)),
        Panel(
            "Seconds to load new weights",
            "s",
            ((f"mixsd_rollout_publish_seconds{_ACTOR}", "{{actor}} {{phase}}"),),
            "Only if the rollouts are sampled from the student.",
        ),
        Panel(
            "Weight version",
            "none",
            (
                (f"mixsd_rollout_weights_version{_ACTOR}", "{{actor}}"),
                (f"mixsd_learner_published_version{_RUN}", "{{run}} {{actor}} published"),
            ),
        ),
    ),
)

LEARNER = Board(
    "mixsd-learner",
    "MixSD: learner",
    (
        Panel("Loss", NATS, ((_of_run(f"mixsd_learner_loss{_RUN}"), "{{run}}"),)),
        Panel("Gradient norm", "none", ((_of_run(f"mixsd_learner_grad_norm{_RUN}"), "{{run}}"),)),
        Panel(
            "Learning rate", "sci", ((_of_run(f"mixsd_learner_learning_rate{_RUN}"), "{{run}}"),)
        ),
        Panel(
            "Steps",
            "none",
            (
                (_of_run(f"mixsd_learner_step{_RUN}"), "{{run}} done"),
                (f"mixsd_replay_committed_step{_RUN}", "{{run}} committed"),
                (f"mixsd_eval_step{_RUN}", "{{run}} evaluated"),
            ),
        ),
        Panel(
            "Tokens/s",
            RATE,
            (
                (_of_run(_rate("mixsd_learner_tokens_total", _RUN)), "{{run}}"),
                (_of_run(_rate("mixsd_learner_target_tokens_total", _RUN)), "{{run}} targets"),
            ),
        ),
        Panel("Seconds per step", "s", ((f"mixsd_learner_step_seconds{_RUN}", "{{actor}}"),)),
        Panel(
            "Waiting for a batch",
            SHARE,
            ((_rate("mixsd_learner_wait_seconds_total", _RUN), "{{actor}}"),),
            largest=1.0,
        ),
        Panel(
            "Seconds per checkpoint",
            "s",
            ((f"mixsd_learner_checkpoint_seconds{_RUN}", "{{actor}}"),),
        ),
        Panel(
            "Seconds to publish weights",
            "s",
            ((f"mixsd_learner_publish_seconds{_RUN}", "{{actor}} {{phase}}"),),
        ),
        Panel(
            "Exposures",
            "none",
            (
                (f"mixsd_replay_sampled_total{_RUN}", "{{run}} sampled"),
                (f"mixsd_replay_trained{_RUN}", "{{run}} committed"),
            ),
        ),
        Panel("Queue bytes", "bytes", ((f"mixsd_replay_waiting_bytes{_RUN}", "{{run}}"),)),
    ),
)


def _suite_panel(title: str, unit: str, suites: str) -> Panel:
    labels = f'{{run=~"$run", {suites}}}'
    return Panel(
        title,
        unit,
        (
            (f"mixsd_eval_score{labels}", "{{run}} {{suite}}"),
            (f"mixsd_eval_score_low{labels}", "{{run}} {{suite}} low"),
            (f"mixsd_eval_score_high{labels}", "{{run}} {{suite}} high"),
            (f"mixsd_eval_base_low{labels}", "{{run}} {{suite}} base low"),
            (f"mixsd_eval_base_high{labels}", "{{run}} {{suite}} base high"),
        ),
        "With 95 % intervals, and those of the base model.",
    )


EVALUATION = Board(
    "mixsd-evaluation",
    "MixSD: evaluation",
    (
        _suite_panel("Scores", SHARE, 'suite!~".*nll.*"'),
        _suite_panel("NLL", NATS, 'suite=~".*nll.*"'),
        Panel(
            "Fisher alignment",
            "none",
            ((f"mixsd_fisher_alignment{_RUN}", "{{run}}"),),
            "(D_F / |move|²) / (tr F / d): 1 if the update ignores the base's Fisher, above 1 if "
            "it moves along sensitive directions.",
        ),
        Panel(
            "Displacement from the base",
            "none",
            (
                (f"mixsd_fisher_displacement{_RUN}", "{{run}} D_F"),
                (f"mixsd_raw_displacement{_RUN}", "{{run}} raw"),
            ),
        ),
        Panel(
            "Steps behind the newest checkpoint",
            "none",
            (
                (
                    f"max by (run) (mixsd_replay_committed_step{_RUN})"
                    f" - max by (run) (mixsd_eval_step{_RUN})",
                    "{{run}}",
                ),
            ),
        ),
        Panel(
            "Busy", SHARE, ((_rate("mixsd_eval_seconds_total", _RUN), "{{actor}}"),), largest=1.0
        ),
    ),
)

FAULTS = Board(
    "mixsd-faults",
    "MixSD: faults",
    (
        Panel(
            "Alerts",
            "none",
            (('ALERTS{alertname=~"Mixsd.*", run=~"$run"}', "{{alertname}} {{run}} {{actor}}"),),
        ),
        Panel(
            "Run responds", "none", (('up{job=~".*mixsd", run=~"$run"}', "{{run}}"),), largest=1.0
        ),
        Panel("Restarts", "none", ((f"mixsd_actor_restarts_total{_ACTOR}", "{{run}} {{actor}}"),)),
        Panel("Actors by role", "none", ((f"run_role:mixsd_actors:up{_RUN}", "{{run}} {{role}}"),)),
        Panel("Actor up", "none", ((f"mixsd_actor_up{_ACTOR}", "{{run}} {{actor}}"),), largest=1.0),
        Panel(
            "Blocked",
            SHARE,
            ((f"run_side:mixsd_blocked:ratio5m{_RUN}", "{{run}} {{side}}"),),
            largest=1.0,
        ),
        Panel(
            "Disk free",
            SHARE,
            ((f"mixsd_disk_free_bytes{_RUN} / mixsd_disk_size_bytes{_RUN}", "{{run}}"),),
            largest=1.0,
        ),
    ),
)

BOARDS = (OVERVIEW, ACTORS, LEARNER, EVALUATION, FAULTS)
