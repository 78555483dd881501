"""All rollout actors as one client: who is there, which ranks they take, what they receive."""

import pytest
import ray

from common.config.run_config import RunConfig
from common.rundir import RunDir
from deploy.control.health import Report
from deploy.control.weight_sync_client import WeightSyncClient


class Remote:
    def __init__(self, method):
        self._method = method

    def remote(self, *arguments):
        return lambda: self._method(*arguments)


class Actor:
    def __init__(self, pid, state="working"):
        self.calls = []
        self.poll = Remote(lambda: Report(state, pid, "node", ("127.0.0.1", 1)))
        self.transfer = Remote(lambda *call: self.calls.append(call))


@pytest.fixture
def actors(monkeypatch):
    found = {"rollout-0": Actor(11), "rollout-2": Actor(12), "rollout-1": Actor(13, "starting")}

    def get_actor(name):
        if name not in found:
            raise ValueError(name)
        return found[name]

    def get(asked, timeout=None):
        return [one() for one in asked] if isinstance(asked, list) else asked()

    monkeypatch.setattr(ray, "get_actor", get_actor)
    monkeypatch.setattr(ray, "get", get)
    return found


@pytest.fixture
def engines(tmp_path):
    run = RunDir(tmp_path / "run")
    run.create()
    config = RunConfig.model_validate(
        {
            "name": "x",
            "method": {"name": "sft"},
            "data": {"kgfact": {}},
            "engine": {"tensor_parallel_size": 2},
            "rollout": {"actors": 4},
        }
    )
    return WeightSyncClient(run, config)


def test_those_whose_engines_are_up_are_there(actors, engines):
    assert list(engines.available()) == ["rollout-0", "rollout-2"]
    before = engines.available()
    actors["rollout-2"] = Actor(99)
    after = engines.available()
    assert before["rollout-0"] == after["rollout-0"]
    assert before["rollout-2"] != after["rollout-2"]


def test_every_gpu_of_an_engine_is_a_rank_and_no_two_are_the_same(actors, engines):
    assert engines.join(engines.available()) == 4
    engines.init_weight_transfer_engine({"rank_offset": 1, "world_size": 5})
    offsets = [actors[name].calls[0][1]["rank_offset"] for name in ("rollout-0", "rollout-2")]
    # Rank 0 is the learner; two GPUs each.
    assert offsets == [1, 3]
    assert actors["rollout-1"].calls == []


def test_without_ranks_every_engine_is_prepared_alike(actors, engines):
    engines.join(engines.available())
    engines.init_weight_transfer_engine({"packed": True})
    for name in ("rollout-0", "rollout-2"):
        assert actors[name].calls == [("init_weight_transfer_engine", {"packed": True})]


def test_the_last_call_says_the_version_and_what_it_must_hold(actors, engines):
    engines.join(engines.available())
    sums = {}
    engines.expect(7, sums)
    engines.start_weight_update()
    engines.update_weights({"names": []})
    # Summed while it is sent.
    sums["norm.weight"] = (4, 1)
    engines.finish_weight_update()
    assert actors["rollout-0"].calls == [
        ("start_weight_update",),
        ("update_weights", {"names": []}),
        ("finish_weight_update", 7, {"norm.weight": (4, 1)}),
    ]
