"""L2-SP and EWC: the penalty by hand, and steps against autograd."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import AutoModelForCausalLM

from common.config.learner import LearnerSettings
from common.errors import UserError
from common.fisher_folder import FACTS, PIECES
from common.methods import NLL, WeightPenalty
from learner.checkpoint_folder import CheckpointFolder
from learner.checkpoint_writer import CheckpointWriter
from learner.engine import TrainingEngine
from learner.packing import rows_of_rank
from learner.weight_penalty import QuadraticPenalty

EXAMPLES = [([1, 2, 3], [4, 5, 6]), ([7, 8], [9]), ([10], [11, 12, 13])]
NUM_TARGETS = 7


def save_fisher(folder, tensors):
    """A folder of Fisher information in two pieces."""
    (folder / PIECES).mkdir(parents=True)
    names = list(tensors)
    for number, part in enumerate((names[:1], names[1:])):
        save_file({name: tensors[name] for name in part}, folder / PIECES / f"{number}.safetensors")
    (folder / FACTS).write_text('{"weights": "abc", "benchmarks": {"mmlu": 8}, "examples": 8}')
    return folder


def moved(penalty: WeightPenalty, dtype=torch.float32):
    """The penalty, and the gradient of the master weight (1, 2) at (1.5, 1), which was (1, 1)."""
    weight = nn.Parameter(torch.tensor([1.0, 2.0], dtype=dtype))
    quadratic = QuadraticPenalty(penalty, {"w": weight})
    master = nn.Parameter(torch.tensor([1.5, 1.0]))
    master.grad = torch.ones(2)
    quadratic.add_gradients({weight: master})
    return float(quadratic.value), master.grad.tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_l2_sp_charges_half_alpha_times_the_squared_distance(dtype):
    # 2/2 · (1/4 + 1); the gradients grow by 2 · (1/2, −1).
    assert moved(WeightPenalty(2.0), dtype) == (1.25, [2.0, -1.0])


def test_ewc_weighs_each_square_by_its_fisher_information(tmp_path):
    fisher = save_fisher(tmp_path / "f", {"w": torch.tensor([4.0, 0.5])})
    # 2/2 · (4 · 1/4 + 1/2 · 1); the gradients grow by 2 · (4 · 1/2, −1/2 · 1).
    assert moved(WeightPenalty(2.0, fisher)) == (1.5, [5.0, 0.0])


def test_a_weight_without_a_gradient_has_never_moved_and_gets_none():
    weight = nn.Parameter(torch.ones(2))
    other = nn.Parameter(torch.ones(2))
    other.grad = torch.zeros(2)
    penalty = QuadraticPenalty(WeightPenalty(1.0), {"a": weight, "b": other})
    penalty.add_gradients({weight: weight, other: other})
    assert weight.grad is None
    assert float(penalty.value) == 0


def test_a_missing_folder_or_one_of_another_model_is_refused(tmp_path):
    weight = nn.Parameter(torch.ones(2))
    with pytest.raises(UserError, match=r"method\.fisher is .*no fisher\.json.*evaluator\.fisher"):
        QuadraticPenalty(WeightPenalty(1.0, tmp_path), {"w": weight})
    fisher = save_fisher(tmp_path / "f", {"w": torch.ones(3)})
    with pytest.raises(UserError, match=r"w has shape \(3,\), but in the model \(2,\)"):
        QuadraticPenalty(WeightPenalty(1.0, fisher), {"w": weight})
    with pytest.raises(UserError, match=r"v has shape \(0,\), but in the model \(2,\)"):
        QuadraticPenalty(WeightPenalty(1.0, fisher), {"v": weight})


def engine_of(folder, penalty, **settings):
    """An engine and its rows."""
    chosen = LearnerSettings(**{"device": "cpu", "dtype": "float32", "row_tokens": 32, **settings})
    engine = TrainingEngine(folder, chosen, loss=NLL(), seed=0, penalty=penalty)
    return engine, rows_of_rank(EXAMPLES, chosen, 0)


def random_fisher(folder, model):
    torch.manual_seed(1)
    return save_fisher(folder, {name: torch.rand(p.shape) for name, p in model.named_parameters()})


@pytest.mark.usefixtures("one_rank")
@pytest.mark.parametrize("pack", [True, False], ids=["packed", "single"])
@pytest.mark.parametrize("weighted", [False, True], ids=["l2_sp", "ewc"])
def test_steps_equal_autograd_of_the_whole_objective(tiny_llama, tmp_path, weighted, pack):
    model = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)
    fisher = random_fisher(tmp_path / "f", model) if weighted else None
    torch.manual_seed(1)
    importance = [torch.rand(p.shape) if weighted else 1.0 for p in model.parameters()]
    start = [p.detach().clone() for p in model.parameters()]
    settings = {"clip": 0.5, "eps": 1e-6, "weight_decay": 0.1, "weight_decay_on": "all"}
    engine, rows = engine_of(tiny_llama, WeightPenalty(20.0, fisher), pack=pack, **settings)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2, (0.9, 0.95), eps=1e-6, weight_decay=0.1)
    penalties = []
    for _ in range(3):
        loss = torch.zeros(())
        for prompt, target in EXAMPLES:
            logits = model(input_ids=torch.tensor([[*prompt, *target]])).logits
            logits = logits[0, len(prompt) - 1 : -1]
            loss = loss + nn.functional.cross_entropy(logits, torch.tensor(target), reduction="sum")
        squares = [
            (f * (p - s) ** 2).sum()
            for f, p, s in zip(importance, model.parameters(), start, strict=True)
        ]
        penalties.append(10 * torch.stack(squares).sum())
        loss = loss / NUM_TARGETS + penalties[-1]
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
        found = engine.step(rows, NUM_TARGETS, 1e-2)
        assert found == pytest.approx((float(loss.detach()), float(norm)), rel=1e-4)
    # Nothing has moved before the first update; later the penalty is not small.
    assert float(penalties[0].detach()) == 0
    assert float(penalties[2].detach()) > 1


@pytest.mark.usefixtures("one_rank")
def test_a_stronger_penalty_holds_the_weights_closer_also_below_what_bfloat16_resolves(tiny_llama):
    distances = []
    for strength in (1e-9, 1e4):
        engine, rows = engine_of(
            tiny_llama, WeightPenalty(strength), dtype="bfloat16", weight_decay=0.0
        )
        start = [master.clone() for master in engine._backend.masters()]
        for _ in range(6):
            engine.step(rows, NUM_TARGETS, 1e-5)
        distances.append(
            sum(
                float((now - then).square().sum())
                for now, then in zip(engine._backend.masters(), start, strict=True)
            )
        )
    assert distances[1] < 0.5 * distances[0]


@pytest.mark.usefixtures("one_rank")
def test_a_resumed_engine_is_held_at_the_reference_and_not_at_the_checkpoint(tiny_llama, tmp_path):
    engine, rows = engine_of(tiny_llama, WeightPenalty(20.0))
    engine.step(rows, NUM_TARGETS, 1e-2)
    writer = CheckpointWriter(CheckpointFolder(tmp_path / "runs"), tiny_llama, lambda *step: None)
    writer.begin(engine, 1, 1)
    writer.wait()
    expected = engine.step(rows, NUM_TARGETS, 1e-2)
    resumed, rows = engine_of(tiny_llama, WeightPenalty(20.0))
    resumed.load_state(tmp_path / "runs/step_1")
    assert resumed.step(rows, NUM_TARGETS, 1e-2) == expected
    for ours, theirs in zip(resumed._backend.masters(), engine._backend.masters(), strict=True):
        assert torch.equal(ours, theirs)
