"""Commands of ``mixsd-cluster``, one module a group; nothing heavy at import."""
