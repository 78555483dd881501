"""Block-causal attention for packed rows: only the scores within each block.

This module knows blocks and tensors, not models: it registers with ``transformers``
under a name, and a model that is loaded with that name calls it in every layer with the
row's :class:`Layout`. A dense mask over a row would compute scores between examples only
to hide them; on a CPU that was a third of a step.

On a GPU a row is one call of ``learner.varlen_attention``. What its kernel does not take, and
everything on a CPU, goes by buckets of similar blocks, padded and masked.

Shape suffixes: T tokens of the row, H query heads, J key heads, G = H / J
queries per key head, D head size, N blocks of a bucket, Q and S its longest
query and key spans.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from transformers import AttentionInterface

from learner import varlen_attention
from learner.layout import Layout

NAME = "mixsd_blocks"
# What transformers passes to every attention. Positions are in the layout already.
_WITHOUT_EFFECT = frozenset({"position_ids", "use_cache", "output_attentions", "is_causal"})
# Longer spans go to the fused kernel, which does not keep the scores.
_LARGEST_SCORES = 512 * 512


@dataclass(frozen=True, slots=True)
class _Kind:
    """How a layer attends: factor of the scores, dropout, window, soft cap and sinks."""

    scale: float
    dropout: float
    window: int | None
    softcap: float | None
    sink_H: torch.Tensor | None

    @property
    def is_plain(self) -> bool:
        """A softmax of scaled scores and nothing else."""
        return not self.dropout and self.softcap is None and self.sink_H is None


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    layout: Layout | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of one layer; the signature is ``transformers``'.

    Args:
        module: the layer; unused.
        query: (1, H, T, D).
        key: (1, J, T, D).
        value: (1, J, T, D).
        attention_mask: unused; the layout defines which tokens attend to which.
        scaling: of the scores; None: 1 / √D.
        dropout: probability with which a weight is dropped in training.
        layout: of the row; passed to the model's forward.
        sliding_window: of the layer in tokens; None: all earlier tokens.
        softcap: bounds the scores to ± its value, by tanh (Gemma 2).
        s_aux: (H,) attention sinks: a score per head that takes weight and gives nothing
            (gpt-oss).
        others: what a model passes to any attention; nothing that changes the result.

    Raises:
        ValueError: no layout, or an argument that this attention does not know.
    """
    if layout is None:
        raise ValueError(f"{NAME} attention needs layout=; pass it to the model's forward")
    if unknown := sorted(
        k for k, v in others.items() if v is not None and k not in _WITHOUT_EFFECT
    ):
        raise ValueError(
            f"{type(module).__name__} passes {', '.join(unknown)} to its attention, which "
            f"{NAME} would ignore"
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    kind = _Kind(scale, dropout, sliding_window, softcap, s_aux)
    if kind.is_plain and varlen_attention.fits(query):
        query_THD, key_TJD, value_TJD = (t[0].transpose(0, 1) for t in (query, key, value))
        output_THD = varlen_attention.attention(
            query_THD, key_TJD, value_TJD, layout.spans, kind.scale, kind.window
        )
        return output_THD[None], None
    return _by_buckets(query, key, value, layout, kind), None


def _by_buckets(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: Layout, kind: _Kind
) -> torch.Tensor:
    """(1, T, H, D): attention with padding and masks."""
    num_heads, num_tokens, size = query.shape[1:]
    num_keys = key.shape[1]
    groups = num_heads // num_keys
    index, slots = layout.queries(groups)
    q_JXD = _Gather.apply(query.reshape(num_keys, groups * num_tokens, size), index, slots)
    k_JYD, v_JYD = _key_slots(key[0], layout), _key_slots(value[0], layout)
    widths = [groups * bucket.query_NQ.numel() for bucket in layout.buckets]
    depths = [bucket.key_NS.numel() for bucket in layout.buckets]
    outputs = [
        _bucket_attention(layout, at, groups, q, k, v, kind)
        for at, (q, k, v) in enumerate(
            zip(q_JXD.split(widths, 1), k_JYD.split(depths, 1), v_JYD.split(depths, 1), strict=True)
        )
    ]
    joined = outputs[0] if len(outputs) == 1 else torch.cat(outputs, 1)
    output_JXD = _Gather.apply(joined, slots, index, True)
    return output_JXD.view(1, num_heads, num_tokens, size).transpose(1, 2)


def _key_slots(x_JTD: torch.Tensor, layout: Layout) -> torch.Tensor:
    if layout.key_slots is None:
        return x_JTD.index_select(1, layout.keys)
    gathered: torch.Tensor = _Gather.apply(x_JTD, layout.keys, layout.key_slots)
    return gathered


def _bucket_attention(
    layout: Layout,
    at: int,
    groups: int,
    q_JXD: torch.Tensor,
    k_JYD: torch.Tensor,
    v_JYD: torch.Tensor,
    kind: _Kind,
) -> torch.Tensor:
    bucket = layout.buckets[at]
    (count, queries), keys = bucket.query_NQ.shape, bucket.key_NS.shape[1]
    heads, _, size = q_JXD.shape
    small = q_JXD.device.type == "cpu" and queries * keys <= _LARGEST_SCORES
    if small or kind.softcap is not None or kind.sink_H is not None:
        q = q_JXD.reshape(heads * count, groups * queries, size)
        k = k_JYD.reshape(heads * count, keys, size)
        v = v_JYD.reshape(heads * count, keys, size)
        scores = torch.bmm(q * kind.scale, k.transpose(1, 2)).view(heads, count, -1, keys)
        if kind.softcap is not None:
            scores = torch.tanh(scores / kind.softcap) * kind.softcap
        scores = scores + layout.bias(at, groups, scores.dtype, kind.window)
        if kind.sink_H is None:
            weights = scores.softmax(-1)
        else:
            sinks = kind.sink_H.view(heads, 1, groups, 1).expand(-1, count, -1, queries)
            sinks = sinks.reshape(heads, count, -1, 1).to(scores.dtype)
            weights = torch.cat([scores, sinks], -1).softmax(-1)[..., :-1]
        weights = F.dropout(weights, kind.dropout) if kind.dropout else weights
        return torch.bmm(weights.reshape(heads * count, -1, keys), v).view(heads, -1, size)
    q = q_JXD.view(heads, count, groups, queries, size).permute(1, 0, 2, 3, 4)
    k = k_JYD.view(heads, count, keys, size).transpose(0, 1)
    v = v_JYD.view(heads, count, keys, size).transpose(0, 1)
    output = F.scaled_dot_product_attention(
        q.reshape(count, heads * groups, queries, size),
        k,
        v,
        attn_mask=layout.visible(at, kind.window)[:, None],
        dropout_p=kind.dropout,
        scale=kind.scale,
        enable_gqa=groups > 1,
    )
    output = output.view(count, heads, groups, queries, size).transpose(0, 1)
    return output.reshape(heads, -1, size)


class _Gather(torch.autograd.Function):
    """``x[:, index]`` whose gradient is a gather too, by the inverse index.

    Correct if every position has one real slot: the other slots are padding, whose
    gradient is zero. Autograd's own gradient would add into zeros, several times slower.
    With ``padded`` the gather goes back from slots to positions.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        index: torch.Tensor,
        inverse: torch.Tensor,
        padded: bool = False,
    ) -> torch.Tensor:
        ctx.save_for_backward(index, inverse)
        ctx.padded = padded
        return x.index_select(1, index)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        index, inverse = ctx.saved_tensors
        gradient = gradients[0].index_select(1, inverse)
        if ctx.padded:
            # Padding slots repeat a position's gradient; it belongs to its real slot only.
            real = index[inverse] == torch.arange(len(inverse), device=inverse.device)
            gradient = gradient * real[None, :, None].to(gradient.dtype)
        return gradient, None, None, None


AttentionInterface.register(NAME, attend)
