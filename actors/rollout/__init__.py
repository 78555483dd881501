"""Rollout actors: lease work, build attempts, decode, verify, insert what was accepted."""
