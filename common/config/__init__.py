"""A run's configuration: every setting with its range, and errors that name the key."""
