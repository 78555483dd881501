"""The weight store: one writer, several readers, whole versions only."""

import stat

import pytest
import torch
from safetensors.torch import load_file

from common.rundir import RunDir
from common.weight_sync import store as store_module
from common.weight_sync.store import WeightStore
from common.weights import BitSum, bit_sum


@pytest.fixture
def run(tmp_path):
    found = RunDir(tmp_path / "r")
    found.create()
    return found


@pytest.fixture
def memory(tmp_path):
    folder = tmp_path / "shm"
    folder.mkdir()
    return folder


def put(store, version):
    weights = {"w": torch.full((3,), float(version))}
    store.open(12, lambda line: pytest.fail(line))
    store.put(version, weights, {"w": bit_sum(weights["w"])}, lambda line: pytest.fail(line))


def test_a_reader_sees_no_version_then_each_newest_one(run, memory):
    writer, reader = WeightStore(run, memory), WeightStore(run, memory)
    assert reader.version() is None
    for version in (0, 3, 4):
        put(writer, version)
        assert reader.version() == version
        with reader.pin("rollout-0") as published:
            assert published.version == version
            weights = load_file(published.folder / "model.safetensors")["w"]
            assert weights.tolist() == [version] * 3
            assert published.sums == {"w": bit_sum(weights)}


def test_a_pinned_version_stays_when_it_is_replaced(run, memory):
    writer, reader = WeightStore(run, memory), WeightStore(run, memory)
    put(writer, 1)
    with reader.pin("rollout-0") as published:
        put(writer, 2)
        assert load_file(published.folder / "model.safetensors")["w"][0] == 1
        assert published.version == 1
        held = list(published.folder.iterdir())
    assert held
    assert not any(path.exists() for path in held)


def test_a_pin_of_a_dead_reader_does_not_block_its_successor(run, memory):
    put(WeightStore(run, memory), 1)
    dead = WeightStore(run, memory).pin("rollout-0")
    dead.__enter__()
    put(WeightStore(run, memory), 2)
    with WeightStore(run, memory).pin("rollout-0") as published:
        assert published.version == 2
    dead.gen.close()


def test_the_folder_is_private_shared_by_the_runs_writers_and_removed(run, memory):
    put(WeightStore(run, memory), 1)
    (folder,) = memory.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    put(WeightStore(run, memory), 2)
    assert list(memory.iterdir()) == [folder]
    WeightStore(run, memory).remove()
    assert not list(memory.iterdir())
    assert not run.weights.exists()
    WeightStore(run, memory).remove()


def test_without_room_in_shared_memory_the_runs_folder_is_used_and_that_is_logged(run, memory):
    lines = []
    store = WeightStore(run, memory)
    store.open(2**60, lines.append)
    assert (run.root / "weights").is_dir()
    assert len(lines) == 1
    assert f"{memory} has" in lines[0]
    assert "they go to the run's folder" in lines[0]


def test_readers_on_other_nodes_read_the_runs_folder(run):
    store = WeightStore(run, None)
    store.open(12, lambda line: pytest.fail(line))
    store.put(5, {"w": torch.zeros(3)}, {"w": BitSum(3, 0)}, lambda line: pytest.fail(line))
    assert WeightStore(run, None).version() == 5
    assert (run.root / "weights/model.safetensors").is_file()


def test_a_folder_that_a_reboot_removed_is_created_again(run, memory):
    put(WeightStore(run, memory), 1)
    next(memory.iterdir()).joinpath("model.safetensors").unlink()
    assert WeightStore(run, memory).version() is None
    next(memory.iterdir()).rmdir()
    assert WeightStore(run, memory).version() is None
    put(WeightStore(run, memory), 2)
    assert WeightStore(run, memory).version() == 2


@pytest.fixture
def full(memory, monkeypatch):
    """Shared memory in which nothing fits any more: safetensors has its own error for that."""
    write = store_module._write

    def refuse(folder, *arguments):
        if memory in folder.parents:
            (folder / ".model.safetensors").write_text("half")
            raise RuntimeError("I/O error: No space left on device (os error 28)")
        write(folder, *arguments)

    return lambda: monkeypatch.setattr(store_module, "_write", refuse)


def test_once_shared_memory_is_full_the_runs_folder_is_used_and_that_is_logged(run, memory, full):
    writer, reader = WeightStore(run, memory), WeightStore(run, memory)
    put(writer, 1)
    lines, weights = [], {"w": torch.full((3,), 2.0)}
    with reader.pin("rollout-0") as published:
        full()
        for version in (2, 3):
            writer.put(version, weights, {"w": bit_sum(weights["w"])}, lines.append)
        # What a reader holds at this moment stays.
        assert load_file(published.folder / "model.safetensors")["w"][0] == 1
    assert lines == [f"{memory} is full: published weights go to the run's folder from now on"]
    assert reader.version() == 3
    with reader.pin("rollout-0") as published:
        assert (published.version, published.folder.parent) == (3, run.root / "weights")
    assert not list(memory.glob("*/model.safetensors"))
    writer.remove()
    assert not list(memory.iterdir())
    assert not (run.root / "weights").exists()


def test_any_other_error_of_shared_memory_is_raised(run, memory, monkeypatch):
    put(WeightStore(run, memory), 1)

    def broken(*arguments):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(store_module, "_write", broken)
    with pytest.raises(OSError, match="Input/output"):
        put(WeightStore(run, memory), 2)
    assert not (run.root / "weights").exists()
