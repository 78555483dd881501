"""LoRA adapters (Hu et al. 2021), through the optional package ``peft``."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from common.config.learner import LoraSettings
from common.errors import UserError

_NAME = "default"


@dataclass(frozen=True, slots=True)
class Adapter:
    """The two trained factors of a frozen matrix W: the model uses W + scale · B A."""

    module: str
    a_RD: nn.Parameter
    b_ER: nn.Parameter
    scale: float

    @property
    def weight(self) -> str:
        """Name of the frozen matrix in the adapted model."""
        return f"{self.module}.base_layer.weight"


def adapt(model: nn.Module, settings: LoraSettings) -> tuple[list[Adapter], bytes]:
    """Freeze the model and add an adapter to each target layer; at first it changes nothing.

    Returns:
        The adapters, and the content of ``adapter_config.json`` for ``peft``.

    Raises:
        UserError: ``peft`` is missing, or the targets match no linear layer.
    """
    try:
        import peft
    except ImportError as error:
        raise UserError(
            "learner.lora is set, but peft is not installed; run 'pip install peft' or unset it"
        ) from error
    config = peft.LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        target_modules=settings.modules
        if isinstance(settings.modules, str)
        else list(settings.modules),
        task_type="CAUSAL_LM",
    )
    try:
        peft.inject_adapter_in_model(config, model, _NAME)
    except ValueError as error:
        raise UserError(f"learner.lora.targets: {error}") from error
    adapters = [
        Adapter(
            name, module.lora_A[_NAME].weight, module.lora_B[_NAME].weight, module.scaling[_NAME]
        )
        for name, module in model.named_modules()
        if isinstance(module, peft.tuners.lora.LoraLayer)
    ]
    trained = {id(p) for each in adapters for p in (each.a_RD, each.b_ER)}
    for parameter in model.parameters():
        parameter.requires_grad = id(parameter) in trained
    stored = config.to_dict() | {"inference_mode": True}
    return adapters, _json(stored)


@contextlib.contextmanager
def without(model: nn.Module) -> Iterator[None]:
    """The base model: its adapters have no effect meanwhile, and nothing is dropped out."""
    import peft

    layers = [m for m in model.modules() if isinstance(m, peft.tuners.lora.LoraLayer)]
    scales = [layer.scaling[_NAME] for layer in layers]
    training = model.training
    for layer in layers:
        # peft's own switch would change which parameters require a gradient.
        layer.scaling[_NAME] = 0.0
    model.eval()
    try:
        yield
    finally:
        model.train(training)
        for layer, scale in zip(layers, scales, strict=True):
            layer.scaling[_NAME] = scale


def stored_name(adapter: Adapter, factor: str) -> str:
    """Name of a factor (``A`` or ``B``) in ``adapter_model.safetensors``."""
    return f"base_model.model.{adapter.module}.lora_{factor}.weight"


def merged(
    weight_ED: torch.Tensor, a_RD: torch.Tensor, b_ER: torch.Tensor, scale: float
) -> torch.Tensor:
    """W + scale · B A, computed in float32, in W's type."""
    return (weight_ED.float() + scale * (b_ER.float() @ a_RD.float())).to(weight_ED.dtype)


def _json(config: dict[str, object]) -> bytes:
    def plain(value: object) -> object:
        return sorted(value) if isinstance(value, set) else str(getattr(value, "value", value))

    return json.dumps(config, indent=1, default=plain).encode()
