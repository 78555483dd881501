"""The attempts in flight on one simulated engine, by the iteration that ends them.

Follows the timing of ``actors.rollout.mixed`` and ``actors.decoding.mixed_decoder``: a slot
holds a fact from its lease to its insert; an attempt takes one iteration per token; a retry
reuses the prompts' KV; a chosen rollout is scored in the next iteration.
"""

from __future__ import annotations

import random
from collections import defaultdict

from common.config.sections import RolloutSettings
from deploy.planning.roofline import AttemptCost, EngineModel, score_tokens
from deploy.planning.workload import Item, Workload


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
        # Facts, each with the number of its attempt and the probability that one verifies.
        self._fresh: list[tuple[Item, int, float]] = []
        self._chosen: list[Item] = []
        self._ends: dict[int, list[tuple[Item, int, float]]] = defaultdict(list)

    @property
    def free(self) -> int:
        """Free slots."""
        return self._settings.slots - self.held

    def add(self, facts: list[tuple[Item, float]]) -> None:
        """Add at most :attr:`free` leased facts, each with the probability that one verifies."""
        self.held += len(facts)
        if self._workload.mix_rate is None:
            self._chosen += [item for item, _ in facts]
        else:
            self._fresh += [(item, 0, acceptance) for item, acceptance in facts]

    def begin(self) -> float:
        """Start an iteration; returns its seconds, 0 if there is nothing to compute."""
        prefill = 0.0
        for item, attempt, acceptance in self._fresh:
            self._ends[self._iteration + item.target].append((item, attempt, acceptance))
            self._decoded += self._passes[item.target]
            if attempt == 0:
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
        for item, attempt, acceptance in self._ends.pop(self._iteration, ()):
            self._requests -= 1
            self._decoded -= self._passes[item.target]
            self.attempts += 1
            self.drawn_tokens += item.target
            if self._rng.random() < acceptance:
                self._chosen.append(item)
            elif attempt < self._workload.max_retries:
                self._fresh.append((item, attempt + 1, acceptance))
            elif self._settings.on_exhausted != "drop":
                self._chosen.append(item)
            else:
                leaving.append(False)
        self.held -= len(leaving)
        return leaving
