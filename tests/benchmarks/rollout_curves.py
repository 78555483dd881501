"""Tokens a second against slots and mixing rate: ``make bench-rollout-curves``.

Writes docs/images/rollout-slots.svg and rollout-rates.svg, each with the
embedded model beside the random one whose surroundings are all that costs.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from actors.inference.engine import Engine
from common import models
from common.config.sections import EngineSettings
from common.corpora.kgfact import KGFactSpec, build
from common.prompts import PRESETS, Prompts
from tests.benchmarks.rollout import fact_items, random_items
from tests.benchmarks.ways import MIX_RATE, SLOTS, Regime, ours, plain, warm_up
from tests.tiny import make_model

ALL_SLOTS = (1, 4, 16, 64, 256)
RATES = (0.0, 0.1, 0.3, 0.5, 0.7, 1.0)
IMAGES = Path(__file__).parents[2] / "docs" / "images"

Curve = dict[float, float]


def speed(engine: Engine, regime: Regime, way: Callable[..., int], *options: float) -> float:
    """Tokens/s: the best of the regime's repetitions."""
    best = 0.0
    for _ in range(regime.repeats):
        warm_up(engine, regime)
        began = time.perf_counter()
        tokens = way(engine, regime, *options)
        best = max(best, tokens / (time.perf_counter() - began))
    return best


def curves(engine: Engine, regime: Regime) -> tuple[Curve, Curve, Curve]:
    """Tokens/s: mixed by slots, plain by slots, mixed by rate."""
    mixed: Curve = {}
    alone: Curve = {}
    rates: Curve = {}
    for slots in ALL_SLOTS:
        # Few slots take long: a wave and a half of attempts is enough, or one of the widest.
        some = replace(regime, items=regime.items[: min(slots + slots // 2 + 1, max(ALL_SLOTS))])
        mixed[slots] = speed(engine, some, ours, MIX_RATE, slots)
        alone[slots] = speed(engine, some, plain, slots)
        print(f"{regime.name} slots {slots} {mixed[slots]:.0f} {alone[slots]:.0f}", flush=True)
    for rate in RATES:
        some = replace(regime, items=regime.items[: 3 * SLOTS // 2])
        rates[rate] = speed(engine, some, ours, rate, SLOTS)
        print(f"{regime.name} rate {rate} {rates[rate]:.0f}", flush=True)
    return mixed, alone, rates


def draw(name: str, label: str, panels: Sequence[tuple[str, dict[str, Curve]]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    # Text stays text, and the same figures give the same file.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": name})
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(panels), figsize=(8, 3), dpi=80)
    for axis, (title, lines) in zip(axes, panels, strict=True):
        for legend, curve in lines.items():
            axis.plot(list(curve), list(curve.values()), marker="o", label=legend)
        axis.set(title=title, xlabel=label, ylabel="tokens/s", ylim=0)
        if label == "slots":
            axis.set_xscale("log", base=4)
            axis.set_xticks(ALL_SLOTS, [str(slots) for slots in ALL_SLOTS])
        axis.legend()
    figure.tight_layout()
    figure.savefig(IMAGES / name, metadata={"Date": None})


def main() -> None:
    settings = EngineSettings(max_model_len=256)
    panels = {}
    with tempfile.TemporaryDirectory() as folder:
        make_model(Path(folder), vocabulary=512)
        engine = Engine(Path(folder), settings, max_requests=512, stop_token_ids=())
        panels["random, 2 layers"] = curves(
            engine, Regime("host", random_items(400, 512), max_tokens=32, warm=True, repeats=3)
        )
        engine.close()
    model = models.load(models.resolve("packaged"))
    prompts = Prompts(model.tokenizer, PRESETS["short-sentence"], model.stop_token_ids[0])
    facts = build(KGFactSpec(domains=7, entities=20, seed=1)).facts[:400]
    engine = Engine(model.folder, settings, max_requests=512, stop_token_ids=model.stop_token_ids)
    panels["SmolLM2-135M"] = curves(
        engine, Regime("warm", fact_items(prompts, facts), max_tokens=24, warm=True)
    )
    engine.close()
    draw(
        "rollout-slots.svg",
        "slots",
        [
            (title, {f"mixed, λ {MIX_RATE}": mixed, "plain": alone})
            for title, (mixed, alone, _) in panels.items()
        ],
    )
    draw(
        "rollout-rates.svg",
        "mixing rate λ",
        [(title, {f"{SLOTS} slots": rates}) for title, (_, _, rates) in panels.items()],
    )


if __name__ == "__main__":
    main()
