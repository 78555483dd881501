"""Mixed decoding against what one would write without it: ``make bench-rollout``.

Three ways over the same facts, engine settings and picks, at T = 0 without
retries: *ours* (sessions that hand over), the *loop* (one ``generate`` of one
token a step for all active slots, prompt x or x+ as the pick says, the whole
prefix each time) and *plain* decoding of x+ alone. Then, with retries, the
accepted rollouts a second. Prints a table and last one JSON line.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from actors.engine import Engine
from actors.engine_arguments import set_environment, vllm_arguments
from actors.picks import draw_picks
from actors.relay import Attempt, Drawn, Relay
from actors.replay import Grant
from actors.rollout import RolloutActor
from actors.segments import Sampling
from common import models
from common.corpora.kgfact import KGFactSpec, build
from common.methods import MixSD
from common.prompts import PRESETS, Prompts
from common.records import Fact, Work
from common.sections import EngineSettings, RolloutSettings
from common.verify import accepts
from tests.tiny import make_model

MIX_RATE = 0.3
SLOTS = 64
RETRIES = 8
GREEDY = Sampling()


@dataclass(frozen=True)
class Item:
    """One fact as token ids."""

    key: str
    naive: list[int]
    expert: list[int]


@dataclass(frozen=True)
class Regime:
    """What is decoded, and whether its prompts are in the prefix cache already."""

    name: str
    items: Sequence[Item]
    max_tokens: int
    warm: bool
    repeats: int = 1


def ours(engine: Engine, regime: Regime, mix_rate: float = MIX_RATE, slots: int = SLOTS) -> int:
    """Mixed decoding as rollout actors do it; tokens drawn."""
    relay = Relay(engine, slots)
    for item in regime.items:
        picks = draw_picks(0, item.key, 0, 0, mix_rate, regime.max_tokens)
        relay.submit(Attempt(item.key, item.naive, item.expert, picks, lambda _: GREEDY))
    tokens = 0
    while not relay.idle:
        tokens += sum(len(drawn.token_ids) for drawn in relay.step() if isinstance(drawn, Drawn))
    return tokens


def plain(engine: Engine, regime: Regime, slots: int = SLOTS) -> int:
    """Ordinary decoding of x+ with as many requests in flight; tokens drawn."""
    waiting, active, tokens = deque(regime.items), 0, 0
    while waiting or active:
        while waiting and active < slots:
            item = waiting.popleft()
            engine.extend(item.key, item.expert, regime.max_tokens, GREEDY, last=True)
            active += 1
        for segment in engine.step():
            tokens += len(segment.token_ids)
            active -= 1
    return tokens


@dataclass
class _Slot:
    """What the loop remembers of one sequence."""

    item: Item
    attempt: int
    picks: list[bool]
    drawn: list[int] = field(default_factory=list)

    @classmethod
    def begin(cls, item: Item, attempt: int, max_tokens: int) -> _Slot:
        return cls(item, attempt, draw_picks(0, item.key, 0, attempt, MIX_RATE, max_tokens))


class Yardstick:
    """vLLM's public ``LLM`` with the same arguments as our engine."""

    def __init__(self, folder: Path, settings: EngineSettings, stop_token_ids: Sequence[int]):
        set_environment(settings)
        from vllm import LLM, SamplingParams

        self._llm = LLM(model=str(folder), **vllm_arguments(settings, 2 * SLOTS))
        self._params = SamplingParams(temperature=0.0, max_tokens=1, detokenize=False)
        self._stops = frozenset(stop_token_ids)

    def generate(self, prompts: Sequence[Sequence[int]]) -> list[int]:
        """The next token of each prompt."""
        outputs = self._llm.generate(
            [{"prompt_token_ids": prompt} for prompt in prompts], self._params, use_tqdm=False
        )
        return [output.outputs[0].token_ids[0] for output in outputs]

    def ends(self, token_id: int) -> bool:
        return token_id in self._stops

    def forget(self) -> None:
        self._llm.reset_prefix_cache()

    def close(self) -> None:
        self._llm.llm_engine.engine_core.shutdown()


