"""The replay queue: serves the ledger to actors and learner within limits."""
