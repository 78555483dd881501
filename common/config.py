"""One run's configuration: what may be set, in which range, and what follows from it.

A file is YAML; unknown keys are refused with the nearest known one. Importing
this module imports nothing heavy, so a bad file is refused at once.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from common.errors import UserError
from common.evaluation import EvaluatorSettings
from common.methods import METHODS, MethodSettings
from common.settings import AbsolutePath, Settings

Device = Literal["auto", "cpu", "cuda"]
Dtype = Literal["bfloat16", "float32"]


class KGFactSettings(Settings):
    """A generated corpus of novel facts (see ``common.corpora.kgfact``)."""

    domains: int = Field(5, ge=2, le=14, description="entity domains in use")
    entities: int = Field(10, ge=1, le=1000, description="trained entities a domain")
    distractors: int = Field(49, ge=0, description="most distractors beside a retrieval gold")
    seed: int = Field(0, ge=0)


class DataSettings(Settings):
    """Where the facts come from: exactly one of ``kgfact`` and ``facts``."""

    kgfact: KGFactSettings | None = None
    facts: AbsolutePath | None = Field(
        None, description="JSONL of question, answer, statement?, id?"
    )
    limit: int | None = Field(None, ge=1, description="use only the first facts")

    @model_validator(mode="after")
    def _one_source(self) -> DataSettings:
        if (self.kgfact is None) == (self.facts is None):
            raise ValueError("set exactly one of data.kgfact and data.facts")
        return self


class EngineSettings(Settings):
    """vLLM engines of rollout actors and evaluators."""

    device: Device = Field("auto", description="auto takes CUDA where there is a GPU")
    dtype: Dtype = "bfloat16"
    max_model_len: int = Field(1024, ge=32, description="context, tokens")
    max_batched_tokens: int = Field(2048, ge=32, description="tokens computed in one step")
    kv_cache_gib: int = Field(1, ge=1, description="KV cache on CPU, GiB an engine")
    num_blocks: int | None = Field(None, ge=4, description="KV blocks; overrides the size")
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1)
    tensor_parallel_size: int = Field(1, ge=1)
    enforce_eager: bool = Field(True, description="no torch.compile, no CUDA graphs")
    sessions: bool = Field(True, description="resumable requests; false: plain requests")
    trust_remote_code: bool = False

    @property
    def resolved_device(self) -> Literal["cpu", "cuda"]:
        """The device that ``auto`` stands for on this machine."""
        return resolve_device(self.device)


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
    on_exhausted: Literal["drop", "canonical", "keep"] = Field(
        "drop", description="what becomes of a fact whose attempts all failed"
    )
    score_targets: bool = Field(True, description="target NLL under the base")


class ReplaySettings(Settings):
    """The queue between actors and learner."""

    min_size: int = Field(1, ge=1, description="rollouts before the learner starts")
    max_bytes: int = Field(2**30, ge=2**16, description="rollouts held ahead of the learner")
    lease_s: float = Field(120.0, gt=0, description="work returns after this without a heartbeat")


class LearnerSettings(Settings):
    """DeepSpeed fine-tuning of the student."""

    ranks: int = Field(1, ge=1, le=4096)
    device: Device = "auto"
    dtype: Dtype = "bfloat16"
    zero_stage: int = Field(0, ge=0, le=3)
    epochs: int = Field(30, ge=1, description="times each rollout is trained")
    batch_size: int = Field(20, ge=1, description="rollouts a step, over all ranks")
    row_tokens: int = Field(1024, ge=32, description="tokens of one packed row")
    lr: float = Field(1e-5, gt=0, le=1)
    warmup_steps: int = Field(0, ge=0)
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = Field(1e-8, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    clip: float = Field(1.0, gt=0, description="largest gradient norm")
    checkpoint_every: int = Field(50, ge=1, description="steps between checkpoints")
    keep_states: int = Field(2, ge=1, description="checkpoints that can be resumed from")
    gradient_checkpointing: bool = False

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


class ClusterSettings(Settings):
    """Ray: where it is, and what a run may take of it."""

    address: str | None = Field(None, description="an existing cluster; none: start one here")
    object_store_mib: int = Field(256, ge=80, description="for a cluster started here")
    start_timeout_s: float = Field(120.0, gt=0, description="longest start of a role")
    stall_s: float = Field(
        600.0, gt=0, description="a role that does not answer, or not move, counts as stuck"
    )
    drain_s: float = Field(60.0, ge=0, description="time to finish work when scaled down")
    max_restarts: int = Field(
        3, ge=0, description="restarts of one role in a row, without progress, before giving up"
    )
    threads: int = Field(1, ge=1, description="OpenMP threads of one process on CPU")


class MetricsSettings(Settings):
    """The run's Prometheus endpoint."""

    host: str = Field("127.0.0.1", description="loopback unless you say otherwise")
    port: int = Field(0, ge=0, le=65535, description="0 takes any free port")


