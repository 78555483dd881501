"""SFT with a KL penalty: the loss by hand, and steps against plain transformers."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import AutoModelForCausalLM

from common.config.learner import LearnerSettings
from common.methods import KLSFT
from learner import divergences
from learner.divergences import FullTeacher
from learner.engine import TrainingEngine
from learner.losses import criterion
from learner.packing import rows_of_rank
from learner.teacher_inputs import same_inputs

pytestmark = pytest.mark.usefixtures("one_rank")

EXAMPLES = [([1, 2, 3], [4, 5, 6]), ([1, 2, 3], [9]), ([10], [11, 12, 13])]
NUM_TARGETS = 7
LN2 = math.log(2)
# Reference (1/2, 1/4, 1/8, 1/8), student (1/8, 1/2, 1/4, 1/8): KL(reference‖student) is 5/8 ln 2,
# KL(student‖reference) 1/2 ln 2, and the NLL of token 0 is 3 ln 2.
REFERENCE = [[0.5, 0.25, 0.125, 0.125]]
STUDENT = [[0.125, 0.5, 0.25, 0.125]]


def loss_and_gradient(method: KLSFT) -> tuple[float, list[float]]:
    """Of token 0, for the student's logits."""
    logits = torch.tensor(STUDENT).log().requires_grad_()
    eye, target = torch.eye(4), torch.tensor([0])
    teacher = FullTeacher(torch.tensor(REFERENCE).log(), eye, None)
    loss = criterion(method.loss)(logits, eye, None, target, teacher)
    loss.backward()
    return float(loss.detach()), logits.grad[0].tolist()


def test_forward_a_token_costs_its_nll_and_twice_the_kl_of_the_reference_from_the_student():
    loss, gradient = loss_and_gradient(KLSFT(strength=2, divergence="forward"))
    assert loss == pytest.approx((3 + 2 * 5 / 8) * LN2, abs=1e-6)
    # (1 + β) student − target − β reference.
    assert gradient == pytest.approx([-1.625, 1.0, 0.5, 0.125], abs=1e-6)


def test_reverse_it_costs_its_nll_and_twice_the_kl_of_the_student_from_the_reference():
    loss, gradient = loss_and_gradient(KLSFT(strength=2))
    assert loss == pytest.approx((3 + 2 * 1 / 2) * LN2, abs=1e-6)
    # Student − target, and β student (log student/reference − KL).
    kl = [-0.3125, 0.25, 0.125, -0.0625]
    nll = [-0.875, 0.5, 0.25, 0.125]
    expected = [a + 2 * LN2 * b for a, b in zip(nll, kl, strict=True)]
    assert gradient == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_chunks_of_positions_have_the_gradients_of_autograd_in_float64(monkeypatch, direction):
    monkeypatch.setattr(divergences, "CHUNK_NUMBERS", 2 * 12)
    torch.manual_seed(0)
    parts = [torch.randn(5, 6), torch.randn(12, 6), torch.randn(12)]
    hidden, head, bias = torch.randn(5, 3), torch.randn(12, 3), torch.randn(12)
    targets = torch.tensor([3, 0, 11, 7, 7])
    ours = [part.clone().requires_grad_() for part in parts]
    method = KLSFT(strength=0.3, divergence=direction)
    found = criterion(method.loss)(*ours, targets, FullTeacher(hidden, head, bias))
    doubles = [part.double().requires_grad_() for part in parts]
    s = (doubles[0] @ doubles[1].T + doubles[2]).log_softmax(-1)
    r = (hidden @ head.T + bias).double().log_softmax(-1)
    kl = r.exp() * (r - s) if direction == "forward" else s.exp() * (s - r)
    expected = 0.3 * kl.sum() - s[torch.arange(5), targets].sum()
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    for gradient, reference in zip(
        torch.autograd.grad(3 * found, ours),
        torch.autograd.grad(3 * expected, doubles),
        strict=True,
    ):
        torch.testing.assert_close(gradient.double(), reference, rtol=1e-4, atol=1e-5)


def engine_of(folder, method, **settings):
    """An engine, and its rows and teacher inputs for each step."""
    chosen = LearnerSettings(
        **{"device": "cpu", "dtype": "float32", "row_tokens": 32, "weight_decay": 0.0, **settings}
    )
    engine = TrainingEngine(folder, chosen, loss=method.loss, seed=0)
    rows = rows_of_rank(EXAMPLES, chosen, 0)
    return engine, rows, [row and same_inputs(row, ()) for row in rows]


def penalized_nll(student, reference, prompt, target):
    """Of one example, summed: −log p + 3 KL(student‖reference), both given the same prompt."""
    ids = torch.tensor([[*prompt, *target]])
    at = slice(len(prompt) - 1, -1)
    s = student(input_ids=ids).logits[0, at].log_softmax(-1)
    r = reference(input_ids=ids).logits[0, at].detach().log_softmax(-1)
    nll = -s[torch.arange(len(target)), torch.tensor(target)].sum()
    return nll + 3 * (s.exp() * (s - r)).sum()


@pytest.mark.parametrize(
    "settings",
    [{}, {"pack": False}, {"pack": False, "micro_batch": 4}, {"share_prompts": False}],
    ids=["packed", "single", "micro-batch 4", "prompts apart"],
)
def test_steps_equal_plain_transformers_however_rows_are_packed(tiny_llama, settings):
    engine, rows, inputs = engine_of(tiny_llama, KLSFT(strength=3), clip=0.5, **settings)
    student, reference = (
        AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32) for _ in "sr"
    )
    optimizer = torch.optim.AdamW(student.parameters(), 1e-2, (0.9, 0.95), weight_decay=0.0)
    for _ in range(3):
        loss = torch.zeros(())
        for prompt, target in EXAMPLES:
            loss = loss + penalized_nll(student, reference, prompt, target)
        (loss / NUM_TARGETS).backward()
        norm = torch.nn.utils.clip_grad_norm_(student.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
        assert engine.step(rows, NUM_TARGETS, 1e-2, inputs) == pytest.approx(
            (float(loss.detach()) / NUM_TARGETS, float(norm)), rel=1e-4
        )


def test_with_adapters_the_reference_is_the_model_without_them(tiny_llama):
    pytest.importorskip("peft", reason="optional: pip install peft")
    engine, rows, inputs = engine_of(tiny_llama, KLSFT(strength=3), lora={"rank": 4, "alpha": 8.0})
    for _ in range(4):
        engine.step(rows, NUM_TARGETS, 1e-2, inputs)
    student, reference = (
        AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32) for _ in "sr"
    )
    student.load_state_dict(dict(engine.policy()), strict=False)
    with torch.no_grad():
        expected = sum(float(penalized_nll(student, reference, *example)) for example in EXAMPLES)
    nll, _ = engine_of(tiny_llama, KLSFT(strength=1e-9))[0].step(rows, NUM_TARGETS, 0.0, inputs)
    found, _ = engine.step(rows, NUM_TARGETS, 0.0, inputs)
    assert found == pytest.approx(expected / NUM_TARGETS, rel=1e-4)
    assert abs(found - nll) > 0.01
