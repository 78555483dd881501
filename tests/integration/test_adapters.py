"""An engine of the base model applies the adapter that a learner has published, or exported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import distributed

from actors.inference.adapters import AdapterTaker
from actors.inference.batch import BatchRunner
from actors.inference.engine import Engine
from actors.inference.requests import Sampling
from common.config.learner import LearnerSettings, LoraSettings, PublishSettings
from common.config.sections import EngineSettings
from common.methods import NLL
from common.rundir import RunDir
from common.weight_sync.file_publisher import FileWeightPublisher
from common.weight_sync.file_receiver import FileWeightReceiver
from common.weight_sync.store import WeightStore
from common.weights import bit_sum
from learner.engine import TrainingEngine
from tests.integration.runs import call, status, write_config
from tests.tiny import make_model

pytestmark = pytest.mark.slow
PROMPTS = [[5, 6, 7], [20, 21], [33, 34, 35, 36]]
LORA = LoraSettings(rank=4, alpha=6.0)


@dataclass(frozen=True)
class Taught:
    """A model's adapter after some step: its factors, the model merged with it, peft's folder."""

    factors: dict[str, torch.Tensor]
    merged: Path
    exported: Path


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return make_model(tmp_path_factory.mktemp("adapters") / "model", vocabulary=64, scale=0.3)


@pytest.fixture(scope="module")
def taught(model) -> list[Taught]:
    """Two versions. They come first, since an engine that closes ends torch's process group."""
    pytest.importorskip("peft", reason="optional: pip install peft")
    store = distributed.FileStore(str(model.parent / "group"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    settings = LearnerSettings(device="cpu", dtype="float32", lora=LORA)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RANK", "0")
        environment.setenv("WORLD_SIZE", "1")
        engine = TrainingEngine(model, settings, loss=NLL(), seed=0)
    made = [version(engine, model, seed) for seed in (0, 1)]
    distributed.destroy_process_group()
    return made


def version(engine: TrainingEngine, model: Path, seed: int) -> Taught:
    """Give every factor other values, as a step would, and keep what a learner makes of them."""
    generator = torch.Generator().manual_seed(seed)
    for _, parameter in engine._student.named_weights():
        if parameter.requires_grad:
            with torch.no_grad():
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    folder = model.parent / f"version-{seed}"
    state = engine.snapshot()
    for name, content in state.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    save_file(state.weights, folder / "model.safetensors", metadata={"format": "pt"})
    factors = {name: factor.detach().clone() for name, factor in engine.factors()}
    return Taught(factors, folder, folder / "adapter")


def open_engine(folder: Path, adapter: LoraSettings | None = None) -> Engine:
    settings = EngineSettings(device="cpu", dtype="float32", max_model_len=64)
    return Engine(folder, settings, max_requests=4, stop_token_ids=[0], adapter=adapter)


def draw(engine: Engine) -> list[tuple[list[int], list[float]]]:
    for index, prompt in enumerate(PROMPTS):
        engine.extend(str(index), prompt, 8, Sampling(), last=True)
    done = {}
    while len(done) < len(PROMPTS):
        done |= {output.key: output for output in engine.step()}
    return [(done[str(i)].token_ids, done[str(i)].logprobs) for i in range(len(PROMPTS))]


def agree(drawn, expected) -> None:
    assert [ids for ids, _ in drawn] == [ids for ids, _ in expected]
    for (_, found), (_, wanted) in zip(drawn, expected, strict=True):
        assert found == pytest.approx(wanted, abs=1e-3)


def drawn_by(folder: Path) -> list[tuple[list[int], list[float]]]:
    engine = open_engine(folder)
    drawn = draw(engine)
    engine.close()
    return drawn


@pytest.mark.one_core
def test_generations_follow_each_published_adapter_and_scores_remain_the_bases(
    model, taught, tmp_path
):
    run = RunDir(tmp_path / "run")
    run.create()
    store = WeightStore(run, None)
    publisher = FileWeightPublisher(store, PublishSettings(), "float32", 0, print, adapters=True)
    items = [(prompt, [8, 9, 10]) for prompt in PROMPTS]
    base = open_engine(model)
    scores, plain = BatchRunner(base, 4).score(items), draw(base)
    base.close()
    expected = [drawn_by(each.merged) for each in taught]
    engine = open_engine(model, adapter=LORA)
    receiver = FileWeightReceiver(AdapterTaker(engine, LORA.rank), store, "rollout-0", 60.0)
    agree(draw(engine), plain)
    for step, each in enumerate(taught):
        publisher.publish(step, each.factors.items)
        assert receiver.is_behind()
        receiver.load()
        assert (receiver.version, receiver.is_behind()) == (step, False)
        assert [ids for ids, _ in expected[step]] != [ids for ids, _ in plain]
        agree(draw(engine), expected[step])
        for found, wanted in zip(BatchRunner(engine, 4).score(items), scores, strict=True):
            assert found == pytest.approx(wanted, abs=1e-4)
    # Every factor can be read back as it was published, those of fused layers too.
    newest = taught[-1].factors
    assert engine.call_workers("sum_adapter", list(newest)) == [
        {name: bit_sum(factor) for name, factor in newest.items()}
    ]
    engine.close()


@pytest.mark.one_core
def test_an_exported_adapter_is_applied_as_the_merged_model_has_it(model, taught):
    expected = drawn_by(taught[0].merged)
    engine = open_engine(model, adapter=LORA)
    engine.load_adapter(taught[0].exported, 0)
    agree(draw(engine), expected)
    engine.close()


def test_one_engine_is_student_and_teacher_of_a_run_and_only_adapters_are_sent(
    tmp_path, tiny_model
):
    path = write_config(
        tmp_path,
        name="adapted",
        model=str(tiny_model),
        prompts="short-sentence",
        method={"name": "opsd", "samples": 2, "teacher": "engine", "support": "tail", "top_k": 4},
        data={"kgfact": {"domains": 2, "entities": 4}},
        engine={"max_model_len": 256, "dtype": "float32"},
        rollout={"slots": 4, "max_tokens": 4},
        replay={"max_lag": 0},
        learner={"epochs": 2, "batch_size": 4, "checkpoint_every": 4, "dtype": "float32"}
        | {"lora": {"rank": 4}, "lr": 1e-2},
        evaluator={"suites": ["recall"], "max_tokens": 4},
    )
    said = call(tmp_path, "up", path)
    assert "16 of 16" in said
    found = status(tmp_path, "adapted")
    assert all(role["restarts"] == 0 for role in found["roles"].values())
    exported = tmp_path / "adapted/checkpoints/step_4/adapter/adapter_model.safetensors"
    assert exported.is_file()
