"""The worker extension: methods that vLLM mixes into each of its workers.

``worker_extension_cls`` takes one class, so what needs the worker is joined here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from actors.inference.token_rng import PerTokenRNG
from common.weights import BitSum, bit_sum


class WorkerExtension(PerTokenRNG):
    """Methods that the engine calls in every worker."""

    model_runner: Any
    reload_weights: Any

    def never_compile(self) -> None:
        """Run what vLLM marks for torch.compile without compiling it.

        It marks the rank of a log-probability even for engines that are to compile nothing. That
        is a comparison and a sum, and took 22 s of a first start on two cores.
        """
        torch.compiler.set_stance("force_eager")

    def sum_weights(self, names: Sequence[str]) -> dict[str, BitSum]:
        """Sums of what this worker holds under ``names``; what it fused or repacked is missing."""
        held = dict(self.model_runner.get_model().named_parameters())
        return {name: bit_sum(held[name]) for name in names if name in held and held[name].numel()}

    def sum_adapter(self, names: Sequence[str]) -> dict[str, BitSum]:
        """Sums of the factors of the adapter that this worker has loaded, by ``peft``'s names."""
        manager = self.model_runner.lora_manager._adapter_manager
        held = {}
        for adapter in manager.list_adapters().values():
            for module, layer in adapter.loras.items():
                # vLLM keeps the factors of layers that it fuses in lists.
                fused = manager.packed_modules.get(module)
                modules = fused or [module]
                factors = (
                    (layer.lora_a, layer.lora_b) if fused else ([layer.lora_a], [layer.lora_b])
                )
                for name, a_RD, b_ER in zip(modules, *factors, strict=True):
                    held[f"base_model.model.{name}.lora_A.weight"] = a_RD
                    held[f"base_model.model.{name}.lora_B.weight"] = b_ER
        return {name: bit_sum(held[name]) for name in names if held.get(name) is not None}

    def reload(self, folder: str) -> None:
        """Replace the weights by those in ``folder``, a tied head's too.

        vLLM repacks a layer's weights for the CPU when they are loaded; a head that is tied to
        the embedding is never loaded itself and would keep the packed weights of before.
        """
        self.reload_weights(weights_path=folder)
        head = getattr(self.model_runner.get_model(), "lm_head", None)
        if head is not None and hasattr(head, "quant_method"):
            head.quant_method.process_weights_after_loading(head)
