"""Memory of one rank of the learner, by part, in bytes. The parts are DeepSpeed's."""

from __future__ import annotations

from common.config.learner import LearnerSettings
from common.methods import Divergence, Loss, WeightPenalty
from deploy.planning.architecture import Architecture
from deploy.planning.roofline import EDITED_LAYERS, LearnerModel, bytes_each
from deploy.planning.workload import Workload

# DeepSpeed's default reduce_bucket_size and allgather_bucket_size, elements.
_BUCKET = 500_000_000
# Its stage3_max_live_parameters.
_LIVE = 1_000_000_000
# Bytes of one logit while the sampler or the loss works on it: bfloat16, float32,
# and float32 log-probabilities or their gradient.
LOGIT_BYTES = 2 + 4 + 4

# Copied from learner.divergences and learner.losses, whose import needs torch.
CHUNK_NUMBERS, CHUNK_TENSORS = 2**23, 12
NLL_CHUNK_NUMBERS = {"cpu": 2**25, "cuda": 2**27}


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


def learner_parts(
    model: LearnerModel, workload: Workload, loss: Loss, penalty: WeightPenalty | None = None
) -> dict[str, int]:
    """Bytes on one rank's device, by part."""
    if workload.edit is not None:
        return _edit_parts(model, workload)
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
        "logits": _logits(
            arch, loss, targets, on_cpu=device.is_cpu, frozen=settings.lora is not None
        ),
        "runtime": device.overhead_bytes,
    }
    if loss.divergence is not None and (held := _teacher(arch, loss.divergence, settings)):
        parts["teacher"] = held
    if penalty is not None:
        # The reference's weights, and F in float32.
        parts["penalty"] = arch.parameters * (width if penalty.fisher is None else width + 4)
    return parts


def _teacher(arch: Architecture, divergence: Divergence, settings: LearnerSettings) -> int:
    """Bytes of the teacher's own weights, which are not sharded at any stage."""
    width = bytes_each(settings.resolved_dtype)
    if divergence.teacher == "engine" or divergence.weights == "live":
        return 0
    if divergence.weights == "ema":
        # A float32 average, and what the forward pass uses if that is rounded.
        return arch.trained(settings) * (4 if width == 4 else 4 + width)
    return 0 if settings.teacher_is_base else arch.parameters * width


def _edit_parts(model: LearnerModel, workload: Workload) -> dict[str, int]:
    """Bytes of an edit, which is computed in float32; covariances are float64.

    The edited matrices are held three times more: of the base, before the edit, and their change
    (in float64). A covariance is copied to be added to and factored.
    """
    arch, width = model.architecture, 4
    rows = [row for rank in model.rows(workload) for row in rank]
    tokens, targets = max((row.tokens, row.targets) for row in rows)
    matrix, covariance = arch.hidden * arch.intermediate, arch.intermediate**2
    return {
        "weights": width * arch.parameters,
        "copies": EDITED_LAYERS * 2 * width * matrix + 8 * matrix,
        "covariances": 8 * (EDITED_LAYERS + 2) * covariance,
        "activations": arch.layers * tokens * _layer_activation(arch, width),
        "logits": 3 * width * targets * arch.vocabulary,
        "runtime": model.device.overhead_bytes,
    }


def _logits(arch: Architecture, loss: Loss, targets: int, *, on_cpu: bool, frozen: bool) -> int:
    """Bytes of the loss: one chunk's logits, and the head's gradient, summed in float32."""
    gradient = 0 if frozen else 4 * arch.vocabulary * arch.hidden
    if loss.divergence is None:
        most = NLL_CHUNK_NUMBERS["cpu" if on_cpu else "cuda"]
        chunk = min(most, targets * arch.vocabulary)
        return chunk * LOGIT_BYTES + gradient
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
