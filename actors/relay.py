"""Mixed decoding: two sessions a rollout that hand over the pen.

An attempt's picks are known ahead, so they form runs of equal picks. The side
whose turn it is generates exactly its run; then the other side continues from
the tokens it has not seen. Relay decides who generates next and from where,
and admits an attempt only when the side that generates has room in the KV
cache for all that it may draw; the waiting side's session lives in what is
left, and the engine may drop it.

Relay does not know facts, verdicts or retries.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from actors.engine import Sampling, Segment
from actors.engine_arguments import EngineError
from actors.picks import Run, runs_of


class SegmentEngine(Protocol):
    """What relay needs of :class:`actors.engine.Engine`."""

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
    def begin_score(self, key: str, token_ids: Sequence[int]) -> None: ...
    def step(self) -> list[Segment]: ...
    def ends(self, token_id: int) -> bool: ...
    def blocks_for(self, num_tokens: int) -> int: ...


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at a target: a prompt a side and who draws which token.

    ``sampling(position)`` tells how the run that begins there is drawn.
    """

    key: str
    naive_prompt: Sequence[int]
    expert_prompt: Sequence[int]
    picks: Sequence[bool]
    sampling: Callable[[int], Sampling]


@dataclass(frozen=True, slots=True)
class Drawn:
    """A finished attempt. T = tokens drawn; ``complete`` if a stop token ended it."""

    key: str
    token_ids: list[int]
    logprobs: list[float]
    naive: list[int]
    complete: bool


@dataclass(frozen=True, slots=True)
class Scored:
    """Log-probabilities of a target's tokens given prompt and prefix, nats."""

    key: str
    logprobs: list[float]


@dataclass(slots=True)
class _Active:
    attempt: Attempt
    runs: deque[Run]
    blocks: int
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    naive: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Scoring:
    key: str
    token_ids: list[int]
    num_prompt: int
    blocks: int


class Relay:
    """Keeps up to ``slots`` attempts in flight on one engine.

    Scoring requests wait until no attempt does, so that they fill idle slots
    instead of delaying decoding.
    """

    def __init__(self, engine: SegmentEngine, slots: int) -> None:
        self._engine = engine
        self._slots = slots
        self._free_blocks = engine.num_blocks
        self._waiting: deque[_Active] = deque()
        self._to_score: deque[_Scoring] = deque()
        self._active: dict[str, _Active] = {}
        self._scoring: dict[str, _Scoring] = {}

    @property
    def num_attempts(self) -> int:
        """Attempts submitted and not finished."""
        return len(self._waiting) + len(self._active)

    @property
    def idle(self) -> bool:
        """Nothing is submitted that has not come out."""
        return not (self._waiting or self._active or self._to_score or self._scoring)

    def submit(self, attempt: Attempt) -> None:
        """Queue an attempt.

        Raises:
            EngineError: it could not run even alone.
        """
        longest = max(len(attempt.naive_prompt), len(attempt.expert_prompt)) + len(attempt.picks)
        self._check_context(attempt.key, longest)
        # One side generates at a time, and only a side that is picked; the
        # engine may drop the other's session.
        blocks = max(
            self._engine.blocks_for(len(prompt) + len(attempt.picks))
            for naive, prompt in ((True, attempt.naive_prompt), (False, attempt.expert_prompt))
            if naive in attempt.picks
        )
        self._check_blocks(attempt.key, blocks)
        self._waiting.append(_Active(attempt, deque(runs_of(attempt.picks)), blocks))

    def submit_score(self, key: str, prompt: Sequence[int], target: Sequence[int]) -> None:
        """Queue a scoring pass over ``target`` given ``prompt``.

        Raises:
            EngineError: it could not run even alone.
        """
        token_ids = [*prompt, *target]
        self._check_context(key, len(token_ids) + 1)
        blocks = self._engine.blocks_for(len(token_ids) + 1)
        self._check_blocks(key, blocks)
        self._to_score.append(_Scoring(key, token_ids, len(prompt), blocks))

    def step(self) -> list[Drawn | Scored]:
        """Admit what has room, run one engine iteration, return what finished."""
        self._admit()
        results: list[Drawn | Scored] = []
        for segment in self._engine.step():
            if segment.key in self._scoring:
                results.append(self._end_scoring(segment))
                continue
            key = segment.key[:-2]
            active = self._active[key]
            run = active.runs.popleft()
            active.token_ids += segment.token_ids
            active.logprobs += segment.logprobs
            active.naive += [int(run.naive)] * len(segment.token_ids)
            complete = self._engine.ends(segment.token_ids[-1])
            if complete or not active.runs:
                results.append(self._end_attempt(active, complete))
            else:
                self._generate(active)
        return results

    def cancel(self, key: str) -> None:
        """Drop an attempt wherever it stands; unknown keys are ignored."""
        self._waiting = deque(item for item in self._waiting if item.attempt.key != key)
        if key in self._active:
            self._end_attempt(self._active[key], complete=False)

    def _admit(self) -> None:
        while self._waiting and len(self._active) < self._slots:
            if self._waiting[0].blocks > self._free_blocks:
                return
            active = self._waiting.popleft()
            self._free_blocks -= active.blocks
            self._active[active.attempt.key] = active
            self._generate(active)
        while self._to_score and len(self._active) + len(self._scoring) < self._slots:
            if self._to_score[0].blocks > self._free_blocks:
                return
            scoring = self._to_score.popleft()
            self._free_blocks -= scoring.blocks
            self._scoring[scoring.key] = scoring
            self._engine.begin_score(scoring.key, scoring.token_ids)

    def _generate(self, active: _Active) -> None:
        attempt, run = active.attempt, active.runs[0]
        prompt = attempt.naive_prompt if run.naive else attempt.expert_prompt
        self._engine.extend(
            _side_key(attempt.key, run.naive),
            [*prompt, *active.token_ids],
            run.length,
            attempt.sampling(len(active.token_ids)),
            # Runs alternate, so a side returns only if two more are left.
            last=len(active.runs) < 3,
        )

    def _end_attempt(self, active: _Active, complete: bool) -> Drawn:
        key = active.attempt.key
        for naive in (True, False):
            self._engine.release(_side_key(key, naive))
        del self._active[key]
        self._free_blocks += active.blocks
        return Drawn(key, active.token_ids, active.logprobs, active.naive, complete)

    def _end_scoring(self, segment: Segment) -> Scored:
        scoring = self._scoring.pop(segment.key)
        self._free_blocks += scoring.blocks
        # Entry i scores token i + 1 of the sequence.
        return Scored(scoring.key, segment.prompt_logprobs[scoring.num_prompt - 1 :])

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


def _side_key(key: str, naive: bool) -> str:
    return f"{key}/n" if naive else f"{key}/e"
