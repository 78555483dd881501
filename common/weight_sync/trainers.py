"""How vLLM's trainer in the learner reaches the engines: by NCCL, or by CUDA IPC on one GPU.

Neither has run on a GPU. What CUDA IPC needs, as read in vLLM 0.32 and torch 2.13:

- The trainer packs weights into one buffer, chunk after chunk, and exports it once an update. A
  worker maps that memory, copies the chunk and loads the copy. Before each call the trainer waits
  for its stream, and the worker waits for the device before it returns, so no chunk is overwritten
  while it is read. This holds as long as the calls are synchronous.
- Handles are kept by the UUID of the GPU, so it does not matter how ``CUDA_VISIBLE_DEVICES``
  numbers it. A worker on another GPU finds no handle and raises an error.
- torch counts one release for each export. A second engine would make the unsigned count wrap, and
  the learner would never get the buffer back: one buffer lost in every update.
- If the engine dies, the call raises at once. The learner then restarts, which also frees the
  buffer that was not released. If the learner dies, the engine waits for ``publish.deadline_s``.
- ``VLLM_ALLOW_INSECURE_SERIALIZATION`` is for handles that travel by HTTP. Here Ray carries them to
  the actor whose process has the engine.
- With torch's ``expandable_segments`` a handle is a file descriptor of the learner, which another
  process may take only if it may trace the learner (``pidfd_getfd``). Leave them off.
"""

from __future__ import annotations

import math
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vllm.distributed.weight_transfer.base import VLLMWeightSyncClient, WeightSource

# An 8 B model then takes some 60 calls, and the copies of a chunk little memory.
PACKED_BYTES = 2**28


def packed_bytes(largest: int) -> int:
    """Bytes of the packed buffer; vLLM refuses a weight that is larger, so ``largest`` fits."""
    return max(PACKED_BYTES, largest)


def by_nccl(
    engines: VLLMWeightSyncClient, source: WeightSource, *, rank: int, host: str, num_gpus: int
) -> Any:
    """A trainer in one NCCL group with every worker; returns when all have joined.

    Args:
        engines: the receiving engines.
        source: the weights.
        rank: of the learner; 0 sends, and is the group's rank 0.
        host: address of this rank, for the rendezvous.
        num_gpus: workers of the engines.
    """
    from vllm.distributed.weight_transfer.nccl_engine import (
        NCCLTrainerInitInfo,
        NCCLTrainerWeightTransferEngine,
    )

    with socket.socket() as probe:
        probe.bind((host, 0))
        port = probe.getsockname()[1]
    info = NCCLTrainerInitInfo(host, port, 1 + num_gpus, rank=rank)
    return NCCLTrainerWeightTransferEngine.trainer_init(info, client=engines, source=source)


def by_ipc(engines: VLLMWeightSyncClient, source: WeightSource, *, rank: int) -> Any:
    """A trainer on the GPU of the one engine; there is no rendezvous."""
    from vllm.distributed.weight_transfer.ipc_engine import (
        IPCTrainerInitInfo,
        IPCTrainerWeightTransferEngine,
    )

    largest = max(math.prod(meta.shape) * meta.dtype.itemsize for meta in source.metadata())
    size = packed_bytes(largest)
    info = IPCTrainerInitInfo(rank=rank, packed=True, packed_buffer_size_bytes=size)
    return IPCTrainerWeightTransferEngine.trainer_init(info, client=engines, source=source)
