"""New weights in a running engine: from a folder, and from the learner."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

from actors.inference.batch import BatchRunner
from actors.inference.engine import Engine
from common.hardware import Device
from common.weights import bit_sum, difference, sampled
from tests.gpu.checks.engines import describe, open_on
from tests.tiny import make_model

ITEMS = [([5, 6, 7], [8, 9, 10, 11]), ([20, 21], [22, 23, 24])]


def reload(device: Device, folder: Path) -> dict[str, Any]:
    """Scores of an engine after a reload against those of one that starts with the weights."""
    found: dict[str, Any] = {}
    for dtype, tied in product(("float32", "bfloat16"), (True, False)):
        base, other = (
            make_model(
                folder / f"{dtype}-{tied}-{seed}", vocabulary=64, tied=tied, scale=0.3, seed=seed
            )
            for seed in (0, 1)
        )
        fresh = open_small(device, other, dtype)
        expected = scores(fresh)
        fresh.close()
        warm = open_small(device, base, dtype)
        found |= describe(warm)
        before = scores(warm)
        warm.load_weights(other)
        found[f"{dtype}, {'tied head' if tied else 'head of its own'}"] = {
            "error": distance(scores(warm), expected),
            "moved": distance(before, expected),
            "what_differs": what_differs(warm, other, dtype),
        }
        warm.close()
    return found


def open_small(device: Device, model: Path, dtype: str, **settings: Any) -> Engine:
    """An engine for :data:`ITEMS`."""
    settings |= {"dtype": dtype, "max_model_len": 64, "max_requests": 4, "stops": [0]}
    return open_on(device, model, **settings)


def scores(engine: Engine) -> list[float]:
    """Of every target token of :data:`ITEMS`, nats."""
    return [score for scores in BatchRunner(engine, 4).score(ITEMS) for score in scores]


def distance(ours: list[float], expected: list[float]) -> float:
    """The largest difference."""
    return max(abs(a - b) for a, b in zip(ours, expected, strict=True))


def what_differs(engine: Engine, model: Path, dtype: str) -> str | None:
    """The first weight whose bits are not those in the folder, of those that can be read back."""
    import torch
    from safetensors.torch import load_file

    weights = load_file(model / "model.safetensors")
    names = sampled({name: weight.numel() for name, weight in weights.items()})
    sums = {name: bit_sum(weights[name].to(getattr(torch, dtype))) for name in names}
    return difference(sums, engine.sum_weights(names))
