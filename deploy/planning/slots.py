"""What one simulated engine has in flight: attempts by the iteration that ends them.

Mirrors ``actors.rollout.mixed`` and ``actors.decoding.mixed_decoder`` as far as time goes: a slot
holds a fact from its lease to its insert; an attempt takes an iteration a token; a further one
finds the prompts in the sessions of the one before; a rollout that was chosen is scored in the
next iteration.
"""

from __future__ import annotations

import random
from collections import defaultdict

from common.config.sections import RolloutSettings
from deploy.planning.roofline import Drawing, EngineModel, score_tokens
from deploy.planning.workload import Item, Workload


class Slots:
    """One engine's slots.

    Args:
        engine: gives the seconds of an iteration.
        workload: lengths, and how often an attempt verifies.
        settings: the rollout section.
        chance: decides which attempts do.
    """

    def __init__(
        self,
        engine: EngineModel,
        workload: Workload,
        settings: RolloutSettings,
        chance: random.Random,
    ) -> None:
        self._engine = engine
        self._workload = workload
        self._settings = settings
        self._chance = chance
        self._drawing = Drawing(workload)
        self._context = self._drawing.context
        self._passes = {
            length: self._drawing.passes(length) for length in {i.target for i in workload.items}
        }
        self.held = 0
        self.attempts = 0
        self.drawn_tokens = 0
        self._iteration = 0
        self._rows = 0
        self._decoded = 0.0
        # Facts with the number of the attempt and its chance to verify.
        self._fresh: list[tuple[Item, int, float]] = []
        self._chosen: list[Item] = []
        self._ends: dict[int, list[tuple[Item, int, float]]] = defaultdict(list)

    @property
    def free(self) -> int:
        """Slots that hold nothing."""
        return self._settings.slots - self.held

    def add(self, facts: list[tuple[Item, float]]) -> None:
        """Take leased facts, each with an attempt's chance to verify; at most :attr:`free`."""
        self.held += len(facts)
        if self._workload.mix_rate is None:
            self._chosen += [item for item, _ in facts]
        else:
            self._fresh += [(item, 0, hope) for item, hope in facts]

    def begin(self) -> float:
        """Start an iteration; its seconds, 0 if there is nothing to compute."""
        prefill = 0.0
        for item, attempt, hope in self._fresh:
            self._ends[self._iteration + item.target].append((item, attempt, hope))
            self._decoded += self._passes[item.target]
            if attempt == 0:
                prefill += self._drawing.prefill(item)
        self._rows += len(self._fresh)
        self._fresh = []
        scored = sum(score_tokens(item, self._workload) for item in self._chosen)
        if not self._rows and not scored:
            return 0.0
        return self._engine.iteration(
            self._rows, self._decoded, self._context, prefill + scored, scored
        )

    def end(self) -> list[bool]:
        """End it; for every fact that leaves its slot, whether there is a rollout of it."""
        leaving = [True] * len(self._chosen)
        self._chosen = []
        self._iteration += 1
        for item, attempt, hope in self._ends.pop(self._iteration, ()):
            self._rows -= 1
            self._decoded -= self._passes[item.target]
            self.attempts += 1
            self.drawn_tokens += item.target
            if self._chance.random() < hope:
                self._chosen.append(item)
            elif attempt < self._workload.max_retries:
                self._fresh.append((item, attempt + 1, hope))
            elif self._settings.on_exhausted != "drop":
                self._chosen.append(item)
            else:
                leaving.append(False)
        self.held -= len(leaving)
        return leaving
