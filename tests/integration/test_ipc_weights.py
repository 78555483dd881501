"""Weights that another process sends in chunks, by vLLM's trainer, to vLLM's worker.

Only CUDA IPC is emulated. The same check runs on a GPU: ``make test-gpu``.
"""

import pytest

from tests.gpu.checks.transfer import ipc

pytestmark = [pytest.mark.slow, pytest.mark.one_core]


def test_an_engine_that_receives_weights_from_another_process_scores_as_a_fresh_one(tmp_path):
    found = ipc("cpu", tmp_path)
    assert found["version"] == 2
    assert found["what_differs"] is None
    assert found["error"] == 0
    assert found["moved"] > 0.5
    # 4 bytes each of 90,432 weights, 64 KiB at a time: 5.5 buffers at least.
    assert [update["bytes"] for update in found["updates"]] == [4 * 90_432] * 2
    assert all(update["chunks"] >= 6 for update in found["updates"])
