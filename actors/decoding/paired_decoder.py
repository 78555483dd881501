"""Mixed decoding by pairs: both sides of an attempt are rows of the same engine steps.

In every step the rows of a pair draw one token, that of the side whose turn it is
(:mod:`actors.inference.paired_rows`). So an attempt is two ordinary requests from beginning to
end, and nothing goes back and forth between two tokens. A second row costs arithmetic, which a GPU
that waits for its memory has to spare. Each row also gives its own side's log-probability of every
token.

Both rows should begin in one step. So a pair is admitted only if the step has room for the tokens
of both contexts beside all that is not computed yet, and the KV cache for both rows to their end:
vLLM then neither splits nor preempts a request. If it does all the same, the pair goes on from
where its rows parted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from actors.decoding.attempt import Attempt, FinishedAttempt, ScoredTarget
from actors.decoding.mixed_decoder import DecodingEngine, MixedDecoder, _Active, _Scoring
from actors.decoding.picks import SegmentSchedule
from actors.inference.requests import EngineOutput, Sampling, row_key, token_seed


class PairingEngine(DecodingEngine, Protocol):
    """The part of :class:`actors.inference.engine.Engine` that this decoder uses."""

    mixing: str
    max_batched_tokens: int

    def extend_pair(
        self,
        key: str,
        contexts: Mapping[bool, Sequence[int]],
        picks: Sequence[bool],
        sampling: Sampling,
        seeds: Sequence[int] | None,
    ) -> None: ...
    def generated(self, key: str) -> tuple[list[int], list[float]]: ...


@dataclass(slots=True)
class _Pair:
    """The outputs of the rows that have finished, by side."""

    active: _Active
    rows: dict[bool, tuple[list[int], list[float]]] = field(default_factory=dict)


def open_decoder(engine: PairingEngine, slots: int) -> MixedDecoder:
    """The decoder for the way of mixing that the engine was opened for."""
    return (PairedDecoder if engine.mixing == "paired" else MixedDecoder)(engine, slots)


class PairedDecoder(MixedDecoder):
    """Keeps up to ``slots`` attempts in flight, as pairs where both sides may draw.

    Attempts whose next side depends on their text (``protects``), or whose contexts are together
    longer than ``engine.max_batched_tokens``, take turns.
    """

    gives_naive_logprobs = True
    _engine: PairingEngine

    def __init__(self, engine: PairingEngine, slots: int) -> None:
        super().__init__(engine, slots)
        self._pairs: dict[str, _Pair] = {}
        # Tokens that requests brought along and no step may have computed yet; at most.
        self._pending = 0

    def step(self) -> list[FinishedAttempt | ScoredTarget]:
        """As :meth:`MixedDecoder.step`; ends pairs whose text is settled, too."""
        results = super().step()
        for pair in list(self._pairs.values()):
            settled, sides = pair.active.attempt.settled, pair.active.sessions.items()
            if settled is None or pair.rows:
                continue
            rows = {naive: self._engine.generated(key) for naive, key in sides}
            (ids, _), (expert_ids, _) = rows[True], rows[False]
            if ids == expert_ids and settled([*pair.active.drawn.token_ids, *ids]):
                pair.rows = rows
                self._join(pair)
                results.append(self._end_attempt(pair.active))
        return results

    def _admit(self) -> None:
        scoring = set(self._scoring)
        super()._admit()
        began = (score for key, score in self._scoring.items() if key not in scoring)
        self._pending += sum(len(score.token_ids) for score in began)
        # The step that follows computes these.
        self._pending = max(0, self._pending - (self._engine.max_batched_tokens - self._num_rows))

    @property
    def _num_rows(self) -> int:
        """Rows that draw a token in every step."""
        return len(self._active) + len(self._pairs)

    def _blocks(self, attempt: Attempt, schedule: SegmentSchedule) -> int:
        if not self._is_pair(attempt, schedule):
            return super()._blocks(attempt, schedule)
        prompts = (attempt.naive_prompt, attempt.expert_prompt)
        return sum(self._engine.blocks_for(len(prompt) + len(attempt.picks)) for prompt in prompts)

    def _fits(self, item: _Active | _Scoring) -> bool:
        if not super()._fits(item):
            return False
        if isinstance(item, _Scoring) or not self._is_pair(item.attempt, item.schedule):
            return True
        tokens = _tokens(item.attempt, len(item.drawn.token_ids))
        return self._num_rows + self._pending + tokens <= self._engine.max_batched_tokens

    def _is_pair(self, attempt: Attempt, schedule: SegmentSchedule) -> bool:
        """Whether both sides may draw, by picks that are known ahead, and one step takes both."""
        position = len(attempt.known.token_ids)
        both = all(schedule.may_draw(naive, position) for naive in (True, False))
        # Rows that draw, of which there are at most two a slot, come first.
        most = self._engine.max_batched_tokens - 2 * self._slots
        return attempt.protects is None and both and _tokens(attempt, position) <= most

    def _generate(self, active: _Active) -> None:
        attempt, drawn = active.attempt, active.drawn.token_ids
        self._pending += _tokens(attempt, len(drawn))
        if not self._is_pair(attempt, active.schedule):
            super()._generate(active)
            return
        prompts = {True: attempt.naive_prompt, False: attempt.expert_prompt}
        active.sessions = {naive: row_key(attempt.key, naive) for naive in prompts}
        self._pairs[attempt.key] = _Pair(active)
        self._generating |= dict.fromkeys(active.sessions.values(), active)
        self._engine.extend_pair(
            attempt.key,
            {naive: [*prompt, *drawn] for naive, prompt in prompts.items()},
            attempt.picks[len(drawn) :],
            attempt.sampling(len(drawn)),
            list(_seeds(attempt, active.schedule))[len(drawn) - len(attempt.known.token_ids) :]
            or None,
        )

    def _take(self, output: EngineOutput) -> FinishedAttempt | None:
        pair = self._pairs.get(self._generating[output.key].attempt.key)
        if pair is None:
            return super()._take(output)
        sides = {key: naive for naive, key in pair.active.sessions.items()}
        pair.rows[sides[output.key]] = (output.token_ids, output.logprobs)
        if len(pair.rows) < 2:
            return None
        self._join(pair)
        active = pair.active
        active.segment = self._next_segment(active)
        if active.segment is None:
            return self._end_attempt(active)
        self._release_rows(active)
        self._generate(active)
        return None

    def _join(self, pair: _Pair) -> None:
        """Add what the rows have drawn, up to where they parted.

        Rows part if vLLM preempted one. A row draws from its own logits where it is its side's
        turn, together or alone. So what both drew is right, and so is the first token that they
        drew differently, of the row whose turn it was.
        """
        active, drawn = pair.active, pair.active.drawn
        picks = active.attempt.picks[len(drawn.token_ids) :]
        (naive_ids, naive_logprobs), (expert_ids, _) = pair.rows[True], pair.rows[False]
        for at, picked in enumerate(picks):
            ids, logprobs = pair.rows[picked]
            if at >= len(ids):
                break
            together = naive_ids[at : at + 1] == expert_ids[at : at + 1]
            drawn.add(ids[at], logprobs[at], picked, naive_logprobs[at] if together else None)
            if not together:
                break

    def _end_attempt(self, active: _Active) -> FinishedAttempt:
        if self._pairs.pop(active.attempt.key, None) is None:
            return super()._end_attempt(active)
        self._release_rows(active)
        del self._active[active.attempt.key]
        self._free_blocks += active.blocks
        return self._drawn(active)

    def _release_rows(self, active: _Active) -> None:
        # Rows are no sessions: the next attempt of the group finds their prefix in the cache.
        for key in active.sessions.values():
            self._generating.pop(key, None)
            self._engine.release(key)
        active.sessions.clear()


def _tokens(attempt: Attempt, position: int) -> int:
    """Tokens of both contexts, with the target's up to ``position``."""
    return len(attempt.naive_prompt) + len(attempt.expert_prompt) + 2 * position


def _seeds(attempt: Attempt, schedule: SegmentSchedule) -> Iterator[int]:
    """The seed of each token's draw: those of the segments that it would be drawn in."""
    ids = list(attempt.known.token_ids)
    while (segment := schedule.next_segment(ids)) is not None:
        seed = attempt.sampling(len(ids)).seed
        if seed is None:
            return
        yield from (token_seed(seed, index) for index in range(segment.length))
        ids += [0] * segment.length
