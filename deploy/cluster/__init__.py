"""The Ray cluster of a run, and background processes."""
