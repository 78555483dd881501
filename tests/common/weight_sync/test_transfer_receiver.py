"""The actor's thread makes the learner's calls: order, results and failures."""

import threading

import pytest
import torch

from common.weight_sync.transfer_receiver import TransferWeightReceiver
from common.weights import bit_sum

CALLS = [
    ("init_weight_transfer_engine", {"rank_offset": 1}),
    ("start_weight_update",),
    ("update_weights", {"names": ["norm.weight"]}),
]


class Engine:
    """Holds the weights that vLLM's worker would hold on a GPU."""

    def __init__(self):
        self.calls, self.held = [], torch.zeros(4)

    def call_workers(self, method, *arguments):
        self.calls.append((method, *arguments, threading.current_thread().name))
        if method == "update_weights":
            self.held = torch.full((4,), 7.0)
        return [None]

    def sum_weights(self, names):
        return [dict.fromkeys(names, bit_sum(self.held))]

    def forget(self):
        self.calls.append(("forget", threading.current_thread().name))


def learner(weights, sums, errors):
    def lead():
        try:
            for method, *arguments in CALLS:
                weights.call(method, *arguments)
            weights.call("finish_weight_update", 3, sums)
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=lead, name="learner")
    thread.start()
    return thread


def follow(weights):
    while not weights.is_behind():
        pass
    weights.load()


def test_all_calls_of_an_update_are_made_in_order_by_the_actors_thread():
    engine, errors = Engine(), []
    weights = TransferWeightReceiver(engine, 10.0)
    assert not weights.is_behind()
    assert weights.version is None
    thread = learner(weights, {"norm.weight": bit_sum(torch.full((4,), 7.0))}, errors)
    follow(weights)
    thread.join()
    assert errors == []
    assert [call[0] for call in engine.calls] == [
        "init_weight_transfer_engine",
        "start_weight_update",
        "update_weights",
        "finish_weight_update",
        "forget",
    ]
    assert {call[-1] for call in engine.calls} == {threading.current_thread().name}
    assert engine.calls[2][1] == {"names": ["norm.weight"]}
    assert weights.version == 3
    assert set(weights.seconds) == {"drain", "load"}
    assert not weights.is_behind()


def test_an_engine_with_other_weights_is_an_error_on_both_sides():
    errors = []
    weights = TransferWeightReceiver(Engine(), 10.0)
    thread = learner(weights, {"norm.weight": bit_sum(torch.ones(4))}, errors)
    with pytest.raises(RuntimeError, match=r"step 3: norm\.weight is not what was published"):
        follow(weights)
    thread.join()
    assert [str(error) for error in errors] == [
        "weights of step 3: norm.weight is not what was published"
    ]
    assert weights.version is None


def test_a_learner_that_stops_in_the_middle_times_out():
    weights = TransferWeightReceiver(Engine(), 0.05)
    thread = threading.Thread(target=weights.call, args=("start_weight_update",))
    thread.start()
    with pytest.raises(TimeoutError, match=r"nothing for 0.05 s \(publish.deadline_s\)"):
        follow(weights)
    thread.join()
