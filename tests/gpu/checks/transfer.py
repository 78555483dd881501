"""New weights by CUDA IPC: a learner's process and an engine's, on one device.

On a CPU ``tests.emulated_ipc`` takes the place of CUDA. Not run on a GPU.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import threading
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from actors.inference.engine import Engine
from common.config.learner import PublishSettings
from common.hardware import Device, Dtype
from common.weight_sync.transfer_receiver import LAST_CALL, TransferWeightReceiver
from common.weights import BitSum
from tests.gpu.checks.engines import describe
from tests.gpu.checks.weights import distance, open_small, scores, what_differs
from tests.tiny import make_model

# 218 M weights in the usual buffer of 256 MiB; 90,432 in one of 64 KiB.
MODELS: dict[Device, dict[str, Any]] = {
    "cuda": {"vocabulary": 32768, "hidden": 2048, "heads": 16},
    "cpu": {"vocabulary": 64, "scale": 0.3},
}
PACKED_BYTES: dict[Device, int] = {"cuda": 2**28, "cpu": 2**16}
DTYPES: dict[Device, Dtype] = {"cuda": "bfloat16", "cpu": "float32"}
PATIENCE_S = 60.0


def ipc(device: Device, folder: Path) -> dict[str, Any]:
    """Two updates of an engine: what it then holds, how it scores, and the bytes/s of each."""
    dtype = DTYPES[device]
    models = [make_model(folder / f"{n}", seed=n, **MODELS[device]) for n in range(3)]
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    learner = context.Process(target=_publish, args=(theirs, device, models[1:], folder))
    learner.start()
    theirs.close()
    fresh = open_small(device, models[-1], dtype)
    expected = scores(fresh)
    fresh.close()
    engine = open_small(device, models[0], dtype, receives_weights="ipc")
    before = scores(engine)
    with _cuda_ipc(device, folder):
        received = _receive(engine, pipe)
    learner.join(PATIENCE_S)
    found = {
        **describe(engine),
        **received,
        "error": distance(scores(engine), expected),
        "moved": distance(before, expected),
        "what_differs": what_differs(engine, models[-1], dtype),
    }
    engine.close()
    return found


def _receive(engine: Engine, learner: Connection) -> dict[str, Any]:
    """Load every version that the learner sends; what it reports in the end."""
    receiver = TransferWeightReceiver(engine, PATIENCE_S)
    report: dict[str, Any] = {}

    def serve() -> None:
        while isinstance(message := learner.recv(), tuple):
            problem = None
            try:
                receiver.call(*message)
            except Exception as error:
                problem = repr(error)
            learner.send(problem)
        report.update(message)

    learner.send("begin")
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    while thread.is_alive():
        if receiver.is_behind():
            receiver.load()
        time.sleep(0.001)
    return {**report, "version": receiver.version}


def _publish(pipe: Connection, device: Device, models: Sequence[Path], folder: Path) -> None:
    """The learner's process: sends the weights of each model as the next version."""
    import torch
    from safetensors.torch import load_file

    from common.weight_sync import trainers
    from common.weight_sync.transfer_publisher import TransferWeightPublisher

    trainers.PACKED_BYTES = PACKED_BYTES[device]
    settings = PublishSettings(transport="ipc", deadline_s=PATIENCE_S)
    engines, dtype = _RemoteEngine(pipe), DTYPES[device]
    publisher = TransferWeightPublisher(engines, settings, dtype, 0, "127.0.0.1", PATIENCE_S)
    updates = []
    # Before, vLLM measures how much of the GPU is free.
    pipe.recv()
    with _cuda_ipc(device, folder):
        for version, model in enumerate(models, 1):
            stored = load_file(model / "model.safetensors").items()
            weights = {name: weight.to(device, getattr(torch, dtype)) for name, weight in stored}
            size, engines.chunks = sum(weight.nbytes for weight in weights.values()), 0
            seconds = publisher.publish(version, weights.items)["send"]
            updates.append(
                {
                    "bytes": size,
                    "chunks": engines.chunks,
                    "bytes_per_s": size / seconds,
                    # A buffer that torch could not take back is still allocated.
                    "not_freed": torch.cuda.memory_allocated() - size if device == "cuda" else 0,
                }
            )
    pipe.send({"updates": updates})


class _RemoteEngine:
    """The engine at the other end of a pipe, as ``RolloutEngines``."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._last: tuple[int, Mapping[str, BitSum]] = (0, {})
        self.chunks = 0

    def available(self) -> dict[str, int]:
        return {"rollout-0": 0}

    def join(self, members: Mapping[str, Any]) -> int:
        return len(members)

    def expect(self, version: int, sums: Mapping[str, BitSum]) -> None:
        self._last = (version, sums)

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        self._call("init_weight_transfer_engine", init_info)

    def start_weight_update(self) -> None:
        self._call("start_weight_update")

    def update_weights(self, update_info: Any) -> None:
        self.chunks += 1
        self._call("update_weights", update_info)

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        self._call(LAST_CALL, *self._last)

    def _call(self, *call: Any) -> None:
        self._pipe.send(call)
        if (problem := self._pipe.recv()) is not None:
            raise RuntimeError(problem)


def _cuda_ipc(device: Device, folder: Path) -> contextlib.AbstractContextManager[None]:
    if device == "cuda":
        return contextlib.nullcontext()
    from tests.emulated_ipc import emulated_ipc

    return emulated_ipc(folder)
