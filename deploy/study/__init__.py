"""Studies: a grid of runs, scheduled, shared and reported as one."""
