"""Replaces ``auto`` by what it stands for, once, so that every process of a run agrees."""

from __future__ import annotations

from itertools import product
from typing import Any

from common.config.run_config import RunConfig, apply, parse
from common.config.sections import Placement
from common.hardware import Hardware

# What a start decides by the plan unless it is set, besides what is auto.
_FIXED_AT_START = (
    ("cluster", "start_timeout_s"),
    ("engine", "kv_cache_gib"),
    ("engine", "gpu_memory_utilization"),
    ("evaluator.engine", "kv_cache_gib"),
    ("evaluator.engine", "gpu_memory_utilization"),
)


def is_settled(config: RunConfig) -> bool:
    """Whether no device, dtype or placement is ``auto``."""
    return not any(_open(config.model_dump(mode="json")))


def settle(config: RunConfig, hardware: Hardware, recorded: RunConfig | None = None) -> RunConfig:
    """``config`` with every ``auto`` device, dtype and placement replaced.

    Args:
        config: as it was written.
        hardware: where the run will take place.
        recorded: of the run, if it exists: what it was started with stays, on any machine.

    Raises:
        UserError: a setting does not fit to the device that was chosen.
    """
    whole = config.model_dump(mode="json")
    old = recorded.model_dump(mode="json") if recorded is not None else {}
    # Settings that nobody made stay out.
    raw = config.model_dump(mode="json", exclude_unset=True)
    for section, key in _FIXED_AT_START:
        value = (_section(old, section) or {}).get(key)
        if value is not None and (_section(raw, section) or {}).get(key) is None:
            apply(raw, f"{section}.{key}={value}")
    for section, key in _open(whole):
        chosen = (_section(old, section) or {}).get(key, "auto")
        mine = _section(whole, section)
        if chosen == "auto" and key == "dtype":
            chosen = hardware.dtype(mine["device"])
        elif chosen == "auto" and key == "placement":
            computes = {whole["engine"]["device"], whole["learner"]["device"]}
            chosen = placement(config, hardware.gpus if computes == {"cuda"} else 0)
        elif chosen == "auto":
            # An evaluator has the engine's device, and no other.
            in_evaluator = section == "evaluator.fisher"
            chosen = whole["engine"]["device"] if in_evaluator else hardware.device
        mine[key] = chosen
        apply(raw, f"{section}.{key}={chosen}")
    return parse(raw, f"run {config.name}")


def placement(config: RunConfig, gpus: int) -> Placement:
    """``exclusive`` where there are GPUs enough, else ``phases``, else ``shared`` if it can be.

    ``shared`` also where it must be. In turns every role has the whole GPU, and nothing has to be
    divided well.

    Args:
        config: of the run.
        gpus: that there are; 0: on a CPU, or unknown.
    """
    if config.needs_one_gpu:
        return "shared"
    enough = gpus == 0 or config.num_gpus("exclusive") <= gpus
    if enough:
        return "exclusive"
    if not config.needs_all_at_once and config.num_gpus("phases") <= gpus:
        return "phases"
    return "exclusive" if config.needs_own_gpus else "shared"


def _open(raw: dict[str, Any]) -> list[tuple[str, str]]:
    """(section, key) of every ``auto``, each device before the dtype that follows from it."""
    devices = product(("engine", "learner", "evaluator.fisher"), ("device", "dtype"))
    return [
        (section, key)
        for section, key in (*devices, ("cluster", "placement"))
        if (_section(raw, section) or {}).get(key) == "auto"
    ]


def _section(raw: dict[str, Any], name: str) -> Any:
    node: Any = raw
    for part in name.split("."):
        node = (node or {}).get(part)
    return node
