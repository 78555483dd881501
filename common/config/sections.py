"""Sections of a configuration: engines, rollouts, queue, cluster, metrics; see also ``learner``.

Each field gives its range and meaning; derived values are properties.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from common import hardware
from common.settings import AbsolutePath, Seconds, Settings
from common.verification.verifier import Mode

Device = Literal["auto", "cpu", "cuda"]
Dtype = Literal["auto", "bfloat16", "float32"]
Placement = Literal["auto", "exclusive", "phases", "shared"]


class EngineSettings(Settings):
    """vLLM engines of rollout actors and evaluators."""

    device: Device = Field(
        "auto", description="auto: CUDA if the installed torch can use a GPU, else CPU"
    )
    dtype: Dtype = Field(
        "auto", description="auto: bfloat16 on a device with units for it, else float32"
    )
    max_model_len: int = Field(2048, ge=32, description="context length, tokens")
    max_batched_tokens: int = Field(2048, ge=32, description="most tokens per engine step")
    kv_cache_gib: float | None = Field(
        None,
        gt=0,
        le=4096,
        description="KV cache of an engine, GiB a device; none: 1 on CPU, and on a GPU what "
        "gpu_memory_utilization leaves, unless roles share it",
    )
    num_blocks: int | None = Field(None, ge=4, description="KV blocks; overrides kv_cache_gib")
    gpu_memory_utilization: float = Field(
        0.9, gt=0, le=1, description="share of a GPU's memory that an engine may use"
    )
    tensor_parallel_size: int = Field(1, ge=1)
    enforce_eager: bool = Field(
        True, description="no torch.compile and no CUDA graphs: faster start, slower steps"
    )
    mixing: Literal["auto", "paired", "sessions", "portable"] = Field(
        "auto",
        description="how two sides draw one text: paired: two rows that step together; sessions: "
        "resumable requests that take turns; portable: plain requests that do; auto: sessions if "
        "tested with this vLLM version, else portable",
    )
    trust_remote_code: bool = False

    @property
    def resolved_device(self) -> hardware.Device:
        """The device that ``auto`` stands for on this machine."""
        return resolve_device(self.device)

    @property
    def resolved_dtype(self) -> hardware.Dtype:
        """The dtype that ``auto`` stands for on that device of this machine."""
        return resolve_dtype(self.dtype, self.resolved_device)

    @property
    def kv_cache_bytes(self) -> int | None:
        """KV cache on one device; None: the engine takes what is left of its share of the GPU."""
        on_cpu = self.resolved_device == "cpu"
        gib = 1.0 if self.kv_cache_gib is None and on_cpu else self.kv_cache_gib
        return None if gib is None else int(gib * 2**30)

    @property
    def plain(self) -> EngineSettings:
        """Of an engine whose requests never take turns: without what sessions cost them."""
        return self.model_copy(update={"mixing": "portable"})

    def shared_by(self, engines: int) -> EngineSettings:
        """The settings of each of ``engines`` engines of one process, on its device."""
        changes: dict[str, float] = {
            "gpu_memory_utilization": self.gpu_memory_utilization / engines
        }
        if self.kv_cache_gib is not None and self.resolved_device == "cuda":
            changes["kv_cache_gib"] = self.kv_cache_gib / engines
        return self.model_copy(update=changes)


class AutoscaleSettings(Settings):
    """Scale rollout actors by how long actors and learner wait for each other."""

    min: int = Field(1, ge=0, le=4096)
    max: int = Field(ge=1, le=4096)
    target_blocked_fraction: float = Field(
        0.1, ge=0, lt=1, description="largest share of a period that either side waits"
    )
    period_s: Seconds = Field(60.0, gt=0, description="seconds between decisions")

    @model_validator(mode="after")
    def _ordered(self) -> AutoscaleSettings:
        if self.min > self.max:
            raise ValueError(
                f"rollout.autoscale.min is {self.min}, more than rollout.autoscale.max {self.max}"
            )
        return self


class ScheduledCount(Settings):
    """A number of rollout actors from a given time on."""

    after_s: Seconds = Field(ge=0, description="seconds since the run started")
    actors: int = Field(ge=0, le=4096)


class RolloutSettings(Settings):
    """How rollout actors draw targets."""

    actors: int = Field(1, ge=1, le=4096)
    autoscale: AutoscaleSettings | None = None
    schedule: tuple[ScheduledCount, ...] = Field((), description="number of actors over time")
    slots: int = Field(16, ge=1, le=4096, description="attempts in flight per engine")
    max_tokens: int = Field(64, ge=1, description="longest target, tokens, stop token included")
    temperature: float = Field(0.0, ge=0, le=10)
    top_k: int = Field(0, ge=0, description="0: all tokens")
    top_p: float = Field(1.0, gt=0, le=1)
    max_retries: int = Field(8, ge=0, description="further attempts after the first fails")
    attempts_in_flight: int = Field(
        1, ge=1, le=64, description="concurrent attempts per fact while slots are free"
    )
    on_exhausted: Literal["drop", "expert", "canonical", "keep"] = Field(
        "drop",
        description="when all attempts of a fact fail: drop it, sample once from the expert alone, "
        "take the canonical answer, or keep the last attempt",
    )
    verify: Mode | None = Field(None, description="verifier; none: the prompt preset's")
    early_stop: bool = Field(True, description="end attempts that can no longer be verified")
    tree_tokens: int = Field(
        4096, ge=0, description="attempt tree at T = 0, tokens per fact; 0: off"
    )
    score_fraction: float = Field(
        0.25, ge=0, le=1, description="share of targets scored under the base"
    )
    speculative_tokens: int = Field(
        0,
        ge=0,
        le=64,
        description="n-gram draft tokens per step from the prompt; only at T = 0; 0: off",
    )

    @property
    def most_actors(self) -> int:
        """The largest number of actors at any time, unless a command changes it."""
        scaled = 0 if self.autoscale is None else self.autoscale.max
        return max(self.actors, scaled, *(later.actors for later in self.schedule))

    @model_validator(mode="after")
    def _speculation_needs_temperature_0(self) -> RolloutSettings:
        if self.speculative_tokens and self.temperature > 0:
            raise ValueError(
                f"rollout.speculative_tokens is {self.speculative_tokens} and rollout.temperature "
                f"{self.temperature:g}: the number of accepted draft tokens changes how many "
                "random numbers a step draws, so rollouts would not be reproducible; set one of "
                "them to 0"
            )
        return self


class ReplaySettings(Settings):
    """The queue between actors and learner; see :func:`live_change` for changes during a run."""

    min_size: int = Field(1, ge=1, description="rollouts needed before the learner starts")
    max_bytes: int = Field(2**30, ge=2**16, description="bytes of rollouts ahead of the learner")
    samples_per_insert: float | None = Field(
        None, gt=0, le=1e6, description="trained examples per new rollout; none: no limit"
    )
    tolerance: float = Field(
        100.0, ge=0, le=1e9, description="examples that either side may be ahead of that rate"
    )
    max_lag: int | None = Field(
        None, ge=0, description="most optimizer steps between a rollout's weights and its training"
    )
    first_epoch: Literal["arrival", "work"] = Field(
        "arrival",
        description="order of the first epoch; work: the facts' order, the same after any delay or "
        "restart, but a slow fact holds up the rest",
    )
    poison_after: int = Field(
        3, ge=1, description="actors that die on a fact alone before it is quarantined"
    )
    lease_s: Seconds = Field(120.0, gt=0, description="lease time without a heartbeat, s")


class ClusterSettings(Settings):
    """Ray: its address, and the resources that a run may use."""

    address: str | None = Field(
        None, description="an existing cluster; none: start one on this machine"
    )
    placement: Placement = Field(
        "auto",
        description="exclusive: each process has its own GPUs; phases: draw, then train, then "
        "evaluate, each with all GPUs; shared: all at once on one GPU, each with a part of its "
        "memory; auto: exclusive where there are enough, else phases, else shared",
    )
    autoscales: bool = Field(
        False,
        description="a joined cluster adds nodes when a run asks for them, so do not refuse a run "
        "for GPUs that it does not have yet",
    )
    dedicated: bool = Field(
        False, description="place a role only on nodes with the Ray resource mixsd_ROLE"
    )
    hand_on: bool = Field(
        True,
        description="once all targets are drawn, start evaluators on the GPUs of rollout actors; "
        "only with placement exclusive and without dedicated nodes",
    )
    object_store_mib: int = Field(
        256, ge=80, description="object store of a cluster started here, MiB"
    )
    start_timeout_s: Seconds | None = Field(
        None,
        gt=0,
        description="timeout of the start of a role, s; none: two minutes, and more for a large "
        "model, CUDA graphs and offload",
    )
    stall_s: Seconds = Field(
        600.0, gt=0, description="seconds without an answer or progress until a role is stuck"
    )
    drain_s: Seconds = Field(60.0, ge=0, description="seconds to finish work when scaled down")
    max_restarts: int = Field(
        5, ge=0, description="consecutive restarts of a role without progress before the run fails"
    )
    threads: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto",
        description="threads per process on CPU; auto: the cores, at most 16, divided by the "
        "processes of the role",
    )

    @property
    def patience_s(self) -> float:
        """Timeout of the start of a role; where nothing is known of it, two minutes."""
        return self.start_timeout_s or 120.0


class MetricsSettings(Settings):
    """The address of the run's Prometheus endpoint and status page."""

    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0: all")
    port: int = Field(0, ge=0, le=65535, description="0: any free port")
    targets: AbsolutePath | None = Field(
        None, description="folder that lists live runs; none: .prometheus/targets beside the runs"
    )


def resolve_device(device: Device) -> hardware.Device:
    """What ``auto`` stands for on this machine."""
    return hardware.detect().device if device == "auto" else device


def resolve_dtype(dtype: Dtype, device: hardware.Device) -> hardware.Dtype:
    """What ``auto`` stands for on ``device`` of this machine."""
    return hardware.detect().dtype(device) if dtype == "auto" else dtype
