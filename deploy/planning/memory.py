"""Memory of each role's process, by part, in bytes.

Engines reserve a naive and an expert context per slot, as ``actors.decoding.mixed_decoder``
does. The learner's parts are DeepSpeed's. Fragmentation is not counted.
"""

from __future__ import annotations

from dataclasses import dataclass

from common.config.run_config import RunConfig
from common.config.sections import EngineSettings
from common.weight_sync.trainers import packed_bytes
from deploy.planning.architecture import Architecture
from deploy.planning.devices import Device
from deploy.planning.learner_memory import LOGIT_BYTES, learner_parts
from deploy.planning.roofline import LearnerModel, bytes_each
from deploy.planning.workload import Workload

# Of a GPU that roles share: allocators cannot use every gap.
_FILLED = 0.95


@dataclass(frozen=True, slots=True)
class Need:
    """Memory of one device of one role.

    ``parts``: bytes by name. ``capacity``: available bytes. ``key``: the setting to
    change if it does not fit.
    """

    role: str
    parts: dict[str, int]
    capacity: int
    key: str

    @property
    def total(self) -> int:
        """Bytes of all parts."""
        return sum(self.parts.values())

    @property
    def fits(self) -> bool:
        """Whether the parts are within the capacity."""
        return self.total <= self.capacity

    @property
    def problem(self) -> str:
        """What does not fit, as a message."""
        largest = max(self.parts, key=lambda name: self.parts[name])
        return (
            f"{self.role}: needs {self.total / 2**30:.1f} GiB, has {self.capacity / 2**30:.1f} "
            f"({self.key}); the largest part is {largest}, {self.parts[largest] / 2**30:.1f} GiB"
        )


def needs(
    config: RunConfig, architecture: Architecture, device: Device, workload: Workload
) -> list[Need]:
    """What must fit: one device of each role; on CPU each KV pool and the whole machine."""
    processes = processes_of(config, architecture, device, workload)
    pools = [
        Need(f"{need.role} KV cache", {"KV cache": need.parts["KV cache"]}, pool, key)
        for need in processes
        if "KV cache" in need.parts
        for pool, key in _pool(need.role, config, architecture, device)
    ]
    if not device.is_cpu and config.cluster.placement == "shared":
        return [*pools, _gpu(config, processes, device)]
    if not device.is_cpu:
        return [*pools, *processes]
    counts = {
        "rollout": config.rollout.actors,
        "evaluator": config.evaluator.actors,
        "learner": config.learner.ranks,
    }
    pool = pools[0].capacity if pools else 0
    filled = {
        need.role: counts[need.role]
        * (need.total + (0 if need.role == "learner" else pool - need.parts["KV cache"]))
        for need in processes
    }
    key, memory = "memory of this machine", device.memory_bytes
    if config.cluster.placement == "phases":
        return [*pools, *(Need(role, {role: size}, memory, key) for role, size in filled.items())]
    return [*pools, Need("machine", filled, memory, key)]


def _gpu(config: RunConfig, processes: list[Need], device: Device) -> Need:
    """All roles on one GPU."""
    parts = {
        "rollout": config.rollout.actors * engine_bytes("rollout", config, processes),
        "evaluator": config.evaluator.actors * engine_bytes("evaluator", config, processes),
    }
    parts |= {need.role: need.total for need in processes if need.role == "learner"}
    capacity = int(_FILLED * device.memory_bytes)
    return Need("GPU", parts, capacity, "95 % of the GPU that the roles share")


def engine_bytes(role: str, config: RunConfig, processes: list[Need]) -> int:
    """What one process of a role with an engine needs, the Fisher information included."""
    totals = [need.total for need in processes if need.role.split()[0] == role]
    return max(totals, default=0) if config.closes_for_fisher else sum(totals)


def processes_of(
    config: RunConfig, architecture: Architecture, device: Device, workload: Workload
) -> list[Need]:
    """The needs of one device of each role."""
    found = [_rollout(config, architecture, device, workload)]
    if config.evaluator.actors:
        found += _evaluator(config, architecture, device, workload)
    if not config.train:
        return found
    model = LearnerModel(architecture, device, config.learner)
    parts = learner_parts(model, workload, config.method.loss, config.method.penalty)
    if workload.has_student and device.is_cpu:
        # In shared memory: the published weights, and those that replace them.
        sent = architecture.parameters
        if config.student_adapter is not None:
            sent = architecture.adapter(config.student_adapter)
        parts["published"] = 2 * sent * bytes_each(config.engine.resolved_dtype)
    if workload.has_student and config.publish.transport == "ipc":
        parts["packed weights"] = _packed(config, architecture)
    learner = Need("learner", parts, device.memory_bytes, "a device of learner.ranks")
    return [*found, learner]


