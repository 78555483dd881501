"""The one call of a row against attention by buckets, on a CPU that emulates the kernel."""

from __future__ import annotations

import pytest
import torch

from common.config.learner import LearnerSettings
from common.methods import NLL
from learner import varlen_attention
from learner.attention import attend
from learner.layout import Layout
from learner.model import StudentModel
from learner.packing import Block, Example, pack
from learner.varlen_attention import Spans, attention, kernel_takes, key_positions
from tests import varlen

EXAMPLES: list[Example] = [
    ([1, 2, 3], [4, 5, 6]),
    ([5] * 9, [3, 3]),
    ([5] * 9 + [4] * 9, [2, 1]),
    ([5] * 9 + [4] * 9 + [6], [8]),
    ([5] * 9 + [4] * 9 + [7], [8, 9, 9]),
    ([2] * 20, [1] * 6),
]


@pytest.fixture
def kernel(monkeypatch):
    """Lets every row go through the emulated kernel; returns the number of its calls."""
    calls = []

    def counted(*args, **kwargs):
        calls.append(kwargs["window_size"])
        return varlen.varlen_attn(*args, **kwargs)

    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", counted)
    monkeypatch.setattr(varlen_attention, "fits", lambda query: True)
    return calls


def row_of(share: bool):
    (row,) = pack(EXAMPLES, 200, share_prompts=share)
    return row


def results(row, heads: int, window: int | None, gradient: torch.Tensor):
    """Output of a layer, and its gradients with respect to queries, keys and values."""
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(1, n, len(row.inputs_T), 8, dtype=torch.float64, generator=generator)
        for n in (heads, 2, 2)
    )
    inputs = [tensor.requires_grad_() for tensor in (query, key, value)]
    layout = Layout(row.blocks, len(row.inputs_T), "cpu")
    output, _ = attend(torch.nn.Module(), *inputs, None, layout=layout, sliding_window=window)
    return output, *torch.autograd.grad(output, inputs, gradient)


@pytest.mark.parametrize("share", [False, True], ids=["alone", "shared prompts"])
@pytest.mark.parametrize("heads", [2, 6], ids=["as many keys", "grouped queries"])
@pytest.mark.parametrize("window", [None, 1, 4, 300])
def test_output_and_gradients_equal_those_by_buckets(share, heads, window, kernel, monkeypatch):
    row = row_of(share)
    gradient = torch.randn(1, len(row.inputs_T), heads, 8, dtype=torch.float64)
    found = results(row, heads, window, gradient)
    assert kernel == [(-1 if window is None else window - 1, 0)]
    monkeypatch.undo()
    torch.testing.assert_close(found, results(row, heads, window, gradient))


def test_a_context_may_have_a_context():
    blocks = row_of(share=True).blocks
    assert max(len(block.context) for block in blocks) == 2
    # The last block has both in front of its own tokens.
    keys = key_positions(blocks).tolist()
    last = max(blocks, key=lambda block: (len(block.context), block.start))
    expected = [at for span in (*last.context, last[:2]) for at in range(*span)]
    assert any(keys[at : at + len(expected)] == expected for at in range(len(keys)))


def test_the_segments_of_two_continuations_of_one_prompt():
    blocks = [Block(0, 3), Block(3, 5, ((0, 3),)), Block(5, 6, ((0, 3),))]
    spans = Spans.of(blocks, "cpu")
    assert spans.query_starts_B.tolist() == [0, 3, 5, 6]
    assert spans.key_starts_B.tolist() == [0, 3, 8, 12]
    assert spans.query_starts_B.dtype == spans.key_starts_B.dtype == torch.int32
    assert (spans.longest_query, spans.longest_key) == (3, 5)
    assert spans.keys_Y.tolist() == [0, 1, 2, 0, 1, 2, 3, 4, 0, 1, 2, 5]


def test_without_shared_prompts_the_keys_are_not_gathered():
    assert Spans.of(row_of(share=False).blocks, "cpu").keys_Y is None


def test_the_gradient_of_a_shared_key_is_summed_in_float32(monkeypatch):
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", varlen.varlen_attn)
    # A token that 299 others see. With one key vector for all, each weight is 1 / 2: its value's
    # gradient is 1 + 299 / 2, of which a sum in bfloat16 keeps 128.
    blocks = [Block(0, 1), *(Block(at, at + 1, ((0, 1),)) for at in range(1, 300))]
    query, key = (torch.zeros(300, 1, 8, dtype=torch.bfloat16) for _ in range(2))
    value = torch.zeros(300, 1, 8, dtype=torch.bfloat16, requires_grad=True)
    output = attention(query, key, value, Spans.of(blocks, "cpu"), scale=1.0)
    output.sum().backward()
    assert value.grad[0, 0, 0] == torch.tensor(150.5, dtype=torch.bfloat16)


def test_a_model_trains_the_same(tiny_llama, kernel, monkeypatch):
    row = row_of(share=True)
    student = StudentModel(tiny_llama, LearnerSettings(device="cpu", dtype="float32"), NLL())

    def gradients():
        student.zero_grad()
        layout = Layout(row.blocks, len(row.inputs_T), "cpu")
        arrays = (row.inputs_T[None], row.positions_T[None], row.predict_K, row.targets_K)
        inputs, positions, predict, targets = map(torch.as_tensor, arrays)
        loss = student(inputs, positions, layout, predict, targets)
        loss.backward()
        return loss.detach(), [p.grad.clone() for p in student.parameters()]

    found = gradients()
    assert len(kernel) == student.model.config.num_hidden_layers
    monkeypatch.undo()
    torch.testing.assert_close(found, gradients(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "given",
    [{"softcap": 5.0}, {"s_aux": torch.zeros(2)}, {"dropout": 0.5}],
    ids=["capped scores", "sinks", "dropout"],
)
def test_what_the_kernel_cannot_compute_goes_by_buckets(given, kernel):
    row = row_of(share=True)
    tensor = torch.zeros(1, 2, len(row.inputs_T), 8)
    layout = Layout(row.blocks, len(row.inputs_T), "cpu")
    attend(torch.nn.Module(), tensor, tensor, tensor, None, layout=layout, **given)
    assert kernel == []


@pytest.mark.parametrize(
    ("dtype", "head_size", "capability", "expected"),
    [
        (torch.bfloat16, 128, (9, 0), True),
        (torch.float16, 64, (7, 5), False),
        (torch.float32, 128, (9, 0), False),
        (torch.bfloat16, 100, (9, 0), False),
        (torch.bfloat16, 256, (9, 0), True),
        (torch.bfloat16, 264, (9, 0), False),
        (torch.bfloat16, 256, (8, 9), False),
        (torch.bfloat16, 192, (8, 9), True),
    ],
)
def test_which_gpus_types_and_heads_the_kernel_takes(dtype, head_size, capability, expected):
    assert kernel_takes(dtype, head_size, capability) is expected


def test_a_cpu_goes_by_buckets():
    assert not varlen_attention.fits(torch.zeros(1, 2, 3, 64, dtype=torch.bfloat16))
