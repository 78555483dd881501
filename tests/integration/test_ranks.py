"""Real ranks (gloo): results do not depend on ranks, sharding, packing or micro-batches."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("ranks.py")
ROOT = SCRIPT.parents[2]
MATRIX = {
    f"{stage}-{'packed' if pack else 'single'}-{micro}": {
        "zero_stage": stage,
        "pack": pack,
        "micro_batch": micro,
    }
    for stage, pack, micro in product((0, 2, 3), (False, True), (1, 4))
}
REFERENCE = "0-single-1"


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
        tie_word_embeddings=True,
    )
    folder = tmp_path_factory.mktemp("tiny")
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def run(model: Path, out: Path, ranks: int, cases: list[dict]) -> None:
    """Run ``cases`` one after another in ``ranks`` processes."""
    out.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = [
        subprocess.Popen(
            [sys.executable, SCRIPT, str(model), str(out), json.dumps(cases)],
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
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
    assert all(process.returncode == 0 for process in processes), "\n".join(outputs)


def assert_equal(ours: Path, reference: Path, tolerance: float = 1e-5) -> None:
    """Losses, norms and weights of two cases agree."""
    from safetensors.torch import load_file

    for step, expected in zip(
        json.loads(ours.with_suffix(".json").read_text()),
        json.loads(reference.with_suffix(".json").read_text()),
        strict=True,
    ):
        assert step == pytest.approx(expected, rel=tolerance)
    weights = load_file(ours.with_suffix(".safetensors"))
    expected_weights = load_file(reference.with_suffix(".safetensors"))
    assert weights.keys() == expected_weights.keys()
    for name, weight in weights.items():
        difference = (weight - expected_weights[name]).norm() / expected_weights[name].norm()
        assert float(difference) <= tolerance, (name, float(difference))


@pytest.fixture(scope="module")
def matrix(tiny, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("matrix")
    cases = [{"name": name, "settings": settings, "steps": 10} for name, settings in MATRIX.items()]
    for ranks in (1, 2):
        run(tiny, out / str(ranks), ranks, cases)
    return out


def test_training_lowers_the_loss_of_the_reference(matrix):
    results = json.loads((matrix / "1" / f"{REFERENCE}.json").read_text())
    assert results[-1][0] < results[0][0] - 0.1


@pytest.mark.parametrize("ranks", ["1", "2"])
@pytest.mark.parametrize("name", MATRIX)
def test_ten_steps_equal_one_unsharded_rank_without_packing(matrix, ranks, name):
    assert_equal(matrix / ranks / name, matrix / "1" / REFERENCE)
