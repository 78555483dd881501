"""Starts, watches, restarts and scales the roles of a run."""
