"""The configuration of a run: every setting with its range, and errors that name the key."""
