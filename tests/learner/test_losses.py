import pytest
import torch

from learner import losses
from learner.losses import nll


def whole(hidden, weight, bias, targets):
    """Cross-entropy in float64."""
    logits = hidden.double() @ weight.double().T + (0 if bias is None else bias.double())
    return -logits.log_softmax(-1)[torch.arange(len(targets)), targets].sum()


@pytest.mark.parametrize("chunk", [3, 7, 40], ids=["a rest", "several", "one chunk"])
@pytest.mark.parametrize("biased", [False, True], ids=["no bias", "bias"])
def test_the_loss_and_its_gradients_equal_float64_cross_entropy(chunk, biased, monkeypatch):
    monkeypatch.setitem(losses.CHUNK_NUMBERS, "cpu", 100 * chunk + 99)
    torch.manual_seed(0)
    hidden = torch.randn(40, 16, requires_grad=True)
    weight = torch.randn(100, 16, requires_grad=True)
    bias = torch.randn(100, requires_grad=True) if biased else None
    targets = torch.randint(100, (40,))
    ours, expected = (loss(hidden, weight, bias, targets) for loss in (nll, whole))
    torch.testing.assert_close(ours.double(), expected, rtol=1e-5, atol=1e-5)
    inputs = (hidden, weight, bias) if biased else (hidden, weight)
    found = torch.autograd.grad(2 * ours, inputs)
    for gradient, reference in zip(found, torch.autograd.grad(2 * expected, inputs), strict=True):
        torch.testing.assert_close(gradient, reference, rtol=1e-4, atol=1e-5)


def test_in_bfloat16_the_sum_is_float32_and_a_frozen_head_has_no_gradient():
    torch.manual_seed(0)
    hidden = torch.randn(500, 16).bfloat16().requires_grad_()
    weight = torch.randn(100, 16).bfloat16()
    targets = torch.randint(100, (500,))
    loss = nll(hidden, weight, None, targets)
    assert loss.dtype == torch.float32
    assert float(loss.detach()) == pytest.approx(
        float(whole(hidden, weight, None, targets).detach()), rel=2e-3
    )
    loss.backward()
    assert hidden.grad.dtype == torch.bfloat16
    assert weight.grad is None


def test_one_token_of_a_uniform_distribution_costs_the_log_of_the_vocabulary():
    loss = nll(torch.zeros(1, 4), torch.ones(8, 4), None, torch.tensor([5]))
    assert float(loss) == pytest.approx(2.0794415)
