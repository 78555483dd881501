"""The rollout role: leases facts, draws verified targets, hands them to the queue.

Waits for work or for room in the queue; otherwise keeps its engine's slots
full. One loop does all: take work, start attempts, step the engine, judge what
finished. Fresh facts come first, then the next attempt of a fact that has none
under way, then scoring, then attempts ahead of their turn.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from actors.decoding.attempt_order import AttemptOrder
from actors.decoding.attempt_tree import AttemptTree
from actors.decoding.mixed_decoder import FinishedAttempt, MixedDecoder, ScoredTarget
from actors.decoding.teacher_top_k import scored_top, teacher_scores
from actors.replay.lease_client import LeasePoller, Outbox
from actors.replay.queue import Grant
from actors.rollout.target_builder import TargetBuilder
from common.config.sections import RolloutSettings
from common.methods import Method
from common.metrics import MetricValues
from common.prompts import Prompts
from common.records import Fact, Rollout, Work

_IDLE_S = 0.2


class WorkSource(Protocol):
    """The queue as an actor sees it."""

    def lease(self, owner: str, count: int, holding: Sequence[int]) -> Grant: ...
    def insert_many(self, items: Sequence[tuple[bytes, int]]) -> list[bool]: ...
    def exhaust(self, fact_id: str, draw: int, reason: str, attempts: int) -> bool: ...


@dataclass(slots=True)
class _Job:
    """A leased fact on its way.

    ``candidates``: what finished attempts gave, where it may yet be chosen.
    ``due``: scores that the chosen ``rollout`` waits for.
    """

    work: Work
    fact: Fact
    order: AttemptOrder
    tree: AttemptTree | None
    candidates: dict[int, Rollout] = field(default_factory=dict)
    rollout: Rollout | None = None
    due: set[str] = field(default_factory=set)


class MixedRolloutActor:
    """One engine's worth of rollouts.

    Args:
        name: owner of the leases.
        decoder: mixed decoding on this actor's engine.
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
        decoder: MixedDecoder,
        prompts: Prompts,
        method: Method,
        facts: Mapping[str, Fact],
        source: WorkSource,
        settings: RolloutSettings,
        seed: int,
    ) -> None:
        self._name = name
        self._decoder = decoder
        self._prompts = prompts
        self._targets = TargetBuilder(prompts, method, settings, seed)
        self._top = scored_top(method)
        self._facts = facts
        self._source = source
        self._settings = settings
        self._draining = False
        self._waiting = ""
        self._jobs: dict[str, _Job] = {}
        self._serial = itertools.count()
        self._poller = LeasePoller(_IDLE_S)
        self._outbox = Outbox(source)
        self._metrics: dict[str, float] = dict.fromkeys(
            (
                "mixsd_rollouts_accepted_total",
                "mixsd_rollouts_exhausted_total",
                "mixsd_attempts_total",
                "mixsd_attempts_verified_total",
                "mixsd_attempts_cancelled_total",
                "mixsd_rollout_tokens_total",
                "mixsd_rollout_naive_tokens_total",
                "mixsd_rollout_walked_tokens_total",
                "mixsd_rollout_scored_tokens_total",
                "mixsd_rollout_in_flight",
                "mixsd_rollout_busy_seconds_total",
                "mixsd_rollout_scoring_seconds_total",
            ),
            0.0,
        )

    @property
    def progress(self) -> float:
        """Tokens drawn and scored, attempts judged, and rollouts handed over."""
        metrics = self._metrics
        return (
            metrics["mixsd_rollout_tokens_total"]
            + metrics["mixsd_rollout_scored_tokens_total"]
            + metrics["mixsd_attempts_total"]
            + metrics["mixsd_rollouts_accepted_total"]
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
        return dict(self._metrics)

    def run(self) -> int:
        """Work until the queue has no more; returns rollouts accepted."""
        while True:
            is_over = self._take_work() or self._draining
            self._hand_over()
            if is_over and not self._jobs:
                break
            self._fill_slots()
            if not self._decoder.idle:
                self._waiting = ""
                self._step()
                self._hand_over()
            elif self._poller.is_starved:
                self._waiting = "work, or room in the queue"
                time.sleep(_IDLE_S)
        self._metrics["mixsd_rollout_in_flight"] = 0.0
        return int(self._metrics["mixsd_rollouts_accepted_total"])

    def _take_work(self) -> bool:
        """Lease what there is room for, and show what is still held; whether all is done."""
        free = 0 if self._draining else self._settings.slots - len(self._jobs)
        if not self._poller.is_due(free, bool(self._jobs)):
            return False
        holding = [job.work.id for job in self._jobs.values()]
        grant = self._source.lease(self._name, free, holding)
        self._poller.asked(free, grant)
        for work in grant.work:
            self._begin(work)
        return grant.over

    def _step(self) -> None:
        began = time.monotonic()
        results = self._decoder.step()
        seconds = time.monotonic() - began
        self._metrics["mixsd_rollout_busy_seconds_total"] += seconds
        self._metrics["mixsd_rollout_scoring_seconds_total"] += (
            seconds * self._decoder.scoring_share
        )
        for result in results:
            if isinstance(result, ScoredTarget):
                self._scored(result)
            else:
                self._finish(result)
        self._metrics["mixsd_rollout_in_flight"] = self._decoder.num_attempts

    # -- attempts ---------------------------------------------------------

    def _begin(self, work: Work) -> None:
        fact, order = self._facts[work.fact_id], AttemptOrder(self._targets.limit)
        job = _Job(work, fact, order, self._targets.new_tree())
        key = f"{next(self._serial)}-{work.fact_id}"
        self._jobs[key] = job
        self._advance(key, job)

    def _fill_slots(self) -> None:
        """Start attempts ahead of their turn where slots are free and no fresh fact waits."""
        most = self._settings.attempts_in_flight
        while (
            most > 1
            and self._poller.is_starved
            and self._decoder.num_requests < self._settings.slots
        ):
            ready = [
                (len(job.order.running), key)
                for key, job in self._jobs.items()
                if job.order.may_start and len(job.order.running) < most
            ]
            if not ready:
                return
            _, key = min(ready)
            self._start(key, self._jobs[key])

    def _advance(self, key: str, job: _Job) -> None:
        """Go on after a verdict: the next attempt, the winner, or what is left without one."""
        if job.order.may_start and not job.order.running:
            self._start(key, job)
        if job.order.winner is not None or job.order.is_exhausted:
            self._decoder.release_group(key)
        if job.order.winner is not None:
            self._choose(key, job, job.candidates[job.order.winner])
        elif job.order.is_exhausted:
            self._exhausted(key, job)

    def _start(self, key: str, job: _Job) -> None:
        number = job.order.start()
        attempt = self._targets.attempt(key, job.work, job.fact, number, job.tree)
        if attempt is None:
            job.candidates[number] = self._targets.canonical(job.work, job.fact, number)
            job.order.finish(number, accepted=True)
            return
        self._metrics["mixsd_rollout_walked_tokens_total"] += len(attempt.known.token_ids)
        self._decoder.submit(attempt)

    def _finish(self, drawn: FinishedAttempt) -> None:
        self._count(drawn)
        key, _, suffix = drawn.key.rpartition("/")
        job, number = self._jobs.get(key), int(suffix)
        if job is None or number not in job.order.running:
            # It finished in the step in which another attempt beat it.
            return
        self._metrics["mixsd_attempts_total"] += 1
        if job.tree is not None:
            job.tree.record(drawn.token_ids, drawn.logprobs, drawn.naive)
        accepted = self._targets.accepts(drawn, job.fact)
        self._metrics["mixsd_attempts_verified_total"] += accepted
        if accepted or number == self._targets.num_attempts - 1:
            job.candidates[number] = self._targets.drawn(
                job.work, job.fact, number, drawn, accepted
            )
        for beaten in job.order.finish(number, accepted):
            self._metrics["mixsd_attempts_cancelled_total"] += 1
            partial = self._decoder.cancel(f"{key}/{beaten}")
            if partial is not None:
                self._count(partial)
        self._advance(key, job)

    def _count(self, drawn: FinishedAttempt) -> None:
        new = drawn.naive[drawn.num_known :]
        self._metrics["mixsd_rollout_tokens_total"] += len(new)
        self._metrics["mixsd_rollout_naive_tokens_total"] += sum(new)

    def _exhausted(self, key: str, job: _Job) -> None:
        policy, last = self._settings.on_exhausted, self._targets.num_attempts - 1
        if policy == "keep":
            self._choose(key, job, replace(job.candidates[last], fallback=policy))
        elif policy == "canonical":
            self._choose(key, job, self._targets.canonical(job.work, job.fact, last, policy))
        else:
            self._metrics["mixsd_rollouts_exhausted_total"] += 1
            reason = f"no attempt of {self._targets.num_attempts} gave the answer"
            if policy == "expert":
                reason += ", nor did the expert alone"
            work = job.work
            self._source.exhaust(work.fact_id, work.draw, reason, attempts=self._targets.limit)
            del self._jobs[key]

    # -- scores -----------------------------------------------------------

    def _choose(self, key: str, job: _Job, rollout: Rollout) -> None:
        """The target is found: score it and y* under the base if its turn is drawn.

        Where the naive side drew every token, its log-probabilities are the base's and
        are reused. Otherwise the pass covers all positions: those of the naive side would
        be known, but the engine computes a prompt's log-probabilities whole or not at all.
        """
        job.rollout = rollout
        if rollout.fallback:
            self._metrics["mixsd_rollouts_exhausted_total"] += 1
        if self._top:
            self._score(key, job, "teacher", rollout.target_ids, self._top)
        if self._targets.is_scored(job.work):
            if rollout.naive and all(rollout.naive):
                job.rollout = replace(rollout, base_logprobs=rollout.logprobs)
            else:
                self._score(key, job, "target", rollout.target_ids)
            canonical = self._prompts.canonical(job.fact)
            if canonical != rollout.target_ids:
                self._score(key, job, "canonical", canonical)
        self._insert_if_scored(key, job)

    def _score(
        self, key: str, job: _Job, which: str, target_ids: Sequence[int], top: int = 0
    ) -> None:
        job.due.add(which)
        prompt = self._prompts.expert(job.fact) if top else self._prompts.naive(job.fact)
        self._decoder.submit_score(f"{key}/{which}", prompt, target_ids, top)

    def _scored(self, scored: ScoredTarget) -> None:
        key, _, which = scored.key.rpartition("/")
        job = self._jobs[key]
        assert job.rollout is not None
        self._metrics["mixsd_rollout_scored_tokens_total"] += len(scored.logprobs)
        if which == "target":
            job.rollout = replace(job.rollout, base_logprobs=scored.logprobs)
        elif which == "teacher":
            packed = teacher_scores(scored, job.rollout.target_ids)
            job.rollout = replace(job.rollout, teacher_scores=packed)
        else:
            job.rollout = replace(job.rollout, canonical_logprobs=scored.logprobs)
        job.due.remove(which)
        self._insert_if_scored(key, job)

    def _insert_if_scored(self, key: str, job: _Job) -> None:
        if job.due:
            return
        rollout = job.rollout
        assert rollout is not None
        if rollout.target_ids == self._prompts.canonical(job.fact):
            rollout = replace(rollout, canonical_logprobs=rollout.base_logprobs)
        self._outbox.put(rollout, attempts=rollout.attempt + 1)
        del self._jobs[key]

    def _hand_over(self) -> None:
        self._metrics["mixsd_rollouts_accepted_total"] += self._outbox.send()
