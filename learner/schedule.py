"""Learning-rate schedules by name. Pure."""

from __future__ import annotations

import math

from common.config.learner import LearnerSettings


def learning_rate(settings: LearnerSettings, step: int, total_steps: int | None) -> float:
    """Rate of optimizer step ``step`` (from 1).

    Linear warm-up over ``warmup_steps``, then constant, linear to 0, cosine to 0, or wsd
    (warm-up, stable, decay): constant, then linear to 0 in the last ``decay_share`` of
    ``total_steps``. While ``total_steps`` is unknown (rollouts still stream), decaying
    schedules hold the peak.
    """
    if step <= settings.warmup_steps:
        return settings.lr * step / settings.warmup_steps
    if settings.schedule == "constant" or total_steps is None:
        return settings.lr
    span = max(1, total_steps - settings.warmup_steps)
    done = min(1.0, (step - settings.warmup_steps) / span)
    if settings.schedule == "wsd":
        left = total_steps - step
        return settings.lr * min(1.0, max(0.0, left / (settings.decay_share * total_steps)))
    if settings.schedule == "linear":
        return settings.lr * (1.0 - done)
    return settings.lr * 0.5 * (1.0 + math.cos(math.pi * done))
