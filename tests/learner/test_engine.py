"""The training step at stage 0, in one process, against PyTorch's own optimizer."""

from __future__ import annotations

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM

from common.config.learner import LearnerSettings
from common.methods import NLL
from learner.checkpoint import existing
from learner.checkpoint_folder import CheckpointFolder
from learner.checkpoint_writer import CheckpointWriter
from learner.engine import TrainingEngine
from learner.packing import pack
from tests.plain_training import PlainTraining

pytestmark = pytest.mark.usefixtures("one_rank")

EXAMPLES = [([1, 2, 3], [4, 5, 6]), ([7, 8], [9]), ([10], [11, 12, 13])]
ROWS = pack(EXAMPLES, 64)
NUM_TARGETS = 7


def engine_of(folder, **settings) -> TrainingEngine:
    chosen = LearnerSettings(**{"device": "cpu", "dtype": "float32", **settings})
    return TrainingEngine(folder, chosen, loss=NLL(), seed=0)


def weights(engine: TrainingEngine) -> dict[str, torch.Tensor]:
    return {name: weight.clone() for name, weight in engine.weights()}


def step(engine: TrainingEngine, lr: float = 1e-2) -> tuple[float, float]:
    return engine.step(ROWS, NUM_TARGETS, lr)


@pytest.mark.parametrize("decayed", ["matrices", "all"])
def test_steps_equal_adamw_with_clipping_and_decay_of_matrices_or_of_all(tiny_llama, decayed):
    # Strong enough that a norm's weight, which starts at 1, moves by 5 % a step.
    given = {"weight_decay": 5.0, "clip": 0.5, "eps": 1e-6}
    plain = PlainTraining(tiny_llama, lr=1e-2, decay_all=decayed == "all", **given)
    engine = engine_of(tiny_llama, weight_decay_on=decayed, **given)
    for expected in plain.steps(EXAMPLES, 3):
        assert step(engine) == pytest.approx(expected, rel=1e-5)
    found = weights(engine)
    for name, parameter in plain.model.named_parameters():
        expected = parameter.detach()
        assert float((found[name] - expected).norm() / expected.norm()) < 1e-5, name


def test_the_first_bfloat16_update_is_the_whole_learning_rate(tiny_llama):
    # Adam's first step is lr · sign(g); a wrapper that had stepped before would give 0.73 of it.
    engine = engine_of(tiny_llama, dtype="bfloat16", weight_decay=0.0, clip=1e9)
    before = [master.clone() for master in engine._backend.masters()]
    step(engine)
    moved = [(a - b).abs().max() for a, b in zip(engine._backend.masters(), before, strict=True)]
    assert torch.stack(moved).tolist() == pytest.approx([1e-2] * len(moved), rel=1e-3)
    assert engine._backend.num_updates == 1


def test_masters_keep_what_bfloat16_weights_round_away(tiny_llama):
    engine = engine_of(tiny_llama, dtype="bfloat16")
    name, start = next(iter(weights(engine).items()))
    for _ in range(3):
        step(engine, lr=1e-6)
    assert (weights(engine)[name] == start).float().mean() > 0.9
    master = engine._backend.masters()[0]
    assert (master == start.float()).float().mean() < 0.9


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_resumed_engine_continues_exactly(tiny_llama, tmp_path, dtype):
    engine = engine_of(tiny_llama, dtype=dtype, average=0.9)
    step(engine)
    writer = CheckpointWriter(
        CheckpointFolder(tmp_path / "runs"), tiny_llama, lambda generation, step: None
    )
    writer.begin(engine, 1, 1)
    writer.wait()
    expected = step(engine)
    resumed = engine_of(tiny_llama, dtype=dtype, average=0.9)
    resumed.load_state(tmp_path / "runs/step_1")
    assert step(resumed) == expected
    torch.testing.assert_close(weights(resumed), weights(engine), rtol=0, atol=0)
    torch.testing.assert_close(resumed._average, engine._average, rtol=0, atol=0)


def test_the_exported_folder_loads_and_computes_like_the_trained_model(tiny_llama, tmp_path):
    engine = engine_of(tiny_llama)
    step(engine)
    writer = CheckpointWriter(
        CheckpointFolder(tmp_path / "runs"), tiny_llama, lambda generation, step: None
    )
    writer.begin(engine, 1, 1)
    writer.wait()
    (found,) = existing(tmp_path / "runs")
    model = AutoModelForCausalLM.from_pretrained(found.folder, dtype=torch.float32)
    prompt, target = EXAMPLES[0]
    logits = model(input_ids=torch.tensor([[*prompt, *target]])).logits[0, 2:-1]
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(target))
    alone = engine.step(pack(EXAMPLES[:1], 64), 3, 0.0)[0]
    assert float(loss.detach()) == pytest.approx(alone, rel=1e-5)


