"""Why a run does not fit, and the nearest change of settings that makes it fit."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from common.config.learner import LoraSettings
from common.config.run_config import RunConfig, parse
from common.errors import UserError
from deploy.planning.architecture import Architecture
from deploy.planning.devices import Device
from deploy.planning.memory import needs
from deploy.planning.workload import Workload

# Setting (dotted) -> value.
Changes = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine for a run. ``gpus``: how many it has; None: as many as requested."""

    architecture: Architecture
    device: Device
    workload: Workload
    gpus: int | None = None

    def problems(self, config: RunConfig) -> dict[str, str]:
        """What does not fit: role -> a sentence. Empty if everything fits."""
        found = {
            need.role: need.problem
            for need in needs(config, self.architecture, self.device, self.workload)
            if not need.fits
        }
        tp, heads = config.engine.tensor_parallel_size, self.architecture.heads
        if heads % tp:
            found["heads"] = f"engine.tensor_parallel_size={tp} does not divide {heads} heads"
        used = config.num_gpus()
        if not self.device.is_cpu and self.gpus is not None and used > self.gpus:
            found["gpus"] = f"the roles need {used} GPUs, there are {self.gpus}"
        return found

    def nearest(self, config: RunConfig) -> Changes | None:
        """The first change that makes everything fit; {} if it does, None if none was found.

        Problems are solved one after another, each by the first remedy that solves it
        without a new problem. A remedy may exceed the GPUs only if nothing else works;
        other roles then give some up.
        """
        changes: Changes = {}
        for _ in range(8):
            current = changed(config, changes)
            assert current is not None
            problems = self.problems(current)
            if not problems:
                return changes
            role = next(iter(problems))
            remedy = self._remedy(current, role, set(problems))
            if remedy is None:
                return None
            changes |= remedy
        return None

    def _remedy(self, config: RunConfig, role: str, known: set[str]) -> Changes | None:
        for allowed in (known, known | {"gpus"}):
            for candidate in _remedies(config, role, self):
                tried = changed(config, candidate)
                if tried is None:
                    continue
                left = set(self.problems(tried))
                if role not in left and left <= allowed:
                    return candidate
        return None


def changed(config: RunConfig, changes: Changes) -> RunConfig | None:
    """The configuration with some settings replaced; None if the result is invalid."""
    raw = config.model_dump(mode="json")
    for key, value in changes.items():
        *sections, name = key.split(".")
        node = raw
        for section in sections:
            node = node[section]
        node[name] = value
    try:
        return parse(raw, "changed")
    except UserError:
        return None


def _remedies(config: RunConfig, role: str, machine: Machine) -> Iterator[Changes]:
    """Changes that may help ``role``, the least intrusive first."""
    if role == "evaluator Fisher":
        if not config.closes_for_fisher:
            yield {"evaluator.fisher.engine": "close"}
        yield {"evaluator.fisher.device": "cpu"}
    elif role.startswith(("rollout", "evaluator")):
        yield from _engine(config, role, machine)
    elif role == "learner":
        yield from _learner(config, machine)
    elif role == "heads":
        yield from _sizes(config, machine)
    else:
        # Too little memory or too few GPUs in total: fewer actors, not all at once, less of all.
        for actors in range(config.rollout.actors - 1, 0, -1):
            yield {"rollout.actors": actors}
        yield {"cluster.placement": "phases"}
        yield {"cluster.placement": "shared"}
        if role == "GPU":
            yield from _learner(config, machine)
            for slots in _halves(min(config.rollout.slots, config.evaluator.slots)):
                yield {"rollout.slots": slots, "evaluator.slots": slots}
        for ranks in range(config.learner.ranks - 1, 0, -1):
            yield {"rollout.actors": 1, "learner.ranks": ranks}
        yield {"rollout.actors": 1, "learner.ranks": 1, "evaluator.actors": 0}


def _engine(config: RunConfig, role: str, machine: Machine) -> Iterator[Changes]:
    section = role.split()[0]
    slots = config.rollout.slots if section == "rollout" else config.evaluator.slots
    if role.endswith("KV cache") and config.engine.num_blocks is None:
        least = math.floor(config.engine.kv_cache_gib or 1) + 1
        for gib in range(least, 4 * least):
            yield {"engine.kv_cache_gib": gib}
    for fewer in range(slots - 1, 0, -1):
        yield {f"{section}.slots": fewer}
    for tokens in (1024, 512):
        if tokens < config.engine.max_batched_tokens:
            yield {"engine.max_batched_tokens": tokens}
    yield from _sizes(config, machine)


def _halves(count: int) -> Iterator[int]:
    while count > 1:
        count //= 2
        yield count


def _sizes(config: RunConfig, machine: Machine) -> Iterator[Changes]:
    for size in (1, 2, 4, 8):
        if size > config.engine.tensor_parallel_size or machine.architecture.heads % (
            config.engine.tensor_parallel_size
        ):
            yield {"engine.tensor_parallel_size": size}


def _learner(config: RunConfig, machine: Machine) -> Iterator[Changes]:
    settings = config.learner
    stages = [{"learner.zero_stage": stage} for stage in range(settings.zero_stage + 1, 4)]
    stages = stages if settings.ranks > 1 else []
    less: list[Changes] = []
    if not settings.gradient_checkpointing:
        less.append({"learner.gradient_checkpointing": True})
    longest = max(item.row_tokens for item in machine.workload.items)
    short = max(32, -(-longest // 32) * 32)
    if short < settings.row_tokens:
        less.append({**(less[0] if less else {}), "learner.row_tokens": short})
    yield from stages
    yield from less
    yield from ({**stage, **change} for change in less for stage in stages)
    for ranks in range(settings.ranks + 1, settings.batch_size + 1):
        more: Changes = {"learner.ranks": ranks}
        for stage in range(settings.zero_stage, 4):
            sharded = {"learner.zero_stage": stage} if stage != settings.zero_stage else {}
            yield more | sharded
            yield from (more | sharded | change for change in less)
    if not machine.device.is_cpu:
        for stage, offload in ((2, "optimizer"), (3, "parameters")):
            moved: Changes = {
                "learner.zero_stage": max(stage, settings.zero_stage),
                "learner.offload": offload,
            }
            yield moved
            yield from (moved | change for change in less)
    if settings.lora is None:
        adapters: Changes = {"learner.lora": {"rank": LoraSettings().rank}}
        yield adapters
        yield from (adapters | change for change in less)
