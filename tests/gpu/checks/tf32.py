"""What TF32 in the attention does to tokens, computed on the CPU.

TF32 keeps 10 of the 23 mantissa bits of a float32 factor. vLLM's attention for float32 is in
Triton, which uses it unless it is told otherwise; torch's own products do not. The bits are cut
off here: that they are not rounded is an assumption, under which the prompt changes that changed
on an H100.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common.hardware import Device
from tests.decoding import STOPS, VOCABULARY, random_attempts
from tests.gpu.checks.decoder import RATES, logprobs_of
from tests.tiny import make_model

DROPPED_BITS = 13


def emulated(device: Device, folder: Path) -> dict[str, Any]:
    """The oracle's rollouts, read by a model whose attention cuts its factors to TF32.

    It would draw another token where one of its own is likelier than the oracle's.
    """
    import torch
    from transformers import AttentionInterface, AutoModelForCausalLM

    from tests.oracle import Oracle

    model = make_model(folder / "model", vocabulary=VOCABULARY, scale=0.2)
    oracle, coarse = Oracle(model), Oracle(model)
    AttentionInterface.register("tf32", _attend)
    coarse.network = AutoModelForCausalLM.from_pretrained(
        model, dtype=torch.float32, attn_implementation="tf32"
    ).eval()
    differences, errors = [], []
    for rate in RATES:
        attempts = random_attempts(100, rate)
        prompts = [(attempt.naive_prompt, attempt.expert_prompt) for attempt in attempts]
        picks = [attempt.picks for attempt in attempts]
        for attempt, ids in zip(attempts, oracle.decode(prompts, picks, STOPS), strict=True):
            exact_TV, coarse_TV = (
                logprobs_of(oracle, attempt, ids),
                logprobs_of(coarse, attempt, ids),
            )
            error_TV = (exact_TV - coarse_TV).abs()
            errors.append(float(error_TV.gather(1, torch.tensor(ids)[:, None]).max()))
            wrong_T = (exact_TV.argmax(-1) != coarse_TV.argmax(-1)).nonzero()
            if len(wrong_T):
                position = int(wrong_T[0])
                best, second = exact_TV[position].topk(2).values.tolist()
                differences.append(
                    {"rate": rate, "key": attempt.key, "position": position, "gap": best - second}
                )
    return {
        "differing_prompts": len(differences),
        "differences": differences,
        "largest_gap": max(one["gap"] for one in differences),
        "largest_logprob_error": max(errors),
    }


def _attend(
    module: Any, query: Any, key: Any, value: Any, mask: Any, scaling: float, **_: Any
) -> tuple[Any, None]:
    """Causal attention of one unpadded row; the signature is ``transformers``'."""
    import torch

    scores = _cut(query) @ _cut(key).transpose(-1, -2) * scaling
    later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    scores = scores.masked_fill(later, -torch.inf)
    weights = (scores - scores.amax(-1, keepdim=True)).exp()
    output = _cut(weights) @ _cut(value) / weights.sum(-1, keepdim=True)
    return output.transpose(1, 2).contiguous(), None


def _cut(x: Any) -> Any:
    import torch

    bits = x.contiguous().view(torch.int32) >> DROPPED_BITS << DROPPED_BITS
    return bits.view(torch.float32)
