"""Distillation into a tiny student: all parts of a run except Ray and vLLM."""

from __future__ import annotations

import pytest
from torch import distributed

from actors.replay.queue import ReplayQueue
from actors.rollout.target_builder import TargetBuilder
from common import corpora, models
from common.config import run_config
from common.ledger import Ledger
from common.records import PackedRollout
from common.rundir import RunDir, read_jsonl
from deploy.factories import prompts_for, teacher_inputs_for
from deploy.report.summary import summary
from learner.engine import TrainingEngine
from learner.interfaces import Batch
from learner.worker import Learner
from tests.tiny import make_chat_model

pytestmark = [pytest.mark.slow, pytest.mark.one_core]


class Source:
    """The queue in this process."""

    def __init__(self, queue: ReplayQueue) -> None:
        self._queue = queue
        self.register, self.restore, self.last_step = queue.register, queue.restore, queue.last_step
        self.note_trained = queue.note_trained
        self.prepare, self.commit = queue.prepare, queue.commit

    def sample(self, generation: int, step: int) -> Batch:
        return Batch(*self._queue.sample(generation, step))


@pytest.fixture
def config(tmp_path):
    # Large weights, so that the fact in the context changes the next tokens.
    model = make_chat_model(tmp_path / "model", scale=0.3)
    return run_config.parse(
        {
            "name": "distilled",
            "model": str(model),
            "prompts": "short-sentence",
            "data": {"kgfact": {"domains": 2, "entities": 3, "distractors": 2}},
            "method": {"name": "context_distill", "divergence": "mixed", "support": "tail"},
            "learner": {"epochs": 8, "batch_size": 2, "lr": 1e-2, "dtype": "float32"}
            | {"device": "cpu"},
            "evaluator": {"actors": 0},
        },
        "test",
    )


def test_a_student_learns_the_references_answers_given_the_fact(tmp_path, config, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    run = RunDir(tmp_path / "distilled")
    run.create()
    run.config.write_text(run_config.dump(config))
    model = models.load(models.resolve(config.model))
    facts = {fact.id: fact for fact in corpora.load(config.data).facts}
    ledger = Ledger(run.ledger, epochs=8, seed=0)
    queue = ReplayQueue(ledger, config)
    queue.add_work([(fact_id, 0) for fact_id in facts])
    targets = TargetBuilder(prompts_for(config, model), config.method, config.rollout, config.seed)
    for work in queue.lease("actor", len(facts), []).work:
        rollout = targets.canonical(work, facts[work.fact_id], 0)
        queue.insert_many([PackedRollout.of(rollout, 0)])
    store = distributed.FileStore(str(tmp_path / "store"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        engine = TrainingEngine(model.folder, config.learner, loss=config.method.loss, seed=0)
        build_teacher_inputs = teacher_inputs_for(config, model.folder)
        learner = Learner(
            engine, Source(queue), config.learner, run, model.folder, 0, print, build_teacher_inputs
        )
        assert learner.run() == 12
    finally:
        distributed.destroy_process_group()
        ledger.close()
    losses = [step["loss"] for step in read_jsonl(run.steps)]
    assert min(losses) > 0
    assert losses[-1] < 0.3 * losses[0]
    figures = summary(run)
    assert figures.exposures_trained == figures.exposures_expected == 24
    assert not figures.stopped_early
