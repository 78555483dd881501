"""The Fisher of the base against brute force and by hand, and movement along it."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from actors.analysis.fisher import (
    Movement,
    SquaredGradients,
    Tensors,
    layer,
    log_likelihood,
    movements,
    save_in_pieces,
)
from tests.tiny import make_student

EXAMPLES = [(1, 5, 9, 2), (7, 7, 3), (4, 60, 2, 8, 11)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_student(tmp_path_factory.mktemp("student"))


def test_sums_are_the_squares_of_each_example_s_whole_gradient(folder):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    brute = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for ids in EXAMPLES:
        model.zero_grad()
        logits = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        sum(logits[t, ids[t + 1]] for t in range(len(ids) - 1)).backward()
        for name, parameter in model.named_parameters():
            brute[name] += parameter.grad**2
    model.zero_grad()
    squares = SquaredGradients(model)
    for ids in EXAMPLES:
        squares.add(log_likelihood(model, ids))
    assert squares.sums.keys() == brute.keys()
    for name, expected in brute.items():
        assert expected.any(), name
        torch.testing.assert_close(squares.sums[name], expected, rtol=1e-4, atol=1e-9)
    # Nothing is left behind.
    assert all(parameter.grad is None for parameter in model.parameters())
    squares.close()
    log_likelihood(model, EXAMPLES[0]).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_softmax_regression_has_the_fisher_of_the_textbook():
    # log p(y | x) of logits W x has gradient (1[y] − p) xᵀ, so F = E[(1[y] − p)² x²]; with y
    # drawn from p that is p (1 − p) x². One label of each kind, weighted by p, is exact.
    model = torch.nn.Linear(2, 3, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.0, 0.0], [0.6931472, 0.0], [0.0, 0.0]]))
    x = torch.tensor([1.0, 3.0])
    p = torch.tensor([0.25, 0.5, 0.25])
    fisher = torch.zeros(3, 2)
    for label in range(3):
        squares = SquaredGradients(model)
        squares.add(model(x).log_softmax(-1)[label])
        fisher += p[label] * squares.sums["weight"]
        squares.close()
    by_hand = (p * (1 - p))[:, None] * x**2
    torch.testing.assert_close(fisher, by_hand)
    assert fisher[1, 1].item() == pytest.approx(2.25)


def _save(folder, **tensors):
    folder.mkdir()
    save_file(
        {name: torch.tensor(values) for name, values in tensors.items()}, folder / "m.safetensors"
    )
    return folder


NAMES = ("model.embed.weight", "model.layers.0.a.weight", "model.layers.0.b.weight")


def test_movement_is_worked_by_hand_for_each_layer_and_in_all(tmp_path):
    values = {
        "f": ([1.0, 3.0], [4.0], [0.0]),
        "base": ([0.0, 0.0], [1.0], [5.0]),
        "after": ([2.0, 1.0], [1.5], [5.0]),
    }
    folders = [
        _save(tmp_path / kind, **dict(zip(NAMES, tensors, strict=True)))
        for kind, tensors in values.items()
    ]
    found = movements(*folders)
    # 1·2² + 3·1² and 2² + 1²; 4·0.5² and 0.5².
    assert found == {"embed": Movement(7.0, 5.0, 4.0, 2), "layer 0": Movement(1.0, 0.25, 4.0, 2)}
    whole = sum(found.values(), Movement())
    assert whole == Movement(8.0, 5.25, 8.0, 4)
    assert whole.alignment == pytest.approx(8.0 / 5.25 / 2.0)


def test_an_update_that_ignores_a_flat_fisher_has_alignment_one(tmp_path):
    moved = _save(tmp_path / "after", w=[0.5, -2.0, 1.0])
    base, flat = _save(tmp_path / "base", w=[0.0] * 3), _save(tmp_path / "f", w=[7.0] * 3)
    assert movements(flat, base, moved)["w"].alignment == pytest.approx(1.0)
    assert movements(flat, base, base)["w"].alignment is None


def test_other_shapes_and_missing_tensors_are_named(tmp_path):
    f, base = _save(tmp_path / "f", w=[1.0]), _save(tmp_path / "base", w=[1.0])
    with pytest.raises(ValueError, match="no tensor w"):
        movements(f, base, _save(tmp_path / "other", v=[1.0]))
    with pytest.raises(ValueError, match=r"\(1,\), \(1,\), \(2,\)"):
        movements(f, base, _save(tmp_path / "wide", w=[1.0, 2.0]))


def test_pieces_hold_a_bounded_number_of_bytes_and_give_back_every_tensor(tmp_path):
    tensors = {f"layers.{n}.w": torch.full((4,), float(n)) for n in range(11)}
    save_in_pieces(iter(tensors.items()), tmp_path, piece_bytes=64)
    assert len(list(tmp_path.iterdir())) == 3
    with Tensors(tmp_path) as read:
        assert read.names == list(tensors), "layer 10 comes after layer 9"
        assert all(torch.equal(read.read(name), tensors[name]) for name in tensors)


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("model.layers.12.mlp.up_proj.weight", "layer 12"),
        ("transformer.h.3.attn.bias", "layer 3"),
        ("model.embed_tokens.weight", "embed_tokens"),
        ("model.norm.weight", "norm"),
        ("lm_head.weight", "lm_head"),
    ],
)
def test_parameters_are_grouped_by_their_layer_s_number(name, group):
    assert layer(name) == group