def _rollout(config: RunConfig, arch: Architecture, device: Device, workload: Workload) -> Need:
    settings, engine = config.rollout, config.engine
    naive = max(item.naive for item in workload.items)
    expert = max(item.expert for item in workload.items)
    rate, length = workload.mix_rate, settings.max_tokens
    sides: list[int] = []
    if rate is None:
        sides.append(naive + max(item.target for item in workload.items) + 1)
    if (rate is not None and rate > 0) or any(item.rehearsed for item in workload.items):
        sides.append(naive + length)
    if rate is not None and rate < 1:
        sides.append(expert + length)
    scored = 0
    if workload.scored or workload.comparisons:
        scored = min(engine.max_batched_tokens, settings.slots * (naive + length))
    if workload.is_taught:
        sides = [*sides, expert + length + 1] if workload.has_student else sides
        scored = min(engine.max_batched_tokens, settings.slots * (expert + length))
    need = _engine("rollout", config, arch, device, settings.slots, sides, scored)
    if workload.has_student and config.publish.transport == "ipc":
        need.parts["packed weights"] = _packed(config, arch)
    if workload.is_taught and workload.has_student and config.student_adapter is None:
        # The reference has an engine of its own.
        need.parts["weights"] *= 2
        need.parts["activations"] *= 2
    return need


def _packed(config: RunConfig, arch: Architecture) -> int:
    """The learner's buffer of packed weights, or the engine's copy of it."""
    width = bytes_each(config.engine.resolved_dtype)
    # The embedding is the largest.
    return packed_bytes(width * arch.vocabulary * arch.hidden)


def _evaluator(
    config: RunConfig, arch: Architecture, device: Device, workload: Workload
) -> list[Need]:
    """Its engine, and the base with gradients while the Fisher is computed."""
    settings = config.evaluator
    longest = max(*(item.naive for item in workload.items), *workload.retrieval, 0)
    scored = min(config.evaluator_engine.max_batched_tokens, workload.text_tokens)
    sides = [longest + settings.response_tokens("recall")]
    engine = _engine("evaluator", config, arch, device, settings.slots, sides, scored)
    fisher = settings.fisher
    if fisher is None or (fisher.device == "cpu" and not device.is_cpu):
        return [engine]
    width = bytes_each(fisher.dtype)
    parts = {
        "weights": width * arch.parameters,
        # One parameter tensor at a time; the embedding is the largest.
        "gradient": width * arch.vocabulary * arch.hidden,
        "logits": fisher.max_tokens * arch.vocabulary * LOGIT_BYTES,
    }
    if device.is_cpu:
        engine.parts["Fisher"] = sum(parts.values()) + 4 * arch.parameters
        return [engine]
    left, of = device.memory_bytes, "the GPU, where the evaluator's engine is closed meanwhile"
    if not config.closes_for_fisher and config.cluster.placement != "shared":
        of = "engine.gpu_memory_utilization"
        left = int(left * (1 - config.evaluator_engine.gpu_memory_utilization))
    return [engine, Need("evaluator Fisher", parts, left, of)]


def _engine(
    role: str,
    config: RunConfig,
    arch: Architecture,
    device: Device,
    slots: int,
    sides: list[int],
    scored: int,
) -> Need:
    """An engine whose slots hold one context per side, of ``sides`` tokens.

    Args:
        role: name of the need.
        config: of the run.
        arch: the model.
        device: one of its devices.
        slots: requests in flight.
        sides: longest context of each side, in tokens.
        scored: most tokens scored in one iteration.
    """
    engine = settings_of(role, config)
    width, tp = bytes_each(engine.resolved_dtype), engine.tensor_parallel_size
    block = _block_tokens(device)
    contexts = slots * sum(-(-side // block) for side in sides) * block
    # Grouped heads are spread over ranks and repeated where there are more ranks than heads.
    kv = contexts * arch.kv_bytes(width) // min(tp, arch.kv_heads)
    batched = max(engine.max_batched_tokens, 2 * slots)
    live = 2 * arch.hidden + (arch.q_dim + 2 * arch.kv_dim + 2 * arch.intermediate) // tp
    parts = {
        "weights": width * arch.parameters // tp,
        "KV cache": kv,
        "activations": batched * live * width,
        "logits": max(len(sides) * slots, scored) * arch.vocabulary * LOGIT_BYTES,
        "runtime": device.overhead_bytes,
    }
    capacity = int(device.memory_bytes * engine.gpu_memory_utilization)
    return Need(role, parts, capacity, "engine.gpu_memory_utilization")


def settings_of(role: str, config: RunConfig) -> EngineSettings:
    """Those of a role's engines."""
    return config.evaluator_engine if role.startswith("evaluator") else config.engine


def _pool(
    role: str, config: RunConfig, arch: Architecture, device: Device
) -> list[tuple[int, str]]:
    """The KV pool's bytes and the setting that fixes them; empty if a GPU takes what is left."""
    engine = settings_of(role, config)
    if engine.num_blocks is not None:
        tokens = engine.num_blocks * _block_tokens(device)
        shared = min(engine.tensor_parallel_size, arch.kv_heads)
        return [
            (
                tokens * arch.kv_bytes(bytes_each(engine.resolved_dtype)) // shared,
                "engine.num_blocks",
            )
        ]
    gib = 1.0 if engine.kv_cache_gib is None and device.is_cpu else engine.kv_cache_gib
    return [] if gib is None else [(int(gib * 2**30), "engine.kv_cache_gib")]


def kv_bytes_of_one_context(engine: EngineSettings, arch: Architecture, device: Device) -> int:
    """KV cache of one request of ``max_model_len`` tokens."""
    block = _block_tokens(device)
    tokens = -(-engine.max_model_len // block) * block
    return tokens * arch.kv_bytes(bytes_each(engine.resolved_dtype))


def _block_tokens(device: Device) -> int:
    return 32 if device.is_cpu else 16
