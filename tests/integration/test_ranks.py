"""Two real DeepSpeed ranks (gloo) against one: the loss does not depend on sharding."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

_RANK = """
import json, os, sys
from pathlib import Path
from common.config import LearnerSettings
from learner.engine import TrainingEngine
from learner.packing import pack, share

folder, stage, ranks = Path(sys.argv[1]), int(sys.argv[2]), int(os.environ["WORLD_SIZE"])
settings = LearnerSettings(ranks=ranks, device="cpu", dtype="float32", zero_stage=stage, lr=1e-3)
engine = TrainingEngine(folder, settings, loss="nll", seed=0)
examples = [([1 + i, 2, 3], [4 + i, 5, 6 + i]) for i in range(4)]
rows = share(pack(examples, 12), ranks)[int(os.environ["RANK"])]
results = [engine.step(rows, 12, 1e-3) for _ in range(4)]
if os.environ["RANK"] == "0":
    print("RESULT", json.dumps(results))
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    folder = tmp_path_factory.mktemp("tiny")
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def _train(folder: Path, stage: int, ranks: int) -> list[list[float]]:
    """(loss, gradient norm) of four steps."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _RANK, str(folder), str(stage)],
            env={
                **os.environ,
                "RANK": str(rank),
                "LOCAL_RANK": "0",
                "WORLD_SIZE": str(ranks),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "DS_ACCELERATOR": "cpu",
                "OMP_NUM_THREADS": "1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(ranks)
    ]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert all(process.returncode == 0 for process in processes), outputs
    line = next(line for line in outputs[0].splitlines() if line.startswith("RESULT"))
    results: list[list[float]] = json.loads(line.removeprefix("RESULT"))
    return results


@pytest.fixture(scope="module")
def one_rank(tiny):
    return _train(tiny, stage=0, ranks=1)


@pytest.mark.parametrize(("stage", "ranks"), [(2, 1), (2, 2)])
def test_losses_and_gradient_norms_equal_one_unsharded_rank(tiny, one_rank, stage, ranks):
    for ours, reference in zip(_train(tiny, stage, ranks), one_rank, strict=True):
        assert ours == pytest.approx(reference, rel=1e-5)