def test_an_average_is_exported_in_place_of_the_weights(tiny_llama):
    engine = engine_of(tiny_llama, average=0.75)
    first = weights(engine)
    step(engine)
    second = weights(engine)
    exported = engine.snapshot().weights
    for name, weight in exported.items():
        torch.testing.assert_close(weight, 0.75 * first[name] + 0.25 * second[name])
    torch.testing.assert_close(weights(engine), second, rtol=0, atol=0)


def test_a_gradient_that_is_not_finite_changes_nothing(tiny_llama):
    engine = engine_of(tiny_llama)
    step(engine)
    before = weights(engine)
    loss = engine._student.head._loss
    engine._student.head._loss = lambda *arguments: loss(*arguments) * math.nan
    assert step(engine)[1] == math.inf
    torch.testing.assert_close(weights(engine), before, rtol=0, atol=0)
    engine._student.head._loss = loss
    assert math.isfinite(step(engine)[1])
    assert engine._backend.num_updates == 2


READS = {"aten::_local_scalar_dense", "aten::nonzero", "aten::equal"}


class Waits(TorchDispatchMode):
    """Notes the operations whose result the host needs, so that it waits for a GPU."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name()
        if name in (
            "aten::_local_scalar_dense",
            "aten::nonzero",
            "aten::equal",
            "aten::is_nonzero",
        ):
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("extra", [{}, {"gradient_checkpointing": True}, {"average": 0.9}])
def test_a_step_does_not_wait_for_the_device_before_its_end(tiny_llama, extra):
    engine = engine_of(tiny_llama, **extra)
    with Waits() as waits:
        torch.ones(1).item()
        assert waits.found == ["aten::_local_scalar_dense"]
        # The last line of a step reads a list, which is no operation.
        step(engine)
    assert len(waits.found) == 1


def test_only_adapters_are_trained_and_exported_both_merged_and_alone(tiny_llama, tmp_path):
    peft = pytest.importorskip("peft", reason="optional: pip install peft")
    engine = engine_of(tiny_llama, lora={"rank": 4, "alpha": 8.0}, average=0.5)
    frozen = {name: weight for name, weight in weights(engine).items() if "lora" not in name}
    for _ in range(2):
        step(engine)
    for name, weight in frozen.items():
        torch.testing.assert_close(weights(engine)[name], weight, rtol=0, atol=0)
    writer = CheckpointWriter(
        CheckpointFolder(tmp_path / "runs"), tiny_llama, lambda generation, step: None
    )
    writer.begin(engine, 1, 2)
    writer.wait()
    folder = tmp_path / "runs/step_2"
    ids = torch.tensor([[1, 2, 3, 4]])
    merged = AutoModelForCausalLM.from_pretrained(folder)(input_ids=ids).logits
    base = AutoModelForCausalLM.from_pretrained(tiny_llama)
    plain = base(input_ids=ids).logits
    adapted = peft.PeftModel.from_pretrained(base, folder / "adapter")(input_ids=ids).logits
    torch.testing.assert_close(adapted, merged, rtol=1e-4, atol=1e-5)
    assert float((plain - merged).detach().abs().max()) > 1e-3
    resumed = engine_of(tiny_llama, lora={"rank": 4, "alpha": 8.0}, average=0.5)
    resumed.load_state(folder)
    assert step(resumed) == step(engine)


@pytest.mark.parametrize("extra", [{}, {"average": 0.5}, {"lora": {"rank": 2}}])
def test_the_policy_is_the_current_student_with_adapters_merged(tiny_llama, extra):
    engine = engine_of(tiny_llama, **extra)
    before = {name: weight.clone() for name, weight in engine.policy()}
    step(engine)
    after = dict(engine.policy())
    assert after.keys() == before.keys() == engine.snapshot().weights.keys()
    assert not torch.equal(
        after["model.layers.0.mlp.down_proj.weight"], before["model.layers.0.mlp.down_proj.weight"]
    )
    if "average" not in extra:
        for name, weight in engine.snapshot().weights.items():
            assert torch.equal(after[name], weight)
