"""The four roles: each builds a plain class and runs it as a Ray actor."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from actors.replay.queue import ReplayQueue
from actors.replay.replies import Grant, Sampled
from actors.replay.work import trained_facts
from common import corpora, models
from common.config.learner import LearnerSettings, Transfer
from common.config.run_config import RunConfig
from common.config.sections import ReplaySettings
from common.errors import is_disk_full_text
from common.ledger import Counts, Ledger, Order
from common.records import PackedRollout, Rollout, unpack_rollout
from common.weight_sync.transfer_receiver import TransferWeightReceiver
from deploy.control.health import Report
from deploy.control.queue_client import RemoteQueue
from deploy.control.role import Role, Worker
from deploy.control.role_kind import lease_owner
from deploy.factories import editing_engine_for, prompts_for, teacher_inputs_for, weight_store_of

if TYPE_CHECKING:
    from actors.decoding.mixed_decoder import MixedDecoder
    from actors.evaluation.results import EvaluatedModel
    from actors.inference.engine import Engine
    from actors.rollout.student import WeightReceiver
    from learner.interfaces import Trainer, WeightPublisher
    from learner.worker import Learner


class ReplayRole(Role, RemoteQueue):
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
        self._queue.add_facts([fact.id for fact in trained_facts(config)])

    def poll(self) -> Report:
        """Always ``working``: it has no thread of its own."""
        status, trouble = self._queue.status(), self._queue.trouble
        return Report(
            "working",
            *self._identity,
            # A learner that resumes takes samples back; what follows is progress again.
            progress=(done := status.accepted + status.exhausted + status.exposures_sampled),
            milestone=done,
            waiting=f"the disk ({trouble})" if trouble else "requests",
            disk_full=is_disk_full_text(trouble),
            metrics=self._queue.metrics(),
            queue=status,
        )

    def lease(
        self, owner: str, count: int, holding: Sequence[int], version: int | None = None
    ) -> Grant:
        return self._queue.lease(owner, count, holding, version)

    def insert_many(self, items: Sequence[PackedRollout]) -> list[bool]:
        return self._queue.insert_many(items)

    def exhaust(self, fact_id: str, draw: int, reason: str, attempts: int) -> bool:
        return self._queue.exhaust(fact_id, draw, reason, attempts)

    def release(self, owner: str, died: bool = False) -> int:
        return self._queue.release(owner, died)

    def register(self, token: str) -> int:
        return self._queue.register(token)

    def sample(self, generation: int, step: int) -> Sampled:
        return self._queue.sample(generation, step)

    def last_step(self) -> int:
        return self._queue.last_step()

    def note_trained(self, generation: int, step: int) -> None:
        self._queue.note_trained(generation, step)

    def prepare(self, generation: int, step: int) -> None:
        self._queue.prepare(generation, step)

    def commit(self, generation: int, step: int) -> None:
        self._queue.commit(generation, step)

    def restore(self, generation: int, step: int) -> str:
        return self._queue.restore(generation, step)

    def counts(self) -> Counts:
        return self._queue.counts()

    def lost(self, most: int = -1) -> list[tuple[str, str, str]]:
        return self._queue.lost(most)

    def page(self, order: Order, after: int) -> list[tuple[int, bytes]]:
        return self._queue.page(order, after)

    def configure(self, settings: ReplaySettings) -> None:
        self._queue.configure(settings)

    def end(self) -> None:
        self._queue.end()


class RolloutRole(Role):
    """A rollout actor with its own engine."""

    _transferred: TransferWeightReceiver | None = None

    @staticmethod
    def processes(config: RunConfig) -> int:
        return config.rollout.actors

    def build(self, index: int, rendezvous: tuple[str, int]) -> Worker:
        """Load one engine, or two if the base model is the student's teacher."""
        from actors.decoding.teacher_top_k import scored_top
        from actors.rollout.mixed import MixedRolloutActor
        from actors.rollout.student import StudentRolloutActor

        config, model = self.config, models.load(self.model_dir)
        has_student = config.student is not None
        # An engine that applies an adapter has the reference too, for whatever goes without it.
        needs_teacher = (
            has_student and scored_top(config.method) > 0 and config.student_adapter is None
        )
        decoder, engine = self._decoder(
            model,
            shared=needs_teacher,
            receives=config.publish.transfer if has_student else None,
        )
        self._engine = engine
        pid, node, _ = self._identity
        owner = lease_owner(self.name, node, pid)
        rest = (
            prompts_for(config, model),
            config.method,
            {fact.id: fact for fact in trained_facts(config)},
            self.queue_client(),
            config.rollout,
            config.seed,
        )
        if not has_student:
            return MixedRolloutActor(owner, decoder, *rest)
        weights = self._weight_receiver(engine)
        teacher = self._decoder(model, shared=True)[0] if needs_teacher else None
        return StudentRolloutActor(owner, decoder, weights, *rest, teacher)

    def _decoder(
        self, model: models.Model, *, shared: bool, receives: Transfer | None = None
    ) -> tuple[MixedDecoder, Engine]:
        """A decoder and its engine; ``shared``: two engines share the device."""
        from actors.decoding.paired_decoder import open_decoder
        from actors.inference.engine import Engine

        settings, engine_settings = self.config.rollout, self.config.engine
        if self.config.student is not None:
            engine_settings = engine_settings.plain
        if (engine := self._warm_engine) is not None:
            engine.forget()
            return open_decoder(engine, settings.slots), engine
        engine = Engine(
            model.folder,
            engine_settings.shared_by(2) if shared else engine_settings,
            max_requests=2 * settings.slots,
            stop_token_ids=model.stop_token_ids,
            speculative_tokens=settings.speculative_tokens,
            receives_weights=receives,
            adapter=self.config.student_adapter,
        )
        return open_decoder(engine, settings.slots), engine

    def _weight_receiver(self, engine: Engine) -> WeightReceiver:
        from common.weight_sync.file_receiver import FileWeightReceiver

        config = self.config
        deadline_s = config.publish.deadline_s
        if config.publish.transfer is not None:
            self._transferred = TransferWeightReceiver(engine, deadline_s)
            return self._transferred
        from actors.inference.adapters import AdapterTaker

        store = weight_store_of(config, self.run_dir)
        adapter = config.student_adapter
        taker = engine if adapter is None else AdapterTaker(engine, adapter.rank)
        return FileWeightReceiver(taker, store, self.name, deadline_s)

    def transfer(self, method: str, *arguments: Any) -> None:
        """Forward a call of the learner's weight transfer; returns when it is complete."""
        if self._transferred is None:
            raise RuntimeError(f"{self.name} cannot receive weights yet")
        self._transferred.call(method, *arguments)


