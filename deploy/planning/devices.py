"""Device speeds. Peaks come from the vendors' data sheets; the achieved shares of them are
assumed on GPUs (not run on GPU) and measured on CPU. Independent of models."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from common.config.run_config import RunConfig
from common.errors import UserError
from common.hardware import Dtype, detect, memory_bytes, num_cores

_GIB = 2**30


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU; or one CPU core and all of the machine's memory.

    Achieved FLOP/s in bfloat16: ``body_flops`` in vLLM's layers; ``draw_flops`` and
    ``score_flops`` in its head, including sampling or log-probabilities; ``train_flops``
    in the learner. ``float32_slowdown`` divides them; below 1 where bfloat16 is slower.
    ``bandwidth``: achieved bytes/s of memory; ``link``: bytes/s between two devices in one
    direction. ``iteration_s`` + ``request_s`` × requests: host time of one engine iteration;
    ``pass_s``: host time per layer of one learner row, forward and backward. ``write``:
    bytes/s of a checkpoint, including hashing. ``engine_start_s``, ``learner_start_s``: from
    process start to ready, before ``load`` bytes/s of weights. ``overhead_bytes``: memory of a
    process' runtime. ``core_gain``: speed that each further core adds, relative to the first.
    """

    name: str
    memory_bytes: int
    body_flops: float
    draw_flops: float
    score_flops: float
    train_flops: float
    float32_slowdown: float
    bandwidth: float
    link: float
    iteration_s: float
    request_s: float
    pass_s: float
    engine_start_s: float
    learner_start_s: float
    load: float
    write: float
    overhead_bytes: int
    cores: int | None = None
    core_gain: float = 1.0
    source: str = "data sheet peaks, assumed efficiencies; not run on GPU"

    @property
    def is_cpu(self) -> bool:
        """Whether roles share its cores and memory instead of having one device each."""
        return self.cores is not None

    @property
    def fast_dtype(self) -> Dtype:
        """The dtype that ``auto`` stands for on it."""
        return "bfloat16" if self.float32_slowdown > 1 else "float32"

    def slowdown(self, dtype: str) -> float:
        """How many times slower arithmetic in ``dtype`` is than in bfloat16."""
        return self.float32_slowdown if dtype == "float32" else 1.0


def _gpu(
    name: str, memory_mib: int, tflops: float, float32: float, bandwidth: float, link: float
) -> Device:
    return Device(
        name=name,
        memory_bytes=memory_mib * 2**20,
        body_flops=0.5e12 * tflops,
        draw_flops=0.5e12 * tflops,
        score_flops=0.5e12 * tflops,
        train_flops=0.4e12 * tflops,
        float32_slowdown=tflops / float32,
        bandwidth=0.75 * bandwidth,
        link=0.7 * link,
        # Host times are measured on a CPU; a server's core may be faster.
        iteration_s=_ITERATION_S,
        request_s=_ROW_S,
        pass_s=0.4e-3,
        engine_start_s=25.0,
        learner_start_s=25.0,
        load=1.5e9,
        write=1e9,
        overhead_bytes=_GIB,
    )


# Mixed decoding with a random 2-layer model, 64 slots: 12,200 to 13,400 tokens/s.
_ITERATION_S, _ROW_S = 1.2e-3, 0.055e-3

# MiB as nvidia-smi prints them; dense bfloat16 and float32 TFLOP/s; bytes/s.
_GPUS = {
    "b200": _gpu("b200", 183359, 2250.0, 75.0, 8.0e12, 900e9),
    "h200": _gpu("h200", 143771, 989.0, 67.0, 4.8e12, 450e9),
    "h100": _gpu("h100", 81559, 989.0, 67.0, 3.35e12, 450e9),
    "a100": _gpu("a100", 81920, 312.0, 19.5, 2.039e12, 300e9),
    "a100-40gb": _gpu("a100-40gb", 40960, 312.0, 19.5, 1.555e12, 300e9),
    "l40s": _gpu("l40s", 46068, 362.0, 91.6, 0.864e12, 32e9),
    "rtx5090": _gpu("rtx5090", 32607, 209.5, 104.8, 1.792e12, 64e9),
    "rtx4090": _gpu("rtx4090", 24564, 165.2, 82.6, 1.008e12, 32e9),
    "l4": _gpu("l4", 23034, 121.0, 30.3, 0.3e12, 32e9),
    "a10": _gpu("a10", 23028, 125.0, 31.2, 0.6e12, 32e9),
}
NAMES = (*_GPUS, "cpu")