class RunConfig(Settings):
    """Everything that defines a run."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    seed: int = Field(0, ge=0, lt=2**63)
    model: str = Field("packaged", description="folder, Hub id, or 'packaged'")
    prompts: Literal["short-sentence", "kgfact", "reasoned"] = Field(
        "kgfact", description="preset of guidance, answer format and verdict"
    )
    method: Annotated[MethodSettings, Field(discriminator="name")]
    data: DataSettings
    engine: EngineSettings = EngineSettings()
    rollout: RolloutSettings = RolloutSettings()
    replay: ReplaySettings = ReplaySettings()
    learner: LearnerSettings = LearnerSettings()
    evaluator: EvaluatorSettings = EvaluatorSettings()
    cluster: ClusterSettings = ClusterSettings()
    metrics: MetricsSettings = MetricsSettings()


def resolve_device(device: Device) -> Literal["cpu", "cuda"]:
    """``auto`` is CUDA where the driver shows a GPU, else CPU; asks no runtime."""
    if device != "auto":
        return device
    has_gpu = Path("/proc/driver/nvidia/version").exists() or Path("/dev/nvidia0").exists()
    return "cuda" if has_gpu else "cpu"


def load(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a YAML file and apply ``a.b=c`` overrides.

    Relative paths in the file are taken from the working directory, as on a
    command line.

    Raises:
        UserError: unreadable file, not YAML, unknown key, value out of range.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not YAML: {error}") from error
    if not isinstance(raw, dict):
        raise UserError(f"{path}: a mapping of settings is expected, not {type(raw).__name__}")
    for override in overrides:
        apply(raw, override)
    return parse(raw, str(path))


def parse(raw: dict[str, Any], source: str) -> RunConfig:
    """Check a mapping; ``source`` names it in errors."""
    try:
        return RunConfig.model_validate(raw)
    except ValidationError as error:
        lines = [_explain(dict(item)) for item in error.errors()]
        raise UserError("\n".join(f"{source}: {line}" for line in lines)) from error


def dump(config: RunConfig) -> str:
    """The resolved configuration as YAML; :func:`load` reads it back."""
    text: str = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    return text


def is_writable(folder: Path) -> bool:
    """Whether a file could be made in ``folder`` or, where it is missing, beside it."""
    while not folder.exists():
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def apply(raw: dict[str, Any], override: str) -> None:
    """Set one ``a.b=c`` in a raw mapping."""
    path, equals, text = override.partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z_]+(\.[A-Za-z_]+)*", path):
        raise UserError(f"--set {override}: KEY=VALUE is expected, like learner.lr=1e-5")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"--set {override}: the value is not YAML") from error
    *parents, leaf = path.split(".")
    node = raw
    for parent in parents:
        child = node.setdefault(parent, {})
        if not isinstance(child, dict):
            raise UserError(f"--set {override}: {parent} is a value, not a section")
        node = child
    node[leaf] = value


def _explain(error: dict[str, Any]) -> str:
    # pydantic names the chosen method inside the location, which is no key of the file.
    location = [
        part
        for index, part in enumerate(error["loc"])
        if not (index == 1 and error["loc"][0] == "method" and part in METHODS)
    ]
    key = ".".join(str(part) for part in location)
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(location[-1]), _known_keys(location[:-1]), 1, 0.5)
        hint = f"; did you mean {'.'.join([*map(str, location[:-1]), near[0]])}?" if near else ""
        return f"{key}: no such setting{hint}"
    if error["type"] == "union_tag_invalid":
        return f"{key}.name: {error['ctx']['tag']!r} is not one of {', '.join(METHODS)}"
    if error["type"] == "missing":
        return f"{key}: this setting is required"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":
        return message if not key or key in message else f"{key}: {message}"
    return f"{key}: {message[0].lower()}{message[1:]}, not {error['input']!r}"


def _known_keys(location: Sequence[object]) -> list[str]:
    models: list[type[BaseModel]] = [RunConfig]
    for part in location:
        models = [
            found
            for model in models
            if str(part) in model.model_fields
            for found in _models_in(model.model_fields[str(part)].annotation)
        ]
    return [name for model in models for name in model.model_fields]


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
