"""Ways to decode the same facts: ours, one call a token, and plain; with retries too."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from actors.decoding.attempt import Attempt, FinishedAttempt
from actors.decoding.mixed_decoder import MixedDecoder
from actors.decoding.paired_decoder import open_decoder
from actors.decoding.picks import draw_picks
from actors.inference.arguments import set_environment, vllm_arguments
from actors.inference.batch import BatchRunner
from actors.inference.engine import Engine
from actors.inference.requests import Sampling
from actors.replay.replies import Grant
from actors.rollout.mixed import MixedRolloutActor
from common.config.sections import EngineSettings, RolloutSettings
from common.methods import MixSD
from common.prompts import Prompts
from common.records import Fact, PackedRollout, Work
from common.verification.verifier import accepts

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
    decoder = open_decoder(engine, slots)
    for item in regime.items:
        picks = draw_picks(0, item.key, 0, 0, mix_rate, regime.max_tokens)
        decoder.submit(Attempt(item.key, item.naive, item.expert, picks, lambda _: GREEDY))
    tokens = 0
    while not decoder.idle:
        tokens += sum(
            len(drawn.token_ids) for drawn in decoder.step() if isinstance(drawn, FinishedAttempt)
        )
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
    def begin(cls, item: Item, attempt: int, max_tokens: int, mix_rate: float) -> _Slot:
        return cls(item, attempt, draw_picks(0, item.key, 0, attempt, mix_rate, max_tokens))


class Yardstick:
    """vLLM's public ``LLM`` with the same arguments as our engine, but for ``arguments``."""

    def __init__(
        self,
        folder: Path,
        settings: EngineSettings,
        stop_token_ids: Sequence[int],
        max_requests: int = 2 * SLOTS,
        **arguments: Any,
    ):
        set_environment(settings)
        from vllm import LLM, SamplingParams

        self.llm = LLM(model=str(folder), **(vllm_arguments(settings, max_requests) | arguments))
        self._new_params = SamplingParams
        self._stops = frozenset(stop_token_ids)

    def generate(self, prompts: Sequence[Sequence[int]]) -> list[int]:
        """The next token of each prompt."""
        return [token_ids[0] for token_ids in self.complete(prompts, 1)]

    def complete(self, prompts: Sequence[Sequence[int]], max_tokens: int) -> list[Sequence[int]]:
        """What follows each prompt; all are given to vLLM at once."""
        params = self._new_params(
            temperature=0.0,
            max_tokens=max_tokens,
            stop_token_ids=list(self._stops),
            detokenize=False,
        )
        outputs = self.llm.generate(
            [{"prompt_token_ids": prompt} for prompt in prompts], params, use_tqdm=False
        )
        return [output.outputs[0].token_ids for output in outputs]

    def ends(self, token_id: int) -> bool:
        return token_id in self._stops

    def forget(self) -> None:
        self.llm.reset_prefix_cache()

    def close(self) -> None:
        self.llm.llm_engine.engine_core.shutdown()


def loop(
    engine: Yardstick,
    regime: Regime,
    retry: Callable[[_Slot], bool] = lambda slot: False,
    mix_rate: float = MIX_RATE,
    slots: int = SLOTS,
) -> int:
    """One ``generate`` of one token a step for all active slots; tokens drawn.

    A sequence that ended and is to be retried starts again in its slot.
    """
    waiting = deque(_Slot.begin(item, 0, regime.max_tokens, mix_rate) for item in regime.items)
    active: list[_Slot] = []
    tokens = 0
    while waiting or active:
        while waiting and len(active) < slots:
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
                going.append(_Slot.begin(slot.item, slot.attempt + 1, regime.max_tokens, mix_rate))
        active = going
    return tokens


def warm_up(engine: Engine | Yardstick, regime: Regime, slots: int = SLOTS) -> None:
    """Empty the prefix cache and, if the regime is warm, put the prompts in."""
    engine.forget()
    if not regime.warm:
        return
    prompts = [prompt for item in regime.items for prompt in (item.naive, item.expert)]
    for first in range(0, len(prompts), slots):
        some = prompts[first : first + slots]
        if isinstance(engine, Engine):
            BatchRunner(engine, slots).generate(some, [1] * len(some), [GREEDY] * len(some))
        else:
            engine.generate(some)


# -- with retries ----------------------------------------------------------


class _Source:
    """A queue that hands every fact out once and counts what comes back."""

    def __init__(self, facts: Sequence[Fact]) -> None:
        self._work = deque(Work(index, fact.id, 0) for index, fact in enumerate(facts))
        self._open = len(facts)
        self.accepted = 0

    def lease(self, owner: str, count: int, holding: Sequence[int], version: int | None) -> Grant:
        if not self._open:
            return Grant([], over=True)
        return Grant([self._work.popleft() for _ in range(min(count, len(self._work)))], over=False)

    def insert_many(self, items: Sequence[PackedRollout]) -> list[bool]:
        self._open -= len(items)
        self.accepted += len(items)
        return [True] * len(items)

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
    MixedRolloutActor(
        "bench", MixedDecoder(engine, SLOTS), prompts, method, by_id, source, settings, seed=0
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
        if complete and accepts(prompts.mode, text, *by_id[slot.item.key].spellings):
            accepted += 1
            return False
        return slot.attempt < RETRIES

    loop(engine, regime, retry)
    return accepted
