"""Compiled layers against those that are not, with a backend that needs no compiler."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch._dynamo.backends.debugging import aot_eager

from common.config.learner import LearnerSettings
from common.methods import NLL
from learner import compilation
from learner.layout import Layout
from learner.model import StudentModel
from learner.packing import Row, pack


@pytest.fixture
def graphs(monkeypatch):
    """The graphs that were compiled."""
    found = []

    def noted(graph, inputs):
        found.append(graph)
        return aot_eager(graph, inputs)

    monkeypatch.setattr(compilation, "BACKEND", noted)
    torch._dynamo.reset()
    yield found
    torch._dynamo.reset()


def row_of(examples: int) -> Row:
    (row,) = pack([([1, 2, n], [3] * n) for n in range(1, examples + 1)], 500)
    return row


def results(student: StudentModel, row: Row) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Loss and gradients."""
    student.zero_grad()
    arrays = (row.inputs_T[None], row.positions_T[None], row.predict_K, row.targets_K)
    inputs, positions, predict, targets = map(torch.as_tensor, arrays)
    loss = student(inputs, positions, Layout(row.blocks, inputs.numel(), "cpu"), predict, targets)
    loss.backward()
    return loss.detach(), [p.grad for p in student.parameters() if p.requires_grad]


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param({}, id="all weights"),
        pytest.param({"gradient_checkpointing": True}, id="activations recomputed"),
        # Tracing peft's layers takes half a minute.
        pytest.param(
            {"lora": {"rank": 2, "targets": "attention"}},
            id="adapters",
            marks=[pytest.mark.slow, pytest.mark.thorough],
        ),
    ],
)
def test_compiled_layers_train_the_same_on_rows_of_any_length(tiny_llama, graphs, extra):
    def student(**more) -> StudentModel:
        torch.manual_seed(0)
        settings = LearnerSettings(device="cpu", dtype="float32", **extra, **more)
        return StudentModel(tiny_llama, settings, NLL())

    plain, compiled = student(), student(compile=True)
    names = [name for name, _ in plain.named_weights()]
    assert [name for name, _ in compiled.named_weights()] == names
    expected = results(plain, row_of(2))
    assert not graphs
    torch.testing.assert_close(results(compiled, row_of(2)), expected, rtol=1e-4, atol=1e-6)
    compiled_once = len(graphs)
    # Norm, projections, output, and the rest of a layer; twice where the first layer's input
    # needs no gradient.
    assert 3 <= compiled_once <= 10
    for examples in (3, 5, 8):
        expected = results(plain, row_of(examples))
        found = results(compiled, row_of(examples))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert len(graphs) == compiled_once


def test_weights_that_are_gathered_layer_by_layer_are_not_compiled():
    with pytest.raises(ValidationError, match=r"learner.compile is true, .* zero_stage to 2"):
        LearnerSettings(compile=True, zero_stage=3)
