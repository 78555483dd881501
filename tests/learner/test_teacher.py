"""A step towards a teacher, against plain transformers in the same process."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from common.config.learner import LearnerSettings
from common.methods import ContextDistill
from common.records import Rollout
from learner.engine import TrainingEngine
from learner.packing import rows_of_rank
from learner.teacher_inputs import TeacherTopK, forward_inputs

pytestmark = pytest.mark.usefixtures("one_rank")

EXAMPLES = [([1, 2, 3], [4, 5, 6]), ([1, 2, 3], [9]), ([10], [11, 12, 13])]
EXPERT = {"0": [1, 2, 3, 20, 21], "1": [1, 2, 3, 20, 21], "2": [10, 22, 23, 24, 25, 26]}
NUM_TARGETS = 7
ROLLOUTS = [
    Rollout(str(i), 0, 0, prompt, target, [], [], [], [], None, 0, "", True)
    for i, (prompt, target) in enumerate(EXAMPLES)
]


def learner(folder, method, **settings):
    """An engine, and its rows and teacher inputs for each step."""
    chosen = LearnerSettings(
        **{"device": "cpu", "dtype": "float32", "row_tokens": 32, "weight_decay": 0.0, **settings}
    )
    engine = TrainingEngine(folder, chosen, loss=method.loss, seed=0)
    rows = rows_of_rank(EXAMPLES, chosen, 0)
    return (
        engine,
        rows,
        [row and forward_inputs(EXPERT.__getitem__, chosen)(row, ROLLOUTS) for row in rows],
    )


def logits(model, prompt, target):
    ids = torch.tensor([[*prompt, *target]])
    return model(input_ids=ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)


@pytest.mark.parametrize(
    "settings",
    [{}, {"pack": False}, {"pack": False, "micro_batch": 4}, {"share_prompts": False}],
    ids=["packed", "single", "micro-batch 4", "prompts apart"],
)
def test_steps_equal_plain_transformers(tiny_llama, settings):
    method = ContextDistill(divergence="mixed", weight=0.3)
    engine, rows, teacher_inputs = learner(tiny_llama, method, clip=0.5, **settings)
    student, teacher = (
        AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32) for _ in "st"
    )
    optimizer = torch.optim.AdamW(student.parameters(), 1e-2, (0.9, 0.95), weight_decay=0.0)
    for _ in range(3):
        loss = torch.zeros(())
        for rollout in ROLLOUTS:
            s = logits(student, rollout.prompt_ids, rollout.target_ids)
            with torch.no_grad():
                t = logits(teacher, EXPERT[rollout.fact_id], rollout.target_ids)
            loss = loss + 0.3 * (t.exp() * (t - s)).sum() + 0.7 * (s.exp() * (s - t)).sum()
        (loss / NUM_TARGETS).backward()
        norm = torch.nn.utils.clip_grad_norm_(student.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
        assert engine.step(rows, NUM_TARGETS, 1e-2, teacher_inputs) == pytest.approx(
            (float(loss.detach()) / NUM_TARGETS, float(norm)), rel=1e-4
        )


def test_a_teacher_with_the_students_prompt_gives_no_gradient(tiny_llama, monkeypatch):
    for index, (prompt, _) in enumerate(EXAMPLES):
        monkeypatch.setitem(EXPERT, str(index), prompt)
    engine, rows, teacher_inputs = learner(tiny_llama, ContextDistill())
    loss, norm = engine.step(rows, NUM_TARGETS, 0.0, teacher_inputs)
    assert loss == pytest.approx(0.0, abs=1e-6)
    assert norm < 1e-5


def test_the_reference_does_not_change_and_the_student_comes_closer(tiny_llama):
    engine, rows, teacher_inputs = learner(tiny_llama, ContextDistill())
    before = [p.clone() for p in engine._teacher._model.parameters()]
    losses = [engine.step(rows, NUM_TARGETS, 1e-3, teacher_inputs)[0] for _ in range(8)]
    assert losses[-1] < 0.5 * losses[0]
    for now, then in zip(engine._teacher._model.parameters(), before, strict=True):
        assert torch.equal(now, then)
        assert not now.requires_grad


def test_with_adapters_the_teacher_is_the_student_without_them(tiny_llama):
    copied, rows, teacher_inputs = learner(tiny_llama, ContextDistill())
    adapted, *_ = learner(tiny_llama, ContextDistill(), lora={"rank": 4})
    losses = [adapted.step(rows, NUM_TARGETS, 1e-2, teacher_inputs)[0] for _ in range(8)]
    assert losses[-1] < 0.9 * losses[0]
    for teacher_input in teacher_inputs:
        # Trained or not, it is the model of the folder.
        theirs, ours = (one._teacher.forward(teacher_input) for one in (copied, adapted))
        torch.testing.assert_close(ours.hidden_KD, theirs.hidden_KD, rtol=1e-5, atol=1e-6)
        assert torch.equal(ours.weight_VD, theirs.weight_VD)
    assert adapted._student.training
    trained = [p for p in adapted._student.parameters() if p.requires_grad]
    assert len(trained) == 2 * len(adapted._adapters)


@pytest.mark.parametrize("support", ["top_k", "tail"])
def test_teacher_scores_of_the_rollouts_train_like_the_frozen_copy(tiny_llama, support):
    here, rows, teacher_inputs = learner(tiny_llama, ContextDistill(support=support, top_k=5))
    scores = []
    for row, teacher_input in zip(rows, teacher_inputs, strict=True):
        full = here._teacher.forward(teacher_input)
        log_p = (full.hidden_KD @ full.weight_VD.T).log_softmax(-1).topk(5)
        assert len(log_p.indices) == len(row.targets_K)
        scores.append(TeacherTopK(log_p.indices.numpy(), log_p.values.numpy()))
    there, _, _ = learner(tiny_llama, ContextDistill(support=support, top_k=5, teacher="engine"))
    assert there._teacher is None
    for _ in range(3):
        assert there.step(rows, NUM_TARGETS, 1e-3, scores) == pytest.approx(
            here.step(rows, NUM_TARGETS, 1e-3, teacher_inputs), rel=1e-4, abs=1e-6
        )


@pytest.mark.parametrize("teacher", ["learner", "engine"])
def test_an_empty_row_needs_no_teacher_inputs(tiny_llama, teacher):
    method = ContextDistill(support="tail", teacher=teacher)
    engine, _, _ = learner(tiny_llama, method)
    assert engine.step([None], 1, 1e-3) == (0.0, 0.0)
