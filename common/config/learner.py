"""Sections of a configuration: the learner, its adapters, and the weights that it publishes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from common import hardware
from common.config.sections import Device, Dtype, resolve_device, resolve_dtype
from common.settings import Seconds, Settings

# Backends of vLLM's weight transfer.
Transfer = Literal["nccl", "ipc"]
# Decay of a running mean.
Decay = Annotated[float, Field(ge=0, lt=1)]

# Names of linear layers in the families that the learner trains.
ATTENTION = ("q_proj", "k_proj", "v_proj", "qkv_proj", "o_proj", "dense")
MLP = ("gate_proj", "up_proj", "gate_up_proj", "down_proj", "fc1", "fc2")


class LoraSettings(Settings):
    """Low-rank adapters instead of full fine-tuning; requires the package peft."""

    rank: int = Field(16, ge=1, le=4096)
    alpha: float = Field(32.0, gt=0, description="scales the update by alpha / rank")
    targets: Literal["all-linear", "attention", "mlp"] | tuple[str, ...] = Field(
        "all-linear",
        description="linear layers that are adapted: all but the head, those of attention, those "
        "of the MLP, or suffixes of their names",
    )

    @property
    def modules(self) -> Literal["all-linear"] | tuple[str, ...]:
        """Suffixes of the names of adapted layers, in every family that the learner trains."""
        if self.targets == "attention":
            return ATTENTION
        return MLP if self.targets == "mlp" else self.targets


class LearnerSettings(Settings):
    """DeepSpeed fine-tuning of the student."""

    ranks: int = Field(1, ge=1, le=4096)
    device: Device = Field("auto", description="as engine.device")
    dtype: Dtype = Field("auto", description="as engine.dtype")
    zero_stage: int = Field(0, ge=0, le=3)
    epochs: int = Field(30, ge=1, description="number of times each rollout is trained")
    max_steps: int | None = Field(
        None,
        ge=1,
        description="training ends after this many optimizer steps; none: once every rollout is "
        "trained in every epoch",
    )
    batch_size: int = Field(20, ge=1, description="rollouts per step, over all ranks")
    pack: bool = Field(True, description="pack several rollouts into a row; false: one per row")
    row_tokens: int = Field(2048, ge=32, description="tokens per packed row")
    micro_batch: int = Field(1, ge=1, le=4096, description="rows per forward pass")
    share_prompts: bool = Field(
        True, description="compute a shared prompt prefix once per row; requires pack"
    )
    offload: Literal["none", "optimizer", "parameters"] = Field(
        "none", description="with a GPU, keep in CPU memory: the optimizer state, or weights too"
    )
    lr: float = Field(1e-5, gt=0, le=1)
    warmup_steps: int = Field(0, ge=0)
    schedule: Literal["constant", "linear", "cosine", "wsd"] = Field(
        "constant", description="after warm-up; wsd: constant, then a linear decay"
    )
    decay_share: float = Field(0.1, gt=0, le=1, description="wsd: share of steps in the decay")
    betas: tuple[Decay, Decay] = (0.9, 0.95)
    eps: float = Field(1e-8, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    weight_decay_on: Literal["matrices", "all"] = Field(
        "matrices", description="weights that decay; all: norms and biases too"
    )
    clip: float = Field(1.0, gt=0, description="gradient norm is clipped to this")
    checkpoint_every: int = Field(
        50, ge=1, description="steps between checkpoints that can be resumed"
    )
    export_every: int | None = Field(
        None,
        ge=1,
        description="steps between checkpoints that are only exported, to be measured; none: no "
        "others than those that can be resumed",
    )
    keep_states: int = Field(2, ge=1, description="newest checkpoints that can be resumed")
    keep_exports: int | None = Field(
        None,
        ge=1,
        description="exported checkpoints kept; too few and evaluators miss some; none: all",
    )
    average: float | None = Field(
        None, gt=0, lt=1, description="decay of a moving average of the weights, which is exported"
    )
    lora: LoraSettings | None = Field(
        None, description="train adapters only; exports the merged model, and adapter/ alone"
    )
    max_skipped: int = Field(
        3, ge=0, description="consecutive steps with a non-finite gradient before the run fails"
    )
    early_stop: bool = Field(
        False,
        description="stop after the first peak of recall; see evaluator.patience and "
        "evaluator.min_delta",
    )
    tensorboard: bool = Field(False, description="write event files to the run's tensorboard/")
    wandb: str | None = Field(None, min_length=1, description="Weights & Biases project to log to")
    gradient_checkpointing: bool = Field(
        False, description="recompute activations in the backward pass: less memory, 1/3 slower"
    )
    compile: bool = Field(
        False,
        description="compile every layer with torch.compile: a slow first step, then fewer and "
        "larger kernels; not run on a GPU",
    )

    @property
    def resolved_device(self) -> hardware.Device:
        """The device that ``auto`` stands for on this machine."""
        return resolve_device(self.device)

    @property
    def resolved_dtype(self) -> hardware.Dtype:
        """The dtype that ``auto`` stands for on that device of this machine."""
        return resolve_dtype(self.dtype, self.resolved_device)

    def has_state(self, step: int) -> bool:
        """Whether the checkpoint after ``step`` can be resumed; the last one always can."""
        return step % self.checkpoint_every == 0

    def has_checkpoint(self, step: int) -> bool:
        """Whether there is a checkpoint after ``step``, of either kind; the last step has one."""
        exported = self.export_every is not None and step % self.export_every == 0
        return exported or self.has_state(step)

    @property
    def interval(self) -> int:
        """Steps between checkpoints, of either kind."""
        return min(self.checkpoint_every, self.export_every or self.checkpoint_every)

    def within_max_steps(self, exposures: int) -> int:
        """As many of ``exposures`` as ``max_steps`` full batches have."""
        return (
            exposures
            if self.max_steps is None
            else min(exposures, self.max_steps * self.batch_size)
        )

    @property
    def teacher_is_base(self) -> bool:
        """Whether a teacher in the learner is the student without adapters, and no copy."""
        return self.lora is not None and self.zero_stage < 3

    @model_validator(mode="after")
    def _ranks_share_a_batch(self) -> LearnerSettings:
        if self.ranks > self.batch_size:
            raise ValueError(
                f"learner.ranks is {self.ranks}, more than learner.batch_size {self.batch_size}; "
                "every rank needs at least one rollout per step; lower ranks or raise batch_size"
            )
        return self

    @model_validator(mode="after")
    def _compiled_layers_have_their_weights(self) -> LearnerSettings:
        if self.compile and self.zero_stage == 3:
            raise ValueError(
                "learner.compile is true, but at learner.zero_stage 3 DeepSpeed gathers weights "
                "while a layer runs; set compile to false, or zero_stage to 2 or less"
            )
        return self

    @model_validator(mode="after")
    def _offload_has_something_to_move(self) -> LearnerSettings:
        least = {"none": 0, "optimizer": 1, "parameters": 3}[self.offload]
        if self.zero_stage < least:
            raise ValueError(
                f"learner.offload is {self.offload}, which needs learner.zero_stage {least} "
                f"or higher, not {self.zero_stage}; raise it, or set offload to none"
            )
        if self.offload != "none" and self.device == "cpu":
            raise ValueError(
                f"learner.offload is {self.offload}, but learner.device is cpu: everything is "
                "in CPU memory already; set offload to none"
            )
        return self


class PublishSettings(Settings):
    """How the learner sends its weights to the engines that draw the student's rollouts."""

    every: int = Field(1, ge=1, description="optimizer steps between two versions of the weights")
    deadline_s: Seconds = Field(
        120.0, gt=0, description="timeout of writing a version, and of loading one, seconds"
    )
    transport: Literal["memory", "nccl", "ipc"] = Field(
        "memory",
        description="memory: a file in shared memory or the run's folder; nccl: GPU to GPU; ipc: "
        "between processes of one GPU, see cluster.placement",
    )
    adapters: bool = Field(
        True,
        description="with learner.lora, send the adapters alone; false: the merged weights, for "
        "models whose adapters vLLM does not apply. By NCCL they are always merged",
    )

    @property
    def transfer(self) -> Transfer | None:
        """The backend of vLLM that brings the weights to the engines; None: files do."""
        return None if self.transport == "memory" else self.transport
