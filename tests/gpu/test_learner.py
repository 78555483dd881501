"""Training on the lane's device against plain PyTorch on the CPU."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.gpu
# Relative, after ten steps of AdamW. bfloat16 has 8 bits.
ROUNDING = {"float32": 1e-4, "bfloat16": 1e-2}


def test_the_loss_does_not_depend_on_packing(check):
    figures = check("learner.packing")
    losses = [loss for loss, _ in figures.pop("plain")]
    # Near ln 64, and less with every step.
    assert losses[0] == pytest.approx(4.16, abs=0.1)
    assert losses == sorted(losses, reverse=True)
    assert len(figures) == 5
    for name, found in figures.items():
        assert found["loss_error"] <= ROUNDING["float32"], name
        assert found["norm_error"] <= 10 * ROUNDING["float32"], name


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_ten_steps_are_those_of_plain_torch_at_every_stage_of_zero(check, dtype):
    figures = check("learner.zero", dtype=dtype)
    for stage in range(4):
        found = figures[f"stage {stage}"]
        assert found["loss_error"] <= ROUNDING[dtype], stage
        assert found["norm_error"] <= 10 * ROUNDING[dtype], stage


def test_the_fisher_information_is_that_of_the_cpu(check):
    figures = check("fisher.sums")
    # Embedding, nine weights in each of two layers, and the last norm.
    assert figures["parameters"] == 20
    assert figures["largest_error"] <= 1e-4, figures["errors"]
