"""The loop that every rollout actor runs: lease work, step the engine, send rollouts.

:class:`RolloutLoop` keeps an engine's slots full while the queue has work and sends
what is done. How a work item becomes a rollout is defined in its subclasses.
"""

from __future__ import annotations

import itertools
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, Protocol, TypeVar

from actors.decoding.attempt import FinishedAttempt, ScoredTarget
from actors.decoding.mixed_decoder import MixedDecoder
from actors.decoding.teacher_top_k import scored_top, teacher_scores
from actors.replay.lease_client import LeasePoller, Outbox
from actors.replay.replies import Grant
from common.config.sections import RolloutSettings
from common.methods import Method
from common.metrics import MetricValues
from common.prompts import Prompts
from common.records import Fact, PackedRollout, Rollout, Work


class WorkSource(Protocol):
    """The part of the queue that an actor uses."""

    def lease(
        self, owner: str, count: int, holding: Sequence[int], version: int | None
    ) -> Grant: ...
    def insert_many(self, items: Sequence[PackedRollout]) -> list[bool]: ...
    def exhaust(self, fact_id: str, draw: int, reason: str, attempts: int) -> bool: ...


@dataclass(slots=True)
class Job:
    """A leased work item in progress; ``rollout`` once its target is found."""

    work: Work
    fact: Fact
    rollout: Rollout | None = field(default=None, kw_only=True)


JobT = TypeVar("JobT", bound=Job)


