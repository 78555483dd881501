"""Liger's Triton kernels for norms, rotation and activation on a GPU. Not run on a GPU.

An eager layer launches some 60 small kernels for these, and twice as many in its backward pass;
Liger launches seven. Triton's interpreter gave the losses and gradients of ``transformers`` with
Liger 0.8.5 for the families listed here.
"""

from __future__ import annotations

import importlib.util
from typing import Any

# Of ``learner.families``. Gemma's need functions that the interpreter does not have.
FAMILIES = frozenset(
    {"llama", "mistral", "olmo2", "olmo3", "phi3", "qwen2", "qwen3", "smollm3"},
)


def fuse(model: Any) -> bool:
    """Put the kernels into a model, if they are installed for its family; returns whether.

    Its rotation is a function of the family's module, so it changes for the whole process.
    """
    if model.config.model_type not in FAMILIES or importlib.util.find_spec("liger_kernel") is None:
        return False
    from liger_kernel.transformers.monkey_patch import _apply_liger_kernel_to_instance

    # The learner has its own loss, on target positions alone.
    _apply_liger_kernel_to_instance(
        model=model, rope=True, rms_norm=True, swiglu=True, fused_linear_cross_entropy=False
    )
    return True