class LearnerRole(Role):
    """One rank of the learner."""

    _learner: Learner | None = None

    @staticmethod
    def processes(config: RunConfig) -> int:
        return config.learner.ranks

    def build(self, index: int, rendezvous: tuple[str, int]) -> Worker:
        """Join the other ranks and load the model to train."""
        settings = self.config.learner
        os.environ.update(
            RANK=str(index),
            # An actor sees only its own GPU, so its index is 0.
            LOCAL_RANK="0",
            WORLD_SIZE=str(settings.ranks),
            MASTER_ADDR=rendezvous[0],
            MASTER_PORT=str(rendezvous[1]),
        )
        if settings.resolved_device == "cpu":
            os.environ["DS_ACCELERATOR"] = "cpu"
        from learner.allocator import limit_gpu_memory
        from learner.worker import Learner

        limit_gpu_memory(self.config.learner_share)

        build_teacher_inputs = teacher_inputs_for(self.config, self.model_dir)
        if self.config.method.edit is not None:
            # An edit computes on facts, not on packed rows.
            settings = settings.model_copy(update={"pack": False, "micro_batch": 1})
        self._learner = Learner(
            self._trainer(settings),
            self.queue_client(),
            settings,
            self.run_dir,
            self.model_dir,
            index,
            self.note,
            build_teacher_inputs,
            self._publisher(index) if self.config.student is not None else None,
        )
        return self._learner

    def reassign(self, name: str, root: str, model_dir: str) -> None:
        """As :meth:`Role.reassign`; the model of the run before leaves the memory."""
        super().reassign(name, root, model_dir)
        self._learner = None
        gc.collect()

    def _trainer(self, settings: LearnerSettings) -> Trainer:
        """The engine of the method: gradient steps, or edits."""
        config = self.config
        if config.method.edit is not None:
            return editing_engine_for(config, self.model_dir, settings, self.note)
        from learner.engine import TrainingEngine

        return TrainingEngine(
            self.model_dir,
            settings,
            loss=config.method.loss,
            seed=config.seed,
            penalty=config.method.penalty,
        )

    def _publisher(self, rank: int) -> WeightPublisher:
        config = self.config
        dtype = config.engine.resolved_dtype
        if config.publish.transfer is not None:
            from common.weight_sync.transfer_publisher import TransferWeightPublisher
            from deploy.control.weight_sync_client import WeightSyncClient

            engines, host = WeightSyncClient(self.run_dir, config), self._identity[2][0]
            patience_s = config.cluster.patience_s
            return TransferWeightPublisher(engines, config.publish, dtype, rank, host, patience_s)
        from common.weight_sync.file_publisher import FileWeightPublisher

        return FileWeightPublisher(
            weight_store_of(config, self.run_dir),
            config.publish,
            dtype,
            rank,
            self.note,
            adapters=config.student_adapter is not None,
        )

    def poll(self) -> Report:
        """A checkpoint that does not fit on the disk yet is not a failure."""
        report = super().poll()
        waits = self._learner is not None and self._learner.is_disk_full
        return replace(report, disk_full=report.disk_full or waits)


