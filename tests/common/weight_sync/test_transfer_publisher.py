"""vLLM's own trainers without a GPU: which calls they make, in which order, with which arguments.

Only NCCL (opening a group, broadcasting) and CUDA IPC are replaced; the rest is vLLM's own code.
"""

import time

import pytest
import torch
from vllm.distributed.weight_transfer import nccl_engine
from vllm.distributed.weight_transfer.packed_tensor import (
    PackedBufferImporter,
    packed_ipc_consumer,
)

from common.config.learner import PublishSettings
from common.weight_sync.transfer_publisher import TransferWeightPublisher
from common.weights import bit_sum
from tests.emulated_ipc import emulated_ipc

WEIGHTS = {
    "model.layers.0.mlp.up_proj.weight": torch.randn(4, 3),
    "model.norm.weight": torch.ones(4),
}


class Engines:
    """Two engines of one GPU each; tests change ``there``."""

    def __init__(self):
        self.there = {"rollout-0": 11, "rollout-1": 12}
        self.calls, self.expected = [], None

    def available(self):
        return dict(self.there)

    def join(self, members):
        self.calls.append("join " + " ".join(members))
        return len(members)

    def expect(self, version, sums):
        self.expected = (version, sums)

    def init_weight_transfer_engine(self, init_info):
        self.calls.append("init")
        self.init_info = init_info

    def start_weight_update(self):
        self.calls.append("start")

    def update_weights(self, update_info):
        self.calls.append("update")
        self.update_info = update_info

    def finish_weight_update(self, weight_version=None):
        self.calls.append(f"finish {self.expected[0]}")


class Group:
    def __init__(self, info):
        self.world_size, self.ended = info.world_size, False

    def destroy(self):
        self.ended = True


@pytest.fixture
def broadcast(monkeypatch):
    """The broadcast weights by name, and the opened groups."""
    sent, groups = {}, []

    def fake(self, source, meta):
        sent.update(self._checked_iter(source, meta) if self.is_sender else dict(source))

    def opened(info):
        groups.append(Group(info))
        return groups[-1]

    monkeypatch.setattr(nccl_engine, "open_trainer_endpoint", opened)
    monkeypatch.setattr(nccl_engine.NCCLTrainerWeightTransferEngine, "_broadcast", fake)
    return sent, groups


def publisher(engines, rank=0, transport="nccl", **settings):
    publish = PublishSettings(transport=transport, **settings)
    return TransferWeightPublisher(engines, publish, "bfloat16", rank, "127.0.0.1", patience_s=0.2)


def weights():
    return iter(WEIGHTS.items())


def without_update(calls):
    """vLLM calls ``update_weights`` from a thread while it broadcasts, so its position varies."""
    return [call for call in calls if call != "update"]


def test_a_version_goes_to_every_engine_in_the_engines_precision(broadcast):
    sent, groups = broadcast
    engines = Engines()
    assert set(publisher(engines).publish(7, weights)) == {"meet", "send"}
    assert without_update(engines.calls) == [
        "join rollout-0 rollout-1",
        "init",
        "start",
        "finish 7",
    ]
    assert engines.calls.count("update") == 1
    assert groups[0].world_size == 3
    assert (engines.init_info["world_size"], engines.init_info["rank_offset"]) == (3, 1)
    assert engines.update_info == {
        "names": list(WEIGHTS),
        "dtype_names": ["bfloat16"] * 2,
        "shapes": [[4, 3], [4]],
    }
    for name, weight in WEIGHTS.items():
        assert torch.equal(sent[name], weight.to(torch.bfloat16))
    norm = torch.ones(4, dtype=torch.bfloat16)
    assert engines.expected == (7, {"model.norm.weight": bit_sum(norm)})


def test_each_version_has_the_weights_that_it_was_given(broadcast):
    sent, _ = broadcast
    sender = publisher(Engines())
    sender.publish(7, weights)
    sender.publish(8, lambda: ((name, weight + 1) for name, weight in weights()))
    assert torch.equal(sent["model.norm.weight"], torch.full((4,), 2.0, dtype=torch.bfloat16))


def test_the_group_is_kept_for_the_same_engines_and_rebuilt_for_others(broadcast):
    _, groups = broadcast
    engines = Engines()
    sender = publisher(engines)
    sender.publish(1, weights)
    sender.publish(2, weights)
    assert engines.calls.count("init") == 1
    engines.there = {"rollout-0": 11, "rollout-1": 99, "rollout-2": 13}
    sender.publish(3, weights)
    assert engines.calls.count("init") == 2
    assert [group.ended for group in groups] == [True, False]
    assert groups[1].world_size == 4


