"""New weights in an engine on the lane's device."""

from __future__ import annotations

from itertools import product

import pytest

pytestmark = pytest.mark.gpu


def test_a_reloaded_engine_scores_as_a_fresh_one(check):
    figures = check("weights.reload")
    for dtype, head in product(("float32", "bfloat16"), ("tied head", "head of its own")):
        found = figures[f"{dtype}, {head}"]
        assert found["what_differs"] is None
        # Nats; a layer of the old weights would make more than a tenth of the way.
        assert found["error"] <= {"float32": 1e-4, "bfloat16": 2e-2}[dtype]
        assert found["moved"] > 0.5


def test_an_engine_receives_weights_from_another_process_of_the_gpu(check, cuda_only):
    cuda_only("CUDA IPC needs a GPU; 'make test' emulates it")
    figures = check("transfer.ipc")
    assert figures["version"] == 2
    assert figures["what_differs"] is None
    assert figures["error"] <= 2e-2
    assert figures["moved"] > 0.1
    for update in figures["updates"]:
        # Two bytes each of 218 M weights, 256 MiB at a time.
        assert update["chunks"] >= 2
        assert update["not_freed"] < 2**27


def test_a_student_learns_from_its_own_rollouts_and_the_engine_has_its_weights(check):
    figures = check("student.rounds")
    # The weights before the first step, and after each of eight.
    assert figures["version"] == len(figures["losses"]) == 8
    assert figures["losses"][-1] < 0.85 * figures["losses"][0]
    assert figures["score_error"] < 1e-3