def loop(
    engine: Yardstick,
    regime: Regime,
    retry: Callable[[_Slot], bool] = lambda slot: False,
) -> int:
    """One ``generate`` of one token a step for all active slots; tokens drawn.

    A sequence that ended and is to be retried starts again in its slot.
    """
    waiting = deque(_Slot.begin(item, 0, regime.max_tokens) for item in regime.items)
    active: list[_Slot] = []
    tokens = 0
    while waiting or active:
        while waiting and len(active) < SLOTS:
            active.append(waiting.popleft())
        prompts = [
            (slot.item.naive if slot.picks[len(slot.drawn)] else slot.item.expert) + slot.drawn
            for slot in active
        ]
        going = []
        for slot, token_id in zip(active, engine.generate(prompts), strict=True):
            slot.drawn.append(token_id)
            tokens += 1
            if len(slot.drawn) < regime.max_tokens and not engine.ends(slot.drawn[-1]):
                going.append(slot)
            elif retry(slot):
                going.append(_Slot.begin(slot.item, slot.attempt + 1, regime.max_tokens))
        active = going
    return tokens


def warm_up(engine: Engine | Yardstick, regime: Regime) -> None:
    """Empty the prefix cache and, if the regime is warm, put the prompts in."""
    engine.forget()
    if not regime.warm:
        return
    prompts = [prompt for item in regime.items for prompt in (item.naive, item.expert)]
    for first in range(0, len(prompts), SLOTS):
        some = prompts[first : first + SLOTS]
        if isinstance(engine, Engine):
            engine.generate(some, 1, GREEDY)
        else:
            engine.generate(some)


# -- with retries ----------------------------------------------------------


class _Source:
    """A queue that hands every fact out once and counts what comes back."""

    def __init__(self, facts: Sequence[Fact]) -> None:
        self._work = deque(Work(index, fact.id, 0) for index, fact in enumerate(facts))
        self._open = len(facts)
        self.accepted = 0

    def lease(self, owner: str, count: int, holding: Sequence[int]) -> Grant:
        if not self._open:
            return Grant([], over=True)
        return Grant([self._work.popleft() for _ in range(min(count, len(self._work)))], over=False)

    def insert(self, payload: bytes, attempts: int) -> bool:
        self._open -= 1
        self.accepted += 1
        return True

    def exhaust(self, fact_id: str, draw: int, reason: str, attempts: int) -> bool:
        self._open -= 1
        return True


def accepted_by_us(engine: Engine, prompts: Prompts, facts: Sequence[Fact], regime: Regime) -> int:
    """Rollouts that the real rollout actor had accepted."""
    source = _Source(facts)
    settings = RolloutSettings(
        slots=SLOTS,
        max_tokens=regime.max_tokens,
        max_retries=RETRIES,
        attempts_in_flight=4,
        score_fraction=0.0,
    )
    method = MixSD(mix_rate=MIX_RATE)
    by_id = {fact.id: fact for fact in facts}
    RolloutActor(
        "bench", Relay(engine, SLOTS), prompts, method, by_id, source, settings, seed=0
    ).run()
    return source.accepted


def accepted_by_loop(
    engine: Yardstick, prompts: Prompts, facts: Sequence[Fact], regime: Regime
) -> int:
    """Rollouts that the loop with retries in place had accepted."""
    by_id = {fact.id: fact for fact in facts}
    accepted = 0

    def retry(slot: _Slot) -> bool:
        nonlocal accepted
        text = prompts.text(slot.drawn)
        complete = engine.ends(slot.drawn[-1])
        if complete and accepts(prompts.mode, text, by_id[slot.item.key].answer):
            accepted += 1
            return False
        return slot.attempt < RETRIES

    loop(engine, regime, retry)
    return accepted


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
        table.measure("ours", engine, regime, lambda regime=regime: ours(engine, regime))
        table.measure("plain", engine, regime, lambda regime=regime: plain(engine, regime))
    if retried is not None:
        retried(table, engine)
    engine.close()
    yardstick = Yardstick(folder, settings, stop_token_ids)
    for regime in regimes:
        table.measure("loop", yardstick, regime, lambda regime=regime: loop(yardstick, regime))
    if retried is not None:
        retried(table, yardstick)
    yardstick.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    names = ("host", "warm", "cold", "accepted", "long")
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    only = set(parser.parse_args().only)
    settings = EngineSettings(dtype="bfloat16", max_model_len=512)
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
