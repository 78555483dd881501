"""Sections of a configuration: engines, rollouts, queue, learner, cluster, metrics.

Each field says its range and meaning; what follows from fields is a property.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from common.settings import AbsolutePath, Settings
from common.verification.verifier import Mode

Device = Literal["auto", "cpu", "cuda"]
Dtype = Literal["bfloat16", "float32"]


class EngineSettings(Settings):
    """vLLM engines of rollout actors and evaluators."""

    device: Device = Field("auto", description="auto takes CUDA where there is a GPU")
    dtype: Dtype = "bfloat16"
    max_model_len: int = Field(2048, ge=32, description="context, tokens")
    max_batched_tokens: int = Field(2048, ge=32, description="tokens computed in one step")
    kv_cache_gib: int = Field(1, ge=1, description="KV cache on CPU, GiB an engine")
    num_blocks: int | None = Field(None, ge=4, description="KV blocks; overrides the size")
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1)
    tensor_parallel_size: int = Field(1, ge=1)
    enforce_eager: bool = Field(
        True, description="no torch.compile, no CUDA graphs: starts sooner, runs slower"
    )
    sessions: bool | Literal["auto"] = Field(
        "auto", description="resumable requests; auto: where this vLLM's were tested"
    )
    trust_remote_code: bool = False

    @property
    def resolved_device(self) -> Literal["cpu", "cuda"]:
        """The device that ``auto`` stands for on this machine."""
        return resolve_device(self.device)

    def shared_by(self, engines: int) -> EngineSettings:
        """Those of each of so many engines on one device."""
        share = self.gpu_memory_utilization / engines
        return self.model_copy(update={"gpu_memory_utilization": share})


class AutoscaleSettings(Settings):
    """Rollout actors by who waits for whom."""

    min: int = Field(1, ge=0, le=4096)
    max: int = Field(ge=1, le=4096)
    target_blocked_fraction: float = Field(
        0.1, ge=0, lt=1, description="share of a period that a side may wait"
    )
    period_s: float = Field(60.0, gt=0, description="seconds between decisions")

    @model_validator(mode="after")
    def _ordered(self) -> AutoscaleSettings:
        if self.min > self.max:
            raise ValueError(
                f"rollout.autoscale.min is {self.min}, more than rollout.autoscale.max {self.max}"
            )
        return self


class ScheduledCount(Settings):
    """A number of rollout actors from a time of the run on."""

    after_s: float = Field(ge=0, description="seconds since the run began")
    actors: int = Field(ge=0, le=4096)


class RolloutSettings(Settings):
    """How targets are drawn."""

    actors: int = Field(1, ge=1, le=4096)
    autoscale: AutoscaleSettings | None = None
    schedule: tuple[ScheduledCount, ...] = Field((), description="actors by time")
    slots: int = Field(16, ge=1, le=4096, description="attempts in flight in one engine")
    max_tokens: int = Field(64, ge=1, description="longest target, stop token included")
    temperature: float = Field(0.0, ge=0, le=10)
    top_k: int = Field(0, ge=0, description="0 keeps all")
    top_p: float = Field(1.0, gt=0, le=1)
    max_retries: int = Field(8, ge=0, description="further attempts after a failed one")
    attempts_in_flight: int = Field(
        1, ge=1, le=64, description="attempts of one fact at once where slots are free"
    )
    on_exhausted: Literal["drop", "expert", "canonical", "keep"] = Field(
        "drop",
        description="a fact whose attempts all failed: no target, one more attempt by the expert "
        "alone, the canonical answer, or the last attempt as it is",
    )
    verify: Mode | None = Field(None, description="verdict; none: that of the prompt preset")
    early_stop: bool = Field(True, description="end attempts whose verdict is settled")
    tree_tokens: int = Field(4096, ge=0, description="tokens remembered a fact at T = 0; 0: none")
    score_fraction: float = Field(0.25, ge=0, le=1, description="targets scored under the base")
    speculative_tokens: int = Field(
        0,
        ge=0,
        le=64,
        description="tokens that vLLM guesses at once from what stands in the prompt (n-gram)",
    )

    @model_validator(mode="after")
    def _guesses_need_temperature_0(self) -> RolloutSettings:
        if self.speculative_tokens and self.temperature > 0:
            raise ValueError(
                f"rollout.speculative_tokens is {self.speculative_tokens} and rollout.temperature "
                f"{self.temperature:g}: how many guesses hold decides how many random numbers a "
                "step draws, so rollouts would not repeat; set one of the two to 0"
            )
        return self


class ReplaySettings(Settings):
    """The queue between actors and learner; :func:`live_change` says what may change in a run."""

    min_size: int = Field(1, ge=1, description="rollouts before the learner starts")
    max_bytes: int = Field(2**30, ge=2**16, description="rollouts held ahead of the learner")
    samples_per_insert: float | None = Field(
        None, gt=0, le=1e6, description="exposures per rollout while rollouts come; none: any"
    )
    tolerance: float = Field(
        100.0, ge=0, le=1e9, description="exposures by which either side may be ahead of that"
    )
    max_lag: int | None = Field(
        None, ge=0, description="optimizer steps by which a rollout's weights may be behind"
    )
    first_epoch: Literal["arrival", "work"] = Field(
        "arrival",
        description="order of the first epoch; work: the facts' own, which no delay or restart "
        "changes, though a slow fact holds up the rest",
    )
    poison_after: int = Field(
        3, ge=1, description="actors that may die on a fact alone before it is quarantined"
    )
    lease_s: float = Field(120.0, gt=0, description="work returns after this without a heartbeat")


class LoraSettings(Settings):
    """Low-rank adapters instead of full fine-tuning; needs the package peft."""

    rank: int = Field(16, ge=1, le=4096)
    alpha: float = Field(32.0, gt=0, description="the update is scaled by alpha / rank")
    targets: Literal["all-linear"] | tuple[str, ...] = Field(
        ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        description="ends of the names of adapted linear layers",
    )


class LearnerSettings(Settings):
    """DeepSpeed fine-tuning of the student."""

    ranks: int = Field(1, ge=1, le=4096)
    device: Device = "auto"
    dtype: Dtype = "bfloat16"
    zero_stage: int = Field(0, ge=0, le=3)
    epochs: int = Field(30, ge=1, description="times each rollout is trained")
    batch_size: int = Field(20, ge=1, description="rollouts a step, over all ranks")
    pack: bool = Field(True, description="several rollouts a row; false: one")
    row_tokens: int = Field(2048, ge=32, description="tokens of one packed row")
    micro_batch: int = Field(1, ge=1, le=4096, description="rows of one forward pass")
    share_prompts: bool = Field(
        True, description="rollouts of one prompt in a row pay for it once; needs pack"
    )
    offload: Literal["none", "optimizer", "parameters"] = Field(
        "none", description="kept in CPU memory on a GPU: optimizer state, or weights too"
    )
    lr: float = Field(1e-5, gt=0, le=1)
    warmup_steps: int = Field(0, ge=0)
    schedule: Literal["constant", "linear", "cosine", "wsd"] = Field(
        "constant", description="after warm-up; wsd holds the peak, then falls linearly"
    )
    decay_share: float = Field(0.1, gt=0, le=1, description="wsd: part of the run that it falls")
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = Field(1e-8, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    clip: float = Field(1.0, gt=0, description="largest gradient norm")
    checkpoint_every: int = Field(50, ge=1, description="steps between checkpoints")
    keep_states: int = Field(2, ge=1, description="checkpoints that can be resumed from")
    keep_exports: int | None = Field(
        None, ge=1, description="checkpoints kept at all; none: every one. Give the evaluator time"
    )
    average: float | None = Field(
        None, gt=0, lt=1, description="decay of a moving average of the weights, exported instead"
    )
    lora: LoraSettings | None = Field(
        None, description="train adapters only; exported merged, and alone in adapter/"
    )
    max_skipped: int = Field(
        3, ge=0, description="steps in a row skipped for a non-finite gradient before giving up"
    )
    early_stop: bool = Field(
        False,
        description="end training once recall has passed its first peak, by evaluator.patience "
        "and evaluator.min_delta",
    )
    tensorboard: bool = Field(False, description="write event files under the run's tensorboard/")
    wandb: str | None = Field(None, min_length=1, description="Weights & Biases project to log to")
    gradient_checkpointing: bool = Field(
        False, description="recompute activations in the backward pass: less memory, a third slower"
    )

    @property
    def resolved_device(self) -> Literal["cpu", "cuda"]:
        """The device that ``auto`` stands for on this machine."""
        return resolve_device(self.device)

    @model_validator(mode="after")
    def _ranks_share_a_batch(self) -> LearnerSettings:
        if self.ranks > self.batch_size:
            raise ValueError(
                f"learner.ranks is {self.ranks}, more than learner.batch_size {self.batch_size}; "
                "every rank needs at least one rollout a step"
            )
        return self

    @model_validator(mode="after")
    def _offload_has_something_to_move(self) -> LearnerSettings:
        least = {"none": 0, "optimizer": 1, "parameters": 3}[self.offload]
        if self.zero_stage < least:
            raise ValueError(
                f"learner.offload is {self.offload}, which needs learner.zero_stage {least} "
                f"or higher, not {self.zero_stage}"
            )
        if self.offload != "none" and self.device == "cpu":
            raise ValueError(
                f"learner.offload is {self.offload}, but learner.device is cpu: everything is "
                "in CPU memory already; leave offload at none"
            )
        return self


class PublishSettings(Settings):
    """How the learner's weights reach the engines that draw the student's rollouts."""

    every: int = Field(1, ge=1, description="optimizer steps between two versions")
    deadline_s: float = Field(
        120.0, gt=0, description="longest time to write a version, and to load one"
    )
    transport: Literal["memory", "nccl"] = Field(
        "memory",
        description="memory: a file in shared memory, or the run's folder; nccl: from GPU to GPU",
    )


class ClusterSettings(Settings):
    """Ray: where it is, and what a run may take of it."""

    address: str | None = Field(None, description="an existing cluster; none: start one here")
    dedicated: bool = Field(
        False, description="a role only on nodes that offer the Ray resource mixsd_ROLE"
    )
    object_store_mib: int = Field(256, ge=80, description="for a cluster started here")
    start_timeout_s: float = Field(120.0, gt=0, description="longest start of a role")
    stall_s: float = Field(
        600.0, gt=0, description="a role that does not answer, or not move, counts as stuck"
    )
    drain_s: float = Field(60.0, ge=0, description="time to finish work when scaled down")
    max_restarts: int = Field(
        5, ge=0, description="restarts of one role in a row, without progress, before giving up"
    )
    threads: int = Field(1, ge=1, description="OpenMP threads of one process on CPU")


class MetricsSettings(Settings):
    """The run's address for Prometheus and for the status page."""

    host: str = Field("127.0.0.1", description="loopback unless you say otherwise")
    port: int = Field(0, ge=0, le=65535, description="0 takes any free port")
    targets: AbsolutePath | None = Field(
        None, description="where live runs list themselves; none: .prometheus/targets of the runs"
    )


def resolve_device(device: Device) -> Literal["cpu", "cuda"]:
    """``auto`` is CUDA where the driver shows a GPU, else CPU; asks no runtime."""
    if device != "auto":
        return device
    has_gpu = Path("/proc/driver/nvidia/version").exists() or Path("/dev/nvidia0").exists()
    return "cuda" if has_gpu else "cpu"
