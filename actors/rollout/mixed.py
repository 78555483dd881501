"""The rollout actor of mixed and canonical targets: draws, verifies and scores them.

Fresh facts come first, then the next attempt of a fact that has none in progress, then
scoring, then attempts ahead of their turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from actors.decoding.attempt import FinishedAttempt, ScoredTarget
from actors.decoding.attempt_order import AttemptOrder
from actors.decoding.attempt_tree import AttemptTree
from actors.decoding.mixed_decoder import MixedDecoder
from actors.rollout.loop import Job, RolloutLoop, WorkSource
from actors.rollout.target_builder import TargetBuilder
from common.config.sections import RolloutSettings
from common.methods import Method, OwnAnswers
from common.prompts import Prompts
from common.records import Fact, Rollout, Work


@dataclass(slots=True)
class _Job(Job):
    """A leased fact in progress.

    ``targets``: builds its attempts and its target.
    ``candidates``: rollouts of finished attempts that may still be chosen.
    ``compared``: those that are left to choose from, each with its scores once they are known.
    ``due``: scores that this choice, or the chosen ``rollout``, waits for.
    """

    targets: TargetBuilder
    order: AttemptOrder
    tree: AttemptTree | None
    candidates: dict[int, Rollout] = field(default_factory=dict)
    compared: dict[str, Rollout] = field(default_factory=dict)
    due: set[str] = field(default_factory=set)


class MixedRolloutActor(RolloutLoop[_Job]):
    """Draws targets from the mixture; canonical targets need no engine.

    Args: those of :class:`actors.rollout.loop.RolloutLoop`, without ``teacher``.
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
        super().__init__(name, decoder, prompts, method, facts, source, settings, seed)
        self._targets = TargetBuilder(prompts, method, settings, seed)
        # A generic prompt has no expert and no canonical answer to fall back to.
        dropping = settings.model_copy(update={"on_exhausted": "drop"})
        self._own_answers = TargetBuilder(prompts, OwnAnswers(), dropping, seed)
        self._metrics |= dict.fromkeys(
            (
                "mixsd_rollouts_exhausted_total",
                "mixsd_attempts_cancelled_total",
                "mixsd_rollout_walked_tokens_total",
            ),
            0.0,
        )

    @property
    def progress(self) -> float:
        """Also grows with each attempt that was verified."""
        return super().progress + self._metrics["mixsd_attempts_total"]

    @property
    def milestone(self) -> float:
        """Also grows with each work item that is given up."""
        return super().milestone + self._metrics["mixsd_rollouts_exhausted_total"]

    # -- attempts ---------------------------------------------------------

    def _begin(self, key: str, work: Work) -> None:
        fact = self._facts[work.fact_id]
        targets = self._own_answers if fact.is_generic else self._targets
        order = AttemptOrder(targets.limit, targets.num_compared)
        job = _Job(work, fact, targets, order, targets.new_tree())
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
        """After a verification result: start the next attempt, choose the winner, or give up."""
        if job.order.may_start and not job.order.running:
            self._start(key, job)
        winners = job.order.winners
        if winners or job.order.is_exhausted:
            self._decoder.release_group(key)
        if winners:
            self._compare(key, job, [job.candidates[number] for number in winners])
        elif job.order.is_exhausted:
            self._exhausted(key, job)

    def _start(self, key: str, job: _Job) -> None:
        number = job.order.start()
        attempt = job.targets.attempt(key, job.work, job.fact, number, job.tree)
        if attempt is None:
            job.candidates[number] = job.targets.canonical(job.work, job.fact, number)
            job.order.finish(number, accepted=True)
            return
        self._metrics["mixsd_rollout_walked_tokens_total"] += len(attempt.known.token_ids)
        self._decoder.submit(attempt)

    def _on_attempt(self, drawn: FinishedAttempt) -> None:
        self._count(drawn)
        key, _, suffix = drawn.key.rpartition("/")
        job, number = self._jobs.get(key), int(suffix)
        if job is None or number not in job.order.running:
            # It finished in the step in which another attempt beat it.
            return
        self._metrics["mixsd_attempts_total"] += 1
        if job.tree is not None:
            job.tree.record(drawn.token_ids, drawn.logprobs, drawn.naive, drawn.beside)
        accepted = job.targets.accepts(drawn, job.fact)
        self._metrics["mixsd_attempts_verified_total"] += accepted
        if accepted or number == job.targets.num_attempts - 1:
            job.candidates[number] = job.targets.drawn(job.work, job.fact, number, drawn, accepted)
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
        policy, last = job.targets.on_exhausted, job.targets.num_attempts - 1
        if policy == "keep":
            self._choose(key, job, replace(job.candidates[last], fallback=policy))
        elif policy == "canonical":
            self._choose(key, job, job.targets.canonical(job.work, job.fact, last, policy))
        else:
            self._metrics["mixsd_rollouts_exhausted_total"] += 1
            wanted = "ended in rollout.max_tokens" if job.fact.is_generic else "gave the answer"
            reason = f"no attempt of {job.targets.num_attempts} {wanted}"
            if policy == "expert":
                reason += ", nor did the expert alone"
            work = job.work
            self._source.exhaust(work.fact_id, work.draw, reason, attempts=job.targets.limit)
            del self._jobs[key]

    # -- scores -----------------------------------------------------------

    def _compare(self, key: str, job: _Job, accepted: Sequence[Rollout]) -> None:
        """Choose the likeliest of the accepted rollouts under the base, in attempt order."""
        distinct: dict[tuple[int, ...], Rollout] = {}
        for rollout in accepted:
            distinct.setdefault(tuple(rollout.target_ids), rollout)
        if len(distinct) == 1:
            self._choose(key, job, accepted[0])
            return
        job.compared = {f"attempt-{rollout.attempt}": rollout for rollout in distinct.values()}
        for which, rollout in job.compared.items():
            if not rollout.base_logprobs:
                self._score(key, job, which, rollout.target_ids)
        self._choose_if_scored(key, job)

    def _choose_if_scored(self, key: str, job: _Job) -> None:
        if job.due:
            return
        # Of equals, the first.
        likeliest = min(job.compared.values(), key=lambda rollout: rollout.target_nll or 0.0)
        job.compared.clear()
        self._choose(key, job, likeliest)

    def _choose(self, key: str, job: _Job, rollout: Rollout) -> None:
        """The target is found: score it and y* under the base if its turn is drawn.

        Where the naive side's log-probabilities of all tokens are known, they are the base's and
        need no pass. A decoder that knows most of them lets every target be scored. A pass covers
        all positions: the engine computes a prompt's log-probabilities whole or not at all.
        """
        is_sampled = job.targets.is_scored(job.work)
        wants_score = is_sampled or self._decoder.gives_naive_logprobs
        # Were all that are known kept, the mean would be of the targets that are likeliest.
        job.rollout = rollout if wants_score else replace(rollout, base_logprobs=[])
        if rollout.fallback:
            self._metrics["mixsd_rollouts_exhausted_total"] += 1
        if self._top:
            self._score(key, job, "teacher", rollout.target_ids)
        if wants_score and not rollout.base_logprobs:
            self._score(key, job, "target", rollout.target_ids)
        if is_sampled:
            canonical = self._prompts.canonical(job.fact)
            if canonical not in ([], rollout.target_ids):
                self._score(key, job, "canonical", canonical)
        self._insert_if_scored(key, job)

    def _score(self, key: str, job: _Job, which: str, target_ids: Sequence[int]) -> None:
        job.due.add(which)
        key = f"{key}/{which}"
        if which == "teacher":
            self._submit_teacher_score(key, job, target_ids)
        else:
            self._decoder.submit_score(key, self._prompts.naive(job.fact), target_ids)

    def _on_score(self, scored: ScoredTarget) -> None:
        key, _, which = scored.key.rpartition("/")
        job = self._jobs[key]
        if which in job.compared:
            compared = job.compared[which]
            job.compared[which] = replace(compared, base_logprobs=scored.logprobs)
            job.due.remove(which)
            self._choose_if_scored(key, job)
            return
        assert job.rollout is not None
        if which == "target":
            job.rollout = replace(job.rollout, base_logprobs=scored.logprobs)
        elif which == "teacher":
            self._add_teacher_scores(job, scored)
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
        self._insert(key, rollout, max(rollout.attempt + 1, job.targets.num_compared))
