"""On-policy self-distillation: the student draws, trains, and its weights go to the engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from actors.decoding.attempt import Attempt
from actors.decoding.picks import student_seed
from actors.inference.batch import BatchRunner
from actors.inference.engine import Engine
from actors.inference.requests import Sampling
from common.config.learner import LearnerSettings, PublishSettings
from common.hardware import Device
from common.methods import OPSD
from common.records import Rollout
from common.rundir import RunDir
from tests.decoding import decode
from tests.gpu.checks.engines import describe, open_on
from tests.gpu.checks.learner import be_one_rank
from tests.tiny import make_model

# Of each fact the prompt x; x+ has its statement in front.
FACTS = {f"fact-{n}": [5 + n, 20, 21] for n in range(6)}
STATEMENT_IDS = [50, 51, 52, 53]
ROUNDS, SAMPLES, LENGTH = 8, 2, 8


def rounds(device: Device, folder: Path) -> dict[str, Any]:
    """Eight steps, each on what the weights of the step before have drawn."""
    be_one_rank(device)
    from torch import distributed

    from common.weight_sync.file_publisher import FileWeightPublisher
    from common.weight_sync.file_receiver import FileWeightReceiver
    from common.weight_sync.store import WeightStore
    from learner.engine import TrainingEngine

    model = make_model(folder / "model", vocabulary=64, scale=0.3)
    settings = LearnerSettings(
        device=device, dtype="float32", batch_size=len(FACTS) * SAMPLES, row_tokens=64
    )
    learner = TrainingEngine(model, settings, loss=OPSD().loss, seed=0)
    engine = open_on(device, model, stops=())
    run = RunDir(folder / "run")
    run.create()
    publisher = FileWeightPublisher(WeightStore(run), PublishSettings(), "float32", 0, print)
    receiver = FileWeightReceiver(engine, WeightStore(run), "check", 60)
    losses = []
    for version in range(ROUNDS + 1):
        published = publisher.publish(version, learner.policy)
        assert receiver.is_behind()
        receiver.load()
        if version < ROUNDS:
            losses.append(_step(learner, settings, _drawn(engine, version)))
    found = {
        **describe(engine),
        "version": receiver.version,
        "losses": losses,
        "publish_seconds": published,
        "load_seconds": receiver.seconds,
        "score_error": _score_error(engine, learner, model),
    }
    engine.close()
    if distributed.is_initialized():
        distributed.destroy_process_group()
    return found


def _expert(fact_id: str) -> list[int]:
    # What the statement says differs from fact to fact.
    return [*STATEMENT_IDS, FACTS[fact_id][0] + 30, *FACTS[fact_id]]


def _drawn(engine: Engine, version: int) -> list[Rollout]:
    def attempt(fact_id: str, draw: int) -> Attempt:
        sampling = Sampling(1.0, seed=student_seed(0, fact_id, draw, version))
        picks = [True] * LENGTH
        key = f"{fact_id}/{draw}"
        return Attempt(key, FACTS[fact_id], _expert(fact_id), picks, lambda position: sampling)

    drawn = decode(engine, [attempt(fact, draw) for fact in FACTS for draw in range(SAMPLES)])
    return [
        Rollout(fact, 0, 0, FACTS[fact], result.token_ids, [], [], [], [], None, 0, "", True)
        for key, result in sorted(drawn.items())
        for fact in [key.split("/")[0]]
    ]


def _step(learner: Any, settings: LearnerSettings, rollouts: list[Rollout]) -> float:
    from learner.packing import rows_of_rank
    from learner.teacher_inputs import forward_inputs

    build = forward_inputs(_expert, settings)
    rows = rows_of_rank([(one.prompt_ids, one.target_ids) for one in rollouts], settings, 0)
    inputs = [build(row, rollouts) if row else None for row in rows]
    loss, _ = learner.step(rows, sum(len(one.target_ids) for one in rollouts), 1e-2, inputs)
    return float(loss)


def _score_error(engine: Engine, learner: Any, model: Path) -> float:
    """The engine's scores against those of the learner's weights in plain transformers."""
    from tests.oracle import Oracle

    oracle = Oracle(model)
    oracle.network.load_state_dict({name: weight.cpu() for name, weight in learner.policy()})
    items = [(prompt, [7, 9, 30]) for prompt in FACTS.values()]
    errors = []
    for (prompt, target), scores in zip(items, BatchRunner(engine, 8).score(items), strict=True):
        rows = oracle.logprobs(prompt, target)
        errors += [
            abs(score - float(rows[at, token]))
            for at, (score, token) in enumerate(zip(scores, target, strict=True))
        ]
    return max(errors)
