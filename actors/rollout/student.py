"""The rollout role where the student itself draws: one sample a work item, all trained.

Waits for the learner's weights, for work, or for room in the queue. What begins
under a version ends under it: once another is published nothing new begins, and
when the last rollout is out the engine takes the new weights. So every rollout is
of one version, which it names, and the queue refuses work to weights that are too
old for it. No verdict selects; it is only counted.

Where an engine is the teacher, the reference's own stands beside the student's and
scores each rollout given x+ before it is handed over.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from actors.decoding.mixed_decoder import Attempt, FinishedAttempt, MixedDecoder, ScoredTarget
from actors.decoding.picks import student_seed
from actors.decoding.teacher_top_k import scored_top, teacher_scores
from actors.inference.requests import Sampling
from actors.replay.lease_client import LeasePoller, Outbox
from actors.replay.queue import Grant
from common.config.sections import RolloutSettings
from common.methods import Method, StudentSampled
from common.metrics import MetricValues
from common.prompts import Prompts
from common.records import Fact, Rollout, Work
from common.verification.verifier import accepts

_IDLE_S = 0.05


class WeightReceiver(Protocol):
    """The student's weights in its engine: :mod:`policy_weights` or :mod:`transferred`."""

    version: int | None
    seconds: dict[str, float]

    def is_behind(self) -> bool: ...
    def load(self) -> None: ...


class WorkSource(Protocol):
    """The queue as a student's actor sees it."""

    def lease(
        self, owner: str, count: int, holding: Sequence[int], version: int | None
    ) -> Grant: ...
    def insert_many(self, items: Sequence[tuple[bytes, int]]) -> list[bool]: ...


@dataclass(slots=True)
class _Job:
    """A leased sample on its way, and the version that draws it; then what it drew."""

    work: Work
    fact: Fact
    version: int
    rollout: Rollout | None = None


