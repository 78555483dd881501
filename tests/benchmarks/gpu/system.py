"""The machine, the weight path from learner to engine, and a whole run. Not run on a GPU."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from actors.inference.engine import Engine
from common.config.learner import LearnerSettings, PublishSettings
from common.config.sections import EngineSettings
from common.hardware import Device, detect
from common.rundir import RunDir, iter_jsonl, read_json
from deploy.planning import devices
from tests.benchmarks.gpu.processes import ROOT, Figures, Rows
from tests.benchmarks.gpu.shapes import model_folder
from tests.benchmarks.trainers import Ours, matrix_flops
from tests.gpu.checks import environment
from tests.gpu.checks.run import SMALL
from tests.gpu.checks.transfer import ipc
from tests.integration.runs import call

MATRIX: dict[Device, int] = {"cuda": 8192, "cpu": 256}
# Dense bfloat16, of data sheets.
PEAK_FLOPS = {"a100": 312e12, "h100": 989e12, "h200": 989e12, "b200": 2250e12}
VERSIONS = 4
NAME = "bench-gpu"


def machine(device: Device, folder: Path) -> Rows:
    """Hardware and packages, and FLOP/s of a bfloat16 matrix product: measured, and promised.

    Raises:
        RuntimeError: there is no GPU to measure.
    """
    found = environment.describe(device, folder)
    if device == "cuda" and not found["gpus"]:
        raise RuntimeError(
            f"no NVIDIA GPU that the installed torch can use ({found['remark'] or 'no driver'}); "
            "DEVICE=cpu tries the same code without one"
        )
    hardware = detect()
    known = devices.of_gpu(hardware.gpu, hardware.gpu_bytes)
    flops = {
        "matrix_flops": matrix_flops(device, MATRIX[device]),
        "peak_flops": PEAK_FLOPS.get(known.name) if known else None,
    }
    yield "machine", found | flops


def weights(device: Device, folder: Path) -> Rows:
    """Bytes/s of new weights from the learner to an engine on the same device, by a file."""
    from common.weight_sync.file_publisher import FileWeightPublisher
    from common.weight_sync.file_receiver import FileWeightReceiver
    from common.weight_sync.store import WeightStore

    model = model_folder(folder, "1.7b" if device == "cuda" else "tiny", device)
    learner = Ours(model, LearnerSettings(device=device)).engine
    # A fixed cache: what vLLM would measure is not its own here.
    settings = EngineSettings(
        device=device, max_model_len=512, gpu_memory_utilization=0.3, num_blocks=512
    )
    engine = Engine(model, settings, max_requests=16, stop_token_ids=())
    run = RunDir(folder / "weights-run")
    run.create()
    store = WeightStore(run)
    publisher = FileWeightPublisher(store, PublishSettings(), settings.resolved_dtype, 0, print)
    receiver = FileWeightReceiver(engine, store, "bench", 120)
    num_bytes = sum(weight.nbytes for _, weight in learner.policy())
    found: list[Figures] = []
    try:
        for version in range(VERSIONS):
            published = publisher.publish(version, learner.policy)
            receiver.load()
            found.append(published | receiver.seconds)
        where = (read_json(run.weights) or {})["folder"]
    finally:
        store.remove()
    # The first one also makes the folder and reads the file into fresh memory.
    median = {key: statistics.median(one[key] for one in found[1:]) for key in found[0]}
    yield (
        "weights",
        {
            "bytes_per_s": num_bytes / sum(median.values()),
            "bytes": num_bytes,
            "seconds": sum(median.values()),
            "phases": median,
            "store": where,
        },
    )
    engine.close()


def weights_by_ipc(device: Device, folder: Path) -> Rows:
    """The same by CUDA IPC, of a smaller model: the second update between two processes."""
    update = ipc(device, folder)["updates"][-1]
    yield "weights_ipc", {key: update[key] for key in ("bytes_per_s", "bytes", "chunks")}


def end_to_end(device: Device, folder: Path) -> Rows:
    """``up configs/smoke.yaml`` from the command to its end, and when each role was done."""
    settings = {"name": NAME, "engine.device": device, "learner.device": device}
    if device == "cpu":
        settings |= SMALL
    options = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    run, began = RunDir(folder / NAME), time.time()
    try:
        call(folder, "up", ROOT / "configs" / "smoke.yaml", *options)
        seconds = time.time() - began
    finally:
        if run.root.exists():
            call(folder, "down", NAME)
    yield "end_to_end", {"seconds": seconds, "phases": _phases(run, began)}


def _phases(run: RunDir, began: float) -> dict[str, float]:
    """Seconds from the command to the first rollout, and until each role was done."""
    rollouts = (
        line["time"]
        for line in iter_jsonl(run.metrics)
        if line["series"].get("replay", {}).get("mixsd_replay_rollouts", 0) > 0
    )
    reached = {"first rollout": next(rollouts, None)} | {
        line["text"]: line["time"]
        for line in iter_jsonl(run.events)
        if line["text"].endswith(" is done")
    }
    return {name: time - began for name, time in reached.items() if time is not None}
