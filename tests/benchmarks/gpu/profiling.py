"""What the GPU does during a training step, from a trace of torch's profiler. Not run on a GPU."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.hardware import Device

_ON_GPU = frozenset({"kernel", "gpu_memcpy", "gpu_memset"})
_CALLS = frozenset({"cuda_runtime", "cuda_driver"})


@dataclass(frozen=True, slots=True)
class Activity:
    """Seconds in which the GPU works, and the number of kernels that are launched."""

    busy_s: float
    launches: int


def profile(step: Callable[[], object], device: Device, folder: Path) -> Activity:
    """The activity of one call of ``step``, which returns when the device is done."""
    from torch import profiler

    activity = profiler.ProfilerActivity.CUDA if device == "cuda" else profiler.ProfilerActivity.CPU
    with profiler.profile(activities=[activity]) as found:
        step()
    path = folder / "trace.json"
    found.export_chrome_trace(str(path))
    events = json.loads(path.read_text())["traceEvents"]
    path.unlink()
    return activity_of(events)


def activity_of(events: Iterable[dict[str, Any]]) -> Activity:
    """The activity in the events of a trace: ``cat``, ``name``, ``ts`` and ``dur`` (µs)."""
    spans, launches = [], 0
    for event in events:
        category = event.get("cat")
        if category in _ON_GPU:
            spans.append((event["ts"], event["ts"] + event["dur"]))
        elif category in _CALLS:
            launches += "Launch" in event["name"]
    return Activity(_covered(spans) / 1e6, launches)


def _covered(spans: list[tuple[float, float]]) -> float:
    """Length that the spans cover together: kernels of two streams may overlap."""
    covered, reached = 0.0, float("-inf")
    for start, stop in sorted(spans):
        covered += max(0.0, stop - max(start, reached))
        reached = max(reached, stop)
    return covered
