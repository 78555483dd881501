"""The attempts in flight on one simulated engine, by the iteration that ends them.

Follows the timing of ``actors.rollout.mixed`` and ``actors.decoding.mixed_decoder``: a slot
holds a fact from its lease to its insert; an attempt takes one iteration per token; a retry
reuses the prompts' KV; a chosen rollout is scored in the next iteration.
"""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass

from common.config.sections import RolloutSettings
from deploy.planning.roofline import AttemptCost, EngineModel, score_tokens
from deploy.planning.workload import Item, Workload


@dataclass(slots=True)
class _Attempt:
    """The attempt that a fact is at; ``acceptance``: the probability that it verifies.

    ``is_accepted``: whether one before it did.
    """

    item: Item
    acceptance: float
    number: int = 0
    is_accepted: bool = False


class Slots:
    """One engine's slots.

    Args:
        engine: gives the seconds of an iteration.
        workload: lengths, and how often an attempt verifies.
        settings: the rollout section.
        rng: decides which attempts verify.
    """

    def __init__(
        self,
        engine: EngineModel,
        workload: Workload,
        settings: RolloutSettings,
        rng: random.Random,
    ) -> None:
        self._engine = engine
        self._workload = workload
        self._settings = settings
        self._rng = rng
        self._cost = AttemptCost(workload)
        self._context = self._cost.context
        self._passes = {
            length: self._cost.passes(length) for length in {i.target for i in workload.items}
        }
        self.held = 0
        self.attempts = 0
        self.drawn_tokens = 0
        self._iteration = 0
        self._requests = 0
        self._decoded = 0.0
        self._fresh: list[_Attempt] = []
        self._chosen: list[Item] = []
        self._ends: dict[int, list[_Attempt]] = defaultdict(list)

    @property
    def free(self) -> int:
        """Free slots."""
        return self._settings.slots - self.held

    def add(self, facts: list[tuple[Item, float]]) -> None:
        """Add at most :attr:`free` leased facts, each with the probability that one verifies."""
        self.held += len(facts)
        for item, acceptance in facts:
            if item.rehearsed:
                self._fresh.append(_Attempt(item, 1.0))
            elif self._workload.mix_rate is None:
                self._chosen.append(item)
            else:
                self._fresh.append(_Attempt(item, acceptance))

    def begin(self) -> float:
        """Start an iteration; returns its seconds, 0 if there is nothing to compute."""
        prefill = 0.0
        for attempt in self._fresh:
            item = attempt.item
            self._ends[self._iteration + item.target].append(attempt)
            self._decoded += self._passes[item.target]
            if attempt.number == 0:
                prefill += self._cost.prefill(item)
        self._requests += len(self._fresh)
        self._fresh = []
        scored = sum(score_tokens(item, self._workload) for item in self._chosen)
        if not self._requests and not scored:
            return 0.0
        return self._engine.iteration(
            self._requests, self._decoded, self._context, prefill + scored, scored
        )

    def end(self) -> list[bool]:
        """End it; returns for each fact that leaves its slot whether it has a rollout."""
        leaving = [True] * len(self._chosen)
        self._chosen = []
        self._iteration += 1
        work = self._workload
        for attempt in self._ends.pop(self._iteration, ()):
            item = attempt.item
            self._requests -= 1
            self._decoded -= self._passes[item.target]
            self.attempts += 1
            self.drawn_tokens += item.target
            attempt.is_accepted |= self._rng.random() < attempt.acceptance
            attempt.number += 1
            most = work.num_compared if attempt.is_accepted else work.max_retries + 1
            if attempt.number < most:
                self._fresh.append(attempt)
            elif attempt.is_accepted or self._settings.on_exhausted != "drop":
                self._chosen.append(item)
            else:
                leaving.append(False)
        self.held -= len(leaving)
        return leaving
