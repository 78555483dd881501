"""The rollout role: leases facts, draws verified targets, hands them to the queue.

Waits for work or for room in the queue; otherwise keeps its engine's slots
full. One loop does all: take work, step the engine, judge what finished.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from actors.engine import Sampling
from actors.picks import draw_picks, sampling_seed
from actors.relay import Attempt, Drawn, Relay, Scored
from actors.replay import Grant
from common.config import RolloutSettings
from common.methods import Canonical, Method
from common.metrics import Snapshot
from common.prompts import Prompts
from common.records import Fact, Rollout, Work, pack_rollout
from common.verify import accepts

_IDLE_S = 0.2
_HEARTBEAT_S = 5.0


class WorkSource(Protocol):
    """The queue as an actor sees it."""

    def lease(self, owner: str, count: int, holding: Sequence[int]) -> Grant: ...
    def insert(self, payload: bytes, attempts: int) -> bool: ...
    def exhaust(self, fact_id: str, draw: int, reason: str, attempts: int) -> bool: ...


@dataclass(slots=True)
class _Job:
    """A leased fact on its way; ``rollout`` once a target is chosen."""

    work: Work
    fact: Fact
    attempt: int = 0
    rollout: Rollout | None = None
    scores_due: int = 0


class RolloutActor:
    """One engine's worth of rollouts.

    Args:
        name: owner of the leases.
        relay: mixed decoding on this actor's engine.
        prompts: renders facts.
        method: decides what each attempt should be.
        facts: every fact by id.
        source: the queue.
        settings: the rollout section.
        seed: the run's seed.
    """

    def __init__(
        self,
        name: str,
        relay: Relay,
        prompts: Prompts,
        method: Method,
        facts: Mapping[str, Fact],
        source: WorkSource,
        settings: RolloutSettings,
        seed: int,
    ) -> None:
        self._name = name
        self._relay = relay
        self._prompts = prompts
        self._method = method
        self._facts = facts
        self._source = source
        self._settings = settings
        self._seed = seed
        self._draining = False
        self._waiting = ""
        self._jobs: dict[str, _Job] = {}
        self._serial = itertools.count()
        self._metrics: dict[str, float] = dict.fromkeys(
            (
                "mixsd_rollouts_accepted_total",
                "mixsd_rollouts_exhausted_total",
                "mixsd_attempts_total",
                "mixsd_attempts_verified_total",
                "mixsd_rollout_tokens_total",
                "mixsd_rollout_naive_tokens_total",
                "mixsd_rollout_scored_tokens_total",
                "mixsd_rollout_in_flight",
                "mixsd_rollout_busy_seconds_total",
            ),
            0.0,
        )

    @property
    def progress(self) -> float:
        """Tokens drawn and scored, and rollouts handed over."""
        metrics = self._metrics
        return (
            metrics["mixsd_rollout_tokens_total"]
            + metrics["mixsd_rollout_scored_tokens_total"]
            + metrics["mixsd_rollouts_accepted_total"]
        )

    @property
    def waiting(self) -> str:
        """What it waits for, or empty."""
        return self._waiting

    def drain(self) -> None:
        """Take no more work; :meth:`run` returns once what is in hand is done."""
        self._draining = True

    def snapshot(self) -> Snapshot:
        """Current metrics; called from another thread."""
        return dict(self._metrics)

    def run(self) -> int:
        """Work until the queue has no more; returns rollouts accepted."""
        asked = 0.0
        while True:
            free = 0 if self._draining else self._settings.slots - len(self._jobs)
            now = time.monotonic()
            if free or now - asked > _HEARTBEAT_S:
                asked = now
                holding = [job.work.id for job in self._jobs.values()]
                grant = self._source.lease(self._name, free, holding)
                if grant.over and not self._jobs:
                    break
                for work in grant.work:
                    self._begin(work)
            if self._draining and not self._jobs:
                break
            if self._relay.idle:
                self._waiting = "work, or room in the queue"
                time.sleep(_IDLE_S)
                continue
            self._waiting = ""
            began = time.monotonic()
            results = self._relay.step()
            self._metrics["mixsd_rollout_busy_seconds_total"] += time.monotonic() - began
            for result in results:
                self._finish(result)
            self._metrics["mixsd_rollout_in_flight"] = self._relay.num_attempts
        self._metrics["mixsd_rollout_in_flight"] = 0.0
        return int(self._metrics["mixsd_rollouts_accepted_total"])

    # -- attempts ---------------------------------------------------------

    def _begin(self, work: Work) -> None:
        job = _Job(work, self._facts[work.fact_id])
        key = f"{next(self._serial)}-{work.fact_id}"
        self._jobs[key] = job
        self._attempt(key, job)

    def _attempt(self, key: str, job: _Job) -> None:
        target = self._method.target(job.attempt)
        if isinstance(target, Canonical):
            self._choose(key, job, self._canonical(job, verified=True))
            return
        settings, work = self._settings, job.work
        identity = (self._seed, work.fact_id, work.draw, job.attempt)
        base = Sampling(settings.temperature, settings.top_k, settings.top_p)

        def sampling(position: int) -> Sampling:
            if settings.temperature == 0:
                return base
            return replace(base, seed=sampling_seed(*identity, position))

        self._relay.submit(
            Attempt(
                key,
                self._prompts.naive(job.fact),
                self._prompts.expert(job.fact),
                draw_picks(*identity, target.mix_rate, settings.max_tokens),
                sampling,
            )
        )

    def _finish(self, result: Drawn | Scored) -> None:
        if isinstance(result, Scored):
            self._scored(result)
            return
        job = self._jobs[result.key]
        self._metrics["mixsd_attempts_total"] += 1
        self._metrics["mixsd_rollout_tokens_total"] += len(result.token_ids)
        self._metrics["mixsd_rollout_naive_tokens_total"] += sum(result.naive)
        response = self._prompts.text(result.token_ids)
        verified = result.complete and accepts(self._prompts.mode, response, job.fact.answer)
        self._metrics["mixsd_attempts_verified_total"] += verified
        if verified:
            self._choose(result.key, job, self._drawn(job, result, verified=True))
        elif self._may_retry(job):
            job.attempt += 1
            self._attempt(result.key, job)
        else:
            self._exhausted(result, job)

    def _may_retry(self, job: _Job) -> bool:
        return job.attempt < self._settings.max_retries and self._method.can_retry(
            self._settings.temperature
        )

    def _exhausted(self, last: Drawn, job: _Job) -> None:
        self._metrics["mixsd_rollouts_exhausted_total"] += 1
        policy = self._settings.on_exhausted
        if policy == "keep":
            self._choose(last.key, job, self._drawn(job, last, verified=False))
        elif policy == "canonical":
            self._choose(last.key, job, self._canonical(job, verified=False))
        else:
            reason = f"no attempt of {job.attempt + 1} gave the answer"
            self._source.exhaust(job.work.fact_id, job.work.draw, reason, attempts=job.attempt + 1)
            del self._jobs[last.key]

    # -- targets ----------------------------------------------------------

    def _drawn(self, job: _Job, drawn: Drawn, *, verified: bool) -> Rollout:
        return Rollout(
            fact_id=job.work.fact_id,
            draw=job.work.draw,
            attempt=job.attempt,
            prompt_ids=self._prompts.naive(job.fact),
            target_ids=drawn.token_ids,
            naive=drawn.naive,
            logprobs=drawn.logprobs,
            base_logprobs=[],
            canonical_nll=None,
            verified=verified,
        )

    def _canonical(self, job: _Job, *, verified: bool) -> Rollout:
        return Rollout(
            fact_id=job.work.fact_id,
            draw=job.work.draw,
            attempt=job.attempt,
            prompt_ids=self._prompts.naive(job.fact),
            target_ids=self._prompts.canonical(job.fact),
            naive=[],
            logprobs=[],
            base_logprobs=[],
            canonical_nll=None,
            verified=verified,
        )

    def _choose(self, key: str, job: _Job, rollout: Rollout) -> None:
        """The target is found: score it and y* under the base, then hand it over."""
        job.rollout = rollout
        if not self._settings.score_targets:
            self._insert(key, job)
            return
        canonical = self._prompts.canonical(job.fact)
        job.scores_due = 1
        self._relay.submit_score(f"{key}/target", rollout.prompt_ids, rollout.target_ids)
        if canonical != rollout.target_ids:
            job.scores_due = 2
            self._relay.submit_score(f"{key}/canonical", rollout.prompt_ids, canonical)

    def _scored(self, scored: Scored) -> None:
        key, _, which = scored.key.rpartition("/")
        job = self._jobs[key]
        assert job.rollout is not None
        self._metrics["mixsd_rollout_scored_tokens_total"] += len(scored.logprobs)
        if which == "target":
            job.rollout = replace(job.rollout, base_logprobs=scored.logprobs)
        if which == "canonical" or job.rollout.target_ids == self._prompts.canonical(job.fact):
            nll = -sum(scored.logprobs) / len(scored.logprobs)
            job.rollout = replace(job.rollout, canonical_nll=nll)
        job.scores_due -= 1
        if job.scores_due == 0:
            self._insert(key, job)

    def _insert(self, key: str, job: _Job) -> None:
        assert job.rollout is not None
        if self._source.insert(pack_rollout(job.rollout), attempts=job.attempt + 1):
            self._metrics["mixsd_rollouts_accepted_total"] += 1
        del self._jobs[key]
