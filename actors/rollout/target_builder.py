"""What a fact's attempts are, when they are lost, and the rollouts that come of them.

Everything follows from (settings, method, seed, fact, draw, attempt). Which
attempt runs when, and on what engine, is not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property

from actors.decoding.attempt import Attempt, FinishedAttempt
from actors.decoding.attempt_tree import AttemptTree
from actors.decoding.picks import DrawnTokens, SegmentSchedule, draw_picks, is_scored, sampling_seed
from actors.inference.requests import Sampling
from common.config.sections import RolloutSettings
from common.methods import Canonical, Method, Mixed, Target
from common.prompts import Prompts
from common.records import Fact, Rollout, Work
from common.verification.facts import is_right
from common.verification.token_budget import BOUNDED, TokenBudget, TokenPieces
from common.verification.verifier import SETTLED_EARLY, can_still_accept, is_inside_answer


class TargetBuilder:
    """The attempts and targets of one run's facts.

    ``num_attempts`` is how often a fact is tried: as often as allowed and able
    to differ. ``limit`` counts the fallback to the expert too: it is one more
    attempt, after all others. ``num_compared`` is that of the method's selection.
    """

    def __init__(
        self, prompts: Prompts, method: Method, settings: RolloutSettings, seed: int
    ) -> None:
        self._prompts = prompts
        self._method = method
        self._settings = settings
        self._seed = seed
        self.on_exhausted = settings.on_exhausted
        number, most = 0, method.selection.samples - 1 + settings.max_retries
        while number < most and method.can_retry(number, settings.temperature):
            number += 1
        self.num_attempts = number + 1
        self.num_compared = min(method.selection.num_compared, self.num_attempts)
        self.limit = self.num_attempts + (settings.on_exhausted == "expert")

    def new_tree(self) -> AttemptTree | None:
        """A fact's attempt tree, where attempts can share one."""
        settings = self._settings
        if settings.temperature > 0 or settings.tree_tokens == 0 or self.limit == 1:
            return None
        return AttemptTree(settings.tree_tokens)

    def attempt(
        self, prefix_group: str, work: Work, fact: Fact, number: int, tree: AttemptTree | None
    ) -> Attempt | None:
        """An attempt at a fact's target; None if the target is the canonical answer y*.

        Args:
            prefix_group: key of the fact's attempts, which share prompts; ``prefix_group/number``
                is the attempt's key.
            work: the leased (fact, draw).
            fact: that fact.
            number: of the attempt, from 0.
            tree: tokens that earlier attempts drew; the attempt begins with those it shares.
        """
        target, settings = self._target(number), self._settings
        if isinstance(target, Canonical):
            return None
        assert isinstance(target, Mixed), "what the student draws is another actor's"
        identity = (self._seed, work.fact_id, work.draw, number)
        base = Sampling(settings.temperature, settings.top_k, settings.top_p)

        def sampling(position: int) -> Sampling:
            if settings.temperature == 0:
                return base
            return replace(base, seed=sampling_seed(*identity, position))

        def protects(token_ids: Sequence[int]) -> bool:
            return is_inside_answer(self._prompts.text(token_ids), *fact.spellings)

        picks = draw_picks(*identity, target.mix_rate, settings.max_tokens)
        hook = protects if target.protect_answer else None
        budget = self._budget(fact, number)
        return Attempt(
            f"{prefix_group}/{number}",
            self._prompts.naive(fact),
            self._prompts.expert(fact),
            picks,
            sampling,
            known=DrawnTokens() if tree is None else tree.walk(SegmentSchedule(picks, hook)),
            protects=hook,
            settled=self._settled(fact, number, budget),
            check_at=self._check_at(budget),
            prefix_group=prefix_group if self.limit > 1 else "",
        )

    def accepts(self, drawn: FinishedAttempt, fact: Fact) -> bool:
        """Whether an attempt ended in time and is right. The stop token is not text."""
        text = self._prompts.text(drawn.token_ids[:-1])
        if fact.is_generic:
            return drawn.complete and bool(text.strip())
        return drawn.complete and is_right(self._prompts.mode, text, fact)

    def drawn(
        self, work: Work, fact: Fact, number: int, drawn: FinishedAttempt, verified: bool
    ) -> Rollout:
        """The rollout of a finished attempt.

        Args:
            work: the leased (fact, draw).
            fact: that fact.
            number: of the attempt, from 0.
            drawn: its tokens.
            verified: whether its answer was accepted.
        """
        target = self._target(number)
        assert isinstance(target, Mixed)
        picks = draw_picks(
            self._seed, work.fact_id, work.draw, number, target.mix_rate, len(drawn.naive)
        )
        return Rollout(
            fact_id=work.fact_id,
            draw=work.draw,
            attempt=number,
            prompt_ids=self._prompts.naive(fact),
            target_ids=drawn.token_ids,
            naive=drawn.naive,
            logprobs=drawn.logprobs,
            base_logprobs=drawn.naive_logprobs or [],
            canonical_logprobs=[],
            mix_rate=target.mix_rate,
            num_protected=sum(picks) - sum(drawn.naive),
            fallback="expert" if number == self.num_attempts else "",
            verified=verified,
        )

    def canonical(self, work: Work, fact: Fact, number: int, fallback: str = "") -> Rollout:
        """y* as a rollout."""
        return Rollout(
            fact_id=work.fact_id,
            draw=work.draw,
            attempt=number,
            prompt_ids=self._prompts.naive(fact),
            target_ids=self._prompts.canonical(fact),
            naive=[],
            logprobs=[],
            base_logprobs=[],
            canonical_logprobs=[],
            mix_rate=None,
            num_protected=0,
            fallback=fallback,
            verified=not fallback,
        )

    def is_scored(self, work: Work) -> bool:
        """Whether the target of this work is scored under the base."""
        return is_scored(self._seed, work.fact_id, work.draw, self._settings.score_fraction)

    def _target(self, number: int) -> Target:
        return Mixed(0.0) if number == self.num_attempts else self._method.target(number)

    @cached_property
    def _pieces(self) -> TokenPieces:
        is_bounded = self._prompts.mode in BOUNDED
        return TokenPieces(self._prompts.token_texts() if is_bounded else ())

    def _is_drawn_whole(self, fact: Fact, number: int) -> bool:
        settings = self._settings
        is_kept = settings.on_exhausted == "keep" and number == self.num_attempts - 1
        return is_kept or not settings.early_stop or fact.is_generic

    def _budget(self, fact: Fact, number: int) -> TokenBudget | None:
        """The tokens that a fact's answer needs; None if nothing is settled by them."""
        if self._is_drawn_whole(fact, number) or fact.retract:
            return None
        return TokenBudget(self._prompts.mode, fact.spellings, self._pieces)

    def _check_at(self, budget: TokenBudget | None) -> int:
        """Where a text without any part of the answer is settled.

        Above temperature 0 the tokens of a segment depend on where it begins, so none is split.
        """
        if budget is None or self._settings.temperature > 0:
            return 0
        return max(0, self._settings.max_tokens + 1 - budget.most)

    def _settled(
        self, fact: Fact, number: int, budget: TokenBudget | None
    ) -> Callable[[Sequence[int]], bool] | None:
        """When an attempt cannot be accepted any more; None if it must be drawn whole."""
        if budget is not None:
            return self._settles(fact, budget)
        if self._is_drawn_whole(fact, number):
            return None
        prompts, last = self._prompts, self._settings.max_tokens - 1
        # Any text may yet become one without the retracted answer, until only the stop token fits.
        return lambda token_ids: (
            len(token_ids) == last and not is_right(prompts.mode, prompts.text(token_ids), fact)
        )

    def _settles(self, fact: Fact, budget: TokenBudget) -> Callable[[Sequence[int]], bool]:
        """When an attempt cannot be accepted any more."""
        mode, most = self._prompts.mode, self._settings.max_tokens

        def settled(token_ids: Sequence[int]) -> bool:
            left = most - len(token_ids)
            if left > budget.most and mode not in SETTLED_EARLY:
                return False
            text = self._prompts.text(token_ids)
            return budget.settled(text, left) or not can_still_accept(mode, text, *fact.spellings)

        return settled
