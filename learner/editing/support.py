"""Which models can be edited, and in which layers. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.errors import UserError
from common.methods import MemoryEdit

# A gated MLP with ``mlp.down_proj`` whose output is added to the hidden state as it is: the
# families that normalize it first (gemma2, olmo2) do not reach the wanted sum.
SUPPORTED = frozenset({"llama", "mistral", "qwen2", "qwen3", "smollm3"})
_SPAN = 5


def edited_layers(config: Mapping[str, Any], edit: MemoryEdit) -> range:
    """The layers that are edited; the default is the paper's span, relative to the depth.

    Args:
        config: of the model, as in ``config.json``.
        edit: the method's edit.

    Raises:
        UserError: the model cannot be edited so.
    """
    family, depth = config.get("model_type"), config["num_hidden_layers"]
    if family not in SUPPORTED:
        raise UserError(
            f"method memit edits the down-projections of gated MLPs, and model_type {family!r} is "
            f"not one it is tested with; use a model of {', '.join(sorted(SUPPORTED))}, or "
            "another method"
        )
    if len(set(config.get("layer_types") or ())) > 1:
        raise UserError(
            f"method memit needs layers of one kind, but layer_types of this {family} differ; "
            "use a model without sliding windows, or another method"
        )
    if edit.tokens < (width := config["intermediate_size"]):
        raise UserError(
            f"method.covariance_tokens is {edit.tokens}, less than the MLP's width {width}: "
            f"the covariance would be singular; raise it to {4 * width} or more"
        )
    if edit.layers is None:
        last = 2 * depth // 7
        return range(max(0, last - _SPAN + 1), last + 1)
    first, last = edit.layers
    if last >= depth:
        raise UserError(
            f"method.layers is {[first, last]}, but the model has layers 0 to {depth - 1}; lower it"
        )
    return range(first, last + 1)
