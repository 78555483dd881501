"""Prompts and graders of the paper's released code, one module per benchmark.

They are written from its rules and keep its quirks: what they accept wrongly or miss is part of
the published scores. The prompt strings are those of the release, byte for byte.
"""
