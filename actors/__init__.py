"""The roles that hold engines or serve them: rollout, replay queue, evaluator."""
