"""The settings of one run, and what follows from several of its sections."""

from __future__ import annotations

from typing import Annotated

from pydantic import Discriminator, Field, Tag

from common.config.chain import Link
from common.config.evaluation import EvaluatorSettings
from common.config.learner import LearnerSettings, LoraSettings, PublishSettings
from common.config.sections import (
    ClusterSettings,
    EngineSettings,
    MetricsSettings,
    Placement,
    ReplaySettings,
    RolloutSettings,
)
from common.corpora.settings import DataSettings
from common.methods import MethodSettings, Mixed, StudentSampled
from common.prompts import Preset, PresetName
from common.settings import Settings

RunName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]

PromptSettings = Annotated[
    Annotated[PresetName, Tag("preset")] | Annotated[Preset, Tag("templates")],
    Discriminator(lambda value: "preset" if isinstance(value, str) else "templates"),
]


class RunSettings(Settings):
    """The sections of a run, and what follows from them together."""

    name: RunName
    seed: int = Field(0, ge=0, lt=2**63)
    model: str = Field("packaged", description="local folder, Hub id, or 'packaged'")
    continues: str | None = Field(
        None,
        min_length=1,
        description="a finished run, by name or folder, whose selected checkpoint is the model",
    )
    chain: tuple[Link, ...] = Field(
        (), description="recorded by 'up': the earlier runs that 'continues' leads to, first first"
    )
    train: bool = Field(True, description="false: build targets only, without a learner")
    prompts: PromptSettings = Field(
        "kgfact", description="a preset (guidance, answer format, verifier), or your own templates"
    )
    method: Annotated[MethodSettings, Field(discriminator="name")]
    data: DataSettings
    engine: EngineSettings = EngineSettings()
    rollout: RolloutSettings = RolloutSettings()
    replay: ReplaySettings = ReplaySettings()
    learner: LearnerSettings = LearnerSettings()
    publish: PublishSettings = PublishSettings()
    evaluator: EvaluatorSettings = EvaluatorSettings()
    cluster: ClusterSettings = ClusterSettings()
    metrics: MetricsSettings = MetricsSettings()

    @property
    def earlier(self) -> tuple[DataSettings, ...]:
        """The corpora of the chain's earlier runs, the first first."""
        return tuple(link.data for link in self.chain)

    @property
    def student(self) -> StudentSampled | None:
        """How the student draws its rollouts; None if the method does not train on those."""
        target = self.method.target(0)
        return target if isinstance(target, StudentSampled) else None

    @property
    def draws_mixed(self) -> bool:
        """Whether the targets are drawn from both conditionals."""
        return isinstance(self.method.target(0), Mixed)

    @property
    def student_adapter(self) -> LoraSettings | None:
        """The adapter that the student's engines apply to the base, if they do.

        They then hold the reference and the student at once.
        """
        lora, publish = self.learner.lora, self.publish
        if self.student is None or lora is None or publish.transport == "nccl":
            return None
        # vLLM's limit.
        return lora if publish.adapters and lora.rank <= 512 else None

    @property
    def exposures_per_rollout(self) -> int:
        """Times each rollout is trained; 1 if every epoch has new ones."""
        if not self.train:
            return 0
        return 1 if self.method.draws_every_epoch else self.learner.epochs

    @property
    def rollouts_per_fact(self) -> int:
        """Work items per fact: the draws of one epoch, or of all if every epoch has new ones."""
        epochs = self.learner.epochs if self.method.draws_every_epoch else 1
        return self.method.draws_per_epoch * epochs

    def num_work_items(self, facts: int) -> int:
        """Work items of so many facts.

        The student's are all trained, so it draws none beyond ``learner.max_steps``.
        """
        items = facts * self.rollouts_per_fact
        return items if self.student is None else self.learner.within_max_steps(items)

    @property
    def evaluator_engine(self) -> EngineSettings:
        """The engines of evaluators, which only generate and score."""
        own = self.evaluator.engine.model_dump(exclude_none=True)
        return self.engine.plain.model_copy(update=own)

    @property
    def closes_for_fisher(self) -> bool:
        """Whether evaluators close their engines while they compute the Fisher information."""
        fisher = self.evaluator.fisher
        if fisher is None or fisher.engine != "auto":
            return fisher is not None and fisher.engine == "close"
        return self.engine.resolved_device == "cuda" and fisher.device != "cpu"

    @property
    def needs_all_at_once(self) -> str:
        """Why the roles cannot take turns; empty if they can."""
        if self.student is not None:
            return f"method {self.method.name} draws with the weights that it trains"
        if self.learner.early_stop:
            return "learner.early_stop waits for measurements while it trains"
        return ""

    @property
    def needs_own_gpus(self) -> str:
        """Why the roles cannot share one GPU; empty if they can."""
        if self.engine.tensor_parallel_size > 1:
            size = self.engine.tensor_parallel_size
            return f"engine.tensor_parallel_size is {size}, which is GPUs of one engine"
        if self.train and self.learner.ranks > 1:
            return f"learner.ranks is {self.learner.ranks}, and NCCL wants a GPU for each"
        if self.student is not None and self.publish.transport == "nccl":
            return "publish.transport is nccl, which wants a GPU at either end"
        return ""

    @property
    def needs_one_gpu(self) -> str:
        """Why all roles must share one GPU, with one rollout actor; empty if they need not."""
        if self.student is not None and self.publish.transport == "ipc":
            return "publish.transport is ipc, from one process to another on the same GPU"
        return ""

    @property
    def num_processes(self) -> int:
        """Processes of all roles that compute."""
        ranks = self.learner.ranks if self.train else 0
        return self.rollout.actors + ranks + self.evaluator.actors

    @property
    def learner_share(self) -> float:
        """Share of a GPU's memory that the learner may use."""
        if self.cluster.placement != "shared":
            return 1.0
        drawing = self.rollout.actors * self.engine.gpu_memory_utilization
        measuring = self.evaluator.actors * self.evaluator_engine.gpu_memory_utilization
        return max(0.0, 1 - drawing - measuring)

    def num_gpus(self, placement: Placement | None = None) -> int:
        """GPUs in use at once, if every role computes on GPUs.

        Args:
            placement: None: the one that is set.
        """
        placement = placement or self.cluster.placement
        if placement == "shared":
            return 1
        each = self.engine.tensor_parallel_size
        ranks = self.learner.ranks if self.train else 0
        phases = (self.rollout.actors * each, ranks, self.evaluator.actors * each)
        return max(phases) if placement == "phases" else sum(phases)
