"""The four roles: thin wrappers that build a plain class and run it as a Ray actor."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from actors.replay.queue import ReplayQueue
from common import corpora, models
from common.ledger import Ledger, open_view
from common.records import Rollout, unpack_rollout
from common.weight_sync.nccl_receiver import NcclWeightReceiver
from deploy.control.factories import prompts_for, teacher_inputs_for, weight_store_of
from deploy.control.health import Report
from deploy.control.queue_client import QueueClient
from deploy.control.role import Role, Worker

if TYPE_CHECKING:
    from learner.interfaces import WeightPublisher
    from learner.worker import Learner


class ReplayRole(Role):
    """The queue actor. Its state is the ledger file, so it may be restarted."""

    def __init__(self, name: str, root: str, model_dir: str) -> None:
        super().__init__(name, root, model_dir)
        config = self.config
        ledger = Ledger(
            self.run_dir.ledger,
            epochs=config.exposures_per_rollout,
            seed=config.seed,
            first_epoch=config.replay.first_epoch,
        )
        self._queue = ReplayQueue(ledger, config)
        self._queue.add_facts([fact.id for fact in corpora.load(config.data).facts])

    def poll(self) -> Report:
        """It works whenever it answers."""
        status = self._queue.status()
        return Report(
            "working",
            *self._identity,
            # A learner that resumes takes samples back; what follows is progress again.
            progress=status["accepted"] + status["exhausted"] + status["exposures_sampled"],
            waiting="requests",
            snapshot=self._queue.snapshot(),
            detail={**status, "settings": self._queue.settings.model_dump()},
        )

    def call(self, method: str, *arguments: Any, **named: Any) -> Any:
        """Call a method of the queue."""
        return getattr(self._queue, method)(*arguments, **named)


class RolloutRole(Role):
    """A rollout actor with its own engine."""

    _transferred: NcclWeightReceiver | None = None

    def build(self, index: int, rendezvous: tuple[str, int]) -> Worker:
        """Load the engines: the reference's, the student's, or both where the former teaches."""
        from actors.decoding.mixed_decoder import MixedDecoder
        from actors.decoding.teacher_top_k import scored_top
        from actors.inference.engine import Engine
        from actors.rollout.mixed import MixedRolloutActor
        from actors.rollout.student import StudentRolloutActor, WeightReceiver
        from common.weight_sync.file_receiver import FileWeightReceiver

        config, model = self.config, models.load(self.model_dir)
        settings, has_student = config.rollout, config.student is not None
        is_taught = has_student and scored_top(config.method) > 0

        def load(receives: bool = False) -> Engine:
            return Engine(
                model.folder,
                config.engine.shared_by(2) if is_taught else config.engine,
                max_requests=2 * settings.slots,
                stop_token_ids=model.stop_token_ids,
                speculative_tokens=settings.speculative_tokens,
                receives_weights=receives,
            )

        engine = self._engine = load(receives=has_student and config.publish.transport == "nccl")
        decoder = MixedDecoder(engine, settings.slots)
        rest = (
            prompts_for(config, model),
            config.method,
            {fact.id: fact for fact in corpora.load(config.data).facts},
            QueueClient(config.cluster.stall_s),
            settings,
            config.seed,
        )
        if not has_student:
            return MixedRolloutActor(self.name, decoder, *rest)
        deadline_s = config.publish.deadline_s
        weights: WeightReceiver
        if config.publish.transport == "nccl":
            weights = self._transferred = NcclWeightReceiver(engine, deadline_s)
        else:
            weights = FileWeightReceiver(
                engine, weight_store_of(config, self.run_dir), self.name, deadline_s
            )
        teacher = MixedDecoder(load(), settings.slots) if is_taught else None
        return StudentRolloutActor(self.name, decoder, weights, *rest, teacher)

    def transfer(self, method: str, *arguments: Any) -> None:
        """A call of the learner's weight transfer; returns when it has been made."""
        if self._transferred is None:
            raise RuntimeError(f"{self.name} takes no weights by transfer now")
        self._transferred.call(method, *arguments)


