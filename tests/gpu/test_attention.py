"""The fast attention of a row on the lane's device, against the one with masks."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.gpu
# Relative, of a whole tensor: bfloat16 has 8 bits, and weights and outputs are rounded to it.
ROUNDING = 2e-2


def test_one_varlen_call_gives_the_output_and_gradients_of_masks(check, device):
    # The CPU emulates the kernel, and has no bfloat16 units.
    figures = check("attention.paths", facts="128" if device == "cuda" else "4")
    assert len(figures) == 8
    for name, errors in figures.items():
        assert max(errors.values()) <= ROUNDING, (name, errors)
