"""The figures of a run's targets, from one pass over its rollouts in constant memory."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict

from actors.evaluation.scores import BenchmarkScore
from common.estimates import MeanNLL
from common.json_model import JsonModel
from common.methods import Method, Mixed, StudentSampled
from common.records import Rollout

# A histogram shows no more; the means are over all targets.
MOST_NLLS = 10_000
_REHEARSED = "rehearsal"


class TargetNLL(BenchmarkScore):
    """Mean NLL per token with its interval; ``items``: the number of scored targets."""

    items: int


class NLLs(JsonModel):
    """NLL under the base model, in nats a token, of each scored target.

    Of more than ``MOST_NLLS`` it is a random sample of so many.
    """

    targets: list[float]
    canonical: list[float]


class Sample:
    """A uniform random sample of a stream of unknown length, the same for the same stream.

    Algorithm R (Vitter 1985).

    Args:
        size: of the sample; a shorter stream is kept whole, in order.
        seed: draws it.
    """

    def __init__(self, size: int, seed: int = 0) -> None:
        self.values: list[float] = []
        self._size = size
        self._seen = 0
        self._rng = random.Random(seed)

    def add(self, value: float) -> None:
        """Show it the next value."""
        self._seen += 1
        if len(self.values) < self._size:
            self.values.append(value)
        elif (at := self._rng.randrange(self._seen)) < self._size:
            self.values[at] = value


class ScoredTexts:
    """NLLs of targets, or of canonical answers: their mean, and a sample of them."""

    def __init__(self) -> None:
        self.nlls = Sample(MOST_NLLS)
        self._mean = MeanNLL()

    def add(self, logprobs: list[float]) -> None:
        """Count a text by the log-probabilities of its tokens; empty if it was not scored."""
        if logprobs:
            self._mean.add(logprobs)
            self.nlls.add(-sum(logprobs) / len(logprobs))

    @property
    def mean(self) -> TargetNLL | None:
        """Over the tokens of all scored texts; None if there is none."""
        if not self._mean.texts:
            return None
        return TargetNLL(**asdict(self._mean.score()), items=self._mean.texts)


class TargetFigures:
    """What the report says of ``rollouts``, drawn by ``method``.

    ``unverified`` is the number of targets that the verifier did not accept. Rehearsed answers
    are counted as an origin only: the other figures are of the facts' targets.
    """

    def __init__(self, rollouts: Iterable[Rollout], method: Method) -> None:
        self.scored, self.canonical = ScoredTexts(), ScoredTexts()
        self.unverified = 0
        origins: Counter[str] = Counter()
        attempts: Counter[int] = Counter()
        for rollout in rollouts:
            origin = _origin(rollout, method)
            origins[origin] += 1
            if origin == _REHEARSED:
                continue
            self.scored.add(rollout.base_logprobs)
            self.canonical.add(rollout.canonical_logprobs)
            if rollout.verified:
                attempts[rollout.attempt + 1] += 1
            else:
                self.unverified += 1
        self.by_origin = dict(sorted(origins.items()))
        self.accepted_by_attempt = dict(sorted(attempts.items()))

    @property
    def nlls(self) -> NLLs:
        """The points of the histogram."""
        return NLLs(targets=self.scored.nlls.values, canonical=self.canonical.nlls.values)


def _origin(rollout: Rollout, method: Method) -> str:
    """How the target came about; an extension counts only if it changed the target."""
    if rollout.fallback:
        return f"fallback: {rollout.fallback}"
    if rollout.mix_rate is None:
        return "canonical"
    if method.rehearsal is not None:
        return _REHEARSED
    marks = []
    first = method.target(0)
    if isinstance(first, StudentSampled):
        return "the student's own"
    if method.expert_template is not None:
        return "rewritten"
    if method.selection.samples > 1:
        return "sampled from the expert"
    if isinstance(first, Mixed) and rollout.mix_rate < first.mix_rate:
        marks.append("λ backed off")
    if rollout.num_protected:
        marks.append("answer protected")
    return "mixed" + (f" ({', '.join(marks)})" if marks else "")
