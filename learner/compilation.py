"""Compiles a model layer by layer with ``torch.compile``. Not run on a GPU.

All layers of a kind share their graphs, so a model of any depth compiles as fast as a few layers.
Sizes are symbolic: rows have any number of tokens, and each would be compiled again. Attention
stays outside, since its blocks differ from row to row; it is one kernel as it is.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface

from learner import attention

BACKEND = "inductor"


def compile_layers(model: Any) -> None:
    """Compile every decoder layer in place; names of weights stay, and the first row compiles."""
    AttentionInterface.register(attention.NAME, torch.compiler.disable(attention.attend))
    for layer in model.base_model.layers:
        layer.compile(backend=BACKEND, dynamic=True)
