"""What is published equals the student's weights, on any number of ranks, within the deadline."""

import time

import pytest
import torch
from safetensors.torch import load_file

from common.config.learner import PublishSettings
from common.rundir import RunDir
from common.weight_sync.file_publisher import FileWeightPublisher
from common.weight_sync.store import WeightStore
from common.weights import bit_sum

WEIGHTS = {
    "model.embed_tokens.weight": torch.randn(8, 4),
    "model.layers.0.mlp.up_proj.weight": torch.randn(4, 4),
    "model.norm.weight": torch.ones(4),
}


def publisher(tmp_path, rank=0, **settings):
    run = RunDir(tmp_path / "run")
    run.create()
    store = WeightStore(run, tmp_path)
    return FileWeightPublisher(store, PublishSettings(**settings), "bfloat16", rank, print), store


def test_weights_are_published_in_the_engines_precision_with_bit_sums(tmp_path):
    writer, store = publisher(tmp_path)
    assert set(writer.publish(7, WEIGHTS.items)) == {"gather", "sum", "write"}
    with store.pin("x") as published:
        found = load_file(published.folder / "model.safetensors")
        assert published.version == 7
        assert set(published.sums) == {"model.embed_tokens.weight", "model.norm.weight"}
    for name, weight in WEIGHTS.items():
        assert torch.equal(found[name], weight.to(torch.bfloat16))
    assert published.sums["model.norm.weight"] == bit_sum(found["model.norm.weight"])


def test_other_ranks_gather_and_write_nothing(tmp_path):
    writer, store = publisher(tmp_path, rank=1)
    weights = iter(WEIGHTS.items())
    assert set(writer.publish(7, lambda: weights)) == {"gather"}
    assert next(weights, None) is None
    assert store.version() is None


def test_a_version_is_due_every_n_steps(tmp_path):
    writer, _ = publisher(tmp_path, every=3)
    assert [step for step in range(8) if writer.is_due(step)] == [0, 3, 6]


def test_a_hanging_file_system_times_out(tmp_path, monkeypatch):
    writer, store = publisher(tmp_path, deadline_s=0.05)
    monkeypatch.setattr(store, "put", lambda *arguments: time.sleep(1))
    with pytest.raises(TimeoutError, match=r"step 7 were not written in 0.05 s \(publish.deadline"):
        writer.publish(7, WEIGHTS.items)
