"""Speeds, which are only recorded."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.gpu


def test_decoding_is_timed(check):
    figures = check("throughput.decoding")
    assert min(figures["plain_tokens_per_s"], figures["mixed_tokens_per_s"]) > 0


def test_training_is_timed(check):
    assert check("throughput.training")["tokens_per_s"] > 0
