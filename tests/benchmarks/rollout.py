"""Mixed decoding against what one would write without it: ``make bench-rollout``.

Three ways over the same facts, engine settings and picks, at T = 0 without
retries: *ours* (sessions that alternate), the *loop* (one ``generate`` of one
token a step for all active slots, prompt x or x+ as the pick determines, the whole
prefix each time) and *plain* decoding of x+ alone. Then, with retries, the
accepted rollouts a second. Prints a table and last one JSON line.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from actors.inference.engine import Engine
from common import models
from common.config.sections import EngineSettings
from common.corpora.kgfact import KGFactSpec, build
from common.prompts import PRESETS, Prompts
from common.records import Fact
from tests.benchmarks.ways import (
    SLOTS,
    Item,
    Regime,
    Yardstick,
    accepted_by_loop,
    accepted_by_us,
    loop,
    ours,
    plain,
    warm_up,
)
from tests.tiny import make_model

# -- what is decoded -------------------------------------------------------


def fact_items(prompts: Prompts, facts: Sequence[Fact]) -> list[Item]:
    return [Item(fact.id, prompts.naive(fact), prompts.expert(fact)) for fact in facts]


def worked_facts(count: int, seed: int = 0) -> list[Fact]:
    """Digit rules in the manner of KGFunc, each with the steps written out."""
    facts = []
    for index, number in enumerate(random.Random(seed).sample(range(10_000, 100_000), count)):
        digits = [int(digit) for digit in str(number)]
        least = min(digits)
        steps = ", ".join(f"({digit}-{least})^2 = {(digit - least) ** 2}" for digit in digits)
        total = sum((digit - least) ** 2 for digit in digits)
        solution = (
            f"The digits of {number} are {', '.join(map(str, digits))}. The smallest is {least}. "
            f"The squared differences are {steps}. Their sum is {total}. "
            f"The answer is \\boxed{{{total}}}."
        )
        question = f"What is B({number})? B sums the squared differences to the smallest digit."
        facts.append(Fact(f"b-{index}", question, str(total), solution))
    return facts


def random_items(count: int, vocabulary: int, seed: int = 0) -> list[Item]:
    """Prompts of random ids, about as long as those of short facts."""
    draw = random.Random(seed)
    items = []
    for index in range(count):
        naive = [draw.randrange(vocabulary) for _ in range(draw.randrange(30, 50))]
        extra = [draw.randrange(vocabulary) for _ in range(draw.randrange(35, 55))]
        items.append(Item(f"r-{index}", naive, naive + extra))
    return items


# -- running ---------------------------------------------------------------


@dataclass
class Table:
    """Readings by regime and way: the fastest of several runs from the same state."""

    rates: dict[tuple[str, str], float] = field(default_factory=dict)

    def measure(
        self,
        way: str,
        engine: Engine | Yardstick,
        regime: Regime,
        run: Callable[[], int],
        unit: str = "tokens",
    ) -> None:
        for _ in range(regime.repeats):
            warm_up(engine, regime)
            began = time.perf_counter()
            count = run()
            seconds = time.perf_counter() - began
            key = (regime.name, way)
            self.rates[key] = max(self.rates.get(key, 0.0), count / seconds)
            print(
                f"{regime.name:9} {way:6} {count:6} {unit:8} {seconds:7.2f} s "
                f"{count / seconds:9.2f} {unit}/s",
                flush=True,
            )

    def ratio(self, regime: str, way: str) -> float:
        """How many times faster ours is."""
        return self.rates[regime, "ours"] / self.rates[regime, way]


def run_engine(
    table: Table,
    folder: Path,
    settings: EngineSettings,
    stop_token_ids: Sequence[int],
    regimes: Sequence[Regime],
    retried: Callable[[Table, Engine | Yardstick], None] | None = None,
) -> None:
    """Ours and plain on our engine, then the loop on vLLM's own."""
    engine = Engine(folder, settings, max_requests=2 * SLOTS, stop_token_ids=stop_token_ids)
    for regime in regimes:
        table.measure("ours", engine, regime, partial(ours, engine, regime))
        table.measure("plain", engine, regime, partial(plain, engine, regime))
    if retried is not None:
        retried(table, engine)
    engine.close()
    yardstick = Yardstick(folder, settings, stop_token_ids)
    for regime in regimes:
        table.measure("loop", yardstick, regime, partial(loop, yardstick, regime))
    if retried is not None:
        retried(table, yardstick)
    yardstick.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    names = ("host", "warm", "cold", "accepted", "long")
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    only = set(parser.parse_args().only)
    settings = EngineSettings(max_model_len=512)
    table = Table()
    if "host" in only:
        with tempfile.TemporaryDirectory() as folder:
            make_model(Path(folder), vocabulary=512)
            regime = Regime("host", random_items(256, 512), max_tokens=32, warm=True, repeats=3)
            run_engine(table, Path(folder), settings, (), [regime])
    model = models.load(models.resolve("packaged"))
    prompts = Prompts(model.tokenizer, PRESETS["short-sentence"], model.stop_token_ids[0])
    facts = build(KGFactSpec(domains=5, entities=10, seed=1)).facts[:96]
    short = Regime("warm", fact_items(prompts, facts), max_tokens=32, warm=True)
    some = [
        regime for regime in (short, replace(short, name="cold", warm=False)) if regime.name in only
    ]

    def retried(table: Table, engine: Engine | Yardstick) -> None:
        regime = replace(short, name="accepted", items=short.items[:SLOTS])
        few = facts[:SLOTS]
        if isinstance(engine, Engine):
            way, run = "ours", lambda: accepted_by_us(engine, prompts, few, regime)
        else:
            way, run = "loop", lambda: accepted_by_loop(engine, prompts, few, regime)
        table.measure(way, engine, regime, run, unit="rollouts")

    if some or "accepted" in only:
        run_engine(
            table,
            model.folder,
            settings,
            model.stop_token_ids,
            some,
            retried if "accepted" in only else None,
        )
    if "long" in only:
        # Without stop tokens every target has the same length.
        items = fact_items(prompts, worked_facts(SLOTS))
        run_engine(
            table, model.folder, settings, (), [Regime("long", items, max_tokens=104, warm=True)]
        )
    results = {
        f"{regime}_speedup": table.ratio(regime, "loop")
        for regime in ("warm", "cold", "host", "long", "accepted")
        if regime in only
    }
    results |= {
        f"{regime}_fraction_of_plain": table.ratio(regime, "plain")
        for regime in ("warm", "host")
        if regime in only
    }
    print(json.dumps({key: round(value, 3) for key, value in results.items()}))


if __name__ == "__main__":
    main()
