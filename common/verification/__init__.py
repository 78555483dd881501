"""Verifiers: whether a text contains the answer of a fact."""
