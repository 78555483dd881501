"""Memory of each role's process, by part, in bytes.

Engines reserve a naive and an expert context per slot, as ``actors.decoding.mixed_decoder``
does. The learner's parts are DeepSpeed's. Fragmentation is not counted.
"""

from __future__ import annotations

from dataclasses import dataclass

from common.config.run_config import RunConfig
from common.config.sections import LearnerSettings
from common.methods import Divergence, Loss
from deploy.planning.architecture import Architecture
from deploy.planning.devices import Device
from deploy.planning.roofline import LearnerModel, bytes_each
from deploy.planning.workload import Workload

# DeepSpeed's default reduce_bucket_size and allgather_bucket_size, elements.
_BUCKET = 500_000_000
# Its stage3_max_live_parameters.
_LIVE = 1_000_000_000
# Of a GPU that roles share: allocators cannot use every gap.
_FILLED = 0.95
# Bytes of one logit while the sampler or the loss works on it: bfloat16, float32,
# and float32 log-probabilities or their gradient.
_LOGIT_BYTES = 2 + 4 + 4

# Copied from learner.divergences and learner.losses, whose import needs torch.
CHUNK_NUMBERS, CHUNK_TENSORS = 2**23, 12
NLL_CHUNK_NUMBERS = 2**25


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
        for pool, key in _pool(config, architecture, device)
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
    """All roles on one GPU; each engine has as much as the largest needs."""
    share = engine_bytes(processes)
    parts = {"rollout": config.rollout.actors * share, "evaluator": config.evaluator.actors * share}
    parts |= {need.role: need.total for need in processes if need.role == "learner"}
    capacity = int(_FILLED * device.memory_bytes)
    return Need("GPU", parts, capacity, "95 % of the GPU that the roles share")


def engine_bytes(processes: list[Need]) -> int:
    """What the largest process with an engine needs, the Fisher information included."""
    totals = {"rollout": 0, "evaluator": 0}
    for need in processes:
        if (role := need.role.split()[0]) in totals:
            totals[role] += need.total
    return max(totals.values())


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
    learner = _learner(model, workload, config.method.loss)
    if workload.has_student and device.is_cpu:
        # In shared memory: the published weights, and those that replace them.
        sent = architecture.parameters
        if config.student_adapter is not None:
            sent = architecture.adapter(config.student_adapter)
        learner.parts["published"] = 2 * sent * bytes_each(config.engine.resolved_dtype)
    return [*found, learner]


def adam_bytes(dtype: str) -> int:
    """Bytes per parameter of DeepSpeed's AdamW state: two float32 moments (8), and for bfloat16
    weights also a float32 master copy and the float32 gradient of the step (16)."""
    return 8 if dtype == "float32" else 16


