import pytest
import torch

from learner.losses import nll


@pytest.mark.parametrize("num_targets", [3, 40], ids=["whole logits", "chunks"])
def test_the_loss_and_its_gradients_are_those_of_float64_cross_entropy(num_targets):
    torch.manual_seed(0)
    hidden = torch.randn(num_targets, 16, requires_grad=True)
    weight = torch.randn(100, 16, requires_grad=True)
    targets = torch.randint(100, (num_targets,))
    ours = nll(hidden, weight, None, targets)
    log_p = (hidden.double() @ weight.double().T).log_softmax(-1)
    expected = -log_p[torch.arange(num_targets), targets].sum()
    torch.testing.assert_close(ours.double(), expected, rtol=1e-5, atol=1e-5)
    found = torch.autograd.grad(2 * ours, (hidden, weight))
    for gradient, reference in zip(
        found, torch.autograd.grad(2 * expected, (hidden, weight)), strict=True
    ):
        torch.testing.assert_close(gradient, reference, rtol=1e-4, atol=1e-5)


def test_one_token_of_a_uniform_distribution_costs_the_log_of_the_vocabulary():
    loss = nll(torch.zeros(1, 4), torch.ones(8, 4), None, torch.tensor([5]))
    assert float(loss) == pytest.approx(2.0794415)