class RolloutLoop(ABC, Generic[JobT]):
    """One engine's worth of rollouts.

    Args:
        name: owner of the leases.
        decoder: decodes on this actor's engine.
        prompts: renders facts.
        method: defines the targets and the loss.
        facts: every fact by id.
        source: the queue.
        settings: the rollout section.
        seed: the run's seed.
        teacher: scores rollouts on an engine of its own, if the method needs one.
    """

    # Time between two polls of a queue that has no work.
    idle_s = 0.2

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
        teacher: MixedDecoder | None = None,
    ) -> None:
        self._name = name
        self._decoder = decoder
        self._teacher = teacher
        self._prompts = prompts
        self._method = method
        self._facts = facts
        self._source = source
        self._settings = settings
        self._seed = seed
        self._top = scored_top(method)
        self._draining = False
        self._waiting = ""
        self._jobs: dict[str, JobT] = {}
        self._serial = itertools.count()
        self._poller = LeasePoller(self.idle_s)
        self._outbox = Outbox(source)
        self._metrics: dict[str, float] = dict.fromkeys(
            (
                "mixsd_rollouts_accepted_total",
                "mixsd_attempts_total",
                "mixsd_attempts_verified_total",
                "mixsd_rollout_tokens_total",
                "mixsd_rollout_naive_tokens_total",
                "mixsd_rollout_scored_tokens_total",
                "mixsd_rollout_in_flight",
                "mixsd_rollout_busy_seconds_total",
                "mixsd_rollout_scoring_seconds_total",
            ),
            0.0,
        )

    @property
    def progress(self) -> float:
        """Grows with each token drawn or scored and each rollout accepted."""
        metrics = self._metrics
        return (
            metrics["mixsd_rollout_tokens_total"]
            + metrics["mixsd_rollout_scored_tokens_total"]
            + metrics["mixsd_rollouts_accepted_total"]
        )

    @property
    def milestone(self) -> float:
        """Rollouts accepted."""
        return self._metrics["mixsd_rollouts_accepted_total"]

    @property
    def waiting(self) -> str:
        """What the actor waits for, or empty."""
        return self._waiting

    def drain(self) -> None:
        """Take no more work; :meth:`run` returns once the current jobs are done."""
        self._draining = True

    def metrics(self) -> MetricValues:
        """Current metrics; called from another thread."""
        return dict(self._metrics)

    def run(self) -> int:
        """Work until the queue has no more; returns the number of accepted rollouts."""
        while True:
            can_begin = self._prepare() and not self._draining
            free = self._num_free_slots() if can_begin else 0
            is_over = self._lease(free) or self._draining
            self._send()
            if is_over and not self._jobs:
                break
            self._fill_slots()
            if self._jobs:
                self._waiting = ""
                self._step()
                self._send()
            elif free == 0 or self._poller.is_starved:
                self._waiting = self._waits_for()
                time.sleep(self.idle_s)
        self._metrics["mixsd_rollout_in_flight"] = 0.0
        return int(self._metrics["mixsd_rollouts_accepted_total"])

    # -- what the actors define -------------------------------------------

    def _prepare(self) -> bool:
        """Called before each lease; whether new work can begin."""
        return True

    def _num_free_slots(self) -> int:
        """How many more work items the actor can take now."""
        return self._settings.slots - len(self._jobs)

    def _version(self) -> int | None:
        """Version of the weights that draw new work; None if they never change."""
        return None

    def _waits_for(self) -> str:
        """Why an actor without jobs is idle."""
        return "work, or space in the queue"

    def _fill_slots(self) -> None:
        """Use slots that new work left free."""
        return

    @abstractmethod
    def _begin(self, key: str, work: Work) -> None:
        """Create the job of ``work`` under ``key`` and submit its first request."""

    @abstractmethod
    def _on_attempt(self, drawn: FinishedAttempt) -> None:
        """An attempt has finished."""

    @abstractmethod
    def _on_score(self, scored: ScoredTarget) -> None:
        """A scoring pass has finished."""

    # -- what they share --------------------------------------------------

    def _lease(self, free: int) -> bool:
        """Lease up to ``free`` work items and renew what is held; whether all work is done."""
        if not self._poller.is_due(free, bool(self._jobs)):
            return False
        holding = [job.work.id for job in self._jobs.values()]
        grant = self._source.lease(self._name, free, holding, self._version())
        self._poller.polled(free, grant)
        for work in grant.work:
            # A work item may come again, thought lost, while it is still in progress.
            self._begin(f"{next(self._serial)}-{work.fact_id}", work)
        return grant.over

    def _step(self) -> None:
        metrics = self._metrics
        for decoder in self._busy_decoders():
            began = time.monotonic()
            results = decoder.step()
            seconds = time.monotonic() - began
            metrics["mixsd_rollout_busy_seconds_total"] += seconds
            metrics["mixsd_rollout_scoring_seconds_total"] += seconds * decoder.scoring_share
            for result in results:
                if isinstance(result, ScoredTarget):
                    metrics["mixsd_rollout_scored_tokens_total"] += len(result.logprobs)
                    self._on_score(result)
                else:
                    self._on_attempt(result)
        metrics["mixsd_rollout_in_flight"] = self._decoder.num_attempts

    def _busy_decoders(self) -> Iterator[MixedDecoder]:
        for decoder in (self._decoder, self._teacher):
            if decoder is not None and not decoder.idle:
                yield decoder

    def _submit_teacher_score(self, key: str, job: JobT, target_ids: Sequence[int]) -> None:
        """Let the teacher score a target given x+."""
        decoder = self._teacher or self._decoder
        decoder.submit_score(key, self._prompts.expert(job.fact), target_ids, self._top)

    def _add_teacher_scores(self, job: JobT, scored: ScoredTarget) -> None:
        assert job.rollout is not None
        packed = teacher_scores(scored, job.rollout.target_ids)
        job.rollout = replace(job.rollout, teacher_scores=packed)

    def _insert(self, key: str, rollout: Rollout, attempts: int = 1) -> None:
        """End a job with its rollout, and the number of attempts it took."""
        self._outbox.put(rollout, attempts=attempts)
        del self._jobs[key]

    def _send(self) -> None:
        self._metrics["mixsd_rollouts_accepted_total"] += self._outbox.send()
