"""A teacher with the student's current weights, or their moving average."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from common.config.learner import LearnerSettings
from common.methods import ContextDistill
from common.records import Rollout
from learner.checkpoint_folder import CheckpointFolder
from learner.checkpoint_writer import CheckpointWriter
from learner.engine import TrainingEngine
from learner.packing import rows_of_rank
from learner.teacher_inputs import forward_inputs

pytestmark = pytest.mark.usefixtures("one_rank")

EXAMPLES = [([1, 2, 3], [4, 5, 6]), ([10], [11, 12, 13])]
EXPERT = {"0": [1, 2, 3, 20, 21], "1": [10, 22, 23, 24]}
NUM_TARGETS = 6
ROLLOUTS = [
    Rollout(str(i), 0, 0, prompt, target, [], [], [], [], None, 0, "", True)
    for i, (prompt, target) in enumerate(EXAMPLES)
]
LIVE = ContextDistill(teacher_weights="live")
EMA = ContextDistill(teacher_weights="ema", ema_decay=0.75)


def engine_of(folder, method, **settings):
    """An engine, and its rows and teacher inputs for each step."""
    chosen = LearnerSettings(
        **{"device": "cpu", "dtype": "float32", "row_tokens": 32, "weight_decay": 0.0, **settings}
    )
    engine = TrainingEngine(folder, chosen, loss=method.loss, seed=0)
    rows = rows_of_rank(EXAMPLES, chosen, 0)
    inputs = [forward_inputs(EXPERT.__getitem__, chosen)(row, ROLLOUTS) for row in rows]
    return engine, rows, inputs


def step(engine, rows, inputs):
    return engine.step(rows, NUM_TARGETS, 1e-2, inputs)


def logits(model, prompt, target):
    ids = torch.tensor([[*prompt, *target]])
    return model(input_ids=ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)


@pytest.mark.parametrize("pack", [True, False], ids=["packed", "single"])
@pytest.mark.parametrize(("method", "decay"), [(LIVE, 0.0), (EMA, 0.75)], ids=["live", "ema"])
def test_steps_equal_plain_transformers_with_a_teacher_that_follows(
    tiny_llama, method, decay, pack
):
    engine, rows, inputs = engine_of(tiny_llama, method, pack=pack, clip=0.5)
    student, teacher = (
        AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32) for _ in "st"
    )
    optimizer = torch.optim.AdamW(student.parameters(), 1e-2, (0.9, 0.95), weight_decay=0.0)
    for _ in range(4):
        loss = torch.zeros(())
        for rollout in ROLLOUTS:
            s = logits(student, rollout.prompt_ids, rollout.target_ids)
            with torch.no_grad():
                t = logits(teacher, EXPERT[rollout.fact_id], rollout.target_ids)
            loss = loss + (t.exp() * (t - s)).sum()
        (loss / NUM_TARGETS).backward()
        norm = torch.nn.utils.clip_grad_norm_(student.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
        # Float32 rounds the log-probabilities that a divergence subtracts, of about −ln 64.
        assert step(engine, rows, inputs) == pytest.approx(
            (float(loss.detach()) / NUM_TARGETS, float(norm)), rel=1e-4, abs=1e-6
        )
        with torch.no_grad():
            for mine, theirs in zip(teacher.parameters(), student.parameters(), strict=True):
                mine.copy_(decay * mine + (1 - decay) * theirs)


@pytest.mark.parametrize("method", [LIVE, EMA], ids=["live", "ema"])
def test_a_teachers_forward_pass_leaves_the_student_as_it_is(tiny_llama, method):
    engine, rows, inputs = engine_of(tiny_llama, method)
    step(engine, rows, inputs)
    before = {name: (weight.data_ptr(), weight.clone()) for name, weight in engine.weights()}
    teacher = engine._teacher.forward(inputs[0])
    assert not teacher.weight_VD.requires_grad
    assert engine._student.training
    for name, weight in engine.weights():
        assert weight.data_ptr() == before[name][0]
        assert torch.equal(weight, before[name][1])


def test_an_average_keeps_its_decay_of_itself_in_float32(tiny_llama):
    engine, rows, inputs = engine_of(tiny_llama, EMA, dtype="bfloat16")
    weight = engine._student.model.get_input_embeddings().weight
    first = engine._backend.master(weight).clone()
    step(engine, rows, inputs)
    second = engine._backend.master(weight).clone()
    step(engine, rows, inputs)
    third = engine._backend.master(weight)
    expected = 0.75 * (0.75 * first + 0.25 * second) + 0.25 * third
    torch.testing.assert_close(engine._teacher_average.of(weight), expected)


@pytest.mark.parametrize("settings", [{}, {"dtype": "bfloat16"}, {"average": 0.5}])
def test_a_resumed_engine_continues_with_the_same_teacher(tiny_llama, tmp_path, settings):
    engine, rows, inputs = engine_of(tiny_llama, EMA, **settings)
    for _ in range(2):
        step(engine, rows, inputs)
    writer = CheckpointWriter(CheckpointFolder(tmp_path / "runs"), tiny_llama, lambda *step: None)
    writer.begin(engine, 1, 2)
    writer.wait()
    expected = step(engine, rows, inputs)
    resumed, rows, inputs = engine_of(tiny_llama, EMA, **settings)
    resumed.load_state(tmp_path / "runs/step_2")
    assert step(resumed, rows, inputs) == expected
    ours, theirs = (list(e._teacher_average._averages.values()) for e in (resumed, engine))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_a_checkpoint_without_an_average_starts_one_at_its_weights(tiny_llama, tmp_path):
    engine, rows, inputs = engine_of(tiny_llama, LIVE)
    step(engine, rows, inputs)
    writer = CheckpointWriter(CheckpointFolder(tmp_path / "runs"), tiny_llama, lambda *step: None)
    writer.begin(engine, 1, 1)
    writer.wait()
    resumed, *_ = engine_of(tiny_llama, EMA)
    resumed.load_state(tmp_path / "runs/step_1")
    for name, weight in resumed._student.named_weights():
        assert torch.equal(resumed._teacher_average.of(weight), weight.data), name


@pytest.mark.parametrize("method", [LIVE, EMA], ids=["live", "ema"])
def test_with_adapters_the_teacher_follows_the_factors(tiny_llama, method):
    pytest.importorskip("peft", reason="optional: pip install peft")
    engine, rows, inputs = engine_of(tiny_llama, method, lora={"rank": 4, "alpha": 8.0})
    for _ in range(3):
        step(engine, rows, inputs)
    model = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)
    scale = 8.0 / 4
    with torch.no_grad():
        for adapter in engine._student.adapters.values():
            average = engine._teacher_average
            a, b = (
                factor if average is None else average.of(factor)
                for factor in (adapter.a_RD, adapter.b_ER)
            )
            model.get_submodule(adapter.module).weight += scale * b @ a
    (row,) = rows
    found = engine._teacher.forward(inputs[0])
    expected = [logits(model, EXPERT[str(member)], EXAMPLES[member][1]) for member in row.members]
    torch.testing.assert_close(
        (found.hidden_KD @ found.weight_VD.T).log_softmax(-1),
        torch.cat(expected).detach(),
        rtol=1e-4,
        atol=1e-5,
    )
