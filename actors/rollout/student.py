"""The rollout actor of targets that the student itself draws: one sample a work item.

All samples are trained. Weights never change under a request: once the learner has
published a newer version, no new work begins, and when the last rollout is finished the
engine loads the new weights. So every rollout belongs to one version, which it records,
and the queue refuses work to weights that are too old for it. Verification selects
nothing; its results are only counted.

If an engine is the teacher, the reference scores each rollout given x+ before it is sent: in a
second engine, or in the same one if it applies the student's adapters to the reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from actors.decoding.attempt import Attempt, FinishedAttempt, ScoredTarget
from actors.decoding.mixed_decoder import MixedDecoder
from actors.decoding.picks import student_seed
from actors.inference.requests import Sampling
from actors.rollout.loop import Job, RolloutLoop, WorkSource
from common.config.sections import RolloutSettings
from common.methods import Method, StudentSampled
from common.metrics import MetricValues
from common.prompts import Prompts
from common.records import Fact, Rollout, Work
from common.verification.facts import is_right


class WeightReceiver(Protocol):
    """Receives the student's weights into its engine; see :mod:`common.weight_sync`."""

    version: int | None
    seconds: dict[str, float]

    def is_behind(self) -> bool: ...
    def load(self) -> None: ...


@dataclass(slots=True)
class _Job(Job):
    """A leased sample in progress, and the version of the weights that draws it."""

    version: int


class StudentRolloutActor(RolloutLoop[_Job]):
    """Draws samples from the student.

    Args: those of :class:`actors.rollout.loop.RolloutLoop`, and
        weights: receives the student's weights into the decoder's engine.
    """

    idle_s = 0.05

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
        super().__init__(name, decoder, prompts, method, facts, source, settings, seed, teacher)
        assert teacher is None or self._top > 0
        target = method.target(0)
        assert isinstance(target, StudentSampled)
        self._weights = weights
        self._target = target
        self._num_loads = 0

    @property
    def progress(self) -> float:
        """Also grows with each version loaded."""
        return super().progress + self._num_loads

    def metrics(self) -> MetricValues:
        """Current metrics; called from another thread."""
        if self._weights.version is None:
            return super().metrics()
        return {
            **super().metrics(),
            "mixsd_rollout_weights_version": self._weights.version,
            "mixsd_rollout_publish_seconds": self._weights.seconds,
        }

    def _prepare(self) -> bool:
        """Load newer weights once nothing is in flight under the old ones."""
        if self._weights.is_behind():
            if not self._decoder.idle:
                return False
            self._weights.load()
            self._num_loads += 1
            # The queue may have refused older weights a moment ago.
            self._poller.is_starved = False
        return self._weights.version is not None

    def _version(self) -> int | None:
        return self._weights.version

    def _num_free_slots(self) -> int:
        # Rollouts that are being scored take no slot, up to as many as there are slots.
        slots = self._settings.slots
        return min(slots - self._decoder.num_attempts, 2 * slots - len(self._jobs))

    def _waits_for(self) -> str:
        none_yet = self._weights.version is None
        return f"weights{'' if none_yet else ', work'}, or space in the queue"

    def _begin(self, key: str, work: Work) -> None:
        version, target = self._weights.version, self._target
        assert version is not None
        job = _Job(work, self._facts[work.fact_id], version)
        seed = student_seed(self._seed, work.fact_id, work.draw, version)
        sampling = Sampling(target.temperature, top_p=target.top_p, seed=seed)
        self._jobs[key] = job
        self._decoder.submit(
            Attempt(
                key,
                self._prompts.naive(job.fact),
                self._prompts.expert(job.fact),
                # One segment: every token is the naive conditional's.
                [True] * self._settings.max_tokens,
                lambda position: sampling,
            )
        )

    def _on_attempt(self, drawn: FinishedAttempt) -> None:
        job = self._jobs[drawn.key]
        text = self._prompts.text(drawn.token_ids[:-1])
        verified = drawn.complete and is_right(self._prompts.mode, text, job.fact)
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
        if self._top == 0:
            self._insert(drawn.key, job.rollout)
        else:
            self._submit_teacher_score(drawn.key, job, drawn.token_ids)

    def _on_score(self, scored: ScoredTarget) -> None:
        job = self._jobs[scored.key]
        self._add_teacher_scores(job, scored)
        assert job.rollout is not None
        self._insert(scored.key, job.rollout)
