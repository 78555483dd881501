"""The mixed decoder: naive and expert requests alternate on one sequence.

An attempt's picks are known ahead and form segments of equal picks. One side generates
exactly its segment; then the other side continues from the tokens that it has not seen.
The decoder selects the next side and its context. It admits an attempt only if the KV
budget holds all tokens that the generating side may draw; the waiting side's session uses
what is left, and the engine may evict it.

The decoder knows nothing of facts, verification or retries.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from actors.decoding.attempt import Attempt, FinishedAttempt, ScoredTarget
from actors.decoding.picks import DrawnTokens, Segment, SegmentSchedule
from actors.inference.arguments import EngineError
from actors.inference.requests import EngineOutput, Sampling, TopLogprobs


class DecodingEngine(Protocol):
    """The part of :class:`actors.inference.engine.Engine` that the decoder uses."""

    num_blocks: int
    max_model_len: int

    def extend(
        self,
        key: str,
        context: Sequence[int],
        num_tokens: int,
        sampling: Sampling,
        *,
        last: bool,
    ) -> None: ...
    def release(self, key: str) -> None: ...
    def begin_score(self, key: str, token_ids: Sequence[int], top: int = 0) -> None: ...
    def step(self) -> list[EngineOutput]: ...
    def ends(self, token_id: int) -> bool: ...
    def blocks_for(self, num_tokens: int) -> int: ...


@dataclass(slots=True)
class _Active:
    attempt: Attempt
    schedule: SegmentSchedule
    blocks: int
    drawn: DrawnTokens
    segment: Segment | None = None
    # Side -> the key of its session.
    sessions: dict[bool, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Scoring:
    key: str
    token_ids: list[int]
    num_prompt: int
    blocks: int
    top: int


class MixedDecoder:
    """Keeps up to ``slots`` attempts in flight on one engine.

    Scoring requests start only if no attempt waits: they fill idle slots and do not delay
    decoding.

    Attributes:
        gives_naive_logprobs: whether most attempts come with them.
    """

    gives_naive_logprobs = False

    def __init__(self, engine: DecodingEngine, slots: int) -> None:
        self._engine = engine
        self._slots = slots
        self._free_blocks = engine.num_blocks
        self._waiting: deque[_Active] = deque()
        # Attempts whose known tokens are all they need; they take no slot.
        self._known: list[_Active] = []
        self._to_score: deque[_Scoring] = deque()
        self._active: dict[str, _Active] = {}
        # By the session that generates.
        self._generating: dict[str, _Active] = {}
        # Prefix group -> side -> sessions that no attempt uses.
        self._idle_sessions: dict[str, dict[bool, list[str]]] = {}
        self._scoring: dict[str, _Scoring] = {}
        # Scored tokens as a fraction of all scheduled tokens of the last step.
        self.scoring_share = 0.0

    @property
    def num_attempts(self) -> int:
        """Attempts submitted and not finished."""
        return len(self._waiting) + len(self._active) + len(self._known)

    @property
    def num_requests(self) -> int:
        """Attempts and scorings submitted and not finished."""
        return self.num_attempts + len(self._to_score) + len(self._scoring)

    @property
    def idle(self) -> bool:
        """Whether all that was submitted has finished."""
        return self.num_requests == 0

    def submit(self, attempt: Attempt) -> None:
        """Queue an attempt.

        Raises:
            EngineError: it cannot run even alone.
        """
        longest = max(len(attempt.naive_prompt), len(attempt.expert_prompt)) + len(attempt.picks)
        self._check_context(attempt.key, longest)
        schedule = SegmentSchedule(attempt.picks, attempt.protects, attempt.check_at)
        blocks = self._blocks(attempt, schedule)
        self._check_blocks(attempt.key, blocks)
        active = _Active(attempt, schedule, blocks, attempt.known.copy())
        active.segment = self._next_segment(active)
        if active.segment is None:
            self._known.append(active)
        else:
            self._waiting.append(active)

    def submit_score(
        self, key: str, prompt: Sequence[int], target: Sequence[int], top: int = 0
    ) -> None:
        """Queue a scoring pass over ``target`` given ``prompt``; ``top`` likeliest tokens too.

        Raises:
            EngineError: it cannot run even alone.
        """
        token_ids = [*prompt, *target]
        self._check_context(key, len(token_ids) + 1)
        blocks = self._engine.blocks_for(len(token_ids) + 1)
        self._check_blocks(key, blocks)
        self._to_score.append(_Scoring(key, token_ids, len(prompt), blocks, top))

    def step(self) -> list[FinishedAttempt | ScoredTarget]:
        """Admit what fits, run one engine iteration, return what finished."""
        self._admit()
        scored = sum(len(scoring.token_ids) for scoring in self._scoring.values())
        self.scoring_share = scored / max(1, scored + len(self._active))
        results: list[FinishedAttempt | ScoredTarget] = [
            self._drawn(active) for active in self._known
        ]
        self._known.clear()
        for output in self._engine.step() if self._active or self._scoring else ():
            if output.key in self._scoring:
                results.append(self._end_scoring(output))
                continue
            if (finished := self._take(output)) is not None:
                results.append(finished)
        return results

    def cancel(self, key: str) -> FinishedAttempt | None:
        """Drop an attempt in any state; returns what an admitted one has drawn."""
        self._waiting = deque(item for item in self._waiting if item.attempt.key != key)
        self._known = [item for item in self._known if item.attempt.key != key]
        return self._end_attempt(self._active[key]) if key in self._active else None

    def release_group(self, prefix_group: str) -> None:
        """Release the sessions of a prefix group that has no further attempts."""
        for keys in self._idle_sessions.pop(prefix_group, {}).values():
            for key in keys:
                self._engine.release(key)

    def _take(self, output: EngineOutput) -> FinishedAttempt | None:
        """Add what a session has generated to its attempt; the attempt if that ends it."""
        active = self._generating.pop(output.key)
        assert active.segment is not None
        for token, logprob in zip(output.token_ids, output.logprobs, strict=True):
            active.drawn.add(token, logprob, active.segment.naive)
        active.segment = self._next_segment(active)
        if active.segment is None:
            return self._end_attempt(active)
        self._generate(active)
        return None

    def _blocks(self, attempt: Attempt, schedule: SegmentSchedule) -> int:
        """KV blocks to reserve.

        One side generates at a time, and only a side that may draw; the engine may evict the
        other's session.
        """
        return max(
            (
                self._engine.blocks_for(len(prompt) + len(attempt.picks))
                for naive, prompt in ((True, attempt.naive_prompt), (False, attempt.expert_prompt))
                if schedule.may_draw(naive, len(attempt.known.token_ids))
            ),
            default=0,
        )

    def _fits(self, item: _Active | _Scoring) -> bool:
        """Whether an attempt or a scoring pass can begin in the next step."""
        return item.blocks <= self._free_blocks

    def _admit(self) -> None:
        while self._waiting and len(self._active) < self._slots:
            if not self._fits(self._waiting[0]):
                return
            active = self._waiting.popleft()
            self._free_blocks -= active.blocks
            self._active[active.attempt.key] = active
            self._generate(active)
        while self._to_score and len(self._active) + len(self._scoring) < self._slots:
            if not self._fits(self._to_score[0]):
                return
            scoring = self._to_score.popleft()
            self._free_blocks -= scoring.blocks
            self._scoring[scoring.key] = scoring
            self._engine.begin_score(scoring.key, scoring.token_ids, scoring.top)

    def _next_segment(self, active: _Active) -> Segment | None:
        """The attempt's next segment; None if it has ended."""
        token_ids, settled = active.drawn.token_ids, active.attempt.settled
        if self._is_complete(token_ids) or (settled is not None and settled(token_ids)):
            return None
        return active.schedule.next_segment(token_ids)

    def _generate(self, active: _Active) -> None:
        attempt, segment, token_ids = active.attempt, active.segment, active.drawn.token_ids
        assert segment is not None
        prompt = attempt.naive_prompt if segment.naive else attempt.expert_prompt
        session = self._session(active, segment.naive)
        self._generating[session] = active
        last = not active.schedule.may_draw(segment.naive, len(token_ids) + segment.length)
        self._engine.extend(
            session,
            [*prompt, *token_ids],
            segment.length,
            attempt.sampling(len(token_ids)),
            last=last and not attempt.prefix_group,
        )

    def _session(self, active: _Active, naive: bool) -> str:
        """The session of one side: its own, an idle one of the prefix group, or a new one."""
        if naive not in active.sessions:
            attempt = active.attempt
            idle = self._idle_sessions.get(attempt.prefix_group, {}).get(naive)
            own = f"{attempt.key}/n" if naive else f"{attempt.key}/e"
            active.sessions[naive] = idle.pop() if idle else own
        return active.sessions[naive]

    def _end_attempt(self, active: _Active) -> FinishedAttempt:
        prefix_group = active.attempt.prefix_group
        for naive, session in active.sessions.items():
            if self._generating.pop(session, None) is None and prefix_group:
                self._idle_sessions.setdefault(prefix_group, {}).setdefault(naive, []).append(
                    session
                )
            else:
                self._engine.release(session)
        del self._active[active.attempt.key]
        self._free_blocks += active.blocks
        return self._drawn(active)

    def _drawn(self, active: _Active) -> FinishedAttempt:
        drawn, attempt = active.drawn, active.attempt
        return FinishedAttempt(
            attempt.key,
            drawn.token_ids,
            drawn.logprobs,
            drawn.naive,
            self._is_complete(drawn.token_ids),
            len(attempt.known.token_ids),
            drawn.beside,
        )

    def _is_complete(self, token_ids: Sequence[int]) -> bool:
        return bool(token_ids) and self._engine.ends(token_ids[-1])

    def _end_scoring(self, output: EngineOutput) -> ScoredTarget:
        scoring = self._scoring.pop(output.key)
        self._free_blocks += scoring.blocks
        # Entry i scores token i + 1 of the sequence.
        first, top = scoring.num_prompt - 1, output.prompt_top
        if top is not None:
            top = TopLogprobs(top.ids_TN[first:], top.logprobs_TN[first:])
        return ScoredTarget(scoring.key, output.prompt_logprobs[first:], top)

    def _check_context(self, key: str, num_tokens: int) -> None:
        if num_tokens > self._engine.max_model_len:
            raise EngineError(
                f"{key}: {num_tokens} tokens (prompt and rollout.max_tokens) exceed the context "
                f"engine.max_model_len={self._engine.max_model_len}; raise it or shorten the prompt"
            )

    def _check_blocks(self, key: str, blocks: int) -> None:
        if blocks > self._engine.num_blocks:
            raise EngineError(
                f"{key}: needs {blocks} KV blocks, the engine has {self._engine.num_blocks}; "
                "raise engine.kv_cache_gib (engine.gpu_memory_utilization on a GPU)"
            )
