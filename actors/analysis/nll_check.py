"""The stored NLL of targets under the base, against a second scoring pass.

What rollout actors stored is what the report is made of; a random sample of it is
scored again by the evaluator's engine, and both numbers are kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from actors.evaluation.results import EvaluatedModel, Results
from actors.evaluation.scores import Analyses, NLLCheck
from actors.inference.batch import BatchRunner
from common.estimates import mean_nll
from common.records import Rollout

SAMPLE = 16
# Where hardly any target was scored, the whole ledger would be read for a few.
_MOST_READ = 64 * SAMPLE


class NllCheck:
    """Scores a sample of the run's targets again, once there will be no more of them.

    Args:
        batch: runs on the evaluator's engine.
        hold: puts a model's weights into that engine.
        base: the reference weights.
        results: where the result goes.
        rollouts: reads the run's accepted rollouts one at a time, in a random order that is
            the same for every call.
    """

    name = "nll_check"

    def __init__(
        self,
        batch: BatchRunner,
        hold: Callable[[EvaluatedModel], None],
        base: EvaluatedModel,
        results: Results,
        rollouts: Callable[[], Iterable[Rollout]],
    ) -> None:
        self._batch = batch
        self._hold = hold
        self._base = base
        self._results = results
        self._rollouts = rollouts
        self._sample: list[Rollout] | None = None

    def advance(self, checkpoints: Sequence[EvaluatedModel], final: bool) -> tuple[bool, bool]:
        """One piece of work: (whether one was done, whether others hold it)."""
        if not final:
            return False, False
        if self._sample is None:
            self._sample = draw(self._rollouts())
        identity = [[r.prompt_ids, r.target_ids] for r in self._sample]
        key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
        wanted = (self._base, self.name, key)
        if not self._sample or self._results.find(*wanted) is not None:
            return False, False
        with self._results.claim(*wanted) as held:
            if held and self._results.find(*wanted) is None:
                self._hold(self._base)
                pairs = [(r.prompt_ids, r.target_ids) for r in self._sample]
                scored = self._batch.score(pairs)
                found = compare([r.base_logprobs for r in self._sample], scored)
                self._results.write(*wanted, {}, analyses=Analyses(nll_check=found))
            return held, not held


def draw(rollouts: Iterable[Rollout]) -> list[Rollout]:
    """The first ``SAMPLE`` scored rollouts among the first ``_MOST_READ``; reads no further."""
    read = islice(rollouts, _MOST_READ)
    return list(islice((rollout for rollout in read if rollout.base_logprobs), SAMPLE))


def compare(stored: Sequence[list[float]], scored: Sequence[list[float]]) -> NLLCheck:
    """Both means over the same tokens (nats/token), and by how much a target differs at most."""
    first, second = mean_nll(stored), mean_nll(scored)
    apart = [abs(sum(a) - sum(b)) / len(a) for a, b in zip(stored, scored, strict=True)]
    return NLLCheck(
        stored=first.value,
        recomputed=second.value,
        difference=second.value - first.value,
        largest=max(apart),
        targets=len(stored),
        tokens=first.n,
    )