def learner_state(
    parameters: int, settings: LearnerSettings, trained: int | None = None
) -> dict[str, int]:
    """Bytes of weights, gradients and optimizer state of one rank's device.

    ZeRO-1 shards the optimizer over ranks, ZeRO-2 also the gradients, ZeRO-3 also the weights.
    What is offloaded is in CPU memory; of offloaded weights, DeepSpeed's default holds a billion.

    Args:
        parameters: of the model.
        settings: the learner section.
        trained: parameters that are updated, adapters beside the model; None: the model's.
    """
    width, stage, ranks = bytes_each(settings.resolved_dtype), settings.zero_stage, settings.ranks
    updated = parameters if trained is None else trained
    held = parameters if trained is None else parameters + trained
    offloads = settings.offload != "none"

    def shard(size: int, first_stage: int) -> int:
        return -(-size // ranks) if stage >= first_stage else size

    if settings.offload == "parameters":
        held = min(held, _LIVE)
    return {
        "weights": shard(width * held, 3) if settings.offload != "parameters" else width * held,
        "gradients": 0 if offloads and stage >= 2 else shard(width * updated, 2),
        "optimizer": 0 if offloads else shard(adam_bytes(settings.resolved_dtype) * updated, 1),
    }


def _learner(model: LearnerModel, workload: Workload, loss: Loss) -> Need:
    arch, settings, device = model.architecture, model.settings, model.device
    width, trained = bytes_each(settings.resolved_dtype), arch.trained(settings)
    largest = max(
        (row for rank in model.rows(workload) for row in rank),
        key=lambda row: (row.tokens, row.targets),
    )
    tokens, targets = largest.tokens, largest.targets
    layer = tokens * _layer_activation(arch, width)
    if settings.gradient_checkpointing:
        activations = arch.layers * tokens * arch.hidden * width + layer
    else:
        activations = arch.layers * layer
    buffers = 0
    if settings.zero_stage in (1, 2):
        buffers = 2 * min(_BUCKET, trained) * width
    elif settings.zero_stage == 3:
        # The export gathers every weight on every rank.
        buffers = arch.parameters * width
    parts = {
        **learner_state(arch.parameters, settings, trained if settings.lora else None),
        "buffers": buffers,
        "activations": activations + tokens * tokens,
        "logits": _logits(arch, loss, targets, frozen=settings.lora is not None),
        "runtime": device.overhead_bytes,
    }
    if isinstance(loss, Divergence) and loss.teacher == "learner" and not settings.teacher_is_base:
        # The frozen reference, not sharded at any stage.
        parts["teacher"] = arch.parameters * width
    return Need("learner", parts, device.memory_bytes, "a device of learner.ranks")


def _logits(arch: Architecture, loss: Loss, targets: int, *, frozen: bool) -> int:
    """Bytes of the loss: one chunk's logits, and the head's gradient, summed in float32."""
    gradient = 0 if frozen else 4 * arch.vocabulary * arch.hidden
    if not isinstance(loss, Divergence):
        chunk = min(NLL_CHUNK_NUMBERS, targets * arch.vocabulary)
        return chunk * _LOGIT_BYTES + gradient
    chunk = min(CHUNK_NUMBERS, targets * arch.vocabulary)
    return 4 * CHUNK_TENSORS * chunk + gradient


def _layer_activation(arch: Architecture, width: int) -> int:
    """Bytes per token that one layer keeps for its backward pass.

    They are: inputs of both norms, of the projections and of the residual sums
    (4 · hidden, and float32 copies inside the two norms), queries before and after
    rotation, the attention's output, keys and values likewise, and of the MLP gate, up,
    their activation and product (4 · intermediate).
    """
    numbers = 4 * arch.hidden + 3 * arch.q_dim + 3 * arch.kv_dim + 4 * arch.intermediate
    return width * numbers + 2 * 4 * arch.hidden


def _rollout(config: RunConfig, arch: Architecture, device: Device, workload: Workload) -> Need:
    settings, engine = config.rollout, config.engine
    naive = max(item.naive for item in workload.items)
    expert = max(item.expert for item in workload.items)
    rate, length = workload.mix_rate, settings.max_tokens
    sides: list[int] = []
    if rate is None:
        sides.append(naive + max(item.target for item in workload.items) + 1)
    if rate is not None and rate > 0:
        sides.append(naive + length)
    if rate is not None and rate < 1:
        sides.append(expert + length)
    scored = 0
    if workload.scored:
        scored = min(engine.max_batched_tokens, settings.slots * (naive + length))
    if workload.is_taught:
        sides = [*sides, expert + length + 1] if workload.has_student else sides
        scored = min(engine.max_batched_tokens, settings.slots * (expert + length))
    need = _engine("rollout", config, arch, device, settings.slots, sides, scored)
    if workload.is_taught and workload.has_student and config.student_adapter is None:
        # The reference has an engine of its own.
        need.parts["weights"] *= 2
        need.parts["activations"] *= 2
    return need


def _evaluator(
    config: RunConfig, arch: Architecture, device: Device, workload: Workload
) -> list[Need]:
    """Its engine, and the base with gradients while the Fisher is computed."""
    settings = config.evaluator
    longest = max(*(item.naive for item in workload.items), *workload.retrieval, 0)
    scored = min(config.engine.max_batched_tokens, workload.text_tokens)
    sides = [longest + settings.max_tokens]
    engine = _engine("evaluator", config, arch, device, settings.slots, sides, scored)
    fisher = settings.fisher
    if fisher is None or (fisher.device == "cpu" and not device.is_cpu):
        return [engine]
    width = bytes_each(fisher.dtype)
    parts = {
        "weights": width * arch.parameters,
        # One parameter tensor at a time; the embedding is the largest.
        "gradient": width * arch.vocabulary * arch.hidden,
        "logits": fisher.max_tokens * arch.vocabulary * _LOGIT_BYTES,
    }
    if device.is_cpu:
        engine.parts["Fisher"] = sum(parts.values()) + 4 * arch.parameters
        return [engine]
    if config.cluster.placement == "shared":
        left = device.memory_bytes
    else:
        left = int(device.memory_bytes * (1 - config.engine.gpu_memory_utilization))
    return [engine, Need("evaluator Fisher", parts, left, "engine.gpu_memory_utilization")]


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
    engine = config.engine
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
        "logits": max(len(sides) * slots, scored) * arch.vocabulary * _LOGIT_BYTES,
        "runtime": device.overhead_bytes,
    }
    capacity = int(device.memory_bytes * engine.gpu_memory_utilization)
    return Need(role, parts, capacity, "engine.gpu_memory_utilization")


def _pool(config: RunConfig, arch: Architecture, device: Device) -> list[tuple[int, str]]:
    """The KV pool's bytes and the setting that fixes them; empty if a GPU takes what is left."""
    engine = config.engine
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


def kv_bytes_of_one_context(config: RunConfig, arch: Architecture, device: Device) -> int:
    """KV cache of one request of ``engine.max_model_len`` tokens."""
    block = _block_tokens(device)
    tokens = -(-config.engine.max_model_len // block) * block
    return tokens * arch.kv_bytes(bytes_each(config.engine.resolved_dtype))


def _block_tokens(device: Device) -> int:
    return 32 if device.is_cpu else 16