class LearnerRole(Role):
    """One rank of the learner."""

    _learner: Learner | None = None

    def build(self, index: int, rendezvous: tuple[str, int]) -> Worker:
        """Join the other ranks and load the student."""
        settings = self.config.learner
        os.environ.update(
            RANK=str(index),
            # Ray shows each actor its own GPU only, so it is always the first.
            LOCAL_RANK="0",
            WORLD_SIZE=str(settings.ranks),
            MASTER_ADDR=rendezvous[0],
            MASTER_PORT=str(rendezvous[1]),
        )
        if settings.resolved_device == "cpu":
            os.environ["DS_ACCELERATOR"] = "cpu"
        from learner.engine import TrainingEngine
        from learner.worker import Learner

        build_teacher_inputs = teacher_inputs_for(self.config, self.model_dir)
        engine = TrainingEngine(
            self.model_dir, settings, loss=self.config.method.loss, seed=self.config.seed
        )
        self._learner = Learner(
            engine,
            QueueClient(self.config.cluster.stall_s),
            settings,
            self.run_dir,
            self.model_dir,
            index,
            self.say,
            build_teacher_inputs,
            self._publisher(index) if self.config.student is not None else None,
        )
        return self._learner

    def _publisher(self, rank: int) -> WeightPublisher:
        config = self.config
        dtype = config.engine.dtype
        if config.publish.transport == "nccl":
            from common.weight_sync.nccl_publisher import NcclWeightPublisher
            from deploy.control.weight_sync_client import WeightSyncClient

            engines, host = WeightSyncClient(self.run_dir, config), self._identity[2][0]
            patience_s = config.cluster.start_timeout_s
            return NcclWeightPublisher(engines, config.publish, dtype, rank, host, patience_s)
        from common.weight_sync.file_publisher import FileWeightPublisher

        return FileWeightPublisher(
            weight_store_of(config, self.run_dir), config.publish, dtype, rank, self.say
        )

    def poll(self) -> Report:
        """How it goes; a checkpoint that does not fit yet is no failure."""
        report = super().poll()
        waits = self._learner is not None and self._learner.lacks_room
        return replace(report, disk_full=report.disk_full or waits)


class EvaluatorRole(Role):
    """An evaluator with its own engine."""

    def build(self, index: int, rendezvous: tuple[str, int]) -> Worker:
        """Load an engine of the base model."""
        from actors.analysis.attach import add_analyses
        from actors.evaluation.evaluator import Evaluator, materials_for
        from actors.evaluation.results import EvaluatedModel, Results
        from actors.inference.engine import Engine
        from common.weights import folder_hash
        from learner import checkpoint

        config = self.config
        model = models.load(self.model_dir)
        base = EvaluatedModel(0, model.folder, folder_hash(model.folder))
        engine = self._engine = Engine(
            model.folder,
            config.engine,
            max_requests=config.evaluator.slots,
            stop_token_ids=model.stop_token_ids,
        )

        def find() -> list[EvaluatedModel]:
            return [
                base,
                *(
                    EvaluatedModel(found.step, found.folder, found.weights_hash)
                    for found in checkpoint.existing(self.run_dir.checkpoints)
                ),
            ]

        corpus = corpora.load(config.data)
        prompts = prompts_for(config, model)
        materials = materials_for(model, prompts, corpus, config.evaluator, config.seed)
        results = Results(self.run_dir.eval)
        evaluator = Evaluator(
            engine,
            base.weights,
            materials,
            results,
            find,
            newest_first=not config.learner.early_stop,
        )

        def rollouts() -> list[Rollout]:
            with contextlib.closing(open_view(self.run_dir.ledger)) as ledger:
                return [unpack_rollout(payload) for payload in ledger.payloads()]

        add_analyses(evaluator, engine, base, materials, results, rollouts, self.say)
        return evaluator
