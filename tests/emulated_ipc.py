"""CUDA IPC without a GPU, under vLLM's own code: files in place of GPU memory, names as handles."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch

# Where vLLM writes the device into what torch exports: (…, device, name).
_BEFORE_DEVICE = 6


@contextlib.contextmanager
def emulated_ipc(folder: Path) -> Iterator[None]:
    """Let vLLM's trainer and worker exchange buffers through ``folder``, in any process."""
    from vllm.distributed.weight_transfer import base, ipc_engine, packed_tensor

    gpu = _Torch(folder)
    with contextlib.ExitStack() as stack:
        for module in (base, ipc_engine, packed_tensor):
            stack.enter_context(mock.patch.object(module, "torch", gpu))
        stack.enter_context(mock.patch.object(packed_tensor, "reduce_tensor", gpu.export))
        # The worker imports it when it needs it.
        rebuild = "torch.multiprocessing.reductions.rebuild_cuda_tensor"
        stack.enter_context(mock.patch(rebuild, gpu.rebuild))
        yield


class _Torch:
    """torch, as far as it is not about a GPU."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: dict[int, str] = {}
        stream = SimpleNamespace(synchronize=lambda: None)
        self.cuda = SimpleNamespace(
            get_device_properties=lambda device: SimpleNamespace(uuid="GPU-0"),
            current_stream=lambda: stream,
            ipc_collect=lambda: None,
        )
        self.accelerator = SimpleNamespace(current_device_index=lambda: 0, synchronize=lambda: None)

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def empty(self, size: int, *, dtype: torch.dtype, device: str) -> torch.Tensor:
        assert device == "cuda"
        name = f"buffer-{len(self._names)}"
        buffer = torch.from_file(str(self._folder / name), shared=True, size=size, dtype=dtype)
        self._names[buffer.data_ptr()] = name
        return buffer

    def export(self, buffer: torch.Tensor) -> tuple[None, tuple[Any, ...]]:
        return None, (*[None] * _BEFORE_DEVICE, 0, self._names[buffer.data_ptr()], buffer.numel())

    def rebuild(self, *arguments: Any) -> torch.Tensor:
        *_, name, size = arguments
        return torch.from_file(str(self._folder / name), shared=True, size=size, dtype=torch.uint8)
