"""The learner's side of vLLM's weight transfer, from GPU to GPU or within one.

Not run on GPU. vLLM's trainer sends from rank 0; the other ranks only take part in
gathering. It is opened again when engines join or leave (``trainers``). An engine that
dies while it receives leaves NCCL waiting: the deadline then ends this rank, and the
learner restarts from its last checkpoint, as after any crash. By CUDA IPC it fails at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import torch
from vllm.distributed.weight_transfer.base import ParamMeta, WeightSource

from common.config.learner import PublishSettings
from common.hardware import Dtype
from common.weight_sync import trainers
from common.weights import BitSum, bit_sum, sampled

Weights = Callable[[], Iterable[tuple[str, torch.Tensor]]]
_POLL_S = 0.5
# Seconds between two checks that the engines are still alive.
_CHECK_S = 10.0


class RolloutEngines(Protocol):
    """The rollout engines: vLLM's ``VLLMWeightSyncClient``, plus membership.

    ``available`` maps the name of each live engine to an identity that a restart changes.
    ``join`` selects the engines of the group and returns how many GPUs they have.
    ``expect`` announces the version of the next transfer and the bit sums of some weights.
    """

    def available(self) -> Mapping[str, Any]: ...
    def join(self, members: Mapping[str, Any]) -> int: ...
    def expect(self, version: int, sums: Mapping[str, BitSum]) -> None: ...
    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None: ...
    def start_weight_update(self) -> None: ...
    def update_weights(self, update_info: Any) -> None: ...
    def finish_weight_update(self, weight_version: str | None = None) -> None: ...


class PolicyWeightSource(WeightSource):
    """Supplies the student's weights to vLLM's trainer, in the engines' precision.

    Attributes:
        weights: of the version to send; names and shapes are those of the first.
        sums: bit sums of some weights, once they have been sent.
    """

    def __init__(self, weights: Weights, dtype: torch.dtype) -> None:
        self.weights, self._dtype = weights, dtype
        self._metadata = [ParamMeta(name, dtype, tuple(weight.shape)) for name, weight in weights()]
        self._sampled = set(sampled({meta.name: _size(meta) for meta in self._metadata}))
        self.sums: dict[str, BitSum] = {}

    def metadata(self) -> list[ParamMeta]:
        """Name, precision and shape of each weight, in order."""
        return self._metadata

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield each weight, gathered, and sum the sampled ones."""
        for name, weight in self.weights():
            sent = weight.detach().to(self._dtype).contiguous()
            if name in self._sampled:
                self.sums[name] = bit_sum(sent)
            yield name, sent


class TransferWeightPublisher:
    """Publishes by transfer; same interface as ``FileWeightPublisher``.

    Args:
        engines: the receiving engines.
        settings: the publish section; its transport is nccl or ipc.
        dtype: precision of the engines.
        rank: this rank; 0 sends.
        host: address of this rank, for the rendezvous of an NCCL group.
        patience_s: longest wait for the first engine, seconds.
    """

    adapters = False

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
        """Whether the weights after ``version`` optimizer steps are published."""
        return version % self._settings.every == 0

    def publish(self, version: int, weights: Weights) -> dict[str, float]:
        """Send ``weights`` as ``version`` to every live engine; returns seconds by phase.

        Raises:
            TimeoutError: no engine joined, or sending took longer than ``publish.deadline_s``.
        """
        began = time.monotonic()
        if self._policy is None:
            self._policy = PolicyWeightSource(weights, self._dtype)
        self._policy.weights = weights
        if self._rank > 0:
            self._trainer = self._trainer or self._open(self._policy, 0)
        elif not self._rendezvous(self._policy):
            # The other ranks wait in the gather until this one takes part.
            for _ in self._policy:
                pass
            return {"meet": time.monotonic() - began}
        joined = time.monotonic()
        self._engines.expect(version, self._policy.sums)
        self._within_deadline(
            f"the weights of step {version} were not sent", self._trainer.send_weights
        )
        return {"meet": joined - began, "send": time.monotonic() - joined}

    def check(self) -> None:
        """Fail if every engine with the weights is gone: no rollout would ever arrive.

        Raises:
            RuntimeError: the learner must restart and publish to the live engines.
        """
        now = time.monotonic()
        if self._rank > 0 or not self._members or now - self._checked < _CHECK_S:
            return
        self._checked = now
        available = self._engines.available()
        if not any(available.get(name) == identity for name, identity in self._members.items()):
            raise RuntimeError("all engines that had the student's weights are gone")

    def _rendezvous(self, policy: PolicyWeightSource) -> bool:
        """Make sure that the group has all live engines; False if all have left."""
        deadline = time.monotonic() + self._patience_s
        while not (available := self._engines.available()):
            if self._members:
                return False
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"no engine for the student's weights in {self._patience_s:g} s "
                    "(cluster.start_timeout_s)"
                )
            time.sleep(_POLL_S)
        if available == self._members:
            return True
        if self._trainer is not None:
            self._trainer.shutdown()
        num_gpus = self._engines.join(available)
        self._trainer = self._within_deadline(
            "the engines did not join the learner's group", lambda: self._open(policy, num_gpus)
        )
        self._members = dict(available)
        return True

    def _within_deadline(self, problem: str, call: Callable[[], Any]) -> Any:
        """Make a call that may block forever, in NCCL or in an engine."""
        deadline = self._settings.deadline_s
        try:
            return self._thread.submit(call).result(deadline)
        except TimeoutError as error:
            message = f"{problem} in {deadline:g} s (publish.deadline_s)"
            raise TimeoutError(message) from error

    def _open(self, policy: PolicyWeightSource, num_gpus: int) -> Any:
        if self._settings.transfer == "ipc":
            return trainers.by_ipc(self._engines, policy, rank=self._rank)
        return trainers.by_nccl(
            self._engines, policy, rank=self._rank, host=self._host, num_gpus=num_gpus
        )


def _size(meta: ParamMeta) -> int:
    return int(torch.Size(meta.shape).numel())
