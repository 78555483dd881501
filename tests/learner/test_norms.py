import pytest
import torch
from torch import nn
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

from learner.norms import fuse


@pytest.mark.parametrize("kind", [LlamaRMSNorm, Qwen3RMSNorm])
def test_values_and_gradients_equal_the_models_own(kind):
    torch.manual_seed(0)
    module, own = kind(16, eps=1e-5), kind(16, eps=1e-5)
    with torch.no_grad():
        for each in (module, own):
            each.weight.copy_(torch.linspace(0.5, 2, 16))
    assert fuse(module) == 1
    x = torch.randn(2, 5, 16)
    gradient = torch.randn(2, 5, 16)
    results = []
    for each in (module, own):
        given = x.clone().requires_grad_()
        y = each(given)
        results.append((y, *torch.autograd.grad(y, (given, each.weight), gradient)))
        torch.testing.assert_close(given.detach(), x, rtol=0, atol=0)
    torch.testing.assert_close(results[0], results[1])


def test_a_norm_of_another_formula_is_left_alone():
    # Gemma's weight is an offset from 1.
    assert fuse(nn.Sequential(GemmaRMSNorm(16), nn.LayerNorm(16))) == 0
