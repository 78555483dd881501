"""A simulated run: every metric of the catalog as a function of time."""

from __future__ import annotations

from common.metrics import MetricValues

SUITES = {"recall": (0.9, 0.8, 0.95), "retrieval": (0.2, 0.1, 0.3), "text_nll": (3.8, 3.7, 3.9)}


def series(seconds: float, hung_for: float = 0.0) -> dict[str, MetricValues]:
    """Metrics by actor after ``seconds``; ``rollout-1`` hangs since ``hung_for`` seconds."""
    return {
        "rollout-0": _rollout(seconds),
        "rollout-1": {
            **_rollout(seconds - hung_for),
            "mixsd_actor_restarts_total": seconds // 8,
        },
        "replay": {
            "mixsd_replay_rollouts": 2 * seconds // 1,
            "mixsd_replay_waiting": 5 + seconds % 3,
            "mixsd_replay_waiting_bytes": 1000 * (5 + seconds % 3),
            "mixsd_replay_leased": 8,
            "mixsd_replay_sampled_total": 3 * seconds // 1,
            "mixsd_replay_trained": 3 * seconds // 1,
            "mixsd_replay_quarantined": 0,
            "mixsd_replay_stale": 0,
            "mixsd_replay_committed_step": seconds // 4,
            "mixsd_replay_blocked_seconds_total": {
                "insert,max_bytes": 0.1 * seconds,
                "sample,batch": 0.3 * seconds,
            },
        },
        "learner-0": _learner(seconds),
        "learner-1": _learner(seconds),
        "evaluator-0": {
            "mixsd_eval_items": 40,
            "mixsd_eval_items_done": seconds % 40,
            "mixsd_eval_seconds_total": 0.2 * seconds,
            **_engine(0.1),
            **_up(),
        },
        "controller": {
            "mixsd_eval_score": {suite: value for suite, (value, _, _) in SUITES.items()},
            "mixsd_eval_score_low": {suite: low for suite, (_, low, _) in SUITES.items()},
            "mixsd_eval_score_high": {suite: high for suite, (_, _, high) in SUITES.items()},
            "mixsd_eval_base_low": {"recall": 0.0, "retrieval": 0.5, "text_nll": 3.6},
            "mixsd_eval_base_high": {"recall": 0.1, "retrieval": 0.7, "text_nll": 3.8},
            "mixsd_eval_step": seconds // 4,
            "mixsd_fisher_alignment": 2.0 - 1.0 / (1.0 + seconds),
            "mixsd_fisher_displacement": 0.1 * seconds,
            "mixsd_raw_displacement": 0.5 * seconds,
            "mixsd_run_state": {"running": 1.0},
            "mixsd_disk_free_bytes": 5e10,
            "mixsd_disk_size_bytes": 1e11,
        },
    }


def _rollout(seconds: float) -> MetricValues:
    return {
        "mixsd_rollouts_accepted_total": seconds // 1,
        "mixsd_rollouts_exhausted_total": seconds // 10,
        "mixsd_attempts_total": 2 * seconds // 1,
        "mixsd_attempts_verified_total": seconds // 1,
        "mixsd_attempts_cancelled_total": seconds // 20,
        "mixsd_rollout_walked_tokens_total": 5 * seconds,
        "mixsd_rollout_scoring_seconds_total": 0.1 * seconds,
        "mixsd_rollout_tokens_total": 100 * seconds,
        "mixsd_rollout_naive_tokens_total": 10 * seconds,
        "mixsd_rollout_scored_tokens_total": 50 * seconds,
        "mixsd_rollout_weights_version": seconds // 1,
        "mixsd_rollout_publish_seconds": {"drain": 0.8, "load": 0.3, "check": 0.1},
        "mixsd_rollout_in_flight": 8,
        "mixsd_rollout_busy_seconds_total": 0.9 * seconds,
        **_engine(0.4),
        **_up(),
    }


def _learner(seconds: float) -> MetricValues:
    return {
        "mixsd_learner_step": seconds // 1,
        "mixsd_learner_loss": 3.0 / (1.0 + 0.1 * seconds),
        "mixsd_learner_grad_norm": 1.5,
        "mixsd_learner_learning_rate": 1e-5,
        "mixsd_learner_published_version": seconds // 1,
        "mixsd_learner_publish_seconds": {"gather": 0.1, "sum": 0.2, "write": 0.2},
        "mixsd_learner_tokens_total": 300 * seconds,
        "mixsd_learner_target_tokens_total": 90 * seconds,
        "mixsd_learner_step_seconds": 1.0,
        "mixsd_learner_wait_seconds_total": 0.2 * seconds,
        "mixsd_learner_skipped_total": 0,
        "mixsd_learner_checkpoint_seconds": 2.5,
        "mixsd_learner_checkpoint_stall_seconds": 0.4,
        **_up(),
    }


def _engine(usage: float) -> dict[str, float]:
    return {
        "mixsd_engine_kv_usage": usage,
        "mixsd_engine_running": 6,
        "mixsd_engine_waiting": 2,
        "mixsd_engine_idle_sessions": 7,
        "mixsd_engine_preempted": 0,
    }


def _up() -> dict[str, float]:
    return {"mixsd_actor_up": 1.0, "mixsd_actor_restarts_total": 0.0}
