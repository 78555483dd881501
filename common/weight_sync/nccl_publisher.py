"""The learner's end of vLLM's NCCL weight transfer: the student's weights from GPU to GPU.

Not run on GPU. vLLM's trainer sends from rank 0, which shares a NCCL group with every
worker of the engines that draw rollouts; the other ranks take part in gathering. The
group is made anew when engines have come or gone. An engine that dies while it receives
leaves NCCL waiting: the deadline then ends this rank, and the learner starts again
from its last checkpoint, as after any death.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import torch
from vllm.distributed.weight_transfer.base import ParamMeta, WeightSource
from vllm.distributed.weight_transfer.nccl_engine import (
    NCCLTrainerInitInfo,
    NCCLTrainerWeightTransferEngine,
)

from common.config.sections import Dtype, PublishSettings
from common.weights import BitSum, bit_sum, sampled

Weights = Callable[[], Iterable[tuple[str, torch.Tensor]]]
_POLL_S = 0.5
# Between two looks at whether the engines that have the weights are still there.
_CHECK_S = 10.0


class RolloutEngines(Protocol):
    """The engines that draw rollouts: vLLM's ``VLLMWeightSyncClient``, and who they are.

    ``expect`` says which version, with sums of some weights, the next transfer ends with.
    """

    def present(self) -> Mapping[str, Any]: ...
    def join(self, members: Mapping[str, Any]) -> int: ...
    def expect(self, version: int, sums: Mapping[str, BitSum]) -> None: ...
    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None: ...
    def start_weight_update(self) -> None: ...
    def update_weights(self, update_info: Any) -> None: ...
    def finish_weight_update(self, weight_version: str | None = None) -> None: ...


class PolicyWeightSource(WeightSource):
    """The student's weights as vLLM's trainer reads them, in the engines' precision."""

    def __init__(self, weights: Weights, dtype: torch.dtype) -> None:
        self._weights, self._dtype = weights, dtype
        self._metadata = [ParamMeta(name, dtype, tuple(weight.shape)) for name, weight in weights()]
        self._sampled = set(sampled({meta.name: _size(meta) for meta in self._metadata}))
        self.sums: dict[str, BitSum] = {}

    def metadata(self) -> list[ParamMeta]:
        """Name, precision and shape of each weight, in order."""
        return self._metadata

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Each weight, gathered; sums some on the way."""
        for name, weight in self._weights():
            sent = weight.detach().to(self._dtype).contiguous()
            if name in self._sampled:
                self.sums[name] = bit_sum(sent)
            yield name, sent


class NcclWeightPublisher:
    """Publishes by transfer; the interface is that of ``file_publisher.Publisher``.

    Args:
        engines: who receives.
        settings: the publish section.
        dtype: of the engines.
        rank: this rank; 0 sends.
        host: this rank's address, where the group meets.
        patience_s: longest wait for the first engine.
    """

    def __init__(
        self,
        engines: RolloutEngines,
        settings: PublishSettings,
        dtype: Dtype,
        rank: int,
        host: str,
        patience_s: float,
    ) -> None:
        self._engines = engines
        self._settings = settings
        self._dtype = getattr(torch, dtype)
        self._rank = rank
        self._host = host
        self._patience_s = patience_s
        self._policy: PolicyWeightSource | None = None
        self._trainer: Any = None
        self._members: Mapping[str, Any] = {}
        self._checked = time.monotonic()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="transfer")

    def is_due(self, version: int) -> bool:
        """Whether the weights that have taken ``version`` steps are published."""
        return version % self._settings.every == 0

    def publish(self, version: int, weights: Weights) -> dict[str, float]:
        """Send ``weights`` as ``version`` to every engine that is there; seconds by phase.

        Raises:
            TimeoutError: no engine came, or sending took longer than ``publish.deadline_s``.
        """
        began = time.monotonic()
        if self._policy is None:
            self._policy = PolicyWeightSource(weights, self._dtype)
        if self._rank > 0:
            self._trainer = self._trainer or self._group(self._policy, 1)
        elif not self._rendezvous(self._policy):
            # The other ranks gather, and wait for this one.
            for _ in self._policy:
                pass
            return {"meet": time.monotonic() - began}
        met = time.monotonic()
        self._engines.expect(version, self._policy.sums)
        self._in_time(f"the weights of step {version} were not sent", self._trainer.send_weights)
        return {"meet": met - began, "send": time.monotonic() - met}

    def check(self) -> None:
        """Fail if every engine that has the weights is gone, for then no rollout will come.

        Raises:
            RuntimeError: the learner must start again, and publish to those that are there.
        """
        now = time.monotonic()
        if self._rank > 0 or not self._members or now - self._checked < _CHECK_S:
            return
        self._checked = now
        present = self._engines.present()
        if not any(present.get(name) == identity for name, identity in self._members.items()):
            raise RuntimeError("the engines that had the student's weights are gone")

    def _rendezvous(self, policy: PolicyWeightSource) -> bool:
        """A group with all engines that are there; False where those of before have left."""
        deadline = time.monotonic() + self._patience_s
        while not (present := self._engines.present()):
            if self._members:
                return False
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"no engine for the student's weights in {self._patience_s:g} s "
                    "(cluster.start_timeout_s)"
                )
            time.sleep(_POLL_S)
        if present == self._members:
            return True
        if self._trainer is not None:
            self._trainer.shutdown()
        size = 1 + self._engines.join(present)
        self._trainer = self._in_time(
            "the engines did not join the learner's group", lambda: self._group(policy, size)
        )
        self._members = dict(present)
        return True

    def _in_time(self, problem: str, call: Callable[[], Any]) -> Any:
        """Make a call that NCCL may never come back from."""
        deadline = self._settings.deadline_s
        try:
            return self._thread.submit(call).result(deadline)
        except TimeoutError as error:
            message = f"{problem} in {deadline:g} s (publish.deadline_s)"
            raise TimeoutError(message) from error

    def _group(self, policy: PolicyWeightSource, world_size: int) -> Any:
        with socket.socket() as probe:
            probe.bind((self._host, 0))
            port = probe.getsockname()[1]
        info = NCCLTrainerInitInfo(self._host, port, world_size, rank=self._rank)
        return NCCLTrainerWeightTransferEngine.trainer_init(
            info, client=self._engines, source=policy
        )


def _size(meta: ParamMeta) -> int:
    return int(torch.Size(meta.shape).numel())
