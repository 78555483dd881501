"""Versions from a weight store are loaded into a fake engine."""

import pytest
import torch
from safetensors.torch import load_file

from common.rundir import RunDir
from common.weight_sync.file_receiver import FileWeightReceiver
from common.weight_sync.store import WeightStore
from common.weights import bit_sum


class Engine:
    def __init__(self):
        self.held = {"w": torch.zeros(4)}

    def load_weights(self, model_dir):
        self.held = load_file(model_dir / "model.safetensors")

    def sum_weights(self, names):
        return [{name: bit_sum(self.held[name]) for name in names if name in self.held}]


@pytest.fixture
def store(tmp_path):
    run = RunDir(tmp_path / "run")
    run.create()
    return WeightStore(run, tmp_path)


def put(store, version, sums=None):
    weights = {"w": torch.full((4,), float(version))}
    store.open(16, print)
    store.put(version, weights, sums or {"w": bit_sum(weights["w"])}, print)


def test_an_engine_follows_the_published_versions(store):
    engine = Engine()
    weights = FileWeightReceiver(engine, store, "x", 10.0)
    assert not weights.is_behind()
    assert weights.version is None
    for version in (0, 1, 5, 3):
        put(store, version)
        assert weights.is_behind()
        weights.load()
        assert not weights.is_behind()
        assert weights.version == version
        assert engine.held["w"][0] == version
        assert set(weights.seconds) == {"drain", "load", "check"}


def test_it_loads_the_newest_version_not_the_one_it_saw_first(store):
    weights = FileWeightReceiver(Engine(), store, "x", 10.0)
    put(store, 1)
    assert weights.is_behind()
    put(store, 2)
    weights.load()
    assert weights.version == 2


def test_an_engine_with_other_weights_is_an_error(store):
    engine = Engine()
    engine.load_weights = lambda model_dir: None
    weights = FileWeightReceiver(engine, store, "x", 10.0)
    put(store, 1)
    with pytest.raises(RuntimeError, match="weights of step 1: w is not what was published"):
        weights.load()
    assert weights.version is None


def test_loading_has_a_deadline(store):
    weights = FileWeightReceiver(Engine(), store, "x", 0.0)
    put(store, 1)
    with pytest.raises(TimeoutError, match=r"step 1 took .* publish.deadline_s is 0"):
        weights.load()