def _cpu(cores: int) -> Device:
    """One core with bfloat16 units, calibrated on the measurements below."""
    return Device(
        name="cpu",
        memory_bytes=memory_bytes(),
        # The 135 M model, 64 slots, by tokens computed and drawn: plain decoding 3,799 and 1,810
        # in 5.0 s, mixed 7,456 and 2,104 in 6.8 s, with retries 19,729 and 7,380 in 19.7 s.
        body_flops=600e9,
        draw_flops=50e9,
        # Scoring 6,361 tokens: 5.2 s.
        score_flops=125e9,
        # 20 examples of 80 tokens: 440 tokens/s, with 0.39 s per step in the optimizer.
        train_flops=340e9,
        # The same decoding in float32: 18.8 s mixed, 13.6 s plain.
        float32_slowdown=3.0,
        # A copy: 9.5 GB/s read and written.
        bandwidth=9.5e9,
        link=2e9,
        iteration_s=_ITERATION_S,
        request_s=_ROW_S,
        pass_s=0.0,
        engine_start_s=12.0,
        learner_start_s=9.0,
        load=0.5e9,
        # From the smoke run: 2.15 GB in 6.2 s.
        write=0.35e9,
        overhead_bytes=_GIB // 2,
        cores=cores,
        # Two processes at once multiplied 64 rows by 1.42 times as many weights as one.
        core_gain=0.42,
        source="calibrated by single measurements on x86 cores; more than two are extrapolated",
    )


# Float32 and bfloat16 multiplications of a core with AVX2 alone.
_AVX2_BFLOAT16_SLOWDOWN = 15.0


def _avx2(cores: int) -> Device:
    """One core without bfloat16 units; all of these are measured with AVX2 and float32."""
    return replace(
        _cpu(cores),
        # The same decoding: 16.6 s plain, 29.4 s mixed.
        body_flops=64e9 / _AVX2_BFLOAT16_SLOWDOWN,
        draw_flops=120e9 / _AVX2_BFLOAT16_SLOWDOWN,
        score_flops=64e9 / _AVX2_BFLOAT16_SLOWDOWN,
        # 10 examples of 80 tokens: 7.0 s.
        train_flops=82e9 / _AVX2_BFLOAT16_SLOWDOWN,
        float32_slowdown=1 / _AVX2_BFLOAT16_SLOWDOWN,
        engine_start_s=25.0,
        learner_start_s=11.0,
        # An engine with two threads drew 1.8 times as fast, a learner trained 1.83 times as fast.
        core_gain=0.8,
    )


def find(name: str, cores: int | None = None, fast_dtype: Dtype | None = None) -> Device:
    """A device by name.

    Args:
        name: one of :data:`NAMES`.
        cores: of a CPU; None: those of this machine.
        fast_dtype: of a CPU, the dtype that it has units for; None: as this machine.

    Raises:
        UserError: no such device.
    """
    if name == "cpu":
        described = _cpu if (fast_dtype or detect().cpu_dtype) == "bfloat16" else _avx2
        return described(cores or num_cores())
    if name not in _GPUS:
        raise UserError(f"--device {name}: is not one of {', '.join(NAMES)}")
    return _GPUS[name]


def of_gpu(name: str, memory: int) -> Device | None:
    """A GPU by the name that CUDA gives it, such as ``NVIDIA H100 80GB HBM3``; None if unknown.

    Args:
        name: of the GPU.
        memory: its bytes; they tell apart what has one name in several sizes.
    """
    words = re.sub(r"[^a-z0-9]+", " ", name.lower().replace("rtx ", "rtx")).split()
    alike = [gpu for gpu in _GPUS.values() if gpu.name.split("-")[0] in words]
    return min(alike, key=lambda gpu: abs(gpu.memory_bytes - memory), default=None)


def default(config: RunConfig) -> str:
    """The device that a configuration requests: this machine's GPU, else an H100."""
    if config.engine.resolved_device == "cpu":
        return "cpu"
    here = detect()
    found = of_gpu(here.gpu, here.gpu_bytes) if here.gpus else None
    return "h100" if found is None else found.name
