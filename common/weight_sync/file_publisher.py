"""Publishes the student's weights as a file.

All ranks call at the same steps, because all take part in gathering sharded weights;
only rank 0 writes. It keeps a copy of the weights in CPU memory while it does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import torch

from common.config.learner import PublishSettings
from common.hardware import Dtype
from common.weight_sync.store import WeightStore
from common.weights import bit_sum, sampled


class FileWeightPublisher:
    """Publishes to a weight store.

    Args:
        store: where the engines' receivers read.
        settings: the publish section.
        dtype: precision of the engines, so that they load exactly what was published.
        rank: this rank; 0 writes.
        log: receives a line for the run's log.
        adapters: whether the student's adapters are published alone.
    """

    def __init__(
        self,
        store: WeightStore,
        settings: PublishSettings,
        dtype: Dtype,
        rank: int,
        log: Callable[[str], None],
        adapters: bool = False,
    ) -> None:
        self.adapters = adapters
        self._store = store
        self._settings = settings
        self._dtype = getattr(torch, dtype)
        self._rank = rank
        self._log = log
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="publish")

    def is_due(self, version: int) -> bool:
        """Whether the weights after ``version`` optimizer steps are published."""
        return version % self._settings.every == 0

    def check(self) -> None:
        """Do nothing: a file cannot fail between two versions."""

    def publish(
        self, version: int, weights: Callable[[], Iterable[tuple[str, torch.Tensor]]]
    ) -> dict[str, float]:
        """Publish ``weights`` as ``version``; returns seconds by phase.

        Raises:
            TimeoutError: writing took longer than ``publish.deadline_s``.
        """
        began = time.monotonic()
        tensors = {}
        for name, weight in weights():
            if self._rank == 0:
                tensors[name] = weight.detach().to("cpu", self._dtype).contiguous()
        gathered = time.monotonic()
        if self._rank > 0:
            return {"gather": gathered - began}
        names = sampled({name: tensor.numel() for name, tensor in tensors.items()})
        sums = {name: bit_sum(tensors[name]) for name in names}
        summed = time.monotonic()
        num_bytes = sum(tensor.nbytes for tensor in tensors.values())

        def write() -> None:
            self._store.open(num_bytes, self._log)
            self._store.put(version, tensors, sums, self._log)

        deadline = self._settings.deadline_s
        try:
            # A file system that hangs blocks this thread, not the rank.
            self._thread.submit(write).result(deadline)
        except TimeoutError as error:
            raise TimeoutError(
                f"the weights of step {version} were not written in {deadline:g} s "
                "(publish.deadline_s)"
            ) from error
        return {
            "gather": gathered - began,
            "sum": summed - gathered,
            "write": time.monotonic() - summed,
        }
