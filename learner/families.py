"""The model families that the learner trains.

A row holds several examples, and the learner computes attention and loss itself. That is right
for the layers it knows. A layer that mixes tokens in another way (linear attention, convolutions,
chunks) would mix examples, and nobody would see it. So a family is on this list only if a test
compares its packed loss with that of plain ``transformers`` (``tests/learner/test_families.py``).

Mixtral and the mixtures of experts of Qwen and OLMo pass that test, but are not on the list:
``transformers`` fuses their experts in memory, and a checkpoint with fused experts is one that
vLLM does not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.errors import UserError

SUPPORTED = frozenset(
    {
        *("gemma", "gemma2", "gemma3_text", "gpt_oss", "llama", "mistral"),
        *("olmo", "olmo2", "olmo3", "phi", "phi3", "qwen2", "qwen3", "smollm3"),
    }
)
# Factors between hidden states and logits, which the loss does not apply.
_SCALES_LOGITS = ("logit_scale", "logits_scaling")


def check(config: Mapping[str, Any]) -> None:
    """Refuse a model whose loss would be wrong.

    Args:
        config: of the model, as in ``config.json``.

    Raises:
        UserError: its family or a setting is not supported.
    """
    family = config.get("model_type")
    if family not in SUPPORTED:
        raise UserError(
            f"model_type {family!r} is not supported: the learner packs several examples into a "
            "row, and is not shown to compute this family right; supported are "
            f"{', '.join(sorted(SUPPORTED))}"
        )
    for key in _SCALES_LOGITS:
        if config.get(key) not in (None, 1, 1.0):
            raise UserError(
                f"model_type {family}: {key} is {config[key]}, a factor of the logits that the "
                "learner's loss does not apply; choose a model without it"
            )


def softcap(config: Mapping[str, Any]) -> float | None:
    """The bound of the model's logits, if it has one."""
    found = config.get("final_logit_softcapping")
    return None if found is None else float(found)