class StudentRolloutActor:
    """One engine's worth of the student's rollouts.

    Args:
        name: owner of the leases.
        decoder: decoding on the student's engine.
        weights: what that engine holds.
        prompts: renders facts.
        method: says how samples are drawn, and who teaches.
        facts: every fact by id.
        source: the queue.
        settings: the rollout section.
        seed: the run's seed.
        teacher: scoring on the reference's engine, where the method's teacher is one.
    """

    def __init__(
        self,
        name: str,
        decoder: MixedDecoder,
        weights: WeightReceiver,
        prompts: Prompts,
        method: Method,
        facts: Mapping[str, Fact],
        source: WorkSource,
        settings: RolloutSettings,
        seed: int,
        teacher: MixedDecoder | None = None,
    ) -> None:
        self._top = scored_top(method)
        assert (teacher is not None) == (self._top > 0)
        target = method.target(0)
        assert isinstance(target, StudentSampled)
        self._teacher = teacher
        self._name = name
        self._decoder = decoder
        self._weights = weights
        self._prompts = prompts
        self._target = target
        self._facts = facts
        self._source = source
        self._settings = settings
        self._seed = seed
        self._draining = False
        self._waiting = ""
        self._jobs: dict[str, _Job] = {}
        self._serial = itertools.count()
        self._poller = LeasePoller(_IDLE_S)
        self._outbox = Outbox(source)
        self._num_loads = 0
        self._metrics: dict[str, float] = dict.fromkeys(
            (
                "mixsd_rollouts_accepted_total",
                "mixsd_attempts_total",
                "mixsd_attempts_verified_total",
                "mixsd_rollout_tokens_total",
                "mixsd_rollout_naive_tokens_total",
                "mixsd_rollout_in_flight",
                "mixsd_rollout_busy_seconds_total",
                "mixsd_rollout_scored_tokens_total",
                "mixsd_rollout_scoring_seconds_total",
            ),
            0.0,
        )

    @property
    def progress(self) -> float:
        """Tokens drawn and scored, rollouts handed over and versions loaded."""
        metrics = self._metrics
        return (
            metrics["mixsd_rollout_tokens_total"]
            + metrics["mixsd_rollout_scored_tokens_total"]
            + metrics["mixsd_rollouts_accepted_total"]
            + self._num_loads
        )

    @property
    def waiting(self) -> str:
        """What it waits for, or empty."""
        return self._waiting

    def drain(self) -> None:
        """Take no more work; :meth:`run` returns once what is in hand is done."""
        self._draining = True

    def snapshot(self) -> MetricValues:
        """Current metrics; called from another thread."""
        if self._weights.version is None:
            return dict(self._metrics)
        return {
            **self._metrics,
            "mixsd_rollout_weights_version": self._weights.version,
            "mixsd_rollout_publish_seconds": self._weights.seconds,
        }

    def run(self) -> int:
        """Work until the queue has no more; returns rollouts accepted."""
        while True:
            may_begin = self._follow()
            is_over = self._take_work(may_begin) or self._draining
            if is_over and not self._jobs:
                break
            if self._jobs:
                self._waiting = ""
                self._step()
            else:
                none_yet = self._weights.version is None
                self._waiting = f"weights{'' if none_yet else ', work'}, or room in the queue"
                time.sleep(_IDLE_S)
        self._metrics["mixsd_rollout_in_flight"] = 0.0
        return int(self._metrics["mixsd_rollouts_accepted_total"])

    def _follow(self) -> bool:
        """Take newer weights once nothing runs under the old; whether new work may begin."""
        if self._weights.is_behind():
            if not self._decoder.idle:
                return False
            self._weights.load()
            self._num_loads += 1
            # The queue may have refused older weights a moment ago.
            self._poller.is_starved = False
        return self._weights.version is not None

    def _take_work(self, may_begin: bool) -> bool:
        """Lease what there is room for, and show what is still held; whether all is done."""
        free = 0
        if may_begin and not self._draining:
            # Those that are being scored take no slot, up to as many as there are slots.
            slots = self._settings.slots
            free = min(slots - self._decoder.num_attempts, 2 * slots - len(self._jobs))
        if not self._poller.is_due(free, bool(self._jobs)):
            return False
        holding = [job.work.id for job in self._jobs.values()]
        grant = self._source.lease(self._name, free, holding, self._weights.version)
        self._poller.asked(free, grant)
        for work in grant.work:
            self._begin(work)
        return grant.over

    def _begin(self, work: Work) -> None:
        version, target = self._weights.version, self._target
        assert version is not None
        job = _Job(work, self._facts[work.fact_id], version)
        seed = student_seed(self._seed, work.fact_id, work.draw, version)
        sampling = Sampling(target.temperature, top_p=target.top_p, seed=seed)
        # An item may come again that was thought lost, while it is still on its way.
        key = f"{next(self._serial)}-{work.fact_id}"
        self._jobs[key] = job
        self._decoder.submit(
            Attempt(
                key,
                self._prompts.naive(job.fact),
                self._prompts.expert(job.fact),
                # One run from end to end: every token is the naive conditional's.
                [True] * self._settings.max_tokens,
                lambda position: sampling,
            )
        )

    def _step(self) -> None:
        metrics = self._metrics
        for decoder in (self._decoder, self._teacher):
            if decoder is None or decoder.idle:
                continue
            began = time.monotonic()
            results = decoder.step()
            seconds = time.monotonic() - began
            metrics["mixsd_rollout_busy_seconds_total"] += seconds
            metrics["mixsd_rollout_scoring_seconds_total"] += seconds * decoder.scoring_share
            for result in results:
                if isinstance(result, ScoredTarget):
                    self._scored(result)
                else:
                    self._finish(result)
        metrics["mixsd_rollout_in_flight"] = self._decoder.num_attempts
        metrics["mixsd_rollouts_accepted_total"] += self._outbox.send()

    def _finish(self, drawn: FinishedAttempt) -> None:
        job = self._jobs[drawn.key]
        text = self._prompts.text(drawn.token_ids[:-1])
        verified = drawn.complete and accepts(self._prompts.mode, text, job.fact.answer)
        job.rollout = Rollout(
            fact_id=job.work.fact_id,
            draw=job.work.draw,
            attempt=0,
            prompt_ids=self._prompts.naive(job.fact),
            target_ids=drawn.token_ids,
            naive=drawn.naive,
            logprobs=drawn.logprobs,
            base_logprobs=[],
            canonical_logprobs=[],
            mix_rate=1.0,
            num_protected=0,
            fallback="",
            verified=verified,
            policy_version=job.version,
        )
        metrics = self._metrics
        metrics["mixsd_attempts_total"] += 1
        metrics["mixsd_attempts_verified_total"] += verified
        metrics["mixsd_rollout_tokens_total"] += len(drawn.token_ids)
        metrics["mixsd_rollout_naive_tokens_total"] += len(drawn.token_ids)
        if self._teacher is None:
            self._insert(drawn.key)
        else:
            expert = self._prompts.expert(job.fact)
            self._teacher.submit_score(drawn.key, expert, drawn.token_ids, self._top)

    def _scored(self, scored: ScoredTarget) -> None:
        job = self._jobs[scored.key]
        assert job.rollout is not None
        packed = teacher_scores(scored, job.rollout.target_ids)
        job.rollout = replace(job.rollout, teacher_scores=packed)
        self._metrics["mixsd_rollout_scored_tokens_total"] += len(scored.logprobs)
        self._insert(scored.key)

    def _insert(self, key: str) -> None:
        rollout = self._jobs.pop(key).rollout
        assert rollout is not None
        self._outbox.put(rollout, attempts=1)