class EvaluatorRole(Role):
    """An evaluator with its own engine."""

    @staticmethod
    def processes(config: RunConfig) -> int:
        return config.evaluator.actors

    def build(self, index: int, rendezvous: tuple[str, int]) -> Worker:
        """Load an engine of the base model."""
        from actors.analysis.attach import add_analyses
        from actors.evaluation.evaluator import Evaluator, materials_for
        from actors.evaluation.results import EvaluatedModel
        from actors.evaluation.shared_results import results_in
        from actors.inference.engine import Engine
        from actors.inference.pausable import PausableEngine
        from common.weights import folder_hash

        config, model = self.config, models.load(self.model_dir)
        base = EvaluatedModel(0, model.folder, folder_hash(model.folder))
        warm = self._warm_engine
        engine = self._engine = warm or PausableEngine(
            lambda: Engine(
                model.folder,
                config.evaluator_engine,
                max_requests=config.evaluator.slots,
                stop_token_ids=model.stop_token_ids,
            )
        )
        prompts = prompts_for(config, model)
        corpus = corpora.load(config.data, config.earlier)
        materials = materials_for(model, prompts, corpus, config.evaluator, config.seed)
        results = results_in(self.run_dir.eval, self.run_dir.eval_shared)
        evaluator = Evaluator(
            engine,
            # A warm engine has the weights of some checkpoint.
            base.weights if warm is None else "",
            materials,
            results,
            lambda: [base, *self._checkpoints()],
            newest_first=not config.learner.early_stop,
            interval=config.learner.interval,
            mixed=config.draws_mixed,
        )
        make_room = engine.pause if config.closes_for_fisher else None
        add_analyses(
            evaluator, engine, base, materials, results, self._rollouts, self.say, make_room
        )
        return evaluator

    def _checkpoints(self) -> list[EvaluatedModel]:
        from actors.evaluation.results import EvaluatedModel
        from learner import checkpoint

        return [
            EvaluatedModel(found.step, found.folder, found.weights_hash)
            for found in checkpoint.existing(self.run_dir.checkpoints)
        ]

    def _rollouts(self) -> Iterator[Rollout]:
        # The queue has the ledger to itself, perhaps on another host.
        queue = self.queue_client()
        return map(unpack_rollout, queue.shuffled())