def test_other_ranks_gather_and_call_no_engine(broadcast):
    sent, groups = broadcast
    engines = Engines()
    publisher(engines, rank=1).publish(7, weights)
    assert engines.calls == []
    assert groups == []
    assert set(sent) == set(WEIGHTS)


def test_when_all_engines_have_left_the_weights_are_gathered_but_not_sent(broadcast):
    engines, gathered = Engines(), []

    def counted():
        for item in weights():
            gathered.append(item[0])
            yield item

    sender = publisher(engines)
    sender.publish(1, counted)
    engines.there = {}
    gathered.clear()
    assert set(sender.publish(2, counted)) == {"meet"}
    assert gathered == list(WEIGHTS)
    assert "finish 2" not in engines.calls


def test_waiting_for_the_first_engine_times_out(broadcast):
    engines = Engines()
    engines.there = {}
    with pytest.raises(TimeoutError, match=r"no engine for the student's weights in 0.2 s"):
        publisher(engines).publish(0, weights)


def test_an_engine_that_dies_while_it_receives_times_out(broadcast, monkeypatch):
    engines = Engines()
    monkeypatch.setattr(engines, "start_weight_update", lambda: time.sleep(1))
    with pytest.raises(TimeoutError, match=r"not sent in 0.05 s \(publish.deadline_s\)"):
        publisher(engines, deadline_s=0.05).publish(7, weights)


def test_an_engine_that_dies_before_it_joins_the_group_times_out(broadcast, monkeypatch):
    monkeypatch.setattr(nccl_engine, "open_trainer_endpoint", lambda info: time.sleep(1))
    with pytest.raises(TimeoutError, match=r"did not join the learner's group in 0.05 s"):
        publisher(Engines(), deadline_s=0.05).publish(7, weights)


def test_a_learner_whose_engines_are_all_gone_fails_instead_of_waiting(broadcast, monkeypatch):
    monkeypatch.setattr("common.weight_sync.transfer_publisher._CHECK_S", 0.0)
    engines = Engines()
    sender = publisher(engines)
    sender.publish(1, weights)
    engines.there = {"rollout-0": 98, "rollout-1": 12}
    sender.check()
    engines.there = {"rollout-0": 98, "rollout-1": 99}
    with pytest.raises(RuntimeError, match="engines that had the student's weights are gone"):
        sender.check()


class EngineOfTheSameGpu(Engines):
    """Copies each chunk as vLLM's worker does."""

    def __init__(self):
        super().__init__()
        self.there, self.held, self.chunks = {"rollout-0": 11}, {}, []
        self._importer = PackedBufferImporter()

    def update_weights(self, update_info):
        super().update_weights(update_info)
        self.chunks.append(sum(update_info["tensor_sizes"]))
        chunk = {**update_info, "ipc_handle": update_info["ipc_handles"]}
        del chunk["ipc_handles"], chunk["ipc_handles_pickled"]
        self.held |= packed_ipc_consumer(**chunk, device_index=0, importer=self._importer)


@pytest.fixture
def small_buffer(monkeypatch, tmp_path):
    """A buffer for ten bytes, or for the largest weight."""
    monkeypatch.setattr("common.weight_sync.trainers.PACKED_BYTES", 10)
    with emulated_ipc(tmp_path):
        yield


def test_by_ipc_the_engine_on_the_same_gpu_is_called_once_a_chunk(small_buffer):
    engines = EngineOfTheSameGpu()
    sender = publisher(engines, transport="ipc")
    assert set(sender.publish(7, weights)) == {"meet", "send"}
    assert engines.calls == ["join rollout-0", "init", "start", "update", "update", "finish 7"]
    assert engines.init_info == {"packed": True}
    # In bfloat16 the largest weight has 4 x 3 x 2 bytes, and fills the buffer; the norm has 4 x 2.
    assert engines.chunks == [24, 8]
    sender.publish(8, lambda: ((name, weight + 1) for name, weight in weights()))
    assert engines.calls[6:] == ["start", "update", "update", "finish 8"]
    for name, weight in WEIGHTS.items():
        assert torch.equal(engines.held[name], (weight + 1).to(torch.bfloat16))
    assert engines.expected[1] == {"model.norm.weight": bit_sum(engines.held["model.norm.weight"])}


def test_by_ipc_an_engine_that_dies_while_it_receives_ends_the_learner_at_once(small_buffer):
    class Dying(EngineOfTheSameGpu):
        def update_weights(self, update_info):
            if self.chunks:
                raise ConnectionError("rollout-0 died")
            super().update_weights(update_info)

    engines = Dying()
    with pytest.raises(ConnectionError, match="rollout-0 died"):
        publisher(engines, transport="ipc").publish(7, weights)
    assert engines.calls[-2:] == ["start", "update"]
