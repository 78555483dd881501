"""Block attention against a dense mask, and against examples without packing."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from common.config.learner import LearnerSettings
from common.methods import NLL
from learner import attention
from learner.attention import attend
from learner.layout import Layout
from learner.model import StudentModel
from learner.packing import Example, Row, pack, single

EXAMPLES: list[Example] = [
    ([1, 2, 3], [4, 5, 6]),
    ([1, 2, 3], [7]),
    ([1, 2, 3], [9, 9, 9, 9]),
    ([5] * 9, [3, 3]),
    ([5] * 9 + [4], [2, 1]),
    ([5] * 9 + [4], [8]),
    ([8, 8], [1, 2, 3, 4]),
    ([2] * 20, [1] * 6),
]


@pytest.mark.parametrize("share", [False, True], ids=["alone", "shared prompt"])
@pytest.mark.parametrize("largest", [0, 10**6], ids=["fused kernel", "own scores"])
def test_blocks_equal_a_dense_mask_in_output_and_gradients(share, largest, monkeypatch):
    monkeypatch.setattr(attention, "_LARGEST_SCORES", largest)
    torch.manual_seed(0)
    (row,) = pack(EXAMPLES, 200, share_prompts=share)
    num_tokens = len(row.inputs_T)
    query = torch.randn(1, 6, num_tokens, 8, dtype=torch.float64, requires_grad=True)
    key, value = (
        torch.randn(1, 2, num_tokens, 8, dtype=torch.float64, requires_grad=True) for _ in range(2)
    )
    mask = torch.as_tensor(row.mask_TT())
    dense = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, enable_gqa=True)
    blocks, _ = attend(
        torch.nn.Module(), query, key, value, None, layout=Layout(row.blocks, num_tokens, "cpu")
    )
    torch.testing.assert_close(blocks, dense.transpose(1, 2))
    gradient = torch.randn_like(blocks)
    ours = torch.autograd.grad(blocks, (query, key, value), gradient)
    expected = torch.autograd.grad(dense.transpose(1, 2), (query, key, value), gradient)
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("share", [False, True], ids=["alone", "shared prompt"])
@pytest.mark.parametrize("largest", [0, 10**6], ids=["fused kernel", "own scores"])
def test_a_sliding_window_hides_what_is_older(share, largest, monkeypatch):
    monkeypatch.setattr(attention, "_LARGEST_SCORES", largest)
    torch.manual_seed(0)
    (row,) = pack(EXAMPLES, 200, share_prompts=share)
    num_tokens = len(row.inputs_T)
    query, key, value = (torch.randn(1, 2, num_tokens, 8).double() for _ in range(3))
    positions = torch.as_tensor(row.positions_T)
    mask = torch.as_tensor(row.mask_TT()) & (positions[:, None] - positions < 4)
    dense = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    layout = Layout(row.blocks, num_tokens, "cpu")
    blocks, _ = attend(torch.nn.Module(), query, key, value, None, layout=layout, sliding_window=4)
    torch.testing.assert_close(blocks, dense.transpose(1, 2))


def test_a_cap_and_a_sink_are_those_of_the_formula():
    # One head; the second token has scores 3 and 0 with a scale of 1.
    row = single([([1, 2], [3])])[0]
    query = torch.tensor([[[[0.0], [1.0]]]])
    key, value = torch.tensor([[[[3.0], [0.0]]]]), torch.tensor([[[[1.0], [0.0]]]])
    layout = Layout(row.blocks, 2, "cpu")

    def second(**given):
        output, _ = attend(
            torch.nn.Module(), query, key, value, None, scaling=1.0, layout=layout, **given
        )
        return float(output[0, 1, 0, 0])

    assert second() == pytest.approx(math.exp(3) / (math.exp(3) + 1))
    capped = math.exp(2 * math.tanh(3 / 2))
    assert second(softcap=2.0) == pytest.approx(capped / (capped + 1))
    # A sink of ln 5 takes the weight of five tokens with score 0.
    sink = torch.tensor([math.log(5)])
    assert second(s_aux=sink) == pytest.approx(math.exp(3) / (math.exp(3) + 1 + 5))


def test_an_argument_that_would_be_ignored_is_refused_with_its_layer():
    tensor = torch.zeros(1, 1, 5, 8)
    (row,) = pack([([1] * 5, [2])], 8)
    layout = Layout(row.blocks, 5, "cpu")
    with pytest.raises(ValueError, match=r"Linear passes bias_table to its attention, which mixsd"):
        attend(
            *(torch.nn.Linear(1, 1), tensor, tensor, tensor, None),
            layout=layout,
            bias_table=tensor,
        )


@pytest.fixture
def student(tiny_llama) -> StudentModel:
    settings = LearnerSettings(device="cpu", dtype="float32")
    return StudentModel(tiny_llama, settings, NLL())


def loss(student: StudentModel, row: Row) -> torch.Tensor:
    return student(
        torch.as_tensor(row.inputs_T)[None],
        torch.as_tensor(row.positions_T)[None],
        Layout(row.blocks, len(row.inputs_T), "cpu"),
        torch.as_tensor(row.predict_K),
        torch.as_tensor(row.targets_K),
    )


def gradients(student: StudentModel, rows: list[Row]) -> tuple[float, list[torch.Tensor]]:
    student.zero_grad()
    total = sum(loss(student, row) for row in rows)
    total.backward()
    return float(total.detach()), [p.grad.clone() for p in student.parameters()]


@pytest.mark.parametrize("share", [False, True], ids=["packed", "prompts shared"])
def test_loss_and_gradients_equal_those_of_examples_alone(student, share):
    expected_loss, expected = gradients(student, single(EXAMPLES))
    found_loss, found = gradients(student, pack(EXAMPLES, 200, share_prompts=share))
    assert found_loss == pytest.approx(expected_loss, rel=1e-6)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_an_example_does_not_see_its_neighbours(student):
    def losses(last: Example) -> list[float]:
        """NLL of each target token of the examples before the last."""
        row = pack([([9] * 8, [1, 2]), ([8] * 6, [3, 4]), last], 64)[0]
        hidden = student.model.base_model(
            input_ids=torch.as_tensor(row.inputs_T)[None],
            position_ids=torch.as_tensor(row.positions_T)[None],
            layout=Layout(row.blocks, len(row.inputs_T), "cpu"),
        ).last_hidden_state[0, row.predict_K[:4]]
        logits = student.model.lm_head(hidden)
        targets = torch.as_tensor(row.targets_K[:4])
        return F.cross_entropy(logits, targets, reduction="none").tolist()

    assert losses(([5], [6, 7])) == losses(([11], [40, 2]))


def test_recomputed_activations_give_the_same_gradients(student, tiny_llama):
    row = pack(EXAMPLES, 200)
    settings = LearnerSettings(device="cpu", dtype="float32", gradient_checkpointing=True)
    recomputing = StudentModel(tiny_llama, settings, NLL())
    torch.testing.assert_close(gradients(recomputing, row), gradients(student, row))
