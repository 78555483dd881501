"""Counts a model's parameters, of any family: from the heads of its files, or without them.

Without files, ``transformers`` builds the model on torch's meta device, which takes seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import UserError, first_line

_EMBEDDINGS = ("embed_tokens.weight", "wte.weight")
_HEAD = "lm_head.weight"


@dataclass(frozen=True, slots=True)
class Counts:
    """Parameters without the embedding and the output head.

    Attributes:
        body: all of them.
        matrices: those that multiply every token; of the experts, as many as a token chooses.
        tied: whether embedding and head are one.
    """

    body: int
    matrices: int
    tied: bool


def count(name: str, config: Mapping[str, Any], folder: Path | None = None) -> Counts:
    """The counts of a model.

    Args:
        name: for the message.
        config: the content of ``config.json``.
        folder: of the model; None, or without safetensors: count on the meta device.

    Raises:
        UserError: ``transformers`` cannot build a model from the configuration.
    """
    files = sorted(folder.glob("*.safetensors")) if folder is not None else []
    shapes = list(_stored(files)) if files else _built(name, config)
    chosen, experts = (
        next((int(config[key]) for key in keys if config.get(key)), 1)
        for keys in (("num_experts_per_tok",), ("num_local_experts", "num_experts"))
    )
    body = matrices = 0
    for weight, shape in shapes:
        if weight.endswith((*_EMBEDDINGS, _HEAD)):
            continue
        size = 1
        for length in shape:
            size *= length
        body += size
        if ".experts." in weight and len(shape) >= 2 and not weight.endswith("bias"):
            # Each expert's own, or all of a layer in one tensor (experts, in, out).
            matrices += size * min(chosen, experts) // experts
        elif len(shape) == 2:
            matrices += size
    return Counts(body, matrices, tied=not any(weight.endswith(_HEAD) for weight, _ in shapes))


def _stored(files: Iterable[Path]) -> Iterable[tuple[str, Sequence[int]]]:
    from safetensors import safe_open

    for path in files:
        with safe_open(path, "numpy") as file:
            yield from ((name, file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118


def _built(name: str, config: Mapping[str, Any]) -> list[tuple[str, Sequence[int]]]:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    # How the weights are stored changes no count.
    settings = {k: v for k, v in config.items() if k not in ("model_type", "quantization_config")}
    try:
        described = AutoConfig.for_model(config["model_type"], **settings)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(described, trust_remote_code=False)
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise UserError(f"model {name}: cannot be planned: {first_line(error)}") from error
    return [(weight, parameter.shape) for weight, parameter in model.named_parameters()]
